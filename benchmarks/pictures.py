"""The pictures of the page, by name, each out of one part of the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.cases.throughput import CLIENTS
from benchmarks.chart import Axis, Line, Panel, svg
from benchmarks.results import Part

LOOKS = {  # colour, and whether the line is dashed
    "kvnode": (0, False),
    "kvnode all": (0, True),
    "kvnode follower": (0, True),
    "redis": (1, False),
    "redis rdb": (1, True),
    "etcd": (2, False),
    "pysyncobj": (3, False),
}
NAMES = {
    "kvnode all": "kvnode, all three",
    "redis": "Redis",
    "redis rdb": "Redis, AOF rewritten",
    "pysyncobj": "PySyncObj",
}
PERCENTS = [*map(float, range(100)), 99.5, 99.9]
"""Of a sample's percentiles; the last, the longest time of all, has no place on a logarithmic axis."""


def throughput(part: Part) -> str:
    rates = [
        _line(part, system, [(clients, f"set/{clients}") for clients in CLIENTS], "per_second", 1.0, "Redis + WAIT 1")
        for system in ("kvnode", "redis", "etcd", "pysyncobj")
    ]
    panel = Panel("SET", Axis("clients", ticks=(0, 50, 100, 150, 200)), Axis("writes per second"), rates)
    return svg("Writes per second against the number of clients", [panel, _latencies(part)])


def _latencies(part: Part) -> Panel:
    lines = []
    for system in ("kvnode", "redis", "etcd", "pysyncobj"):
        curve = part.curve("set/50", system)
        points = [(time, 100 - percent) for time, percent in zip(curve, PERCENTS, strict=False) if time > 0]
        lines.append(Line(_name(system, "Redis + WAIT 1"), LOOKS[system][0], points, has_dots=False))
    x = Axis("milliseconds since it was sent", is_log=True)
    y = Axis("writes not answered yet, percent", is_log=True, ticks=(0.1, 1, 10, 100))
    return Panel("SET, 50 clients", x, y, [line for line in lines if line.points])


def start(part: Part) -> str:
    lines = [_sizes(part, system, "start", "seconds") for system in ("kvnode", "kvnode all", "redis", "redis rdb")]
    times = Panel(
        "Start", Axis("keys in the log", is_log=True), Axis("seconds until a read is answered", is_log=True), lines
    )
    memory = [_sizes(part, system, "memory", "bytes", 2**-20) for system in ("kvnode", "redis")]
    panel = Panel("Memory of one server", Axis("keys", is_log=True), Axis("MiB", is_log=True), memory)
    return svg("Time to start against the size of the log, and memory against keys", [times, panel])


def missed(part: Part) -> str:
    x = Axis("entries missed", is_log=True)
    seconds, received = (
        [_sizes(part, system, "missed", figure, factor) for system in ("kvnode", "redis")]
        for figure, factor in (("seconds", 1.0), ("bytes", 2**-20))
    )
    panels = [
        Panel("From start to current", x, Axis("seconds"), seconds),
        Panel("Received", x, Axis("MiB", is_log=True), received),
    ]
    return svg("Seconds until a server that was away is current, and bytes received, against entries missed", panels)


def growth(part: Part) -> str:
    lines = [
        Line(label, colour, _sizes(part, system, kind, "microseconds").points)
        for label, colour, system, kind in (
            ("kvnode, new keys", 0, "kvnode", "new"),
            ("kvnode, overwrites", 4, "kvnode", "overwrite"),
            ("Redis, new keys", 1, "redis", "new"),
            ("Redis, overwrites", 2, "redis", "overwrite"),
        )
    ]
    panel = Panel("Cost of a write", Axis("keys", is_log=True), Axis("microseconds per write"), lines)
    return svg("Microseconds per write against the number of keys", [panel])


def failover(part: Part) -> str:
    lines = []
    for label, colour, work in (("SIGKILL", 1, "sigkill"), ("SIGTERM", 0, "sigterm")):
        gaps = sorted(part.values(work, "kvnode", "gap_seconds"))
        points = [(gap, 100 * (at + 1) / len(gaps)) for at, gap in enumerate(gaps)]
        lines.append(Line(label, colour, points))
    x, y = Axis("seconds without a successful write"), Axis("trials, percent", ticks=(0, 25, 50, 75, 100))
    return svg("Share of trials against the time without a successful write", [Panel("The leader ends", x, y, lines)])


PICTURES: dict[str, tuple[str, Callable[[Part], str]]] = {
    "throughput": ("throughput", throughput),
    "start": ("start", start),
    "missed": ("missed", missed),
    "growth": ("growth", growth),
    "failover": ("failover", failover),
}
"""Name of the file -> which part it shows, and how."""


def _name(system: str, redis: str = "Redis") -> str:
    return redis if system == "redis" else NAMES.get(system, system)


def _sizes(part: Part, system: str, kind: str, figure: str, factor: float = 1.0) -> Line:
    return _line(part, system, [(size, f"{kind}/{size}") for size in part.sizes(kind)], figure, factor)


def _line(
    part: Part, system: str, works: Sequence[tuple[float, str]], figure: str, factor: float, redis: str = "Redis"
) -> Line:
    colour, is_dashed = LOOKS[system]
    values = [(x, part.median(work, system, figure)) for x, work in works]
    return Line(_name(system, redis), colour, [(x, y * factor) for x, y in values if y is not None], is_dashed)
