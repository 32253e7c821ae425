"""`kvnode verify`: is this data directory in order? Read-only, without the lock, of a stopped node or a running one."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvnode.cli.common import Refusal

if TYPE_CHECKING:
    from kvnode.cli.verdict import Verdict


@click.command(short_help="Check a data directory, and what a start would do with it.")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the lines.")
def verify(data: Path, as_json: bool) -> None:
    """Check the data directory DATA: whose it is, ballot, mark, segments, every record, their chain, the end.

    Each check is OK, WARNING or FAILURE. Below that stand the entries that are damaged or missing, with their places,
    and a sentence says what `kvnode start` would do. Nothing is changed. The node may be running.

    Exit code 0 without a FAILURE, 1 with one.
    """
    print_any_path()
    verdict = verify_directory(data)
    show(verdict, as_json=as_json)
    sys.exit(exit_code(verdict))


def print_any_path() -> None:
    """The path of a directory may be any bytes; standard output shows what is no text as `\\udcff`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def verify_directory(data: Path) -> Verdict:
    """With a progress bar. Raises Refusal where there is nothing that can be verified."""
    from kvnode.cli.examine import examine
    from kvnode.cli.progress import progress
    from kvnode.cli.surroundings import NoDirectory, refuse_no_directory
    from kvnode.log.errors import LogError

    try:
        refuse_no_directory(data)
        with progress("verifying", 0) as report:
            return examine(data, report.of)
    except (NoDirectory, LogError) as error:
        raise Refusal(str(error)) from None
    except OSError as error:
        raise Refusal(f"can not read {error.filename or data}: {error.strerror}.") from None


def show(verdict: Verdict, *, as_json: bool = False, only_bad: bool = False) -> None:
    """On standard output; for people with colours, and if so wanted without the checks that are OK."""
    from kvnode.cli.verdict_text import as_object, lines

    click.echo(json.dumps(as_object(verdict), indent=2) if as_json else "\n".join(lines(verdict, only_bad=only_bad)))


def exit_code(verdict: Verdict) -> int:
    from kvnode.log.damage import FAILURE

    return 1 if verdict.status == FAILURE else 0
