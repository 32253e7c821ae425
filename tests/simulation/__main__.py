"""See run.py. Exit code 0: no violation; 1: at least one."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterable

import click

from tests.simulation.run import Result, run, shrink

TRACE_LINES_SHOWN = 40


@click.command()
@click.option("--seed", default=1, show_default=True, help="The first seed.")
@click.option("--runs", default=1, show_default=True, help="How many seeds, from the first on.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="How many run at once.")
@click.option("--trace", is_flag=True, help="With one run: everything that happened.")
def main(seed: int, runs: int, jobs: int, trace: bool) -> None:
    """Run simulated clusters, each from a seed that can be run again."""
    began = time.monotonic()
    counts: Counter[str] = Counter()
    failed = 0
    for done, result in enumerate(_results(range(seed, seed + runs), jobs if runs > 1 else 1), 1):
        counts += Counter(result.counts, events=result.events, requests=result.requests, answered=result.answered)
        if result.violation is not None:
            failed += 1
            report(result)
        if done % 100 == 0 or done == runs:
            seconds = time.monotonic() - began
            rate = counts["events"] / seconds
            click.echo(
                f"{done} seeds, {failed} failed, {counts['events']:,} events, {rate:,.0f} events/s, {seconds:.0f} s"
            )
        if runs == 1:
            click.echo(f"{result.options}\n{len(result.faults)} faults")
            click.echo("\n".join(result.trace) if trace else "")
    click.echo(" ".join(f"{name}={count:,}" for name, count in sorted(counts.items())))
    raise SystemExit(1 if failed else 0)


def _results(seeds: range, jobs: int) -> Iterable[Result]:
    if jobs == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.Pool(jobs, maxtasksperchild=50) as pool:
        yield from pool.imap_unordered(run, seeds)


def report(result: Result) -> None:
    """All that is needed to look at a failure: the seed, what it drew, the fewest faults, the end of the trace."""
    seed = result.options.seed
    click.echo(f"\nseed {seed}: {result.violation}")
    click.echo(f"  options: {result.options}")
    shorter = shrink(seed, result.faults)
    click.echo(f"  faults ({len(result.faults)}, shrunk to {len(shorter)}): " + ", ".join(map(str, shorter)))
    again = run(seed, shorter)
    click.echo("  " + "\n  ".join(again.trace[-TRACE_LINES_SHOWN:]))
    click.echo(f"  again: python -m tests.simulation --seed {seed} --trace")


main()
