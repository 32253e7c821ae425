"""Take one rule after the other out of a copy of the product, and see that the tests notice.

A mutant that survives shows that a test is missing. Exit code 0: all were caught; 1: some survive; 2: they could not be
tried; 130: interrupted.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

import click

from tests.mutants.patch import read_patches
from tests.mutants.report import render
from tests.mutants.table import TABLE
from tests.mutants.tree import Children
from tests.mutants.trial import SEEDS_MAX, TrialError, Verdict, check_unchanged, try_mutant

HELP = """Try mutants of the product (M05 …, or --all): each a patch that takes a rule out of a copy of the tree.

For each the tests that are to catch it are run, and then seeds of the simulator up to the first violation. The report
is a table in Markdown.
"""


@click.command(help=HELP)
@click.argument("mutants", nargs=-1)
@click.option("--all", "takes_all", is_flag=True, help="All mutants.")
@click.option("--list", "lists", is_flag=True, help="Say which there are, and end.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default=True, help="How many are tried at once.")
@click.option("--seeds", default=SEEDS_MAX, show_default=True, help="Most seeds for each; 0: none.")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Where the table goes, not to stdout.")
def main(mutants: tuple[str, ...], takes_all: bool, lists: bool, jobs: int, seeds: int, report: Path | None) -> None:
    patches = read_patches()
    if lists:
        for patch in patches.values():
            click.echo(f"{patch.id} {patch.name}: {patch.why}")
        return
    ids = list(patches) if takes_all else [mutant.upper() for mutant in mutants]
    if not ids:
        raise click.UsageError("Name mutants (see --list), or say --all.")
    if unknown := [id for id in ids if id not in patches]:
        raise click.UsageError(f"There is no mutant {', '.join(unknown)} (see --list).")
    children, verdicts = Children(), []
    try:
        _say("without any mutant: running the tests that are to catch them")
        check_unchanged(children, [TABLE[id] for id in ids])
        with ThreadPoolExecutor(jobs) as pool:
            trials = [pool.submit(try_mutant, children, patches[id], TABLE[id], seeds, _say) for id in ids]
            try:
                for trial in as_completed(trials):
                    verdicts.append(trial.result())
                    _say(f"{len(verdicts)} of {len(ids)} done: {verdicts[-1]}")
            except BaseException:
                _stop(children, trials)
                raise
    except TrialError as error:
        _say(str(error))
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        children.stop()
        _say("\ninterrupted")
        if verdicts:
            _tell(verdicts, report)
        raise SystemExit(130) from None
    _tell(verdicts, report)
    raise SystemExit(1 if any(verdict.survives for verdict in verdicts) else 0)


def _stop(children: Children, trials: list[Future[Verdict]]) -> None:
    for trial in trials:
        trial.cancel()
    children.stop()


def _tell(verdicts: list[Verdict], report: Path | None) -> None:
    text = render(verdicts)
    if report is None:
        click.echo(text)
    else:
        report.write_text(text)
        _say(f"the table is in {report}")


def _say(text: str) -> None:
    click.echo(text, err=True)


main()
