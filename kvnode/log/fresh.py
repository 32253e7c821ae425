"""A log file written anew: a copy beside it, verified before it takes the name.

    <name>.tmp written -> fsynced -> dropped from the cache, read again and compared -> renamed -> directory fsynced

After a crash the old or the new file is there, whole. What can not be read of the old file is zeros in the new one:
a reader finds no record there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import google_crc32c

from kvnode.log.errors import DiskError
from kvnode.log.files import CHUNK_BYTES, PAGE_BYTES, Files, replacing


def write_anew(files: Files, path: Path, size: int, patches: Sequence[tuple[int, bytes]]) -> None:
    """The first `size` bytes of the file again, but for the patches: (offset, bytes), in order, apart from each other.

    Raises NoSpaceError (nothing has changed), DiskError, OSError.
    """
    checksum = 0

    def verify(fd: int) -> None:
        files.drop_cache(fd)
        found = 0
        for start in range(0, size, CHUNK_BYTES):
            found = google_crc32c.extend(found, files.pread(fd, min(CHUNK_BYTES, size - start), start))
        if found != checksum or files.size(fd) != size:
            raise DiskError(f"What was written to {path}.tmp and fsynced is not what can be read there.")

    with replacing(files, path, verify) as fd:
        for offset, data in _patched(files, path, size, patches):
            files.pwrite(fd, data, offset)
            checksum = google_crc32c.extend(checksum, data)


def _patched(files: Files, path: Path, size: int, patches: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    source = files.open_read(path) if files.kind(path) == "file" else None
    try:
        at = 0
        for offset, patch in (*patches, (size, b"")):
            for start in range(at, offset, CHUNK_BYTES):
                yield start, _read_what_can_be_read(files, source, start, min(CHUNK_BYTES, offset - start))
            if patch:
                yield offset, patch
            at = offset + len(patch)
    finally:
        if source is not None:
            files.close(source)


def _read_what_can_be_read(files: Files, fd: int | None, start: int, size: int) -> bytes:
    if fd is None:
        return bytes(size)
    try:
        return files.pread(fd, size, start).ljust(size, b"\0")
    except OSError:
        if start // PAGE_BYTES == (start + size - 1) // PAGE_BYTES:
            return bytes(size)
    # A disk fails by pages at the finest: what is not in a failing one can still be had.
    edge = (start // PAGE_BYTES + 1) * PAGE_BYTES
    edges = [start, *range(edge, start + size, PAGE_BYTES), start + size]
    return b"".join([_read_what_can_be_read(files, fd, at, to - at) for at, to in pairwise(edges)])
