"""docs/BENCHMARKS.md: its prose stays, and what stands between `<!-- NAME -->` and `<!-- end -->` is written anew.

The pictures lie beside it, in docs/benchmarks/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.goals import GOALS, percentile
from benchmarks.pictures import PICTURES
from benchmarks.results import Part

DOCS = Path(__file__).parents[1] / "docs"
PAGE = "BENCHMARKS.md"
PICTURES_DIRECTORY = "benchmarks"
NOT_MEASURED = "Not measured yet."
PLACE = re.compile(r"(?P<begin><!-- (?P<name>[a-z_ ]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)

Parts = Mapping[str, Part]
Cell = str | float | None


def write(parts: Parts, directory: Path) -> Path:
    """The page and its pictures into a directory; its path."""
    text = PLACE.sub(lambda found: f"{found['begin']}{_fill(found['name'], parts)}\n{found['end']}", _template())
    pictures = directory / PICTURES_DIRECTORY
    pictures.mkdir(parents=True, exist_ok=True)
    for name, (part, draw) in PICTURES.items():
        if part in parts:
            (pictures / f"{name}.svg").write_text(draw(parts[part]), encoding="utf-8")
    path = directory / PAGE
    path.write_text(text, encoding="utf-8")
    return path


def _template() -> str:
    return (DOCS / PAGE).read_text(encoding="utf-8")


def _fill(name: str, parts: Parts) -> str:
    return "\n".join(TABLES[name](parts)) or NOT_MEASURED


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table of Markdown, all columns but the first to the right; nothing where there are no rows."""
    if rows:
        yield from (f"| {' | '.join(row)} |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows))


def goals(parts: Parts) -> Iterator[str]:
    rows = []
    for goal in GOALS:
        found = goal.find(parts)
        if found is not None:
            value = f"{found.value:,.3g}" if found.value < 1000 else f"{found.value:,.0f}"
            rows.append([goal.work, goal.text(), f"**{value}**" if goal.is_met(found) else f"{value}", found.figures])
    yield from table(["work", "goal", "measured", "medians"], rows)


def taken(parts: Parts) -> Iterator[str]:
    """What the parts have in common is said once, in a line; what they have not, in a table."""
    told = [part.taken for part in parts.values()]
    names = list(dict.fromkeys(name for one in told for name in one))
    common = [name for name in names if len({one.get(name) for one in told}) == 1]
    yield from [", ".join(f"{name} {told[0][name]}" for name in common) + "."] if told else []
    differing = [name for name in names if name not in common]
    if differing:
        rows = [[name, *(part.taken.get(one, "") for one in differing)] for name, part in parts.items()]
        yield ""
        yield from table(["part", *differing], rows)


SYSTEMS = {
    "kvnode": "kvnode",
    "redis": "Redis + `WAIT 1`",
    "etcd": "etcd",
    "pysyncobj": "PySyncObj",
    "redis alone": "Redis, master alone",
}


def throughput(parts: Parts) -> Iterator[str]:
    """Writes and reads per second; in brackets what kvnode does for each one of theirs."""
    part = parts.get("throughput")
    if part is None:
        return
    systems = [system for system in SYSTEMS if system in set(part.systems())]
    rows = []
    for work in dict.fromkeys(sample.work for sample in part.samples):
        row = [_spell(work)]
        for system in systems:
            rate = part.median(work, system, "per_second")
            ratio = part.ratio("per_second", (work, "kvnode"), (work, system))
            shown = "" if rate is None else f"{rate:,.0f}"
            row.append(shown if system == "kvnode" or ratio is None else f"{shown} ({ratio:.2f})")
        rows.append(row)
    yield from table(["per second", *(SYSTEMS[system] for system in systems)], rows)


def latency(parts: Parts) -> Iterator[str]:
    part = parts.get("throughput")
    if part is None:
        return
    rows = []
    for work in dict.fromkeys(sample.work for sample in part.samples):
        for system in SYSTEMS:
            values = [part.median(work, system, figure) for figure in ("p50_ms", "p95_ms", "p99_ms", "max_ms")]
            if None not in values:
                rows.append([_spell(work), SYSTEMS[system], *(f"{value:.2f}" for value in values if value is not None)])
    yield from table(["milliseconds", "system", "p50", "p95", "p99", "max"], rows)


def _spell(work: str) -> str:
    """`set/50` as a person says it."""
    name, _, clients = work.partition("/")
    verb, _, rest = name.partition(" ")
    rest = re.sub(r"^16(?! KiB)", "pipelines of 16", rest).replace("pipelines of 16 ", "pipelines of 16, ")
    return ", ".join(filter(None, [verb.upper(), f"{clients or 50} client{'s' * (clients != '1')}", rest]))


def by_size(
    name: str, kind: str, head: str, columns: Mapping[str, str], figure: str, show: Callable[[float], str]
) -> Callable[[Parts], Iterator[str]]:
    """A table with a row for each size of a part; `columns`: system -> heading."""

    def make(parts: Parts) -> Iterator[str]:
        part = parts.get(name)
        if part is None:
            return
        systems = [system for system in columns if system in set(part.systems())]
        rows = []
        for size in part.sizes(kind):
            values = [part.median(f"{kind}/{size}", system, figure) for system in systems]
            rows.append([f"{size:,}", *("" if value is None else show(value) for value in values)])
        yield from table([head, *(columns[system] for system in systems)], rows)

    return make


def catch_up(parts: Parts) -> Iterator[str]:
    part = parts.get("catch_up")
    if part is None:
        return
    rows = []
    for size in part.sizes("catch up"):
        rate, seconds = (part.median(f"catch up/{size}", "kvnode", figure) for figure in ("per_second", "seconds"))
        rows.append([f"{size:,} entries fetched", f"{rate or 0:,.0f}/s", f"{seconds or 0:.1f} s in all"])
    for label, work in (("writes without", "quiet"), ("writes meanwhile", "meanwhile")):
        rate, p99 = (part.median(work, "kvnode", figure) for figure in ("per_second", "p99_ms"))
        rows.append([label, f"{rate or 0:,.0f}/s", f"p99 {p99 or 0:.2f} ms"])
    yield from table(["", "rate", ""], rows)


def growth(parts: Parts) -> Iterator[str]:
    part = parts.get("growth")
    if part is None:
        return
    rows = []
    for size in part.sizes("new"):
        costs = [
            part.median(f"{kind}/{size}", system, "microseconds")
            for system in ("kvnode", "redis")
            for kind in ("new", "overwrite")
        ]
        rows.append([f"{size:,}", *("" if value is None else f"{value:.1f} µs" for value in costs)])
    yield from table(["keys", "kvnode, a new key", "an overwrite", "Redis, a new key", "an overwrite"], rows)


def failover(parts: Parts) -> Iterator[str]:
    part = parts.get("failover")
    if part is None:
        return
    rows = []
    for work in ("sigkill", "sigterm"):
        gaps = part.values(work, "kvnode", "gap_seconds")
        if gaps:
            times = [f"{percentile(gaps, percent):.3f} s" for percent in (50, 95, 100)]
            counts = [f"{sum(part.values(work, 'kvnode', name)):,.0f}" for name in ("writes", "not_applied", "unknown")]
            rows.append([work.upper(), str(len(gaps)), *times, *counts])
    head = ["", "trials", "p50", "p95", "longest", "writes that succeeded", "refused", "unknown"]
    yield from table(head, rows)


def proof(parts: Parts) -> Iterator[str]:
    rows = [
        [name, f"{part.proof['acknowledged']:,}", f"{part.proof['acknowledged']:,}", f"{part.proof['everywhere']:,}"]
        for name, part in parts.items()
        if part.proof
    ]
    yield from table(["part", "acknowledged", "in two logs or three", "in all three"], rows)


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:,.3g} MiB"


TWO = {"kvnode": "kvnode", "redis": "Redis"}
STARTS = {
    "kvnode": "kvnode, one node",
    "kvnode all": "kvnode, all three at once",
    "redis": "Redis, AOF",
    "redis rdb": "Redis, AOF rewritten",
}
MEMORIES = {
    "kvnode": "kvnode, leader",
    "kvnode follower": "follower",
    "kvnode restarted": "restarted",
    "redis": "Redis",
}

TABLES: dict[str, Callable[[Parts], Iterator[str]]] = {
    "goals": goals,
    "taken": taken,
    "throughput": throughput,
    "latency": latency,
    "start": by_size("start", "start", "keys", STARTS, "seconds", _seconds),
    "memory": by_size("start", "memory", "keys", MEMORIES, "bytes", _mebibytes),
    "missed time": by_size("missed", "missed", "entries missed", TWO, "seconds", _seconds),
    "missed bytes": by_size("missed", "missed", "entries missed", TWO, "bytes", _mebibytes),
    "catch_up": catch_up,
    "growth": growth,
    "failover": failover,
    "proof": proof,
}
"""What stands between the marks of the page, by name."""
