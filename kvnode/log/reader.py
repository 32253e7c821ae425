"""Looking at a log from outside: read-only, without the lock, on a live or a stopped directory, in bounded memory.

A scan reads what was there when it began. A live log may end within a record that is just being written: so the first
bad record of the last segment ends a scan quietly, and `Scan.tail` says where and why; anything bad elsewhere is
damage. Only recovery, which knows the mark, can say whether a tail was durable.

A single file can be read too: a segment, or one of those kept in `discarded/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kvnode.log.errors import DamageError, LogError
from kvnode.log.files import REAL, Files
from kvnode.log.record import BadRecord, Record, SegmentHeader, why_not_next
from kvnode.log.segment import first_seq_of, read_header, read_records, refuse_newer


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A segment as it stands: its file, its header, where that ends, and the file's size in bytes."""

    path: Path
    header: SegmentHeader
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Tail:
    """What follows the last good record: `size` bytes at `offset` of `path`; `reason` says why they are no record."""

    path: Path
    offset: int
    size: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.size} bytes at offset {self.offset} are not a record: {self.reason}"


def segments(path: Path | str, files: Files = REAL) -> list[SegmentFile]:
    """The segments of a data directory, in order of seq; or the one segment file that `path` names.

    Raises LogError when it is neither, DamageError when a header can not be read.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return [_open_segment(files, path, is_named=True)]
        names = [name for name in files.listdir(path) if first_seq_of(name) is not None]
        if not names:
            raise LogError(f"{path} is not a kvnode data directory: there is no segment of a log in it.")
        return [_open_segment(files, path / name, is_named=False) for name in names]
    except OSError as error:
        raise LogError(f"can not read {error.filename or path}: {error.strerror}.") from error


def scan(path: Path | str, from_seq: int | None = None, to_seq: int | None = None, *, files: Files = REAL) -> Scan:
    """The records of a log that hold an entry of from_seq … to_seq (both included; None: from or to the end).

    Iterate over it once; afterwards its `tail` is set if the log ends in something that is no record.
    """
    return Scan(files, segments(path, files), from_seq, to_seq)


class Scan:
    """See `scan`. Raises DamageError while it is iterated over."""

    def __init__(self, files: Files, found: list[SegmentFile], from_seq: int | None, to_seq: int | None) -> None:
        self.segments = found
        self.tail: Tail | None = None
        self._files = files
        self._from_seq = from_seq or 0
        self._to_seq = to_seq

    def __repr__(self) -> str:
        return f"scan of {len(self.segments)} segments from {self._from_seq} to {self._to_seq}"

    def __iter__(self) -> Iterator[Record]:
        position = self._first_position()
        header = self.segments[position].header
        end = (header.first_seq - 1, header.prev_term, header.prev_checksum)
        while position < len(self.segments):
            segment = self.segments[position]
            self._check_follows(segment, *end)
            for record in self._read(segment, position, *end):
                end = (record.last_seq, record.term, record.checksum)
                if self._to_seq is not None and record.first_seq > self._to_seq:
                    return
                if record.last_seq >= self._from_seq:
                    yield record
            position += 1

    def _first_position(self) -> int:
        """The last segment that begins at or before from_seq; the first of all if none does."""
        starts = [segment.header.first_seq for segment in self.segments]
        return max([i for i, first_seq in enumerate(starts) if first_seq <= self._from_seq], default=0)

    def _check_follows(self, segment: SegmentFile, last_seq: int, last_term: int, last_checksum: int) -> None:
        header = segment.header
        if header.first_seq > last_seq + 1:
            raise DamageError(
                segment.path, "the segment before it is missing", first_seq=last_seq + 1, last_seq=header.first_seq - 1
            )
        if (header.first_seq, header.prev_term, header.prev_checksum) != (last_seq + 1, last_term, last_checksum):
            reason = "the segment does not continue the one before it"
            raise DamageError(segment.path, reason, offset=0, first_seq=header.first_seq)

    def _read(
        self, segment: SegmentFile, position: int, last_seq: int, last_term: int, last_checksum: int
    ) -> Iterator[Record]:
        offset = segment.start
        try:
            fd = self._files.open_read(segment.path)
        except OSError as error:
            raise LogError(f"can not read {segment.path}: {error.strerror}.") from error
        try:
            for record in read_records(self._files, fd, segment.start, segment.size):
                reason = why_not_next(record, last_seq, last_term, last_checksum)
                if reason is not None:
                    raise DamageError(segment.path, reason, offset=offset, first_seq=last_seq + 1)
                last_seq, last_term, last_checksum = record.last_seq, record.term, record.checksum
                offset += len(record.raw)
                yield record
        except BadRecord as bad:
            if position < len(self.segments) - 1 or not bad.may_be_torn:
                raise DamageError(segment.path, bad.reason, offset=bad.offset, first_seq=last_seq + 1) from None
            self.tail = Tail(segment.path, bad.offset, segment.size - bad.offset, bad.reason)
        finally:
            self._files.close(fd)


def _open_segment(files: Files, path: Path, *, is_named: bool) -> SegmentFile:
    fd = files.open_read(path)
    try:
        header, start = read_header(files, fd)
        refuse_newer(path, header)
        return SegmentFile(path, header, start, files.size(fd))
    except BadRecord as bad:
        if is_named:
            raise LogError(f"{path} is not a log of kvnode: {bad.reason}.") from None
        raise DamageError(path, f"the segment's header can not be read: {bad.reason}", offset=bad.offset) from None
    finally:
        files.close(fd)
