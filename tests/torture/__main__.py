"""See run.py. Exit code 0: no violation; 1: one was found, and is kept to be looked at."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from tests.faults.disks import build_shim
from tests.torture.faults import FAULTS
from tests.torture.run import Run


@click.command()
@click.option("--minutes", type=float, help="How long; 1 where neither this nor --rounds is given.")
@click.option("--rounds", type=int, help="How many rounds.")
@click.option("--seed", default=1, show_default=True, help="What is drawn: clusters, options, faults.")
@click.option("--cluster", default=1, show_default=True, help="Which cluster of the seed to begin with.")
@click.option("--members", type=click.IntRange(1, 9), help="How many in each cluster; else drawn.")
@click.option(
    "--fault", multiple=True, type=click.Choice(sorted(FAULTS)), help="Only these; may be given several times."
)
@click.option("--directory", type=click.Path(path_type=Path), help="Where to work; else in a new temporary directory.")
def main(
    minutes: float | None,
    rounds: int | None,
    seed: int,
    cluster: int,
    members: int | None,
    fault: tuple[str, ...],
    directory: Path | None,
) -> None:
    """Torture clusters of real nodes, and check everything that clients were told."""
    if minutes is None and rounds is None:
        minutes = 1.0
    directory = (directory or Path(tempfile.mkdtemp(prefix="kvnode-torture-"))).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    library = build_shim(directory)
    options = {"minutes": minutes, "rounds": rounds, "members": members, "kinds": fault}
    totals = Run(directory, library, seed, **options, say=click.echo).run(cluster)
    click.echo(str(totals))
    if not totals.violations:
        library.unlink()
        if not any(directory.iterdir()):
            directory.rmdir()
    raise SystemExit(1 if totals.violations else 0)


main()
