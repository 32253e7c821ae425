"""`kvnode inspect-log`: what stands in the log of a running or stopped node, without a write to it."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvnode.cli.common import Failure, Refusal

if TYPE_CHECKING:
    from kvnode.cli.choose import Choice
    from kvnode.cli.views import View
    from kvnode.log.viewing.listing import Listing
    from kvnode.log.viewing.reader import Reader


POLL_SECONDS = 0.1
INTERRUPTED = 130
EXCLUDED = {
    "--diff": ("--records", "--segments", "--follow", "--from", "--to", "--last", "--key", "--verb", "--term"),
    "--segments": ("--records", "--follow", "--key", "--verb", "--term"),
    "--last": ("--from",),
}


def positive(text: str) -> int:
    """A seq, or a number of entries."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise click.BadParameter(f"{text} is not a number from 1 on")
    return int(text)


@click.command("inspect-log", short_help="Show the entries in the log of a data directory.")
@click.argument("data", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="DATA")
@click.option("--from", "from_seq", type=positive, metavar="SEQ", help="First entry to show.")
@click.option("--to", "to_seq", type=positive, metavar="SEQ", help="Last entry to show.")
@click.option("--last", type=positive, metavar="N", help="The last N entries, instead of --from.")
@click.option("--key", metavar="KEY", help="Only what changed this key, written as it is shown: \\x00 is a zero byte.")
@click.option("--verb", "verbs", multiple=True, metavar="VERB", help="Only entries of this verb; may be repeated.")
@click.option("--term", metavar="N[-M]", help="Only entries of this term, or of these.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new entries as they become durable, until Ctrl-C.")
@click.option("--records", is_flag=True, help="A line for each record: where it stands, and whether it is good.")
@click.option("--segments", is_flag=True, help="A line for each file of the log.")
@click.option("--diff", is_flag=True, help="Compare two logs: up to where they are equal, and how they part.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in a line instead of each line.")
def inspect_log(
    data: tuple[Path, ...],
    from_seq: int | None,
    to_seq: int | None,
    last: int | None,
    key: str | None,
    verbs: tuple[str, ...],
    term: str | None,
    follow: bool,
    records: bool,
    segments: bool,
    diff: bool,
    as_json: bool,
) -> None:
    """Show the log in DATA, one line per entry: seq, term, time (UTC), verb, key, value.

    DATA is a data directory, or one file of it, also of its discarded/. The node may be running; nothing is written
    and nothing is locked. On a terminal lines are cut to its width, in a pipe they are whole.

    \b
      kvnode inspect-log data/A --last 20 --follow          watch what is written
      kvnode inspect-log data/A --key user:7                the history of a key
      kvnode inspect-log data/A --verb flushall             when everything was removed
      kvnode inspect-log --diff data/A data/B               where two logs part

    A damaged place gets a line of its own, and what can be read after it is shown. An unfinished record at the end is
    no damage: it is just being written, or a crash has left it.

    Exit code 0: shown. 1: the log is damaged, or, with --diff, they part. 2: it can not be read at all.
    """
    given = {"--from": from_seq, "--to": to_seq, "--last": last, "--key": key, "--verb": verbs, "--term": term}
    given |= {"--follow": follow, "--records": records, "--segments": segments, "--diff": diff}
    _refuse_conflicts([name for name, value in given.items() if value not in (None, False, ())])
    if len(data) != (2 if diff else 1):
        raise Refusal("--diff compares two logs: give both" if diff else "give one DATA; two are for --diff")
    from kvnode.log.errors import LogError

    try:
        if diff:
            sys.exit(_show_diff(*data, as_json=as_json))
        choice = _choice(from_seq, to_seq, key, verbs, term)
        if segments:
            damaged = _show_segments(data[0], choice, last, as_json=as_json)
        else:
            damaged = _show(data[0], choice, last, records=records, follow=follow, as_json=as_json)
    except LogError as error:
        raise Refusal(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    if damaged:
        places = "1 place" if damaged == 1 else f"{damaged:,} places"
        raise Failure(f"the log is damaged in {places}; `kvnode verify` says what follows from that")


def _refuse_conflicts(given: list[str]) -> None:
    for option, others in EXCLUDED.items():
        for other in others:
            if option in given and other in given:
                raise Refusal(f"{option} and {other} exclude each other")


def _choice(
    from_seq: int | None, to_seq: int | None, key: str | None, verbs: tuple[str, ...], term: str | None
) -> Choice:
    from kvnode.cli.choose import Choice, UnknownVerb, parse_terms, parse_verbs
    from kvnode.cli.entries import BadEscape, unescape

    if from_seq and to_seq and from_seq > to_seq:
        raise Refusal(f"--from {from_seq} is above --to {to_seq}")
    try:
        terms = None if term is None else parse_terms(term)
    except ValueError:
        raise Refusal(f"--term {term}: give a term, or two with a - between them") from None
    try:
        return Choice(from_seq, to_seq, terms, parse_verbs(verbs), key=None if key is None else unescape(key))
    except UnknownVerb as error:
        raise Refusal(f"--verb: {error}") from None
    except BadEscape as error:
        raise Refusal(f"--key: {error}") from None


def _show(data: Path, choice: Choice, last: int | None, *, records: bool, follow: bool, as_json: bool) -> int:
    """Entries or records. Returns how many places are damaged."""
    from kvnode.cli.output import output
    from kvnode.cli.progress import progress
    from kvnode.cli.views import fault_line
    from kvnode.log.viewing.follow import follow as follow_log
    from kvnode.log.viewing.listing import look_at
    from kvnode.log.viewing.reader import Fault, Reader

    listing = look_at(data)
    choice = _from_the_end(choice, listing, last)
    reader = Reader(listing, choice.from_seq, choice.to_seq)
    view = _view(listing, reader, choice, records=records, as_json=as_json)
    damaged = 0
    with progress("reading", reader.bytes_to_read) as bar, output(bar.hide) as out:

        def wait() -> None:
            out.flush()
            time.sleep(POLL_SECONDS)

        def report(bytes_done: int) -> None:
            bar(bytes_done)
            out.flush_if_due()

        items = follow_log(reader, wait, choice.to_seq) if follow else reader.read(report)
        out.lines(view.begin())
        out.flush()
        try:
            for item in items:
                out.lines(view.show(item))
                if isinstance(item, Fault):
                    damaged += not item.is_torn
                    if not view.tells_faults:
                        bar.hide()
                        click.echo(f"kvnode: {fault_line(item).removeprefix('# ')}", err=True)
        except KeyboardInterrupt:
            if not follow:
                raise
            if sys.stdout.isatty():
                out.lines([""])  # the terminal shows ^C
        else:
            out.lines(view.end())
    return damaged


def _show_segments(data: Path, choice: Choice, last: int | None, *, as_json: bool) -> int:
    """A line for each segment, with an entry of the choice at least. Returns how many places are damaged."""
    from kvnode.cli.output import output
    from kvnode.cli.progress import progress
    from kvnode.cli.segments_view import Changed, SegmentsView
    from kvnode.log.errors import LogError
    from kvnode.log.viewing.listing import LOOKS_MAX, look_at
    from kvnode.log.viewing.reader import Reader

    for _ in range(LOOKS_MAX):
        listing = look_at(data)
        wanted = _from_the_end(choice, listing, last)
        segments, to_seq = listing.part(wanted.from_seq, wanted.to_seq)
        reader = Reader(listing, segments[0].first_seq, to_seq)
        view = SegmentsView(listing, reader.owner, segments)
        with progress("reading", reader.bytes_to_read) as bar, output(bar.hide) as out:
            try:
                for item in reader.read(bar):
                    view.add(item)
            except Changed:
                continue
            out.lines(view.objects() if as_json else view.lines())
        return view.damaged
    raise LogError(f"can not read {data}: it is cut again and again while it is looked at.")


def _show_diff(one: Path, other: Path, *, as_json: bool) -> int:
    """Returns the exit code."""
    from kvnode.cli.diff_view import diff_lines, diff_object
    from kvnode.cli.output import output
    from kvnode.cli.progress import progress
    from kvnode.log.viewing.compare import compare

    with progress("reading", 0) as bar, output(bar.hide) as out:
        comparison = compare(one, other, bar.of)
        out.lines([diff_object(comparison)] if as_json else diff_lines(comparison, _terminal_width()))
    return 1 if comparison.is_parted else 0


def _view(listing: Listing, reader: Reader, choice: Choice, *, records: bool, as_json: bool) -> View:
    from kvnode.cli.entries_view import EntriesAsJson, EntriesView
    from kvnode.cli.records_view import RecordsAsJson, RecordsView

    if records:
        return RecordsAsJson(choice) if as_json else RecordsView(listing, reader.owner, choice)
    return EntriesAsJson(choice) if as_json else EntriesView(listing, reader.owner, choice, _terminal_width())


def _from_the_end(choice: Choice, listing: Listing, last: int | None) -> Choice:
    """--last as --from."""
    from kvnode.log.viewing.reader import find_last_seq

    return choice if last is None else replace(choice, from_seq=max(1, find_last_seq(listing) - last + 1))


def _terminal_width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
