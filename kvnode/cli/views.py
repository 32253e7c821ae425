"""What the views of a log share: the lines around them, and how a fault is told. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from kvnode.log.viewing.listing import Listing, Owner
from kvnode.log.viewing.reader import Fault, Item, Replaced


class View(Protocol):
    """One way to show a log: lines before it, for each item of it, and after it.

    `tells_faults`: faults are among the lines. Otherwise whoever prints them says it elsewhere.
    """

    tells_faults: bool

    def begin(self) -> Iterator[str]: ...
    def show(self, item: Item) -> Iterator[str]: ...
    def end(self) -> Iterator[str]: ...


def describe(listing: Listing, owner: Owner) -> str:
    """Whose log this is, in one line."""
    segments = listing.segments
    return (
        f"# {listing.path}: node {owner.node_id} of cluster {owner.cluster_id}, {count(len(segments), 'segment')} "
        f"from seq {segments[0].first_seq} on, {count(listing.size, 'byte')}"
    )


def count(number: int, one: str, many: str = "") -> str:
    """A number with its noun: 1 entry, 2,000 entries."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def seqs(first_seq: int, last_seq: int | None) -> str:
    """A range of entries in a column: 7, 7-9, or 7- where the end is not known."""
    if last_seq is None:
        return f"{first_seq}-"
    return f"{first_seq}" if first_seq == last_seq else f"{first_seq}-{last_seq}"


def kind_of(fault: Fault) -> str:
    """One of three names: `missing` where nothing stands, though something should."""
    if fault.is_torn:
        return "unfinished"
    return "missing" if not fault.size and fault.first_seq is not None else "damaged"


def fault_line(fault: Fault) -> str:
    """A fault between the entries of a log."""
    if fault.is_torn:
        return f"# unfinished: {fault} ({count(fault.size, 'byte')} that are not known to be durable)"
    return f"# damage: {fault}"


def replaced_line(replaced: Replaced) -> str:
    """A cut between the entries of a log."""
    more = "" if replaced.is_all else ", and some before it,"
    return f"# the log was cut after seq {replaced.after_seq}: entries shown above after it{more} are no longer in it"
