"""See run.py. Exit code 0: no violation; 1: at least one; 130: interrupted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable

import click

from tests.simulation.report import describe, revision
from tests.simulation.run import Result, run

SAY_S = 10.0
"""How often it is said how far it is."""


@click.command()
@click.option("--seed", default=1, show_default=True, help="The first seed.")
@click.option("--runs", default=1, show_default=True, help="How many seeds, from the first on.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="How many run at once.")
@click.option("--trace", is_flag=True, help="With one run: everything that happened.")
def main(seed: int, runs: int, jobs: int, trace: bool) -> None:
    """Run simulated clusters, each from a seed that can be run again."""
    tally = Tally(runs)
    click.echo(f"simulation of {revision()}, seeds {seed} to {seed + runs - 1}")
    try:
        for result in _results(range(seed, seed + runs), jobs if runs > 1 else 1):
            tally.add(result)
            if result.violation is not None:
                click.echo(describe(result))
            if runs == 1:
                click.echo(f"{result.options}\n{len(result.faults)} faults")
                click.echo("\n".join(result.trace) if trace else "")
    except KeyboardInterrupt:
        click.echo("\ninterrupted")
        tally.say()
        raise SystemExit(130) from None
    tally.say()
    raise SystemExit(1 if tally.failed else 0)


class Tally:
    """What has been run so far."""

    def __init__(self, runs: int) -> None:
        self.failed = 0
        self._runs = runs
        self._done = 0
        self._counts: Counter[str] = Counter()
        self._began_s = self._said_s = time.monotonic()

    def add(self, result: Result) -> None:
        self._done += 1
        self.failed += result.violation is not None
        self._counts += Counter(result.counts, events=result.events, requests=result.requests, answered=result.answered)
        if time.monotonic() - self._said_s > SAY_S:
            self._said_s = time.monotonic()
            click.echo(self._progress())

    def say(self) -> None:
        click.echo(self._progress())
        click.echo(", ".join(f"{name} {count:,}" for name, count in sorted(self._counts.items())))

    def _progress(self) -> str:
        seconds = time.monotonic() - self._began_s
        events = self._counts["events"]
        return (
            f"{self._done:,} of {self._runs:,} seeds, {self.failed} failed, "
            f"{events:,} events, {events / seconds:,.0f} events/s, {seconds:,.0f} s"
        )


def _results(seeds: range, jobs: int) -> Iterable[Result]:
    if jobs == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.Pool(jobs, _leave_interrupts_to_the_parent, maxtasksperchild=50) as pool:
        yield from pool.imap_unordered(run, seeds)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


main()
