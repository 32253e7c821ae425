"""A segment file written anew where parts of it can not be read.

The steps are those of draft.py: after a crash the old or the new file is there, whole. What can not be read of the old
file, and is not given, is zeros in the new one: a reader finds no record there.
"""

from __future__ import annotations

from pathlib import Path

from kvnode.log.errors import NoSpaceError
from kvnode.log.files import CHUNK_BYTES, Files, file_size
from kvnode.log.healing.draft import Draft


def write_anew(files: Files, path: Path, size: int, offset: int, patch: bytes) -> None:
    """The first `size` bytes of the file again, but `patch` at `offset`.

    Raises NoSpaceError (nothing has changed), DiskError, OSError.
    """
    readable = min(_size(files, path), size)
    draft = Draft(files, path)
    try:
        _copy(draft, 0, offset, readable)
        draft.write(patch)
        _copy(draft, offset + len(patch), size, readable)
        draft.finish()
        draft.publish()
    except NoSpaceError:
        draft.discard()
        raise


def _copy(draft: Draft, start: int, end: int, readable: int) -> None:
    if start < readable:
        draft.copy(draft.path, start, min(end, readable))
    for at in range(max(start, readable), end, CHUNK_BYTES):
        draft.write(bytes(min(CHUNK_BYTES, end - at)))


def _size(files: Files, path: Path) -> int:
    """0 where the file is missing."""
    return file_size(files, path) if files.kind(path) == "file" else 0
