"""What becomes of bytes on a disk that were durable: they change, can not be read, or are another consistent history.

Only what the mark on the disk covers is hit: above it, damage can not be told from a torn write.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from kvnode.log.mark import Mark, decode_mark, encode_mark
from kvnode.log.record import BadRecord, Record, SegmentHeader, decode_header, encode, encode_header, split
from kvnode.log.segment import first_seq_of
from tests.crash.memory_disk import MemoryDisk, MemoryFile

NOTES = ("ballot", "mark", "identity")
Content = tuple[SegmentHeader, int, list[Record]]
"""Of a segment: its header, where that ends, its records."""


def segments_of(disk: MemoryDisk, directory: Path) -> list[str]:
    names = disk.listdir(directory) if disk.cached.get(str(directory)) else []
    return [name for name in names if first_seq_of(name) is not None]


def mark_of(disk: MemoryDisk, directory: Path) -> Mark | None:
    """The one that a start after a loss of power would find; None without one that speaks of a record."""
    try:
        mark = decode_mark(disk.file(directory / "mark").synced)
    except (BadRecord, FileNotFoundError):
        return None
    return mark if mark.seq else None


def choices(disk: MemoryDisk, directory: Path) -> list[tuple[str, int]]:
    """(name, how much of it from its beginning) of the files that may rot, segments several times."""
    mark = mark_of(disk, directory)
    segments = segments_of(disk, directory)
    if mark is None or not segments or "identity" not in disk.listdir(directory):
        return []
    found = [(name, _common_size(disk.file(directory / name))) for name in [*segments[:-1] * 3, *NOTES]]
    end = _end_of(disk.file(directory / segments[-1]), mark.seq)
    found += [(segments[-1], end)] * 3 if end else []
    return [(name, size) for name, size in found if size]


def spoil(file: MemoryFile, at: int, end: int, random: Random) -> None:
    """Some bytes from there on are others, now and on the platter."""
    for position in range(at, end):
        file.data[position] ^= random.randint(1, 255)
    synced = bytearray(file.synced)
    synced[at : min(end, len(synced))] = file.data[at : min(end, len(synced))]
    file.synced = bytes(synced)


def forge(disk: MemoryDisk, directory: Path, random: Random) -> dict[int, int]:
    """Let the log have another history from some durable record on: the same entries, another time, and so other
    checksums. Everything verifies. Returns the new checksums, each with the one that was there before."""
    mark = mark_of(disk, directory)
    names = segments_of(disk, directory)
    contents = [_content(disk.file(directory / name)) for name in names]
    known = [content for content in contents if content is not None]
    if mark is None or len(known) < len(contents):
        return {}
    ends = [record.last_seq for _, _, records in known for record in records if record.last_seq <= mark.seq]
    if not ends or ends[-1] != mark.seq:
        return {}
    from_seq = random.choice(ends)
    forged: dict[int, int] = {}
    checksum = 0
    for name, (header, _, records) in zip(names, known, strict=True):
        parts: list[bytes] = []
        if forged:
            header = SegmentHeader(header.cluster_id, header.node_id, header.first_seq, checksum, header.prev_term)
        parts.append(encode_header(header))
        for record in records:
            if record.last_seq >= from_seq:
                previous = checksum if forged else record.prev_checksum
                fields = (previous, record.first_seq, record.term, record.time_ms + 1, record.commit_seq)
                before, record = record, encode(*fields, record.entries, record.origins)
                forged[record.checksum] = before.checksum if record.last_seq <= mark.seq else record.checksum
            checksum = record.checksum
            parts.append(record.raw)
            if record.last_seq == mark.seq:
                disk.put(directory / "mark", encode_mark(Mark(mark.seq, record.term, record.checksum)))
        disk.put(directory / name, b"".join(parts))
    return forged


def holds(disk: MemoryDisk, directory: Path, mark: Mark) -> bool:
    """Whether the record that the mark speaks of is on the platter, in a log without damage."""
    contents = [_content(disk.file(directory / name)) for name in segments_of(disk, directory)]
    records = [record for content in contents if content is not None for record in content[2]]
    is_there = any(record.last_seq == mark.seq and record.checksum == mark.checksum for record in records)
    known = mark_of(disk, directory)
    return is_there and None not in contents and known is not None and known.seq >= mark.seq


def _content(file: MemoryFile) -> Content | None:
    try:
        header, end = decode_header(bytes(file.data))
        return header, end, split(bytes(file.data[end:]).rstrip(b"\0"))  # zeros are room, and no record ends in one
    except BadRecord:
        return None


def _end_of(file: MemoryFile, seq: int) -> int:
    """Where the record that ends at `seq` does; 0 when it is not there, or something before it is bad."""
    try:
        _, end = decode_header(file.synced)
        while True:
            record = split(file.synced[end : end + _size_at(file.synced, end)])[0]
            end += record.size
            if record.last_seq >= seq:
                return end if record.last_seq == seq else 0
    except (BadRecord, IndexError):
        return 0


def _size_at(data: bytes, offset: int) -> int:
    return 11 + int.from_bytes(data[offset + 7 : offset + 11], "big")


def _common_size(file: MemoryFile) -> int:
    return min(len(file.data), len(file.synced))
