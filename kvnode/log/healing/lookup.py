"""Finding records in the segments of an open log: by the tables in memory, and on the disk.

All of it takes the list of the segments, in order; the log's last segment may be a header alone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path

from kvnode.invariant import invariant
from kvnode.log.files import Files
from kvnode.log.mark import Mark
from kvnode.log.record import Record, decode_at
from kvnode.log.segment import Segment


def position_after(segments: Sequence[Segment], seq: int) -> int:
    """Which of the segments the record that follows `seq` is in, or would be."""
    position = bisect_right(segments, seq, key=lambda segment: segment.first_seq - 1) - 1
    invariant(position >= 0, f"seq {seq} is before the log's beginning")
    return position


def segment_after(segments: Sequence[Segment], seq: int) -> Segment | None:
    """The segment with the record that follows `seq`, if a record ends there and one follows."""
    segment = segments[position_after(segments, seq)]
    return segment if seq < segment.last_seq and segment.has_end(seq) else None


def read_piece(files: Files, path: Path, offset: int, size: int) -> bytes:
    """Bytes as they stand in the file. Raises OSError."""
    fd = files.open_read(path)
    try:
        return files.pread(fd, size, offset)
    finally:
        files.close(fd)


def read_record_after(files: Files, segments: Sequence[Segment], seq: int) -> Record | None:
    """The record that follows the one that ends at `seq`, None at the log's end. Raises BadRecord, OSError."""
    segment = segment_after(segments, seq)
    if segment is None:
        return None
    offset, size, _ = segment.piece_after(seq, 0)
    return decode_at(read_piece(files, segment.path, offset, size), 0)


def read_mark_at(files: Files, segments: Sequence[Segment], seq: int) -> Mark:
    """The end of the record that ends at `seq`, which verifies; Mark() for 0. Raises BadRecord, OSError."""
    if seq == 0:
        return Mark()
    position = bisect_right(segments, seq, key=lambda segment: segment.first_seq) - 1
    segment = segments[position]
    index = bisect_left(segment.last_seqs, seq)
    start = segment.ends[index - 1] if index else segment.start
    record = decode_at(read_piece(files, segment.path, start, segment.ends[index] - start), 0)
    return Mark(record.last_seq, record.term, record.checksum)
