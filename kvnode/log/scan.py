"""Reading all segments at start: what is good, and of which kind the first bad thing is. Writes nothing."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvnode.log import mark as marks
from kvnode.log.errors import DamageError
from kvnode.log.files import Files
from kvnode.log.identity import Identity
from kvnode.log.mark import Mark
from kvnode.log.record import BadRecord, Record, why_not_next
from kvnode.log.segment import (
    Segment,
    find_next_record,
    first_seq_of,
    read_header,
    read_records,
    refuse_newer,
    why_header_is_wrong,
)


@dataclass(frozen=True, slots=True)
class Torn:
    """A torn write: everything from `offset` in `path` on goes, and so do the segments `later`."""

    path: Path
    offset: int
    reason: str
    later: tuple[Path, ...]


class Scan:
    """`run` fills in what is described at recovery.Recovered, and `torn`; it raises DamageError."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        identity: Identity,
        mark: Mark,
        on_record: Callable[[Record], None] | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.files = files
        self.directory = directory
        self.identity = identity
        self.mark = mark
        self.on_record = on_record
        self.progress = progress
        self.segments: list[Segment] = []
        self.torn: Torn | None = None
        self.last_seq = 0
        self.last_term = 0
        self.last_checksum = 0
        self.commit_seq = 0
        self.time_ms = 0
        self.last_seqs = array("Q")
        self.checksums = array("I")
        self.sizes = array("I")
        self.terms: list[tuple[int, int]] = []
        self._bytes_done = 0
        self._bytes_total = 0

    def run(self) -> None:
        found = [(seq, name) for name in self.files.listdir(self.directory) if (seq := first_seq_of(name)) is not None]
        paths = [self.directory / name for _, name in found]
        if not found:
            raise DamageError(self.directory, "all segments of the log are missing", first_seq=1)
        if self.progress is not None:
            self._bytes_total = sum(map(self._size, paths))
        for position, (first_seq, _) in enumerate(found):
            path = paths[position]
            self._check_follows(path, first_seq)
            fd = self.files.open_read(path)
            try:
                bad = self._read_segment(path, fd, first_seq)
                if bad is not None:
                    self._judge(path, fd, bad, tuple(paths[position + 1 :]), [seq for seq, _ in found[position + 1 :]])
                    break
            finally:
                self.files.close(fd)
        self._check_mark()

    def _check_follows(self, path: Path, first_seq: int) -> None:
        expected = self.last_seq + 1
        if first_seq > expected:
            raise DamageError(path, "the segment before it is missing", first_seq=expected, last_seq=first_seq - 1)
        if first_seq < expected:
            raise DamageError(path, "the segment before it holds the same entries", first_seq=first_seq)

    def _read_segment(self, path: Path, fd: int, first_seq: int) -> BadRecord | None:
        """Take in all good records; the first bad one is returned."""
        try:
            header, start = read_header(self.files, fd)
        except BadRecord as bad:
            # A segment gets its name after its header was fsynced: no crash leaves a bad one.
            return BadRecord(f"the segment's header can not be read: {bad.reason}", may_be_torn=False)
        refuse_newer(path, header)
        reason = why_header_is_wrong(header, self.identity.cluster_id, self.identity.node_id, first_seq)
        if (header.prev_checksum, header.prev_term) != (self.last_checksum, self.last_term):
            reason = reason or "the segment does not continue the one before it"
        if reason is not None:
            return BadRecord(reason, may_be_torn=False)
        segment = Segment(path, first_seq, start)
        self.segments.append(segment)
        try:
            self._take_records(segment, fd)
        except BadRecord as bad:
            return bad
        return None

    def _take_records(self, segment: Segment, fd: int) -> None:
        # The loop that a start spends its time in: locals, and the two tables filled side by side.
        on_record = self.on_record
        last_seq, last_term, last_checksum = self.last_seq, self.last_term, self.last_checksum
        commit_seq, time_ms, end = self.commit_seq, self.time_ms, segment.start
        add_last_seq, add_checksum, add_size = self.last_seqs.append, self.checksums.append, self.sizes.append
        add_segment_seq, add_end = segment.last_seqs.append, segment.ends.append
        try:
            for record in read_records(self.files, fd, segment.start, self.files.size(fd), self._report):
                if record.first_seq != last_seq + 1 or record.prev_checksum != last_checksum or record.term < last_term:
                    reason = why_not_next(record, last_seq, last_term, last_checksum)
                    raise BadRecord(reason or "", end, may_be_torn=False)
                last_seq, last_checksum = record.last_seq, record.checksum
                if record.term != last_term:
                    last_term = record.term
                    self.terms.append((record.first_seq, last_term))
                size = len(record.raw)
                end += size
                add_last_seq(last_seq)
                add_checksum(last_checksum)
                add_size(size)
                add_segment_seq(last_seq)
                add_end(end)
                if record.commit_seq > commit_seq:
                    commit_seq = record.commit_seq
                if record.time_ms > time_ms:
                    time_ms = record.time_ms
                if on_record is not None:
                    on_record(record)
        finally:
            self.last_seq, self.last_term, self.last_checksum = last_seq, last_term, last_checksum
            self.commit_seq, self.time_ms = commit_seq, time_ms

    def _judge(self, path: Path, fd: int, bad: BadRecord, later: tuple[Path, ...], later_seqs: list[int]) -> None:
        """Torn, or damage? A torn write is above the mark and could not have been read by anybody."""
        if bad.may_be_torn and self.last_seq >= self.mark.seq:
            self.torn = Torn(path, bad.offset, bad.reason, later)
            return
        readable = find_next_record(self.files, fd, bad.offset + 1, self.files.size(fd))
        known = [seq for seq in ([readable.first_seq] if readable else []) + later_seqs if seq > self.last_seq + 1]
        last_seq = known[0] - 1 if known else max(self.mark.seq, self.last_seq + 1)
        raise DamageError(path, bad.reason, offset=bad.offset, first_seq=self.last_seq + 1, last_seq=last_seq)

    def _check_mark(self) -> None:
        """The record that the mark speaks of is there, and is the same."""
        mark = self.mark
        if mark.seq > self.last_seq:
            path, offset = self.segments[-1].path, self.segments[-1].end
            reason = f"the log ends here, though it was durable up to seq {mark.seq}"
            raise DamageError(path, reason, offset=offset, first_seq=self.last_seq + 1, last_seq=mark.seq)
        if mark.seq:
            index = bisect_left(self.last_seqs, mark.seq)
            if self.last_seqs[index] != mark.seq or self.checksums[index] != mark.checksum:
                reason = f"the mark speaks of another record at seq {mark.seq} than the log has there"
                raise DamageError(self.directory / marks.NAME, reason)

    def _size(self, path: Path) -> int:
        fd = self.files.open_read(path)
        try:
            return self.files.size(fd)
        finally:
            self.files.close(fd)

    def _report(self, count: int) -> None:
        if self.progress is not None:
            self._bytes_done += count
            self.progress(self._bytes_done, self._bytes_total)
