"""Where the records of the log end, in which terms, with which checksums: all that consensus knows of the log.

Three parallel columns with one row per record (last seq, checksum, bytes up to its end) and the runs of terms. 20 bytes
per record: a log of a million records costs 20 MB.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from kvnode.invariant import InvariantError
from kvnode.record_head import RecordHead

NEWEST_ROWS: Final = 8
"""Most questions are about the newest records: they are looked at one by one before anything is searched for. (Of the
instructions that a record took at the leader a tenth were searches, at a follower a sixth.)"""


class LogIndex:
    """The positions of a log. Seq 0, term 0, checksum 0 stand for "before the first record"."""

    def __init__(
        self,
        last_seqs: Sequence[int] = (),
        checksums: Sequence[int] = (),
        sizes: Sequence[int] = (),
        terms: Sequence[tuple[int, int]] = (),
    ) -> None:
        """`terms`: runs as (first seq, term), ascending. The other columns have a row per record."""
        self._ends = array("Q", last_seqs)
        self._checksums = array("I", checksums)
        self._bytes = array("Q")
        total = 0
        for size in sizes:
            total += size
            self._bytes.append(total)
        self._run_starts = [first for first, _ in terms]
        self._run_terms = [term for _, term in terms]
        self._note_last()

    def __repr__(self) -> str:
        return f"last={self.last_seq}@{self.last_term}"

    def _note_last(self) -> None:
        self.last_seq: int = self._ends[-1] if self._ends else 0
        self.last_checksum: int = self._checksums[-1] if self._ends else 0
        self.last_term: int = self._run_terms[-1] if self._run_terms else 0
        self._last_bytes: int = self._bytes[-1] if self._ends else 0
        self._last_run_start: int = self._run_starts[-1] if self._run_starts else 0

    # Writing

    def append(self, record: RecordHead) -> None:
        term = record.term
        if record.first_seq != self.last_seq + 1 or term < self.last_term or record.prev_checksum != self.last_checksum:
            raise InvariantError(f"{record!r} does not continue a log that ends {self!r}")
        if term != self.last_term:
            self._run_starts.append(record.first_seq)
            self._run_terms.append(term)
            self._last_run_start = record.first_seq
        self.last_seq, self.last_term, self.last_checksum = record.last_seq, term, record.checksum
        self._last_bytes += record.size
        self._ends.append(self.last_seq)
        self._checksums.append(self.last_checksum)
        self._bytes.append(self._last_bytes)

    def truncate_suffix(self, after_seq: int) -> None:
        """Forget every record after `after_seq`, which must be the end of one."""
        keep = self._row(after_seq) + 1
        del self._ends[keep:], self._checksums[keep:], self._bytes[keep:]
        while self._run_starts and self._run_starts[-1] > after_seq:
            self._run_starts.pop()
            self._run_terms.pop()
        self._note_last()

    # Reading

    def _row(self, end_seq: int) -> int:
        """The row of the record that ends at `end_seq`; -1 for seq 0."""
        if end_seq == 0:
            return -1
        row = self._find(end_seq)
        if row < 0:
            raise InvariantError(f"no record ends at seq {end_seq}")
        return row

    def _find(self, end_seq: int) -> int:
        """The row of the record that ends at `end_seq`, -1 where none does."""
        if end_seq == self.last_seq:
            return len(self._ends) - 1
        ends = self._ends
        rows = len(ends)
        for row in range(rows - 2, max(rows - NEWEST_ROWS, 0) - 1, -1):
            end: int = ends[row]
            if end <= end_seq:
                return row if end == end_seq else -1
        row = bisect_left(ends, end_seq)
        return row if row < rows and ends[row] == end_seq else -1

    def ends_at(self, seq: int) -> bool:
        """Whether a record ends at `seq` (seq 0 counts as one)."""
        return seq == self.last_seq or seq == 0 or self._find(seq) >= 0

    def has(self, seq: int, term: int) -> bool:
        """Whether a record of `term` ends at `seq`."""
        return self.ends_at(seq) and self.term_at(seq) == term

    def term_at(self, seq: int) -> int:
        """The term of the entry `seq`, which must be in the log; 0 for seq 0."""
        if 0 < self._last_run_start <= seq <= self.last_seq:
            return self.last_term
        if not 0 <= seq <= self.last_seq:
            raise InvariantError(f"seq {seq} is not in the log, which ends at {self.last_seq}")
        run = bisect_right(self._run_starts, seq) - 1
        return self._run_terms[run] if run >= 0 else 0

    def checksum_at(self, end_seq: int) -> int:
        if end_seq == self.last_seq:
            return self.last_checksum
        return self._checksums[self._row(end_seq)] if end_seq else 0

    def bytes_until(self, end_seq: int) -> int:
        """The size of all records up to the one that ends at `end_seq`."""
        if end_seq == self.last_seq:
            return self._last_bytes
        return self._bytes[self._row(end_seq)] if end_seq else 0

    def end_at_or_before(self, seq: int, term_max: int) -> int:
        """The last end of a record at or before `seq` whose term is at most `term_max`; 0 if there is none."""
        run = bisect_right(self._run_terms, term_max)
        if run < len(self._run_starts):
            seq = min(seq, self._run_starts[run] - 1)
        row = bisect_right(self._ends, seq) - 1
        return self._ends[row] if row >= 0 else 0

    def ends_between(self, after_seq: int, before_seq: int, count_max: int) -> list[int]:
        """Ends of records in (after_seq, before_seq), both ends too: all, or `count_max` of them, evenly spread."""
        first = self._row(after_seq) + 1
        count = self._row(before_seq) - first
        if count <= count_max:
            return list(self._ends[first : first + count])
        return [self._ends[first + count * k // (count_max + 1)] for k in range(1, count_max + 1)]

    def end_of_chunk(self, after_seq: int, bytes_max: int) -> int:
        """The end of a run of records after `after_seq`: at most `bytes_max` bytes, but at least one record."""
        row = self._row(after_seq) + 1
        start = self._bytes[row - 1] if row else 0
        if self._last_bytes - start <= bytes_max:
            return self.last_seq
        end = bisect_right(self._bytes, start + bytes_max, row) - 1
        return self._ends[max(end, row)]

    def records_after(self, after_seq: int, bytes_max: int) -> list[tuple[int, int]]:
        """(last seq, checksum) of each record of a chunk: see `end_of_chunk`; nothing at the log's end."""
        first = self._row(after_seq) + 1
        if first == len(self._ends):
            return []
        end = self._row(self.end_of_chunk(after_seq, bytes_max)) + 1
        return list(zip(self._ends[first:end], self._checksums[first:end], strict=True))
