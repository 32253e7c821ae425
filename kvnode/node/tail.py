"""The newest records in memory: what is sent to members that keep up, and what is not durable yet."""

from __future__ import annotations

from collections import deque

from kvnode.log.record import Record

TAIL_BYTES_MAX = 8 * 1024 * 1024


class Tail:
    """Records that follow each other. Those above `durable_seq` are always kept: they can not be read from the disk."""

    __slots__ = ("_after", "_bytes", "_records", "durable_seq")

    def __init__(self, durable_seq: int) -> None:
        self.durable_seq = durable_seq
        self._records: deque[Record] = deque()
        self._after: dict[int, Record] = {}
        self._bytes = 0

    def append(self, record: Record) -> None:
        self._records.append(record)
        self._after[record.first_seq - 1] = record
        self._bytes += record.size
        while self._bytes > TAIL_BYTES_MAX and self._records[0].last_seq <= self.durable_seq:
            self._forget(self._records.popleft())

    def truncate_suffix(self, after_seq: int) -> None:
        while self._records and self._records[-1].last_seq > after_seq:
            self._forget(self._records.pop())
        self.durable_seq = min(self.durable_seq, after_seq)

    def _forget(self, record: Record) -> None:
        del self._after[record.first_seq - 1]
        self._bytes -= record.size

    def begins_after(self) -> int:
        """The seq after which the records kept here begin; all before are durable."""
        return self._records[0].first_seq - 1 if self._records else self.durable_seq

    def read(self, after_seq: int, last_seq: int) -> bytes | None:
        """The bytes of (after_seq, last_seq], or None where they begin before what is kept."""
        if after_seq == last_seq:
            return b""
        record = self._after.get(after_seq)
        if record is None:
            return None
        if record.last_seq == last_seq:
            return record.raw
        parts = [record.raw]
        while record.last_seq < last_seq:
            record = self._after[record.last_seq]
            parts.append(record.raw)
        return b"".join(parts)
