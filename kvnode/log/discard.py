"""Cutting the end off a log, durably, so that a crash at any moment leaves the whole of it or a shorter part of it.

What is cut is kept in the directory `discarded/` for people to look at; nothing reads it, and it may be deleted at any
time. A whole segment is moved there under its name, part of one is copied as a segment file of its own; a number is
put in where the name is taken: 00000000000000000042.1.log

Order: the copy of the part is made durable, for that needs room; the mark is lowered durably by the caller; segments
are moved away from back to front, each durably; the last one that stays is cut and fsynced. Where a move finds no room,
those moved before are moved back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvnode.log.errors import DiskError, NoSpaceError
from kvnode.log.files import Files, replacing
from kvnode.log.record import SegmentHeader, encode_header
from kvnode.log.segment import segment_name, written_size
from kvnode.log.window import pieces_past_errors

DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Cut:
    """What was cut off: from `offset` in the file `path`, and the segments after it; `size` bytes in all.

    The entries are those from `first_seq` on. `copy` is where the bytes from `offset` on are now, `copies` are all.
    """

    path: Path
    offset: int
    size: int
    first_seq: int
    reason: str
    copies: tuple[Path, ...]

    @property
    def copy(self) -> Path:
        return self.copies[0]

    def __str__(self) -> str:
        return (
            f"{self.size} bytes from offset {self.offset} of {self.path} were cut off (from seq {self.first_seq} on): "
            f"{self.reason}. A copy is kept in {self.copy}."
        )


def move_segments(files: Files, paths: Sequence[Path]) -> tuple[list[Path], int]:
    """Move whole segments (in order of seq) to discarded/, back to front. Returns the new paths, and their bytes.

    On NoSpaceError none is moved.
    """
    moved: list[Path] = []
    size = 0
    for path in reversed(paths):
        target = free_name(files, discarded(files, path.parent), path.stem)
        fd = files.open_read(path)
        size += written_size(files, fd)
        files.close(fd)
        try:
            files.rename(path, target)
        except NoSpaceError:
            _move_back(files, moved, paths[len(paths) - len(moved) :])
            raise
        files.fsync_dir(target.parent)
        files.fsync_dir(path.parent)
        moved.insert(0, target)
    return moved, size


def _move_back(files: Files, moved: Sequence[Path], paths: Sequence[Path]) -> None:
    """Front to back, so that the log has no gap at any moment."""
    try:
        for source, path in zip(moved, paths, strict=True):
            files.rename(source, path)
            files.fsync_dir(path.parent)
    except NoSpaceError as error:
        raise DiskError(f"A cut of the log could neither be finished nor be taken back. {error}") from error


def copy_end(files: Files, path: Path, fd: int, offset: int, end: int, header: SegmentHeader) -> Path:
    """Copy the bytes [offset, end) of a segment into a durable file in discarded/ that begins with `header`."""
    directory = discarded(files, path.parent)
    target = free_name(files, directory, Path(segment_name(header.first_seq)).stem)
    encoded = encode_header(header)
    with replacing(files, target) as copy:
        files.pwrite(copy, encoded, 0)
        at = len(encoded)
        for piece in pieces_past_errors(files, fd, offset, end):
            files.pwrite(copy, piece, at)
            at += len(piece)
    return target


def discarded(files: Files, directory: Path) -> Path:
    """The directory for what was cut; made again where somebody has removed it."""
    path = directory / DISCARDED
    if files.kind(path) is None:
        files.mkdir(path)
        files.fsync_dir(directory)
    return path


def free_name(files: Files, directory: Path, stem: str) -> Path:
    """A path in `directory` that is not taken: stem.log, stem.1.log, stem.2.log, …"""
    path = directory / f"{stem}.log"
    number = 0
    while files.kind(path) is not None:
        number += 1
        path = directory / f"{stem}.{number}.log"
    return path
