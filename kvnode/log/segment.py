"""Segment files: a header record, then a run of records. Named by the first seq: 00000000000000000001.log

    +---------------+----------+----------+-   -+----------+
    | header record | record   | record   | … | record   |      the formats: record.py
    +---------------+----------+----------+-   -+----------+
                    first_seq …                   last_seq

The name of the next segment is last_seq + 1. A header alone is a segment too: the log was about to go on there.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from kvnode.invariant import invariant
from kvnode.log.errors import ForeignLogError
from kvnode.log.files import CHUNK_BYTES, PAGE_BYTES, Files
from kvnode.log.identity import Identity
from kvnode.log.mark import Mark
from kvnode.log.record import (
    FORMAT_VERSION,
    BadRecord,
    Record,
    SegmentHeader,
    decode_at,
    decode_header,
)

HEADER_BYTES_MAX: Final = 64 * 1024
ZEROS_CHUNK_BYTES: Final = 256 * 1024
_NAME: Final = re.compile(r"(\d{20})\.log\Z")


def segment_name(first_seq: int) -> str:
    """The file name of the segment that begins at `first_seq`."""
    return f"{first_seq:020d}.log"


def first_seq_of(name: str) -> int | None:
    """The seq in a segment's file name, None for any other name."""
    match = _NAME.match(name)
    return int(match[1]) if match else None


class Segment:
    """Where the records of one segment file are.

    `last_seqs[i]` is the last seq of record i, `ends[i]` the offset at which it ends; `start` is where the header
    ends and record 0 begins.
    """

    __slots__ = ("ends", "first_seq", "last_seqs", "path", "start")

    def __init__(self, path: Path, first_seq: int, start: int) -> None:
        self.path = path
        self.first_seq = first_seq
        self.start = start
        self.last_seqs = array("Q")
        self.ends = array("Q")

    def __repr__(self) -> str:
        return f"segment {self.path.name} last={self.last_seq} {self.end}B"

    @property
    def last_seq(self) -> int:
        """first_seq - 1 when there is no record."""
        return self.last_seqs[-1] if self.last_seqs else self.first_seq - 1

    @property
    def end(self) -> int:
        """The file's size as the log knows it: where the next record goes."""
        return self.ends[-1] if self.ends else self.start

    def has_end(self, seq: int) -> bool:
        """Whether a record ends at `seq`, or begins after it as the first."""
        if seq == self.first_seq - 1:
            return True
        position = bisect_left(self.last_seqs, seq)
        return position < len(self.last_seqs) and self.last_seqs[position] == seq

    def offset_after(self, seq: int) -> int:
        """The offset where the record that ends at `seq` ends; has_end(seq) must hold."""
        invariant(self.has_end(seq), f"seq {seq} is not the end of a record in {self.path.name}")
        return self.start if seq == self.first_seq - 1 else self.ends[bisect_left(self.last_seqs, seq)]

    def piece_after(self, seq: int, bytes_max: int) -> tuple[int, int, int]:
        """(offset, size, last_seq) of whole records after `seq`: at least one, otherwise at most `bytes_max` bytes."""
        start = self.offset_after(seq)
        position = max(bisect_right(self.ends, start + bytes_max) - 1, bisect_right(self.ends, start))
        return start, self.ends[position] - start, self.last_seqs[position]

    def forget_after(self, seq: int) -> tuple[array[int], array[int]]:
        """Drop the records after `seq` from these tables, and return them; the file is not touched."""
        kept = bisect_right(self.last_seqs, seq)
        forgotten = self.last_seqs[kept:], self.ends[kept:]
        del self.last_seqs[kept:], self.ends[kept:]
        return forgotten


def read_header(files: Files, fd: int) -> tuple[SegmentHeader, int]:
    """The header of an open segment file, and where it ends. Raises BadRecord; OSError where it can not be read."""
    return decode_header(_read_to_error(files, fd, min(files.size(fd), HEADER_BYTES_MAX), 0)[0])


def written_size(files: Files, fd: int) -> int:
    """The size of an open segment file without the zeros at its end: room laid out ahead (wal.py), or what a crash left
    of a write. No record ends in a zero. What the disk does not give counts as written."""
    end = files.size(fd)
    while end:
        start = max(0, end - ZEROS_CHUNK_BYTES)
        try:
            written = files.pread(fd, end - start, start).rstrip(b"\0")
        except OSError:
            return end
        end = start + len(written)
        if written:
            break
    if end < HEADER_BYTES_MAX:
        with suppress(BadRecord, OSError):
            end = max(end, read_header(files, fd)[1])  # which may end in zeros
    return end


def header_after(end: Mark, identity: Identity) -> SegmentHeader:
    """The header of a segment that goes on after the record that ends at `end`."""
    return SegmentHeader(identity.cluster_id, identity.node_id, end.seq + 1, end.checksum, end.term)


def why_header_is_wrong(header: SegmentHeader, cluster_id: str, node_id: str, first_seq: int) -> str | None:
    """None if it is the header of this node's segment at `first_seq`, otherwise a phrase."""
    if header.cluster_id != cluster_id:
        return f"the segment belongs to another cluster (id {header.cluster_id})"
    if header.node_id != node_id:
        return f"the segment belongs to node {header.node_id}"
    if header.first_seq != first_seq:
        return f"the header says that the segment begins at seq {header.first_seq}, its name says {first_seq}"
    return None


def refuse_newer(path: Path, header: SegmentHeader) -> None:
    """Raise ForeignLogError for a format version that this program does not know."""
    if header.version != FORMAT_VERSION:
        raise ForeignLogError(
            f"{path} has format version {header.version}; this program knows version {FORMAT_VERSION}. Nothing was "
            "touched. Use the version of kvnode that wrote it, or a later one."
        )


def read_records(
    files: Files, fd: int, start: int, end: int, progress: Callable[[int], None] | None = None
) -> Iterator[Record]:
    """The records in the bytes [start, end) of an open file, in bounded memory; each verifies by itself.

    Raises BadRecord, with its offset in the file, at the first that does not. `progress` is told of bytes read.
    """
    buffer = b""
    buffer_at = start
    position = 0
    while buffer_at + position < end:
        try:
            record = decode_at(buffer, position)
        except BadRecord as bad:
            read_to = buffer_at + len(buffer)
            offset = buffer_at + position
            if not bad.is_short or read_to >= end:
                raise BadRecord(bad.reason, offset, is_short=bad.is_short, may_be_torn=bad.may_be_torn) from None
            rest = buffer[position:]
            # Twice what there is, so that one large record is not joined again for every chunk of it.
            piece = _read(files, fd, min(max(CHUNK_BYTES, len(rest)), end - read_to), read_to)
            buffer = rest + piece
            buffer_at, position = offset, 0
            if progress is not None:
                progress(len(piece))
            continue
        position += len(record.raw)
        yield record


def _read(files: Files, fd: int, count: int, offset: int) -> bytes:
    """All of it, or what stands before the first page that the disk does not give."""
    try:
        piece, is_whole = _read_to_error(files, fd, count, offset)
    except OSError as error:
        raise BadRecord(f"the disk reports a read error ({error.strerror})", offset, may_be_torn=False) from error
    if is_whole and len(piece) < count:
        raise BadRecord("the file became shorter while it was read", offset + len(piece), may_be_torn=False)
    return piece


def _read_to_error(files: Files, fd: int, count: int, offset: int) -> tuple[bytes, bool]:
    """(bytes, whether no read failed). One bad sector must not hide the good records of a whole chunk: these tell what
    is damaged. Raises OSError where the first page can not be read."""
    try:
        return files.pread(fd, count, offset), True
    except OSError:
        end = offset + count
        pieces: list[bytes] = []
        while offset < end:
            size = min(PAGE_BYTES - offset % PAGE_BYTES, end - offset)
            try:
                pieces.append(files.pread(fd, size, offset))
            except OSError:
                if pieces:
                    break
                raise
            offset += size
        return b"".join(pieces), False
