"""Room that is kept back for the time when the disk is full: the file `reserve`, which holds nothing.

A node without room must still be able to save a ballot, or the cluster could not elect another leader. So the file is
really allocated: its bytes are written, and can not be compressed. To release it is to remove it.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from kvnode.log.errors import NoSpaceError
from kvnode.log.files import Files, file_size, replace_durably

NAME = "reserve"


class Reserve:
    """`size` bytes in `directory`; 0: none is kept. It is only looked for here: `refill` makes it."""

    def __init__(self, files: Files, directory: Path, size: int) -> None:
        self._files = files
        self._path = directory / NAME
        self._size = size
        self._is_there = self._size_there() == size

    def __repr__(self) -> str:
        return f"reserve of {self._size}B {'kept' if self._is_there else 'released'}"

    def release(self) -> bool:
        """Free the room. False: there was none to free."""
        if self._size_there() is None:
            return False
        self._files.unlink(self._path)
        # Some file systems give the room back only when the removal is durable.
        self._files.fsync_dir(self._path.parent)
        self._is_there = False
        return True

    def refill(self) -> bool:
        """Make the file anew unless it is there. False: there is no room; then nothing is left of the attempt."""
        if not self._is_there and self._size:
            try:
                replace_durably(self._files, self._path, Random(self._size).randbytes(self._size))
            except NoSpaceError:
                return False
            self._is_there = True
        return True

    def _size_there(self) -> int | None:
        return file_size(self._files, self._path) if self._files.kind(self._path) == "file" else None
