"""A window on a file that may be damaged: records at any offset of it, and the search for one after bad bytes.

Where the disk does not give a piece of the file, the rest is read in smaller pieces, and no record is believed that
lies on a piece that is missing.

Bounds: memory is a window, `chunk_bytes` or one record. A file may be full of things that look like the beginning of a
huge record. Such a beginning is looked at first (the fields of a record up to its entries stand at its front and tell
whether it can be one here), and reading and checking in vain is counted: beyond WASTE_FACTOR times the file's size the
search ends, and the rest of the file is bad.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

import google_crc32c

from kvnode.log.errors import DiskError
from kvnode.log.files import CHUNK_BYTES, PAGE_BYTES, Files
from kvnode.log.record import FRAME_START, HEADER_BYTES, BadRecord, Record, decode_at

WASTE_FACTOR: Final = 16
WASTE_BYTES_MIN: Final = 64 * 1024 * 1024
WASTE_PER_TRY: Final = 1024
"""Bytes that one look at a place in vain counts for, however small it was."""

_INTEGER: Final = rb"([\x00-\x7f]|\xcc.|\xcd..|\xce....|\xcf........)"
_ARRAY: Final = rb"(?:[\x91-\x9f]|\xdc..|\xdd....)"
_BEGINNING: Final = re.compile(
    re.escape(FRAME_START) + rb"....\xc6(....)(?:[\x97-\x9f]|\xdc..|\xdd....)" + _INTEGER * 5 + _ARRAY, re.DOTALL
)
"""How a record begins: length; prev_checksum, first_seq, term, time_ms, commit_seq; at least one entry."""
_BEGINNING_BYTES_MAX: Final = HEADER_BYTES + 5 + 5 * 9 + 5


class Window:
    """See the module. The bytes [0, size) of an open file; `progress` is told of bytes read for the first time."""

    def __init__(
        self,
        files: Files,
        fd: int,
        size: int,
        progress: Callable[[int], None] | None = None,
        *,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self.size = size
        self._files = files
        self._fd = fd
        self._progress = progress
        self._chunk_bytes = max(chunk_bytes, 4 * _BEGINNING_BYTES_MAX)
        self._data = b""
        self._at = 0
        self._read_to = 0
        self._unreadable: list[tuple[int, int, str]] = []
        self._waste_left = max(WASTE_FACTOR * size, WASTE_BYTES_MIN)

    def __repr__(self) -> str:
        return f"window at {self._at} of {self.size}B"

    def head(self, count: int) -> bytes:
        """The first bytes of the file, or fewer where the file ends; zeros where the disk does not give them."""
        self._load(0, max(count, self._chunk_bytes))
        return self._data[:count]

    def record_at(self, offset: int) -> Record:
        """The record that begins at `offset`. Raises BadRecord, with its offset in the file."""
        while True:
            try:
                # Bytes before the window are asked for again; what is short by the window's end is, too.
                if offset < self._at:
                    raise BadRecord("", is_short=True)
                record = decode_at(self._data, offset - self._at)
                if self._unreadable:
                    self.refuse_unreadable(offset, offset + record.size)
                return record
            except BadRecord as bad:
                if self._unreadable:
                    self.refuse_unreadable(offset, offset + HEADER_BYTES)
                if bad.is_short and self._load_record(offset):
                    continue
                if self._unreadable:
                    self.refuse_unreadable(offset, offset + self.announced(offset))
                self._waste_left -= self.announced(offset) + WASTE_PER_TRY
                raise BadRecord(bad.reason, offset, is_short=bad.is_short, may_be_torn=bad.may_be_torn) from None

    def find(self, offset: int, low_seq: int, high_seq: int) -> tuple[int, Record] | None:
        """(offset, record) of the first record at or after `offset` whose entries are within low_seq … high_seq."""
        while offset + HEADER_BYTES < self.size and self._waste_left > 0:
            if not self._covers(offset, _BEGINNING_BYTES_MAX):
                self._load(offset, self._chunk_bytes)
            match = _BEGINNING.search(self._data, offset - self._at)
            if match is None:
                end = self._at + len(self._data)
                # What the window's end cuts in two is looked at again with the next one.
                offset = end if end >= self.size else max(offset + 1, end - _BEGINNING_BYTES_MAX)
                continue
            offset = self._at + match.start()
            if self._can_be_record(match, offset, low_seq, high_seq):
                try:
                    record = self.record_at(offset)
                except BadRecord:
                    pass
                else:
                    if low_seq <= record.first_seq and record.last_seq <= high_seq:
                        return offset, record
                    offset += record.size - 1  # not what is wanted; nothing within it is, either
            self._waste_left -= WASTE_PER_TRY
            offset += 1
        return None

    def find_after(self, bad_at: int, low_seq: int, high_seq: int) -> tuple[int, Record] | None:
        """As `find`, after a bad record. Where its length leads to one that continues it, that is the one.

        A stored value may hold the bytes of a record: so what is inside of a bad one is not to be looked at.
        """
        size = self.announced(bad_at)
        if size and bad_at + size < self.size and self._covers(bad_at, size):
            start = bad_at - self._at
            announced = int.from_bytes(self._data[start + 2 : start + 6])
            found = google_crc32c.value(self._data[start + HEADER_BYTES : start + size])
            try:
                record = self.record_at(bad_at + size)
            except BadRecord:
                pass
            else:
                in_range = low_seq <= record.first_seq and record.last_seq <= high_seq
                if in_range and record.prev_checksum in (announced, found):
                    return bad_at + size, record
        return self.find(bad_at + 1, low_seq, high_seq)

    def _can_be_record(self, match: re.Match[bytes], offset: int, low_seq: int, high_seq: int) -> bool:
        if offset + HEADER_BYTES + int.from_bytes(match[1]) > self.size:
            return False
        _, first_seq, term, _, commit_seq = (_integer(match[i]) for i in range(2, 7))
        return low_seq <= first_seq <= high_seq and term > 0 and commit_seq < first_seq

    def announced(self, offset: int) -> int:
        """The size of the record that should begin at `offset`, by its own word; 0 where no frame begins."""
        head = self._data[offset - self._at : offset - self._at + HEADER_BYTES] if offset >= self._at else b""
        if len(head) < HEADER_BYTES or not head.startswith(FRAME_START) or head[6] != 0xC6:
            return 0
        size = HEADER_BYTES + int.from_bytes(head[7:])
        return size if offset + size <= self.size else 0

    def _load_record(self, offset: int) -> bool:
        """Have all of the record at `offset` in the window, as far as the file goes. False: it is, and was."""
        end = self._at + len(self._data)
        size = self.announced(offset) or HEADER_BYTES
        if self._at <= offset and (offset + size <= end or end >= self.size):
            return False
        self._load(offset, max(size, self._chunk_bytes))
        return True

    def _covers(self, offset: int, count: int) -> bool:
        return self._at <= offset and min(offset + count, self.size) <= self._at + len(self._data)

    def _load(self, offset: int, count: int) -> None:
        count = max(min(count, self.size - offset), 0)
        pieces: list[bytes] = []
        for start, data, reason in read_past_errors(self._files, self._fd, count, offset):
            pieces.append(data)
            if reason is not None:
                self._note_unreadable(start, start + len(data), reason)
        self._data, self._at = b"".join(pieces), offset
        end = offset + len(self._data)
        if len(self._data) < count:
            self.size = end  # the file became shorter while it was read
        new = end - self._read_to
        self._waste_left -= max(len(self._data) - max(new, 0), 0)
        if new > 0:
            self._read_to = end
            if self._progress is not None:
                self._progress(new)

    def _note_unreadable(self, start: int, end: int, reason: str) -> None:
        if self._is_unreadable(start, end):
            return
        if self._unreadable and self._unreadable[-1][1] == start:
            start = self._unreadable.pop()[0]
        self._unreadable.append((start, end, reason))

    def _is_unreadable(self, start: int, end: int) -> bool:
        return any(at < end and start < at_end for at, at_end, _ in self._unreadable)

    def refuse_unreadable(self, start: int, end: int) -> None:
        """Raise BadRecord where the disk did not give one of the bytes [start, end), which have been asked for."""
        for at, at_end, reason in self._unreadable:
            if at < end and start < at_end:
                raise BadRecord(f"the disk reports a read error ({reason})", start, may_be_torn=False)


def read_past_errors(files: Files, fd: int, count: int, offset: int) -> list[tuple[int, bytes, str | None]]:
    """Bytes of a file as (offset, bytes, None), fewer in all where the file ends; zeros, with the disk's reason, for
    each piece that the disk does not give."""
    try:
        return [(offset, files.pread(fd, count, offset), None)]
    except OSError as error:
        if offset // PAGE_BYTES == (offset + count - 1) // PAGE_BYTES:
            return [(offset, bytes(count), error.strerror or str(error))]
    pieces: list[tuple[int, bytes, str | None]] = []
    at = offset
    while at < offset + count:
        size = min(PAGE_BYTES - at % PAGE_BYTES, offset + count - at)
        pieces += read_past_errors(files, fd, size, at)
        at += size
    return pieces


def pieces_past_errors(files: Files, fd: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes [start, end) of a file, to be copied elsewhere; zeros for what the disk does not give: no record can
    be read there that is not one. Raises DiskError where the file ends before that."""
    while start < end:
        pieces = read_past_errors(files, fd, min(CHUNK_BYTES, end - start), start)
        size = sum(len(data) for _, data, _ in pieces)
        if not size:
            raise DiskError(f"A log file became shorter while it was read, at offset {start}.")
        start += size
        for _, data, _ in pieces:
            yield data


def _integer(encoded: bytes) -> int:
    return encoded[0] if len(encoded) == 1 else int.from_bytes(encoded[1:])
