"""What kvnode costs, beside others with the same durability: everything that docs/BENCHMARKS.md shows.

    python -m benchmarks                   all of it, and the page: about half an hour
    python -m benchmarks --only start      one part; the others stay as they were measured
    python -m benchmarks --render          the page anew from what was measured
    python -m benchmarks --quick           everything once and small, to see that it works; the page is left alone

All processes and the load generator share this machine, and use its loopback interface alone.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from benchmarks import page, results
from benchmarks.bench import Bench
from benchmarks.cases import CASES
from benchmarks.load import LoadError, build
from benchmarks.machine import describe
from benchmarks.proof import LostWrites, Proof
from benchmarks.results import Part
from benchmarks.systems.install import NotInstalled, find_program, find_pysyncobj
from benchmarks.systems.processes import NotReady

OUTPUT = Path(__file__).parent / "out"
PEERS = ("redis", "etcd", "pysyncobj")
QUICK = {"rounds": 1, "seconds": 0.3, "trials": 1, "keys": 20_000, "growth_keys": 100_000}

BYTES_PER_KEY = 1000
"""Of three nodes together, with room."""


@click.command(help=(__doc__ or "").split("\n", 1)[0])
@click.option("--only", multiple=True, type=click.Choice(list(CASES)), help="A part; may be repeated. Default: all.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="The median of them is shown.")
@click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Of one load.")
@click.option("--trials", type=click.IntRange(1), default=25, show_default=True, help="Failovers of each kind.")
@click.option("--keys", type=click.IntRange(1000), default=1_000_000, show_default=True, help="A large data set.")
@click.option("--growth-keys", type=click.IntRange(10_000), default=10_000_000, show_default=True,
              help="The largest, for what a write costs as keys grow: about 1 KiB of memory each.")  # fmt: skip
@click.option("--skip", multiple=True, type=click.Choice(PEERS), help="A peer to leave out; may be repeated.")
@click.option("--quick", is_flag=True, help="Everything once and small; the page is left alone.")
@click.option("--render", is_flag=True, help="Measure nothing; write the page from what was measured.")
def main(
    only: Sequence[str],
    rounds: int,
    seconds: float,
    trials: int,
    keys: int,
    growth_keys: int,
    skip: Sequence[str],
    quick: bool,
    render: bool,
) -> None:
    kept = OUTPUT / ("quick.json" if quick else "results.json")
    if not render:
        OUTPUT.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="data-", dir=OUTPUT) as home:
            bench = Bench(Path(home), OUTPUT, rounds, seconds, trials, keys, growth_keys, {})
            if quick:
                bench = replace(bench, **QUICK)  # type: ignore[arg-type]
            bench = replace(bench, growth_keys=what_fits(bench.growth_keys))
            try:
                build(OUTPUT)
                bench = replace(bench, peers=find_peers(skip))
                for name in only or CASES:
                    results.save(kept, name, measure(bench, name))
            except (LoadError, NotReady, LostWrites) as error:
                raise click.ClickException(str(error)) from None
    written = page.write(results.load(kept), OUTPUT / "quick" if quick else page.DOCS)
    say(f"written: {written.relative_to(Path.cwd()) if written.is_relative_to(Path.cwd()) else written.name}")


def find_peers(skip: Sequence[str]) -> dict[str, Path]:
    """The peers that are there, or could be installed; a line for each that could not."""
    found = {}
    ways = {
        "redis": partial(find_program, "redis-server"),
        "etcd": partial(find_program, "etcd"),
        "pysyncobj": partial(find_pysyncobj, OUTPUT / "pysyncobj"),
    }
    for label, find in ways.items():
        if label in skip:
            continue
        try:
            found[label] = find()
        except NotInstalled as error:
            say(f"{label} is left out: {error}")
    return found


def what_fits(keys: int) -> int:
    """So many keys, or the power of ten below that fits into the memory that is free."""
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = 1024 * int(told["MemAvailable"].split()[0])
    fitting: int = 10 ** int(math.log10(max(free / BYTES_PER_KEY, 10_000)))
    if fitting < keys:
        say(f"growth: to {fitting:,} keys, since {free / 2**30:.1f} GiB of memory are free")
    return min(keys, fitting)


def measure(bench: Bench, name: str) -> Part:
    """One part: its samples, each shown as it is taken, with a fresh directory for its data."""
    home = bench.home / name
    home.mkdir()
    part = Part(describe(home, bench.rounds, bench.seconds))
    begin = time.monotonic()
    for item in CASES[name](replace(bench, home=home)):
        if isinstance(item, Proof):
            say(f"{name}: all {item.acknowledged:,} acknowledged writes are in the logs of a majority")
            part.proof["acknowledged"] = part.proof.get("acknowledged", 0) + item.acknowledged
            part.proof["everywhere"] = part.proof.get("everywhere", 0) + item.everywhere
        else:
            say(f"{name}: {item}")
            part.samples.append(item)
    shutil.rmtree(home)
    say(f"{name}: {time.monotonic() - begin:.0f} s")
    return part


def say(text: str) -> None:
    """Progress, on standard error."""
    click.echo(text, err=True)


if __name__ == "__main__":
    sys.exit(main(prog_name="python -m benchmarks"))
