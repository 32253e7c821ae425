"""From committed to applied: records wait here until consensus has committed them, then change the key space."""

from __future__ import annotations

from collections import deque
from typing import Final

from kvnode.invariant import InvariantError, invariant
from kvnode.log.record import Record
from kvnode.store.keyspace import KeySpace

ENTRIES_PER_TURN = 20_000
"""About 10 ms of work."""
NO_LIMIT: Final = 1 << 62


class Applier:
    """`applied_seq` is the end of a record. Records above it are kept decoded."""

    __slots__ = ("_records", "applied_seq", "keyspace")

    def __init__(self, keyspace: KeySpace, applied_seq: int = 0) -> None:
        self.keyspace = keyspace
        self.applied_seq = applied_seq
        self._records: deque[Record] = deque()

    def append(self, record: Record) -> None:
        self._records.append(record)

    def recover(self, record: Record) -> None:
        """A record of the log as it is read at start: **S** what the records say is committed is applied, and the rest
        waits for a leader."""
        self.append(record)
        self.apply(record.commit_seq, NO_LIMIT)

    def truncate_suffix(self, after_seq: int) -> None:
        invariant(after_seq >= self.applied_seq, f"a cut after seq {after_seq}, but {self.applied_seq} is applied")
        while self._records and self._records[-1].last_seq > after_seq:
            self._records.pop()

    def apply(self, commit_seq: int, entries_max: int) -> bool:
        """Apply what is committed, at least one record where there is one. True: more is left for the next turn."""
        records = self._records
        while records and records[0].last_seq <= commit_seq:
            if entries_max <= 0:
                return True
            record = records.popleft()
            if record.first_seq != self.applied_seq + 1:
                raise InvariantError(f"{record!r} does not follow seq {self.applied_seq}")
            self.keyspace.apply(record.entries)
            self.applied_seq = record.last_seq
            entries_max -= len(record.entries)
        return False
