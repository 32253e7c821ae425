"""The disk port: the few calls of the file system that the log needs, so that a test can record them or let them fail.

Descriptors are ints, paths are Path. Every method raises OSError and retries nothing, short writes apart. Files are
made 0600, directories 0700; symbolic links are not followed.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from kvnode.log.errors import NoSpaceError

_COMMON: Final = os.O_CLOEXEC | os.O_NOFOLLOW


class Files(Protocol):
    """What the log asks of a file system. `RealFiles` says what each does."""

    def open_read(self, path: Path) -> int: ...
    def open_write(self, path: Path) -> int: ...
    def create(self, path: Path) -> int: ...
    def lock(self, path: Path) -> int: ...
    def close(self, fd: int) -> None: ...
    def size(self, fd: int) -> int: ...
    def pread(self, fd: int, count: int, offset: int) -> bytes: ...
    def pwrite(self, fd: int, data: bytes, offset: int) -> None: ...
    def truncate(self, fd: int, size: int) -> None: ...
    def fsync(self, fd: int) -> None: ...
    def fdatasync(self, fd: int) -> None: ...
    def fsync_dir(self, path: Path) -> None: ...
    def drop_cache(self, fd: int) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def unlink(self, path: Path) -> None: ...
    def mkdir(self, path: Path) -> None: ...
    def listdir(self, path: Path) -> list[str]: ...
    def kind(self, path: Path) -> str | None: ...


class RealFiles:
    """The file system of this machine."""

    def open_read(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | _COMMON)

    def open_write(self, path: Path) -> int:
        """Open an existing file for reading and writing."""
        return os.open(path, os.O_RDWR | _COMMON)

    def create(self, path: Path) -> int:
        """Open a new file, or an old one emptied, for reading and writing."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | _COMMON, 0o600)

    def lock(self, path: Path) -> int:
        """Take the lock, until the descriptor is closed or the process ends. Raises BlockingIOError when it is taken.

        The file then holds the process id, for people.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | _COMMON, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        """`count` bytes; fewer only where the file ends."""
        data = os.pread(fd, count, offset)
        if len(data) == count or not data:
            return data
        pieces = [data]
        missing = count - len(data)
        while missing and (piece := os.pread(fd, missing, offset + count - missing)):
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def pwrite(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of `data`. After an error any part of it may be in the file."""
        written = os.pwrite(fd, data, offset)
        if written < len(data):
            rest = memoryview(data)
            while written < len(data):
                written += os.pwrite(fd, rest[written:], offset + written)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync_dir(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def drop_cache(self, fd: int) -> None:
        """Forget the file's clean pages, so that the next reads ask the disk, and for no more than they want.

        All of them: the kernel may have pages in groups of up to some megabytes, and keeps a group named in part only.
        It also reads megabytes ahead, if it may, and an fsync waits for those, of other nodes at the same disk, too.
        """
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def mkdir(self, path: Path) -> None:
        path.mkdir(mode=0o700)

    def listdir(self, path: Path) -> list[str]:
        return sorted(os.listdir(path))  # noqa: PTH208 - names, not paths

    def kind(self, path: Path) -> str | None:
        """`file`, `directory`, `link` or `other`; None when there is nothing. Links are not followed."""
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISREG(mode):
            return "file"
        if stat.S_ISDIR(mode):
            return "directory"
        return "link" if stat.S_ISLNK(mode) else "other"


REAL: Final = RealFiles()
CHUNK_BYTES: Final = 256 * 1024
"""What is asked of the disk at a time. (While another process read 200 MB/s from the same disk, one fsync in a hundred
took 0.6 ms; 3.6 ms where it read as far ahead as the kernel likes, 1.2 ms with 1 MiB at a time.)"""
PAGE_BYTES: Final = os.sysconf("SC_PAGESIZE")


def file_size(files: Files, path: Path) -> int:
    """In bytes."""
    fd = files.open_read(path)
    try:
        return files.size(fd)
    finally:
        files.close(fd)


def read_file(files: Files, path: Path, bytes_max: int) -> bytes:
    """The first `bytes_max` bytes of a file."""
    fd = files.open_read(path)
    try:
        return files.pread(fd, min(files.size(fd), bytes_max), 0)
    finally:
        files.close(fd)


@contextmanager
def replacing(files: Files, path: Path) -> Iterator[int]:
    """The descriptor of a new file, which takes the name `path` when the block ends: after a crash the old or the new
    file is there, whole; afterwards the new.

    On NoSpaceError nothing of the new file stays.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        fd = files.create(temporary)
        try:
            yield fd
            files.fsync(fd)
        finally:
            files.close(fd)
        files.rename(temporary, path)
    except NoSpaceError:
        if files.kind(temporary) is not None:
            files.unlink(temporary)
        raise
    files.fsync_dir(path.parent)


def replace_durably(files: Files, path: Path, data: bytes) -> None:
    """Put `data` under the name `path`, as `replacing` says."""
    with replacing(files, path) as fd:
        files.pwrite(fd, data, 0)


def make_directories(files: Files, path: Path) -> None:
    """Make the directory and what is missing above it, durably."""
    if files.kind(path) is None and path.parent != path:
        make_directories(files, path.parent)
        files.mkdir(path)
        files.fsync_dir(path.parent)
