"""The newest records in memory: what is sent to members that keep up, and what is not durable yet."""

from __future__ import annotations

from collections import deque

from kvnode.log.record import Record

TAIL_BYTES_MAX = 8 * 1024 * 1024


class Tail:
    """Records that follow each other. Those above `durable_seq` are always kept: they can not be read from the disk.

    Kept are their bytes, not what is in them: eight megabytes of records are a hundred thousand objects."""

    __slots__ = ("_after", "_bytes", "_ends", "durable_seq")

    def __init__(self, durable_seq: int) -> None:
        self.durable_seq = durable_seq
        self._ends: deque[tuple[int, int]] = deque()  # (after_seq, last_seq) of each
        self._after: dict[int, tuple[int, bytes]] = {}  # after_seq -> (last_seq, bytes)
        self._bytes = 0

    def append(self, record: Record) -> None:
        after_seq = record.first_seq - 1
        self._ends.append((after_seq, record.last_seq))
        self._after[after_seq] = (record.last_seq, record.raw)
        self._bytes += record.size
        while self._bytes > TAIL_BYTES_MAX and self._ends[0][1] <= self.durable_seq:
            self._forget(self._ends.popleft()[0])

    def truncate_suffix(self, after_seq: int) -> None:
        while self._ends and self._ends[-1][1] > after_seq:
            self._forget(self._ends.pop()[0])
        self.durable_seq = min(self.durable_seq, after_seq)

    def _forget(self, after_seq: int) -> None:
        self._bytes -= len(self._after.pop(after_seq)[1])

    def begins_after(self) -> int:
        """The seq after which the records kept here begin; all before are durable."""
        return self._ends[0][0] if self._ends else self.durable_seq

    def read(self, after_seq: int, last_seq: int) -> bytes | None:
        """The bytes of (after_seq, last_seq], or None where they begin before what is kept."""
        if after_seq == last_seq:
            return b""
        kept = self._after.get(after_seq)
        if kept is None:
            return None
        end_seq, raw = kept
        if end_seq == last_seq:
            return raw
        parts = [raw]
        while end_seq < last_seq:
            end_seq, raw = self._after[end_seq]
            parts.append(raw)
        return b"".join(parts)
