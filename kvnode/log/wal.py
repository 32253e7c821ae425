"""The write-ahead log of one node, open for writing. recovery.open_log makes it.

All calls block, and all but `read` and `scrub` come from one thread, the writer. On return the thing is durable: the
process may be killed and the machine lose power.

    append       records go to the end of the last segment: one write, one fdatasync for all of them; then the mark is
                 written. Small records go where zeros have been written before: an fsync that need not tell the file
                 system of a new size or of new blocks takes half as long. A full segment is sealed first: what is left
                 of the zeros cut off and fsynced, mark fsynced, new segment made under a temporary name, fsynced,
                 renamed, directory fsynced
    cut          what goes is copied, the mark is lowered and fsynced, then the end is cut off as discard.py says
    save_…       the new file is written under a temporary name, fsynced, renamed, directory fsynced
    set_aside    the right to vote is taken away, as save_identity does it; then a cut
    heal         each segment concerned is written anew, as fresh.py says

Where there is no room (NoSpaceError), what the call had begun is taken back: the same call can be made again, or any
other. Every other failed write, and every failed fsync, is final (DiskError): each later call raises the same. What
the failed call left in the file is above the mark, and the next start looks at it with fresh eyes.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kvnode.invariant import InvariantError, invariant
from kvnode.log import ballot as ballots
from kvnode.log import identity as identities
from kvnode.log.ballot import Ballot, encode_ballot
from kvnode.log.discard import Cut, copy_end, move_segments
from kvnode.log.errors import DiskError, DoesNotFit, LogError, NoSpaceError
from kvnode.log.files import Files, replace_durably
from kvnode.log.healing.fresh import write_anew
from kvnode.log.healing.lookup import position_after, read_mark_at, read_piece, segment_after
from kvnode.log.healing.reread import BadRange, Piece, find_bad
from kvnode.log.healing.rewriting import place_header, place_records
from kvnode.log.identity import Identity, encode_identity
from kvnode.log.mark import Mark, encode_mark
from kvnode.log.record import HEADER_BYTES, PAYLOAD_BYTES_MAX, BadRecord, Record, encode_header, why_not_next
from kvnode.log.reserve import Reserve
from kvnode.log.segment import Segment, header_after, segment_name
from kvnode.log.watched import Counters, WatchedFiles

LAID_OUT_RECORDS_MIN: Final = 16
"""So many writes like the present one must find room in the zeros that it has to wait for."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """`segment_bytes`: a segment that would grow beyond it is sealed. `record_bytes_max`: none larger is written.

    `reserve_bytes`: the size of the reserve, 0 for none. `fsync_warn_ms`: an fsync that takes longer is slow.
    `lay_out_bytes`: how many zeros are written ahead of the records at a time, 0 for none.
    """

    segment_bytes: int = 64 * 1024 * 1024
    record_bytes_max: int = HEADER_BYTES + PAYLOAD_BYTES_MAX
    reserve_bytes: int = 1024 * 1024
    fsync_warn_ms: int = 1_000
    lay_out_bytes: int = 1024 * 1024


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
        self._files = files = WatchedFiles(files, self.counters, options.fsync_warn_ms, clock)
        self._options = options
        self._lock_fd = lock_fd
        self._reserve = Reserve(files, directory, options.reserve_bytes)
        self._mark = mark
        self._mark_is_written = True
        self._mark_is_synced = True
        self._failure: str | None = None
        self._is_closed = False
        # Guards the tables of segments, and their generation, which counts cuts and healings: readers in other threads
        # look up here, and look again when what they read may have been changed meanwhile.
        self._guard = threading.Lock()
        self._segments = segments
        self._generation = 0
        self._fd = files.open_write(segments[-1].path)
        # What follows the last record in its file, up to here, is zeros, and has been on the disk.
        self._laid_out_to = files.size(self._fd)
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
        with self._deed("append to the log"):
            self._check_append(records)
            data = records[0].raw if len(records) == 1 else b"".join([record.raw for record in records])
            if self._segments[-1].last_seqs and self._segments[-1].end + len(data) > self._options.segment_bytes:
                self._roll()
            segment = self._segments[-1]
            start = segment.end
            end = start + len(data)
            try:
                self._files.pwrite(self._fd, data, start)
            except NoSpaceError:
                self._trim(start)
                raise
            if end > self._laid_out_to:
                self._lay_out(end, len(data))
            self._files.fdatasync(self._fd)
            self._publish(segment, records)
            last = records[-1]
            mark = Mark(last.last_seq, last.term, last.checksum)
            try:
                self._write_mark(mark)
            except NoSpaceError:
                self._owe_mark(mark)  # the records are durable all the same
        self.counters.appends += 1
        self.counters.records += len(records)
        self.counters.bytes_written += len(data)

    def cut(self, after_seq: int, reason: str = "the records were replaced by a later term's") -> Cut | None:
        """Durably remove every record after `after_seq`, which ends a record (or is 0); None if there is none."""
        with self._deed("cut the log"):
            invariant(after_seq <= self.last_seq, f"can not cut after seq {after_seq}, the log ends at {self.last_seq}")
            if after_seq == self.last_seq:
                return None
            position = position_after(self._segments, after_seq)
            kept = self._segments[position]
            offset = kept.offset_after(after_seq)
            size = kept.end - offset
            end, end_of_kept = self._mark, self._read_mark_at(after_seq)
            copies = [self._copy_end(kept, offset, end_of_kept)] if size else []
            try:
                self._write_mark(end_of_kept)
                self._sync_mark()
                with self._forgetting(position, after_seq) as removed:
                    moved, moved_size = move_segments(self._files, [segment.path for segment in removed])
            except NoSpaceError:
                self._owe_mark(end)
                for copy in copies:
                    self._files.unlink(copy)
                raise
            self._reopen(kept)
            self._trim(offset)
        return Cut(kept.path, offset, size + moved_size, after_seq + 1, reason, (*copies, *moved))

    def set_aside(self, after_seq: int, reason: str) -> Cut | None:
        """Durably take the right to vote away, then cut. `reason`: one sentence; that of an earlier time stays.

        Where there is no room for the cut, the right is gone already when NoSpaceError is raised.
        """
        self.save_identity(replace(self.identity, may_vote=False, set_aside=self.identity.set_aside or reason))
        return self.cut(after_seq, reason)

    def heal(self, after_seq: int, to_seq: int, data: bytes) -> None:
        """Write the records (after_seq, to_seq] anew: `data` is what they were. With to_seq == after_seq and no data it
        is the header of the segment that begins there.

        Raises DoesNotFit when the log has no records of these sizes there, or when they do not chain to what can be
        read before or after them. Then nothing has changed.
        """
        with self._deed("heal the log"):
            log = self._files, self._segments, self._mark
            if to_seq > after_seq:
                patches = place_records(*log, after_seq, to_seq, data)
            else:
                patches = [place_header(*log, self.identity, after_seq)]
            for segment, offset, part in patches:
                write_anew(self._files, segment.path, segment.end, offset, part)
                if segment is self._segments[-1]:
                    self._reopen(segment)
                with self._guard:
                    self._generation += 1

    def save_ballot(self, term: int, vote: str | None) -> None:
        """Make term and vote durable; before any message that depends on them, and before records of that term."""
        with self._deed("save the ballot"):
            invariant(
                term > self.ballot.term or (term == self.ballot.term and self.ballot.vote in (None, vote)),
                f"ballot {self.ballot} can not become term {term}, vote {vote}",
            )
            ballot = Ballot(term, vote)
            replace_durably(self._files, self.directory / ballots.NAME, encode_ballot(ballot))
            self.ballot = ballot

    def save_identity(self, identity: Identity) -> None:
        """Make the right to vote durable; the rest of an identity never changes."""
        identities.refuse_foreign(self.directory, self.identity, identity)
        with self._deed("save the identity"):
            replace_durably(self._files, self.directory / identities.NAME, encode_identity(identity))
            self.identity = identity

    def release_reserve(self) -> bool:
        """Free the room that is kept for ballots. False: there was none to free."""
        with self._deed("release the reserve"):
            return self._reserve.release()

    def refill_reserve(self) -> bool:
        """Keep room for ballots. False: there is none. Cheap when it is kept already."""
        with self._deed("refill the reserve"):
            return self._reserve.refill()

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
                segment = segment_after(self._segments, after_seq)
                if segment is None:
                    return b"", after_seq
                offset, size, last_seq = segment.piece_after(after_seq, bytes_max)
            # Not under the guard: an append must not wait for this read. A cut counts the generation up before it
            # touches a file, so what was read in an unchanged generation is what was looked up.
            try:
                data = read_piece(self._files, segment.path, offset, size)
            except OSError as error:
                if self._generation == generation:
                    raise DiskError(f"Can not read {segment.path} at offset {offset}: {error.strerror}.") from error
                continue
            if self._generation == generation:
                if len(data) < size:
                    raise DiskError(f"{segment.path} is shorter than it was: {size} bytes at offset {offset} are gone.")
                return data, last_seq

    def scrub(self, after_seq: int, expected: Sequence[tuple[int, int]]) -> tuple[list[BadRange], int]:
        """Read again from the disk what follows `after_seq`: `expected` is (last_seq, checksum) of each record.

        Returns what is bad, (after_seq, last_seq, reason), and the number of bytes read; a range with equal seqs is the
        header of the segment that begins there. What was cut off meanwhile is not bad. But what has come in its place
        is another record than the one expected, and called bad, so that the caller has to look once more whether it
        still expects the same. Safe to call from any thread.
        """
        bad: list[BadRange] = []
        size = at = 0
        while at < len(expected):
            generation = self._generation
            piece = self._piece(after_seq, expected[at:])
            if not piece:
                break
            try:
                found, count = find_bad(self._files, piece, self.identity)
            except OSError as error:
                if self._generation == generation:
                    raise DiskError(f"Can not read {piece.path}: {error.strerror}.") from error
                continue
            if self._generation == generation:
                bad += found
                size += count
                at += len(piece)
                after_seq = piece.last_seqs[-1]
        return bad, size

    def close(self) -> None:
        """Make the mark durable, cut off the zeros that are left, if the disk works, and give up the lock. A second
        close does nothing."""
        if self._is_closed:
            return
        try:
            if self._failure is None:
                with suppress(NoSpaceError):  # a mark that is too low is no fault
                    self.idle()
                if self._laid_out_to > self._segments[-1].end:
                    with self._deed("cut off the zeros"):
                        self._trim(self._segments[-1].end)
        finally:
            self._is_closed = True
            for fd in (self._fd, self._mark_fd, self._lock_fd):
                self._files.close(fd)

    def _check_append(self, records: Sequence[Record]) -> None:
        last_seq, last_term, last_checksum = self._mark.seq, self._mark.term, self._mark.checksum
        for record in records:
            reason = why_not_next(record, last_seq, last_term, last_checksum)
            if reason is not None:
                raise InvariantError(f"append to the log: {reason}")
            last_seq, last_term, last_checksum = record.last_seq, record.term, record.checksum
            if len(record.raw) > self._options.record_bytes_max:
                raise InvariantError(f"append to the log: a record of {len(record.raw)} bytes")
        if last_term > self.ballot.term:
            raise InvariantError(
                f"append to the log: term {last_term} is not in the ballot, which says {self.ballot.term}"
            )

    def _publish(self, segment: Segment, records: Sequence[Record]) -> None:
        end = segment.end
        with self._guard:
            for record in records:
                end += len(record.raw)
                segment.last_seqs.append(record.last_seq)
                segment.ends.append(end)

    def _lay_out(self, end: int, size: int) -> None:
        """Zeros after the `size` bytes that were just written up to `end`, for the records to come; the same fsync
        makes both durable. Large records are worth none: they would be written twice."""
        self._laid_out_to = end
        zeros = min(self._options.lay_out_bytes, self._options.segment_bytes - end)
        if zeros < size * LAID_OUT_RECORDS_MIN:
            return
        try:
            self._files.pwrite(self._fd, bytes(zeros), end)
        except NoSpaceError:
            self._files.truncate(self._fd, end)  # nobody needs them
        else:
            self._laid_out_to = end + zeros

    def _trim(self, end: int) -> None:
        """Let the file end there."""
        self._files.truncate(self._fd, end)
        self._files.fsync(self._fd)
        self._laid_out_to = end

    def _roll(self) -> None:
        """Seal the last segment and begin the next. Where the new one is seen, the mark is at the old one's end."""
        if self._laid_out_to > self._segments[-1].end:
            self._trim(self._segments[-1].end)
        self._sync_mark()
        first_seq = self.last_seq + 1
        header = encode_header(header_after(self._mark, self.identity))
        segment = Segment(self.directory / segment_name(first_seq), first_seq, len(header))
        replace_durably(self._files, segment.path, header)
        self._reopen(segment)
        with self._guard:
            self._segments.append(segment)

    def _reopen(self, segment: Segment) -> None:
        """The file that records are appended to is another one now."""
        fd = self._files.open_write(segment.path)
        self._files.close(self._fd)
        self._fd = fd
        self._laid_out_to = self._files.size(fd)

    def _read_mark_at(self, seq: int) -> Mark:
        try:
            return read_mark_at(self._files, self._segments, seq)
        except BadRecord as bad:
            raise DiskError(f"Damage in {self.directory}: the record that ends at seq {seq}: {bad.reason}.") from bad

    def _copy_end(self, segment: Segment, offset: int, mark: Mark) -> Path:
        fd = self._files.open_read(segment.path)
        try:
            return copy_end(self._files, segment.path, fd, offset, segment.end, header_after(mark, self.identity))
        finally:
            self._files.close(fd)

    @contextmanager
    def _forgetting(self, position: int, after_seq: int) -> Iterator[list[Segment]]:
        """Readers find what is cut no more; and find it again where there was no room for the cut."""
        kept = self._segments[position]
        with self._guard:
            removed = self._segments[position + 1 :]
            del self._segments[position + 1 :]
            last_seqs, ends = kept.forget_after(after_seq)
            self._generation += 1
        try:
            yield removed
        except NoSpaceError:
            with self._guard:
                kept.last_seqs += last_seqs
                kept.ends += ends
                self._segments += removed
                self._generation += 1
            raise

    def _piece(self, after_seq: int, expected: Sequence[tuple[int, int]]) -> Piece | None:
        """The records after `after_seq` in one segment, as far as they are the expected; None where there is none."""
        with self._guard:
            segment = segment_after(self._segments, after_seq)
            if segment is None:
                return None
            first = bisect_right(segment.last_seqs, after_seq)
            start = segment.offset_after(after_seq)
            last_seqs = segment.last_seqs[first : first + len(expected)]
            ends = segment.ends[first : first + len(expected)]
        count = 0
        for last_seq, (expected_seq, _) in zip(last_seqs, expected, strict=False):
            if last_seq != expected_seq:
                break
            count += 1
        checksums = [checksum for _, checksum in expected[:count]]
        first_seq = segment.first_seq if first == 0 else None
        return Piece(segment.path, after_seq, start, last_seqs[:count], ends[:count], checksums, first_seq)

    def _write_mark(self, mark: Mark) -> None:
        self._files.pwrite(self._mark_fd, encode_mark(mark), 0)
        self._mark = mark
        self._mark_is_written = True
        self._mark_is_synced = False

    def _owe_mark(self, mark: Mark) -> None:
        """The mark in the file is too low, which is no fault; it is written before it is next synced."""
        self._mark = mark
        self._mark_is_written = self._mark_is_synced = False

    def _sync_mark(self) -> None:
        if not self._mark_is_written:
            self._write_mark(self._mark)
        self._files.fdatasync(self._mark_fd)
        self._mark_is_synced = True

    def _deed(self, what: str) -> _Deed:
        return _Deed(self, what)

    def _begin(self, what: str) -> None:
        """Raises the failure of an earlier deed."""
        if self._is_closed:
            raise InvariantError(f"can not {what}: it is closed")
        if self._failure is not None:
            raise DiskError(self._failure)

    def _fail(self, what: str, error: BaseException) -> None:
        """A deed has raised `error`: that is final, but for want of room. Raises DiskError for an OSError."""
        if isinstance(error, (NoSpaceError, DoesNotFit)):
            return
        if isinstance(error, OSError):
            self._failure = (
                f"Could not {what} in {self.directory}: {error.strerror or error}. It is not known what is on the "
                "disk now, so this process must end; the next start reads what is there."
            )
            raise DiskError(self._failure) from error
        if isinstance(error, LogError):
            self._failure = str(error)


class _Deed:
    """`with`: one thing that the log does."""

    def __init__(self, log: WriteAheadLog, what: str) -> None:
        self._log = log
        self._what = what

    def __enter__(self) -> None:
        self._log._begin(self._what)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._log._fail(self._what, error)
