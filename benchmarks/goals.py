"""The goals, and how far they are reached: one row each. All are ratios of what was measured in one run, but for the
times of failover and the rate of catch-up, which have no peer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results import Part

Parts = Mapping[str, Part]
Who = tuple[str, str]
"""Work and system."""


@dataclass(frozen=True, slots=True)
class Found:
    """What came out, to be compared with the goal, and the absolute figures that it comes from."""

    value: float
    figures: str


Find = Callable[[Parts], Found | None]


@dataclass(frozen=True, slots=True)
class Goal:
    """`bound`: the value must be at least, or at most, this. `find`: None where it was not measured."""

    work: str
    bound: float
    is_at_least: bool
    unit: str
    find: Find

    def is_met(self, found: Found) -> bool:
        return found.value >= self.bound if self.is_at_least else found.value <= self.bound

    def text(self) -> str:
        """As the table has it."""
        return f"{'≥' if self.is_at_least else '≤'} {self.bound:,g} {self.unit}"


def _rate(part: str, ours: Who, theirs: Who) -> Find:
    return _ratio(part, "per_second", ours, theirs, lambda value: f"{value:,.0f}/s")


def _ratio(part: str, figure: str, ours: Who, theirs: Who, show: Callable[[float], str]) -> Find:
    def find(parts: Parts) -> Found | None:
        if part not in parts:
            return None
        ratio = parts[part].ratio(figure, ours, theirs)
        values = [parts[part].median(*who, figure) for who in (ours, theirs)]
        if ratio is None or values[0] is None or values[1] is None:
            return None
        return Found(ratio, f"{show(values[0])} : {show(values[1])}")

    return find


def _by_size(part: str, kind: str, figure: str, show: Callable[[float], str], back: int = 1) -> Find:
    """kvnode to Redis with the most keys or entries, or with so many steps fewer, counted from 1."""

    def find(parts: Parts) -> Found | None:
        sizes = parts[part].sizes(kind) if part in parts else []
        if len(sizes) < back:
            return None
        work = f"{kind}/{sizes[-back]}"
        return _ratio(part, figure, (work, "kvnode"), (work, "redis"), show)(parts)

    return find


def _growth(kind: str) -> Find:
    """The median cost with the most keys by the one with the fewest: they can not be measured in turn."""

    def find(parts: Parts) -> Found | None:
        sizes = parts["growth"].sizes(kind) if "growth" in parts else []
        costs = [parts["growth"].median(f"{kind}/{size}", "kvnode", "microseconds") for size in sizes]
        if len(sizes) < 2 or costs[0] is None or costs[-1] is None:
            return None
        return Found(costs[-1] / costs[0], f"{costs[-1]:.1f} : {costs[0]:.1f} µs, {sizes[-1]:,} : {sizes[0]:,} keys")

    return find


def _bytes_per_entry(parts: Parts) -> Found | None:
    part = parts.get("missed")
    sizes = part.sizes("missed") if part else []
    received = [part.median(f"missed/{size}", "kvnode", "bytes") or 0.0 for size in sizes] if part else []
    each = [total / size for total, size in zip(received, sizes, strict=True)]
    if not each or not min(each):
        return None
    shown = ", ".join(f"{value:.0f}" for value in each)
    return Found(max(each) / min(each), f"{shown} bytes per entry, {', '.join(f'{size:,}' for size in sizes)} missed")


def _catch_up_rate(parts: Parts) -> Found | None:
    part = parts.get("catch_up")
    sizes = part.sizes("catch up") if part else []
    if part is None or not sizes:
        return None
    work = f"catch up/{sizes[-1]}"
    rate, seconds = part.median(work, "kvnode", "per_second"), part.median(work, "kvnode", "seconds")
    return Found(rate, f"current {seconds:.1f} s after its start") if rate and seconds else None


def _gap(work: str) -> Find:
    def find(parts: Parts) -> Found | None:
        gaps = parts["failover"].values(work, "kvnode", "gap_seconds") if "failover" in parts else []
        if not gaps:
            return None
        return Found(percentile(gaps, 95), f"p50 {percentile(gaps, 50):.3f} s, {len(gaps)} trials")

    return find


def _failed(parts: Parts) -> Found | None:
    part = parts.get("failover")
    if part is None or not part.of("sigterm", "kvnode"):
        return None
    failed, writes = (
        sum(sum(part.values("sigterm", "kvnode", name)) for name in names)
        for names in (("not_applied", "unknown"), ("writes",))
    )
    return Found(failed, f"of {writes + failed:,.0f} writes")


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)]


def _milliseconds(value: float) -> str:
    return f"{value:.2f} ms"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:,.0f} MiB"


def _ours_to(theirs: str, work: str) -> Find:
    return _rate("throughput", (work, "kvnode"), (work, theirs))


LEADER_SET, LEADER_GET = ("set/50", "kvnode"), ("get", "kvnode")
REDIS, ETCD, PYSYNCOBJ = "× Redis + WAIT 1", "× etcd", "× PySyncObj"

GOALS = (
    Goal("SET, 1 client", 1.1, True, REDIS, _ours_to("redis", "set/1")),
    Goal("SET, 50 clients", 1.5, True, REDIS, _ours_to("redis", "set/50")),
    Goal("", 8, True, ETCD, _ours_to("etcd", "set/50")),
    Goal("", 50, True, PYSYNCOBJ, _ours_to("pysyncobj", "set/50")),
    Goal("SET, 50 clients, pipelines of 16", 1.5, True, REDIS, _ours_to("redis", "set 16")),
    Goal("SET, 200 clients", 1.5, True, REDIS, _ours_to("redis", "set/200")),
    Goal(
        "p99 of SET, 50 clients", 1.0, False, REDIS,
        _ratio("throughput", "p99_ms", ("set/50", "kvnode"), ("set/50", "redis"), _milliseconds),
    ),
    Goal(
        "SET at a follower, 50 clients", 0.6, True, "× at the leader",
        _rate("throughput", ("set at follower", "kvnode"), LEADER_SET),
    ),
    Goal("GET, 50 clients", 0.6, True, "× Redis, local", _ours_to("redis", "get")),
    Goal("GET, 50 clients, pipelines of 16", 0.8, True, "× Redis, local", _ours_to("redis", "get 16")),
    Goal(
        "GET spread over three nodes", 1.0, True, "× at the leader",
        _rate("throughput", ("get spread", "kvnode"), LEADER_GET),
    ),
    Goal("SET, 50 clients, 16 KiB", 1.0, True, REDIS, _ours_to("redis", "set 16 KiB")),
    Goal(
        "start, 1,000,000 keys in the log", 1.5, False, "× Redis, AOF",
        _by_size("start", "start", "seconds", _seconds),
    ),
    Goal(
        "restart after 10,000 of 1,000,000 missed", 0.5, False, "× Redis replica, AOF",
        _by_size("missed", "missed", "seconds", _seconds, back=2),
    ),
    Goal("bytes received per entry missed", 1.2, False, "× from most to fewest missed", _bytes_per_entry),
    Goal("catch-up of 1,000,000 entries under writes", 300_000, True, "entries/s", _catch_up_rate),
    Goal(
        "p99 of these writes", 2.0, False, "× without",
        _ratio("catch_up", "p99_ms", ("meanwhile", "kvnode"), ("quiet", "kvnode"), _milliseconds),
    ),
    Goal(
        "memory, 1,000,000 keys", 2.5, False, "× Redis",
        _by_size("start", "memory", "bytes", _mebibytes),
    ),
    Goal("cost of a write as keys grow: new keys", 1.3, False, "× with the fewest", _growth("new")),
    Goal("cost of a write as keys grow: overwrites", 1.3, False, "× with the fewest", _growth("overwrite")),
    Goal("no write after SIGKILL of the leader, p95", 1.5, False, "s", _gap("sigkill")),
    Goal("no write after SIGTERM of the leader, p95", 0.2, False, "s", _gap("sigterm")),
    Goal("failed writes at SIGTERM", 0, False, "", _failed),
)  # fmt: skip
