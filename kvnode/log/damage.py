"""What is wrong with a log, as values: holes, which other members can fill, and findings, which people read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kvnode.log.mark import Mark

WARNING = "WARNING"
FAILURE = "FAILURE"


@dataclass(frozen=True, slots=True)
class Hole:
    """A place where records are missing, bad or of another history, with good records after it.

    `before` is the end of the last good record before it, Mark() at the log's beginning. The first good record after
    it begins at `next_seq` and continues a record with `next_prev_checksum`, whose term is not above `next_term`; or
    there is no record, but the header of a segment says so. `path` and `offset` are where the hole begins, in bytes.
    It may hold no entry at all: where a segment's header alone is bad, or bad bytes stand between good records.
    """

    before: Mark
    next_seq: int
    next_prev_checksum: int
    next_term: int
    path: Path
    offset: int
    reason: str

    @property
    def first_seq(self) -> int:
        return self.before.seq + 1

    @property
    def last_seq(self) -> int:
        """first_seq - 1 when no entry is missing."""
        return self.next_seq - 1

    def __str__(self) -> str:
        return f"{self.path} at offset {self.offset}: {entries(self.first_seq, self.last_seq)}: {self.reason}."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, under the name of the check that found it.

    `severity`: WARNING for what a crash may leave behind and a start mends alone, FAILURE for damage. `offset` is in
    bytes, None when it is not about a place in the file; `first_seq` to `last_seq` are the entries concerned, None
    where they are not known.
    """

    check: str
    severity: str
    path: Path
    offset: int | None
    first_seq: int | None
    last_seq: int | None
    reason: str

    def __str__(self) -> str:
        place = f"{self.path}" if self.offset is None else f"{self.path} at offset {self.offset}"
        if self.first_seq is not None:
            place += f": {entries(self.first_seq, self.last_seq)}"
        return f"{place}: {self.reason}."


def entries(first_seq: int, last_seq: int | None) -> str:
    """The range in words."""
    if last_seq is None:
        return f"entries from seq {first_seq} on"
    if last_seq < first_seq:
        return f"no entry, before seq {first_seq}"
    return f"entry {first_seq}" if first_seq == last_seq else f"entries {first_seq} to {last_seq}"
