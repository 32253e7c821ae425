"""The records of a log, one line or JSON object each: where each stands, and whether it is good. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator

from kvnode.cli.choose import Choice
from kvnode.cli.entries import time_text
from kvnode.cli.views import count, describe, kind_of, replaced_line, seqs
from kvnode.log.viewing.listing import Listing, Owner
from kvnode.log.viewing.reader import Fault, Found, Item, Replaced

SEGMENT_WIDTH = 24
_WIDTHS = (9, 9, 15, 5, 25, 9, 7, 9)


class RecordsView:
    """A table between lines that begin with #."""

    tells_faults = True

    def __init__(self, listing: Listing, owner: Owner, choice: Choice) -> None:
        self._title = describe(listing, owner)
        self._choice = choice
        self._records = self._matched = self._entries = self._bytes = 0

    def begin(self) -> Iterator[str]:
        yield self._title
        yield HEADING

    def show(self, item: Item) -> Iterator[str]:
        match item:
            case Found(record=record):
                self._records += 1
                if self._choice.holds(record):
                    self._matched += 1
                    self._entries += len(record.entries)
                    self._bytes += record.size
                    yield record_row(item)
            case Fault():
                yield fault_row(item)
            case Replaced():
                yield replaced_line(item)

    def end(self) -> Iterator[str]:
        shown = count(self._matched, "record")
        if self._choice.is_by_content:
            shown = f"{self._matched:,} of {count(self._records, 'record')}"
        yield f"# {shown}, {count(self._entries, 'entry', 'entries')}, {count(self._bytes, 'byte')}"


class RecordsAsJson:
    """One object for each record and each fault: "valid" is true, or false beside a "reason"."""

    tells_faults = True

    def __init__(self, choice: Choice) -> None:
        self._choice = choice

    def begin(self) -> Iterator[str]:
        return iter(())

    def show(self, item: Item) -> Iterator[str]:
        match item:
            case Found(record=record):
                if self._choice.holds(record):
                    yield json.dumps(record_object(item))
            case Fault():
                yield json.dumps(fault_object(item))
            case Replaced(after_seq=after_seq):
                yield json.dumps({"replaced_after_seq": after_seq})

    def end(self) -> Iterator[str]:
        return iter(())


def record_row(found: Found) -> str:
    """A good record."""
    record = found.record
    return _row(
        found.path.name,
        found.offset,
        record.size,
        seqs(record.first_seq, record.last_seq),
        record.term,
        time_text(record.time_ms),
        record.commit_seq,
        len(record.entries),
        f"{record.checksum:08x}",
        "valid",
    )


def fault_row(fault: Fault) -> str:
    """Bytes that are no record, or a place where one is missing; the seqs are those that can not be read for it."""
    missing = "-" if fault.first_seq is None else seqs(fault.first_seq, fault.last_seq)
    return _row(fault.path.name, fault.offset, fault.size, missing, *"-----", f"{kind_of(fault)}: {fault.reason}")


def record_object(found: Found) -> dict[str, object]:
    """A good record for JSON."""
    record = found.record
    return {
        "segment": found.path.name,
        "offset": found.offset,
        "size": record.size,
        "first_seq": record.first_seq,
        "last_seq": record.last_seq,
        "term": record.term,
        "time_ms": record.time_ms,
        "commit_seq": record.commit_seq,
        "entries": len(record.entries),
        "checksum": f"{record.checksum:08x}",
        "prev_checksum": f"{record.prev_checksum:08x}",
        "valid": True,
    }


def fault_object(fault: Fault) -> dict[str, object]:
    """A fault for JSON; first_seq to last_seq are the entries that can not be read for it, null for none."""
    return {
        "segment": fault.path.name,
        "offset": fault.offset,
        "size": fault.size,
        "first_seq": fault.first_seq,
        "last_seq": fault.last_seq,
        "valid": False,
        "state": kind_of(fault),
        "reason": fault.reason,
    }


def _row(segment: str, *cells: object) -> str:
    """What is too wide for its column moves the others: no number is ever cut."""
    *columns, state = cells
    aligned = " ".join(f"{cell:>{width}}" for cell, width in zip(columns, _WIDTHS, strict=True))
    return f"{segment:<{SEGMENT_WIDTH}} {aligned}  {state}"


HEADING = _row("segment", "offset", "size", "seq", "term", "time", "commit", "entries", "checksum", "state")
