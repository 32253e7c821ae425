"""`kvnode inspect-log`: the entries of a data directory, of a running node or a stopped one, without a write to it."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvnode.cli.common import Failure, Refusal

if TYPE_CHECKING:
    from kvnode.log.reader import Scan, SegmentFile

SEQ = click.IntRange(min=1)
WRITE_BYTES = 64 * 1024


@click.command("inspect-log", short_help="Show the entries in the log of a data directory.")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--from", "from_seq", type=SEQ, metavar="SEQ", help="First entry to show.")
@click.option("--to", "to_seq", type=SEQ, metavar="SEQ", help="Last entry to show.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per entry instead of the table.")
def inspect_log(data: Path, from_seq: int | None, to_seq: int | None, as_json: bool) -> None:
    """Show the log in DATA, one line per entry: seq, term, time (UTC), verb, key, value.

    DATA is a data directory, or one file of it, also of its discarded/. On a terminal lines are cut to its width; in a
    pipe they are whole. The node may be running: what it is just writing is left out.

    Exit code 1 where the log is damaged; what stands before the damage is shown.
    """
    from kvnode.log.errors import DamageError, LogError
    from kvnode.log.reader import scan

    if from_seq and to_seq and from_seq > to_seq:
        raise Refusal(f"--from {from_seq} is above --to {to_seq}")
    try:
        records = scan(data, from_seq, to_seq)
        shown = _json_lines(records, from_seq, to_seq) if as_json else _lines(data, records, from_seq, to_seq)
        _print(shown)
    except DamageError as error:
        raise Failure(str(error)) from None
    except LogError as error:
        raise Refusal(str(error)) from None


def _print(lines: Iterator[str]) -> None:
    """To standard output in large pieces; all that came before an error is written too."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that can not show a key still shows the line
    pieces: list[str] = []
    size = 0
    try:
        for text in lines:
            pieces.append(text)
            size += len(text)
            if size > WRITE_BYTES:
                sys.stdout.write("\n".join(pieces) + "\n")
                pieces, size = [], 0
    finally:
        if pieces:
            sys.stdout.write("\n".join(pieces) + "\n")
        sys.stdout.flush()


def _lines(data: Path, records: Scan, from_seq: int | None, to_seq: int | None) -> Iterator[str]:
    from kvnode.cli.entries import HEADING, cut, line, time_text

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    yield describe(data, records.segments)
    yield HEADING if width is None else cut(HEADING, width)
    count = record_count = size = 0
    for record in records:
        when = time_text(record.time_ms)
        record_count += 1
        size += record.size
        for seq, entry in enumerate(record.entries, record.first_seq):
            if (from_seq is None or seq >= from_seq) and (to_seq is None or seq <= to_seq):
                count += 1
                yield line(seq, record.term, when, entry, width)
    yield f"# {_count(count, 'entry', 'entries')} in {_count(record_count, 'record')}, {_count(size, 'byte')}"
    if records.tail is not None:
        yield f"# {records.tail}"


def _json_lines(records: Scan, from_seq: int | None, to_seq: int | None) -> Iterator[str]:
    from kvnode.cli.entries import as_json

    for record in records:
        for seq, entry in enumerate(record.entries, record.first_seq):
            if (from_seq is None or seq >= from_seq) and (to_seq is None or seq <= to_seq):
                yield as_json(seq, record.term, record.time_ms, entry)
    if records.tail is not None:
        click.echo(f"kvnode: {records.tail}", err=True)


def describe(data: Path, segments: list[SegmentFile]) -> str:
    """Whose log this is, in one line."""
    header = segments[0].header
    size = sum(segment.size for segment in segments)
    return (
        f"# {data}: node {header.node_id} of cluster {header.cluster_id}, {_count(len(segments), 'segment')} "
        f"from seq {header.first_seq} on, {_count(size, 'byte')}"
    )


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
