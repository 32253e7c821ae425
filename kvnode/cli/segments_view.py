"""The segments of a log, one line or JSON object each. Pure; the lines come when all has been read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvnode.cli.entries import time_text
from kvnode.cli.records_view import SEGMENT_WIDTH, fault_object
from kvnode.cli.views import count, describe, fault_line, kind_of, seqs
from kvnode.log.record import Record
from kvnode.log.viewing.listing import Listing, Owner, SegmentFile
from kvnode.log.viewing.reader import Fault, Found, Item, Replaced


@dataclass(slots=True)
class Row:
    """What was found in one segment; `first_seq` by its name. Terms and times are 0 where there is no record.

    `is_sealed`: another one follows; None for a single file, of which it is not known.
    """

    path: Path
    first_seq: int
    size: int
    is_sealed: bool | None
    last_seq: int = 0
    records: int = 0
    entries: int = 0
    first_term: int = 0
    last_term: int = 0
    first_time_ms: int = 0
    last_time_ms: int = 0
    state: str = "valid"

    def add(self, record: Record) -> None:
        if not self.records:
            self.first_term, self.first_time_ms = record.term, record.time_ms
        self.records += 1
        self.entries += len(record.entries)
        self.last_seq, self.last_term, self.last_time_ms = record.last_seq, record.term, record.time_ms

    def add_fault(self, fault: Fault) -> None:
        kind = kind_of(fault)
        if kind == "missing" and fault.offset in (0, self.size):
            kind = "ends early" if fault.offset else "follows a gap"
        self.state = kind if self.state == "valid" else "damaged"


class Changed(Exception):
    """The log was cut, or went on in a new segment, while it was read: what was counted holds no more."""


class SegmentsView:
    """Collects a row for each segment; faults are told below the table."""

    def __init__(self, listing: Listing, owner: Owner, segments: Sequence[SegmentFile]) -> None:
        """`segments`: those of the listing that are to be shown."""
        self._title = describe(listing, owner)
        self._rows = {}
        for segment in segments:
            is_sealed = segment != listing.segments[-1] if listing.is_directory else None
            self._rows[segment.path] = Row(segment.path, segment.first_seq, segment.size, is_sealed)
        self._faults: list[Fault] = []

    @property
    def damaged(self) -> int:
        """How many places are."""
        return sum(not fault.is_torn for fault in self._faults)

    def add(self, item: Item) -> None:
        """Raises Changed: begin again."""
        if isinstance(item, Replaced) or item.path not in self._rows:
            raise Changed
        row = self._rows[item.path]
        if isinstance(item, Found):
            row.add(item.record)
        else:
            row.add_fault(item)
            self._faults.append(item)

    def lines(self) -> Iterator[str]:
        """A table between lines that begin with #."""
        yield self._title
        yield _line("segment", "seq", "records", "entries", "bytes", "terms", "first time", "last time", "", "state")
        rows = self._rows.values()
        for row in rows:
            has_records = row.records > 0
            yield _line(
                row.path.name,
                seqs(row.first_seq, row.last_seq) if has_records else "-",
                row.records,
                row.entries,
                row.size,
                seqs(row.first_term, row.last_term) if has_records else "-",
                _time(row.first_time_ms) if has_records else "-",
                _time(row.last_time_ms) if has_records else "-",
                _SEALED[row.is_sealed],
                row.state,
            )
        records, entries = sum(row.records for row in rows), sum(row.entries for row in rows)
        size = sum(row.size for row in rows)
        yield (
            f"# {count(len(rows), 'segment')}, {count(records, 'record')}, {count(entries, 'entry', 'entries')}, "
            f"{count(size, 'byte')}"
        )
        for fault in self._faults:
            yield fault_line(fault)

    def objects(self) -> Iterator[str]:
        """One JSON object for each segment; null where there is no record."""
        for row in self._rows.values():
            has_records = row.records > 0
            faults = [fault for fault in self._faults if fault.path == row.path]
            yield json.dumps(
                {
                    "segment": row.path.name,
                    "first_seq": row.first_seq,
                    "last_seq": row.last_seq if has_records else None,
                    "records": row.records,
                    "entries": row.entries,
                    "bytes": row.size,
                    "first_term": row.first_term if has_records else None,
                    "last_term": row.last_term if has_records else None,
                    "first_time_ms": row.first_time_ms if has_records else None,
                    "last_time_ms": row.last_time_ms if has_records else None,
                    "sealed": row.is_sealed,
                    "valid": not any(not fault.is_torn for fault in faults),
                    "faults": [fault_object(fault) for fault in faults],
                }
            )


_WIDTHS = (17, 9, 10, 11, 7, 21, 21)
_SEALED = {True: "sealed", False: "open", None: ""}


def _time(time_ms: int) -> str:
    """Seconds are enough here."""
    text = time_text(time_ms)
    return f"{text[:19]}Z" if text.endswith("Z") else text.strip()


def _line(segment: str, *cells: object) -> str:
    """What is too wide for its column moves the others."""
    *columns, sealed, state = cells
    aligned = " ".join(f"{cell:>{width}}" for cell, width in zip(columns, _WIDTHS, strict=True))
    return f"{segment:<{SEGMENT_WIDTH}} {aligned}  {sealed:<6} {state}"
