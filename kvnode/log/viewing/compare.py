"""Where two logs part, without reading all of them. Read-only, without the lock, live or stopped.

Checksums are chained: where two logs have the same one at the end of a record, they are, as far as 32 bits can tell,
the same up to there. The header of a segment says the checksum before it; for the other log, whose segments begin
elsewhere, the record that ends there is searched for within one segment, by halving. So the last segment boundary at
which they agree is found by a few reads, and from there on both are read, record by record, until they part.

What the search believes is only where to begin: the records from there on must follow each other and chain.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from kvnode.log.errors import LogError
from kvnode.log.files import RealFiles
from kvnode.log.record import SEQ_MAX, BadRecord, decode_header
from kvnode.log.viewing.listing import LOOKS_MAX, SegmentFile, find_owner, look_at
from kvnode.log.viewing.reader import Fault, Found, Item, Reader, Replaced
from kvnode.log.window import Window

STEP_BYTES: Final = 128 * 1024
_ENDS_BEFORE: Final = object()


@dataclass(frozen=True, slots=True)
class Comparison:
    """`equal_seq`, `equal_checksum`: of the last record that both logs have; 0, 0 where they differ from the first
    entry on, None, None where they differ already in what only one of them still holds.

    `parted`: the record that follows it in each, None where the log ends there. Both None: the logs are equal.
    """

    sides: tuple[Side, Side]
    equal_seq: int | None
    equal_checksum: int | None
    parted: tuple[Found | None, Found | None]
    bytes_read: int

    @property
    def is_parted(self) -> bool:
        """Both go on, differently. Otherwise they are equal, or one is the beginning of the other."""
        return None not in self.parted

    @property
    def bytes_total(self) -> int:
        return sum(side.listing.size for side in self.sides)


class Unreadable(LogError):
    """One of the logs is damaged where it matters."""

    def __init__(self, fault: Fault, equal_seq: int | None) -> None:
        so_far = "" if equal_seq is None else f" They are equal up to seq {equal_seq}."
        super().__init__(f"can not compare the logs, there is damage in {fault}.{so_far}")


def compare(one: Path, other: Path, progress: Callable[[int, int], None] | None = None) -> Comparison:
    """Compare two data directories, or segment files. `progress` is told of bytes read, and to be read at most.

    Raises LogError where one of them is no log or too damaged, or where they have no entry in common.
    """
    files = _CountingFiles()
    for _ in range(LOOKS_MAX):
        try:
            sides = Side(one, files), Side(other, files)
            files.bytes_read = 0  # the small files beside the logs do not count
            return _compare(*sides, files, progress)
        except (_Moved, FileNotFoundError):
            continue
        except OSError as error:
            raise LogError(f"can not read {error.filename or 'the logs'}: {error.strerror}.") from error
    raise LogError("can not compare the logs: they are cut again and again while they are looked at.")


class Side:
    """One of the two logs."""

    def __init__(self, path: Path, files: _CountingFiles) -> None:
        self.listing = look_at(path, files)
        self.owner = find_owner(self.listing, files)
        self._files = files

    def __repr__(self) -> str:
        return f"side {self.listing.path}"

    @property
    def segments(self) -> tuple[SegmentFile, ...]:
        return self.listing.segments

    def segment_of(self, seq: int) -> SegmentFile:
        """With the entry `seq`, if there is such an entry."""
        return self.segments[max(bisect_right(self.segments, seq, key=lambda segment: segment.first_seq) - 1, 0)]

    def checksum_at(self, seq: int) -> object:
        """Of the record that ends at `seq`; None where none ends there, _ENDS_BEFORE where the log does."""
        segment = self.segment_of(seq + 1)
        fd = self._files.open_read(segment.path)
        try:
            window = Window(self._files, fd, segment.size, chunk_bytes=STEP_BYTES)
            header, start = decode_header(window.head(STEP_BYTES))
            if header.first_seq == seq + 1:
                return header.prev_checksum
            return _search(window, start, seq)
        except BadRecord:
            return None
        finally:
            self._files.close(fd)


class _Moved(Exception):
    """A log was cut while it was read."""


class _CountingFiles(RealFiles):
    """Real files, and how many bytes were read from them."""

    def __init__(self) -> None:
        self.bytes_read = 0

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        data = super().pread(fd, count, offset)
        self.bytes_read += len(data)
        return data


def _search(window: Window, start: int, seq: int) -> object:
    """The checksum of the record that ends at `seq`: halve the bytes in which it begins, then go from one to the next.

    A record begins at `low`, and the one that is wanted begins before `high`.
    """
    low, high = start, window.size
    while high - low > STEP_BYTES:
        middle = (low + high) // 2
        found = window.find(middle, 1, SEQ_MAX)
        if found is None or found[0] >= high or found[1].last_seq > seq:
            high = middle
        elif found[1].last_seq == seq:
            return found[1].checksum
        else:
            low = found[0] + found[1].size
    while low < window.size:
        record = window.record_at(low)
        if record.last_seq >= seq:
            return record.checksum if record.last_seq == seq else None
        low += record.size
    return _ENDS_BEFORE


def _compare(one: Side, other: Side, files: _CountingFiles, progress: Callable[[int, int], None] | None) -> Comparison:
    first_seq = max(one.segments[0].first_seq, other.segments[0].first_seq)
    boundaries = {segment.first_seq - 1 for side in (one, other) for segment in side.segments}
    points = sorted(seq for seq in boundaries if seq >= first_seq - 1)
    if points[0] and _ENDS_BEFORE in (one.checksum_at(points[0]), other.checksum_at(points[0])):
        raise LogError(f"{one.listing.path} and {other.listing.path} have no entry in common.")
    low, high = 0, len(points)
    while high - low > 1:
        middle = (low + high) // 2
        if _is_same(one, other, points[middle]):
            low = middle
        else:
            high = middle
    comparison = _walk(one, other, points[low], files, progress)
    if comparison.equal_seq is None and low:
        # A damaged segment, or a value that looks like a record, misled the search.
        comparison = _walk(one, other, points[0], files, progress)
    return comparison


def _is_same(one: Side, other: Side, seq: int) -> bool:
    checksum = one.checksum_at(seq)
    return isinstance(checksum, int) and checksum == other.checksum_at(seq)


def _walk(
    one: Side, other: Side, after_seq: int, files: _CountingFiles, progress: Callable[[int, int], None] | None
) -> Comparison:
    """Read both from the segment boundary `after_seq` on, until they part."""
    done = [0, 0]
    total = sum(side.segment_of(after_seq + 1).size for side in (one, other))

    def report(which: int, bytes_done: int) -> None:
        done[which] = bytes_done
        if progress is not None:
            progress(sum(done), total)

    readers = [Reader(side.listing, after_seq + 1, owner=side.owner, files=files) for side in (one, other)]
    items = [_records(reader.read(partial(report, which))) for which, reader in enumerate(readers)]
    equal_seq: int | None = None
    equal_checksum: int | None = None
    while True:
        pair = (_next(items[0], equal_seq), _next(items[1], equal_seq))
        if equal_seq is None and not _part_before(pair):
            equal_seq, equal_checksum = _common_end(pair, readers)
        if any(
            found is None and _ends_before(reader, equal_seq, equal_checksum)
            for found, reader in zip(pair, readers, strict=True)
        ):
            raise _Moved
        if pair[0] is None or pair[1] is None or pair[0].record.raw != pair[1].record.raw:
            return Comparison((one, other), equal_seq, equal_checksum, pair, files.bytes_read)
        equal_seq, equal_checksum = pair[0].record.last_seq, pair[0].record.checksum


def _ends_before(reader: Reader, equal_seq: int | None, equal_checksum: int | None) -> bool:
    """Whether a log no longer has what the search for the boundary, or the other log, says that it has."""
    end = reader.end
    return end.seq < (equal_seq or 0) or (end.seq == equal_seq and end.checksum != equal_checksum)


def _records(items: Iterator[Item]) -> Iterator[Found | Fault]:
    """Up to the log's end: what may be torn there, or is just being written, is not looked at.

    A fault that costs no entry, such as a bad header, costs no comparison.
    """
    for item in items:
        if isinstance(item, Replaced):
            raise _Moved
        if isinstance(item, Fault) and item.is_torn:
            return
        if isinstance(item, Found) or item.first_seq is not None:
            yield item


def _next(items: Iterator[Found | Fault], equal_seq: int | None) -> Found | None:
    item = next(items, None)
    if isinstance(item, Fault):
        raise Unreadable(item, equal_seq)
    return item


def _part_before(pair: tuple[Found | None, Found | None]) -> bool:
    """Whether the records before these are different ones already."""
    ends = {(found.record.first_seq, found.record.prev_checksum) for found in pair if found is not None}
    return len(ends) > 1


def _common_end(pair: tuple[Found | None, Found | None], readers: Sequence[Reader]) -> tuple[int, int]:
    """The end of the record before these: where both logs end, that."""
    for found in pair:
        if found is not None:
            return found.record.first_seq - 1, found.record.prev_checksum
    return readers[0].end.seq, readers[0].end.checksum
