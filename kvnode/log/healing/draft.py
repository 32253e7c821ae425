"""A segment file that is written in pieces, beside the one whose name it will take.

    <name>.tmp written -> fsynced -> dropped from the cache, read again and compared -> renamed -> directory fsynced

The steps are apart, so that several files can be ready before the first of them takes its name.
"""

from __future__ import annotations

from pathlib import Path

import google_crc32c

from kvnode.log.errors import DiskError
from kvnode.log.files import CHUNK_BYTES, Files
from kvnode.log.window import pieces_past_errors

PENDING_BYTES_MAX = 1024 * 1024


class Draft:
    """`write` and `copy` add to the end; then `finish`, then `publish`. `size`: bytes so far."""

    def __init__(self, files: Files, path: Path) -> None:
        self.path = path
        self.size = 0
        self._files = files
        self._temporary = path.with_name(path.name + ".tmp")
        self._fd: int | None = files.create(self._temporary)
        self._checksum = 0
        self._written = 0
        self._pending: list[bytes] = []

    def __repr__(self) -> str:
        return f"draft of {self.path.name} {self.size}B"

    def write(self, data: bytes) -> None:
        self._pending.append(data)
        self.size += len(data)
        if self.size - self._written >= PENDING_BYTES_MAX:
            self._flush()

    def copy(self, source: Path, start: int, end: int) -> None:
        """The bytes [start, end) of another file; zeros for what its disk does not give."""
        fd = self._files.open_read(source)
        try:
            for piece in pieces_past_errors(self._files, fd, start, end):
                self.write(piece)
        finally:
            self._files.close(fd)

    def finish(self) -> None:
        """Make it durable, and see that the disk has it. Raises DiskError when it has not."""
        files, fd = self._files, self._open()
        self._flush()
        files.fsync(fd)
        files.drop_cache(fd)
        found = 0
        for start in range(0, self.size, CHUNK_BYTES):
            found = google_crc32c.extend(found, files.pread(fd, min(CHUNK_BYTES, self.size - start), start))
        if found != self._checksum or files.size(fd) != self.size:
            raise DiskError(f"What was written to {self._temporary} and fsynced is not what can be read there.")
        self._close()

    def publish(self) -> None:
        """Durably take the name."""
        self._files.rename(self._temporary, self.path)
        self._files.fsync_dir(self.path.parent)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._close()
        if self._files.kind(self._temporary) is not None:
            self._files.unlink(self._temporary)

    def _open(self) -> int:
        if self._fd is None:
            raise DiskError(f"{self._temporary} is closed.")
        return self._fd

    def _close(self) -> None:
        if self._fd is not None:
            self._files.close(self._fd)
            self._fd = None

    def _flush(self) -> None:
        data = b"".join(self._pending)
        self._files.pwrite(self._open(), data, self._written)
        self._checksum = google_crc32c.extend(self._checksum, data)
        self._written += len(data)
        self._pending.clear()
