"""`kvnode repair`: heal the log of a stopped node with the records of running members."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kvnode.cli.verify import exit_code, print_any_path, show, verify_directory

INTERRUPTED = 130


@click.command(short_help="Heal the log of a stopped node with records of running members.")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--from", "members", metavar="HOST:PORT", multiple=True, required=True,
              help="A running member, by its port for members; may be repeated.")  # fmt: skip
def repair(data: Path, members: tuple[str, ...]) -> None:
    """Fetch what is damaged or missing in the log in DATA from running members of its cluster.

    The node of DATA must be stopped. Entries are put in place only where they continue what stands before the damage
    and lead to what stands after it, so any member will do. What was interrupted goes on when it is run again.

    `kvnode start` does the same by itself, from all members. It alone mends what takes a leader: the end of the log,
    ballot, mark, identity.

    Exit code 0 when nothing is damaged any more, 1 when something is.
    """
    from kvnode.cli.healing import heal

    print_any_path()
    try:
        heal(data, members)
        verdict = verify_directory(data)
    except KeyboardInterrupt:
        click.echo("kvnode: interrupted. What was healed stays healed; run it again for the rest.", err=True)
        sys.exit(INTERRUPTED)
    show(verdict, only_bad=True)
    sys.exit(exit_code(verdict))
