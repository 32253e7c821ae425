"""The disk port as an open log uses it: every fsync is timed, and want of room is told from a failure.

create, pwrite, rename and mkdir raise NoSpaceError when there is no room. A pwrite may have written a part of its data
then; the caller takes that back. Whatever an fsync says is final, and so is every other OSError: when it is the fsync
that finds no room, what had been written before may be lost already.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kvnode.log.errors import NoSpaceError
from kvnode.log.files import Files

ADVICE: Final = {
    errno.ENOSPC: "Free some space on that disk",
    errno.EDQUOT: "Free some space, or raise the quota",
    errno.EFBIG: "Raise the limit on the size of files",
}
SLOW_FSYNCS_MAX: Final = 100


@dataclass(slots=True)
class Counters:
    """Since the log was opened. An append is one write and one fdatasync, whatever the number of its records.

    `slow_fsyncs`: (what was synced, milliseconds), for another thread to take away; the newest ones.
    """

    appends: int = 0
    records: int = 0
    bytes_written: int = 0
    fsyncs: int = 0
    fsync_last_us: int = 0
    fsync_max_us: int = 0
    slow_fsyncs: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=SLOW_FSYNCS_MAX))


class WatchedFiles:
    """`files`, watched. An fsync of more than `warn_ms` is slow."""

    def __init__(
        self, files: Files, counters: Counters, warn_ms: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._files = files
        self._counters = counters
        self._warn_us = warn_ms * 1000
        self._clock = clock
        self._paths: dict[int, Path] = {}

    # What may find no room

    def create(self, path: Path) -> int:
        try:
            fd = self._files.create(path)
        except OSError as error:
            _refuse_for_room(error, path)
            raise
        self._paths[fd] = path
        return fd

    def pwrite(self, fd: int, data: bytes, offset: int) -> None:
        try:
            self._files.pwrite(fd, data, offset)
        except OSError as error:
            _refuse_for_room(error, self._paths[fd])
            raise

    def rename(self, source: Path, target: Path) -> None:
        try:
            self._files.rename(source, target)
        except OSError as error:
            _refuse_for_room(error, target)
            raise

    def mkdir(self, path: Path) -> None:
        try:
            self._files.mkdir(path)
        except OSError as error:
            _refuse_for_room(error, path)
            raise

    # What is timed

    def fsync(self, fd: int) -> None:
        before = self._clock()
        self._files.fsync(fd)
        self._took(before, fd)

    def fdatasync(self, fd: int) -> None:
        before = self._clock()
        self._files.fdatasync(fd)
        self._took(before, fd)

    def fsync_dir(self, path: Path) -> None:
        before = self._clock()
        self._files.fsync_dir(path)
        self._took(before, path)

    def _took(self, before: float, what: int | Path) -> None:
        took_us = int((self._clock() - before) * 1_000_000)
        counters = self._counters
        counters.fsyncs += 1
        counters.fsync_last_us = took_us
        if took_us > counters.fsync_max_us:
            counters.fsync_max_us = took_us
        if took_us > self._warn_us:
            name = f"the directory {what.name}" if isinstance(what, Path) else self._paths[what].name
            counters.slow_fsyncs.append((name.removesuffix(".tmp"), took_us // 1000))

    # The rest as it is

    def open_read(self, path: Path) -> int:
        return self._files.open_read(path)

    def open_write(self, path: Path) -> int:
        fd = self._files.open_write(path)
        self._paths[fd] = path
        return fd

    def lock(self, path: Path) -> int:
        return self._files.lock(path)

    def close(self, fd: int) -> None:
        # First, for the number may be given to another thread as soon as it is free.
        self._paths.pop(fd, None)
        self._files.close(fd)

    def size(self, fd: int) -> int:
        return self._files.size(fd)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        return self._files.pread(fd, count, offset)

    def truncate(self, fd: int, size: int) -> None:
        self._files.truncate(fd, size)

    def drop_cache(self, fd: int) -> None:
        self._files.drop_cache(fd)

    def unlink(self, path: Path) -> None:
        self._files.unlink(path)

    def listdir(self, path: Path) -> list[str]:
        return self._files.listdir(path)

    def kind(self, path: Path) -> str | None:
        return self._files.kind(path)


def _refuse_for_room(error: OSError, path: Path) -> None:
    """Raise NoSpaceError if that is what the error says."""
    advice = ADVICE.get(error.errno or 0)
    if advice is not None:
        name = path.name.removesuffix(".tmp")
        raise NoSpaceError(
            f"There is no room to write {name} in {path.parent}: {error.strerror}. {advice}; writing then goes on by "
            "itself."
        ) from error
