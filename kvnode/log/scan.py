"""Reading all segments at start, as far as they are good. Writes nothing.

This is the quick way, for logs that are good or end in a torn write; survey.py reads past the first bad thing.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvnode.log.directory import READ_ERRORS, segment_paths
from kvnode.log.files import Files, file_size
from kvnode.log.identity import Identity
from kvnode.log.record import BadRecord, Record, why_not_next
from kvnode.log.segment import (
    Segment,
    read_header,
    read_records,
    refuse_newer,
    why_header_is_wrong,
    written_size,
)


@dataclass(frozen=True, slots=True)
class Bad:
    """The first thing that is not as it should be. `may_be_torn`: a crash may have left it, above the mark."""

    path: Path
    offset: int
    reason: str
    may_be_torn: bool


class Scan:
    """`run` fills in what is described at recovery.Recovered, and `bad`: None when everything is good."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        identity: Identity,
        on_record: Callable[[Record], None] | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.files = files
        self.directory = directory
        self.identity = identity
        self.on_record = on_record
        self.progress = progress
        self.segments: list[Segment] = []
        self.bad: Bad | None = None
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
        """Read until the first bad thing. A directory without a segment is good, and empty."""
        found = segment_paths(self.files, self.directory)
        if self.progress is not None:
            self._bytes_total = sum(file_size(self.files, path) for _, path in found)
        for first_seq, path in found:
            fd = self.files.open_read(path)
            try:
                bad = self._read_segment(path, fd, first_seq)
            finally:
                self.files.close(fd)
            if bad is not None:
                self.bad = Bad(path, bad.offset, bad.reason, bad.may_be_torn)
                return

    def _read_segment(self, path: Path, fd: int, first_seq: int) -> BadRecord | None:
        """Take in all good records; the first bad one is returned."""
        if first_seq != self.last_seq + 1:
            what = "is missing" if first_seq > self.last_seq else "holds the same entries"
            return BadRecord(f"the segment before it {what}", may_be_torn=False)
        try:
            header, start = read_header(self.files, fd)
        except OSError as error:
            if error.errno not in READ_ERRORS:
                raise
            return BadRecord(f"the disk reports a read error ({error.strerror})", may_be_torn=False)
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
            for record in read_records(self.files, fd, segment.start, written_size(self.files, fd), self._report):
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

    def _report(self, count: int) -> None:
        if self.progress is not None:
            self._bytes_done += count
            self.progress(self._bytes_done, self._bytes_total)
