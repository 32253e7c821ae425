"""The entries of a log, one line or JSON object each. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from kvnode.cli import entries
from kvnode.cli.choose import Choice, shown_effects
from kvnode.cli.views import count, describe, fault_line, replaced_line
from kvnode.log.record import Record
from kvnode.log.viewing.listing import Listing, Owner
from kvnode.log.viewing.reader import Fault, Found, Item, Replaced


class EntriesView:
    """A table, with lines that begin with # before it, after it, and where something is wrong or was replaced."""

    tells_faults = True

    def __init__(self, listing: Listing, owner: Owner, choice: Choice, width: int | None) -> None:
        """`width`: lines are cut to so many cells."""
        self._title = describe(listing, owner)
        self._choice = choice
        self._width = width
        self._records = self._entries = self._matched = self._bytes = 0

    def begin(self) -> Iterator[str]:
        yield self._title
        yield entries.HEADING if self._width is None else entries.cut(entries.HEADING, self._width)

    def show(self, item: Item) -> Iterator[str]:
        match item:
            case Found(record=record):
                yield from self._lines(record)
            case Fault():
                yield fault_line(item)
            case Replaced():
                yield replaced_line(item)

    def end(self) -> Iterator[str]:
        shown = count(self._entries, "entry", "entries")
        if self._choice.is_by_content:
            shown = f"{self._matched:,} of {shown} {'matches' if self._matched == 1 else 'match'},"
        yield f"# {shown} in {count(self._records, 'record')}, {count(self._bytes, 'byte')}"

    def _lines(self, record: Record) -> Iterator[str]:
        self._records += 1
        self._entries += len(self._choice.entries_in_range(record))
        self._bytes += record.size
        time = entries.time_text(record.time_ms)
        for seq, entry, effects in picked(record, self._choice):
            self._matched += 1
            shown = shown_effects(entry, effects)
            yield entries.line(seq, record.term, time, entry, self._width, shown)


class EntriesAsJson:
    """One object for each entry; where entries were replaced, {"replaced_after_seq": N}."""

    tells_faults = False

    def __init__(self, choice: Choice) -> None:
        self._choice = choice

    def begin(self) -> Iterator[str]:
        return iter(())

    def show(self, item: Item) -> Iterator[str]:
        if isinstance(item, Found):
            record = item.record
            for seq, entry, _ in picked(record, self._choice):
                yield entries.as_json(seq, record.term, record.time_ms, entry)
        elif isinstance(item, Replaced):
            yield json.dumps({"replaced_after_seq": item.after_seq})

    def end(self) -> Iterator[str]:
        return iter(())


def picked(record: Record, choice: Choice) -> Iterator[tuple[int, Any, Sequence[Any]]]:
    """(seq, entry, its effects that match) of the entries of a record that were asked for."""
    if choice.may_hold(record):
        for position in choice.entries_in_range(record):
            entry = record.entries[position]
            effects = choice.pick(entry)
            if effects is not None:
                yield record.first_seq + position, entry, effects
