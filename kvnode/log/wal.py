"""The write-ahead log of one node, open for writing. recovery.open_log makes it.

All calls block, and all but `read` come from one thread, the writer. On return the thing is durable: the process may
be killed and the machine lose power.

    append       records go to the end of the last segment: one write, one fdatasync for all of them; then the mark is
                 written. A full segment is sealed first: mark fsynced, new segment made under a temporary name,
                 fsynced, renamed, directory fsynced
    cut          the mark is lowered and fsynced, then the end is cut off as discard.py says
    save_…       the new file is written under a temporary name, fsynced, renamed, directory fsynced

A failed write or fsync is final (DiskError): every later call raises the same. What the failed call left in the file
is above the mark, and the next start looks at it with fresh eyes.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvnode.invariant import invariant
from kvnode.log import ballot as ballots
from kvnode.log import identity as identities
from kvnode.log.ballot import Ballot, encode_ballot
from kvnode.log.discard import Cut, copy_end, move_segments
from kvnode.log.errors import DiskError, LogError
from kvnode.log.files import Files, replace_durably
from kvnode.log.identity import Identity, encode_identity
from kvnode.log.mark import Mark, encode_mark
from kvnode.log.record import (
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    BadRecord,
    Record,
    SegmentHeader,
    decode_at,
    encode_header,
    why_not_next,
)
from kvnode.log.segment import Segment, segment_name


@dataclass(frozen=True, slots=True)
class LogOptions:
    """`segment_bytes`: a segment that would grow beyond it is sealed. `record_bytes_max`: none larger is written."""

    segment_bytes: int = 64 * 1024 * 1024
    record_bytes_max: int = HEADER_BYTES + PAYLOAD_BYTES_MAX


@dataclass(slots=True)
class Counters:
    """Since the start of the process. An append is one write and one fdatasync, whatever the number of its records."""

    appends: int = 0
    records: int = 0
    bytes_written: int = 0
    fsyncs: int = 0
    fsync_last_us: int = 0
    fsync_max_us: int = 0


class WriteAheadLog:
    """See the module. `last_seq`, `last_term`, `last_checksum` describe the last durable record."""

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        ballot: Ballot,
        mark: Mark,
        segments: list[Segment],
        *,
        files: Files,
        options: LogOptions,
        lock_fd: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`mark` is the end of the log here, and the content of the mark file; `segments` has at least one."""
        self.directory = directory
        self.identity = identity
        self.ballot = ballot
        self.counters = Counters()
        self._files = files
        self._options = options
        self._clock = clock
        self._lock_fd = lock_fd
        self._mark = mark
        self._mark_is_synced = True
        self._failure: str | None = None
        self._is_closed = False
        # Guards the tables of segments, and their generation, which counts cuts: readers in other threads look up
        # here, and look again when a cut may have changed what they read.
        self._guard = threading.Lock()
        self._segments = segments
        self._generation = 0
        self._fd = files.open_write(segments[-1].path)
        self._mark_fd = files.open_write(directory / "mark")

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "failed" if self._failure else "open"
        return f"log of {self.identity.node_id} {state} last={self.last_seq}@{self.last_term} {self._segments[-1]!r}"

    @property
    def last_seq(self) -> int:
        return self._mark.seq

    @property
    def last_term(self) -> int:
        return self._mark.term

    @property
    def last_checksum(self) -> int:
        return self._mark.checksum

    def append(self, records: Sequence[Record]) -> None:
        """Make records durable that continue the log: all with one write and one fdatasync."""
        if not records:
            return
        self._check_append(records)
        data = records[0].raw if len(records) == 1 else b"".join([record.raw for record in records])
        with self._deed("append to the log"):
            if self._segments[-1].last_seqs and self._segments[-1].end + len(data) > self._options.segment_bytes:
                self._roll()
            segment = self._segments[-1]
            self._files.pwrite(self._fd, data, segment.end)
            self._sync(self._files.fdatasync, self._fd)
            self._publish(segment, records)
            last = records[-1]
            self._write_mark(Mark(last.last_seq, last.term, last.checksum))
        self.counters.appends += 1
        self.counters.records += len(records)
        self.counters.bytes_written += len(data)

    def cut(self, after_seq: int) -> Cut | None:
        """Durably remove every record after `after_seq`, which ends a record (or is 0); None if there is none."""
        invariant(after_seq <= self.last_seq, f"can not cut after seq {after_seq}, the log ends at {self.last_seq}")
        if after_seq == self.last_seq:
            return None
        with self._deed("cut the log"):
            position, offset, end_of_kept = self._find_end(after_seq)
            self._write_mark(end_of_kept)
            self._sync_mark()
            with self._guard:
                kept, removed = self._segments[position], self._segments[position + 1 :]
                end = kept.end
                kept.forget_after(after_seq)
                del self._segments[position + 1 :]
                self._generation += 1
            return self._cut_files(kept, offset, end, removed, end_of_kept)

    def save_ballot(self, term: int, vote: str | None) -> None:
        """Make term and vote durable; before any message that depends on them, and before records of that term."""
        invariant(
            term > self.ballot.term or (term == self.ballot.term and self.ballot.vote in (None, vote)),
            f"ballot {self.ballot} can not become term {term}, vote {vote}",
        )
        with self._deed("save the ballot"):
            ballot = Ballot(term, vote)
            replace_durably(self._files, self.directory / ballots.NAME, encode_ballot(ballot))
            self.ballot = ballot

    def save_identity(self, identity: Identity) -> None:
        """Make the right to vote durable; the rest of an identity never changes."""
        identities.refuse_foreign(self.directory, self.identity, identity)
        with self._deed("save the identity"):
            replace_durably(self._files, self.directory / identities.NAME, encode_identity(identity))
            self.identity = identity

    def idle(self) -> None:
        """The log has fallen idle: make the mark durable. Cheap when it is already."""
        if not self._mark_is_synced:
            with self._deed("sync the mark"):
                self._sync_mark()

    def read(self, after_seq: int, bytes_max: int) -> tuple[bytes, int]:
        """(bytes, last seq) of whole records after `after_seq`, as they stand in the file; only what is durable.

        At least one record, and not more than `bytes_max` bytes if more than one; the piece may end early, where a
        segment ends. (b"", after_seq) when none follows, or when no record ends at `after_seq` (0 apart): it may have
        been cut off meanwhile. Safe to call from any thread.
        """
        while True:
            with self._guard:
                generation = self._generation
                segment = self._segment_after(after_seq)
                if segment is None:
                    return b"", after_seq
                offset, size, last_seq = segment.piece_after(after_seq, bytes_max)
            # Not under the guard: an append must not wait for this read. A cut counts the generation up before it
            # touches a file, so what was read in an unchanged generation is what was looked up.
            try:
                data = self._read_piece(segment.path, offset, size)
            except OSError as error:
                if self._generation == generation:
                    raise DiskError(f"Can not read {segment.path} at offset {offset}: {error.strerror}.") from error
                continue
            if self._generation == generation:
                if len(data) < size:
                    raise DiskError(f"{segment.path} is shorter than it was: {size} bytes at offset {offset} are gone.")
                return data, last_seq

    def close(self) -> None:
        """Make the mark durable, if the disk works, and give up the lock. A second close does nothing."""
        if self._is_closed:
            return
        try:
            if self._failure is None:
                self.idle()
        finally:
            self._is_closed = True
            for fd in (self._fd, self._mark_fd, self._lock_fd):
                self._files.close(fd)

    def _check_append(self, records: Sequence[Record]) -> None:
        last_seq, last_term, last_checksum = self._mark.seq, self._mark.term, self._mark.checksum
        for record in records:
            reason = why_not_next(record, last_seq, last_term, last_checksum)
            invariant(reason is None, f"append to the log: {reason}")
            last_seq, last_term, last_checksum = record.last_seq, record.term, record.checksum
            invariant(len(record.raw) <= self._options.record_bytes_max, f"a record of {len(record.raw)} bytes")
        invariant(
            last_term <= self.ballot.term,
            f"append to the log: term {last_term} is not in the ballot, which says {self.ballot.term}",
        )

    def _publish(self, segment: Segment, records: Sequence[Record]) -> None:
        end = segment.end
        with self._guard:
            for record in records:
                end += len(record.raw)
                segment.last_seqs.append(record.last_seq)
                segment.ends.append(end)

    def _roll(self) -> None:
        """Seal the last segment and begin the next. Where the new one is seen, the mark is at the old one's end."""
        self._sync_mark()
        header = SegmentHeader(
            self.identity.cluster_id, self.identity.node_id, self.last_seq + 1, self.last_checksum, self.last_term
        )
        path = self.directory / segment_name(header.first_seq)
        encoded = encode_header(header)
        replace_durably(self._files, path, encoded)
        fd = self._files.open_write(path)
        self._files.close(self._fd)
        self._fd = fd
        with self._guard:
            self._segments.append(Segment(path, header.first_seq, len(encoded)))

    def _find_end(self, after_seq: int) -> tuple[int, int, Mark]:
        """(index of the segment, offset in it, mark) of the end of the record that ends at `after_seq`."""
        position = bisect_right(self._segments, after_seq, key=lambda segment: segment.first_seq - 1) - 1
        invariant(position >= 0, f"seq {after_seq} is before the log's beginning")
        segment = self._segments[position]
        offset = segment.offset_after(after_seq)
        if after_seq == 0:
            return position, offset, Mark()
        # The last record that stays may be in the segment before; it is read again, which also verifies it.
        holder = segment if after_seq >= segment.first_seq else self._segments[position - 1]
        return position, offset, self._read_mark_at(holder, after_seq)

    def _read_mark_at(self, segment: Segment, seq: int) -> Mark:
        end = segment.offset_after(seq)
        index = bisect_left(segment.ends, end)
        start = segment.ends[index - 1] if index else segment.start
        try:
            record = decode_at(self._read_piece(segment.path, start, end - start), 0)
        except BadRecord as bad:
            raise DiskError(f"Damage in {segment.path} at offset {start}: {bad.reason}.") from bad
        return Mark(record.last_seq, record.term, record.checksum)

    def _cut_files(self, kept: Segment, offset: int, end: int, removed: list[Segment], mark: Mark) -> Cut:
        fd = self._files.open_write(kept.path)
        copies = []
        if offset < end:
            header = SegmentHeader(
                self.identity.cluster_id, self.identity.node_id, mark.seq + 1, mark.checksum, mark.term
            )
            copies.append(copy_end(self._files, kept.path, fd, offset, end, header))
        moved, size = move_segments(self._files, [segment.path for segment in removed])
        self._files.truncate(fd, offset)
        self._sync(self._files.fsync, fd)
        self._files.close(self._fd)
        self._fd = fd
        copies += moved
        reason = "the records were replaced by a later term's"
        return Cut(kept.path, offset, size + end - offset, mark.seq + 1, reason, tuple(copies))

    def _segment_after(self, after_seq: int) -> Segment | None:
        """The segment with the record that follows `after_seq`, if a record ends there."""
        position = bisect_right(self._segments, after_seq, key=lambda segment: segment.first_seq - 1) - 1
        segment = self._segments[max(position, 0)]
        return segment if after_seq < segment.last_seq and segment.has_end(after_seq) else None

    def _read_piece(self, path: Path, offset: int, size: int) -> bytes:
        fd = self._files.open_read(path)
        try:
            return self._files.pread(fd, size, offset)
        finally:
            self._files.close(fd)

    def _write_mark(self, mark: Mark) -> None:
        self._files.pwrite(self._mark_fd, encode_mark(mark), 0)
        self._mark = mark
        self._mark_is_synced = False

    def _sync_mark(self) -> None:
        self._sync(self._files.fdatasync, self._mark_fd)
        self._mark_is_synced = True

    def _sync(self, sync: Callable[[int], None], fd: int) -> None:
        before = self._clock()
        sync(fd)
        took_us = int((self._clock() - before) * 1_000_000)
        counters = self.counters
        counters.fsyncs += 1
        counters.fsync_last_us = took_us
        counters.fsync_max_us = max(counters.fsync_max_us, took_us)

    @contextmanager
    def _deed(self, what: str) -> Iterator[None]:
        invariant(not self._is_closed, f"can not {what}: it is closed")
        if self._failure is not None:
            raise DiskError(self._failure)
        try:
            yield
        except OSError as error:
            self._failure = (
                f"Could not {what} in {self.directory}: {error.strerror or error}. It is not known what is on the "
                "disk now, so this process must end; the next start reads what is there."
            )
            raise DiskError(self._failure) from error
        except LogError as error:
            self._failure = str(error)
            raise
