"""Following a live log: what has become durable, as it does, across new segments and cuts. Read-only, without the lock.

The mark says it: it is written after the fsync of the records that it speaks of, and lowered before a cut. So a look
that finds nothing new costs one read of a small file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from kvnode.log.errors import LogError
from kvnode.log.files import REAL, Files
from kvnode.log.viewing.listing import read_mark
from kvnode.log.viewing.reader import Item, Reader

UNREADABLE_LOOKS_MAX = 10
"""The mark is overwritten in place, and may be half written when it is read: so often in a row it can not be."""


def follow(reader: Reader, wait: Callable[[], None], to_seq: int | None = None, files: Files = REAL) -> Iterator[Item]:
    """The items of a log up to `to_seq`, without end where that is None; `wait` is called when all has been given.

    Raises LogError, at once or later, when there is no mark to go by.
    """
    path = reader.listing.path
    if not reader.listing.is_directory:
        raise LogError(f"can not follow {path}: it is a single file; give the data directory.")
    if reader.listing.mark is None and read_mark(path, files) is None:
        raise _no_mark(path)
    return _follow(reader, wait, to_seq, files)


def _follow(reader: Reader, wait: Callable[[], None], to_seq: int | None, files: Files) -> Iterator[Item]:
    unreadable = 0
    while to_seq is None or reader.end.seq < to_seq:
        mark = read_mark(reader.listing.path, files)
        unreadable = unreadable + 1 if mark is None else 0
        if unreadable == UNREADABLE_LOOKS_MAX:
            raise _no_mark(reader.listing.path)
        if mark is not None:
            yield from reader.read_on(mark)
        wait()


def _no_mark(path: Path) -> LogError:
    return LogError(f"can not follow {path}: the file mark, which says what is durable, can not be read.")
