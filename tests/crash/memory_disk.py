"""A disk in memory, for the port kvnode.log.files.Files: it counts calls, stops at the n-th, fails, fills up.

What was written is in the cache; what was fsynced is on the platter. An fsync that fails leaves pages that look written
and are not: no later fsync writes them, and they can be read until the cache is dropped (Rebello et al., "Can
Applications Recover from fsync Failures?", ATC 2020). `after_crash(model)` is the disk that the next start finds when
the power fails:

    kept             the cache survived: the process was killed, the machine was not
    synced           only what was fsynced: files and directories
    torn_512         unsynced writes arrived in part: each sector of 512 bytes the old or the new one, at random
    torn_4096        the same in pages
    renames_first    directories as in the cache, contents of files only as fsynced
    entries_missing  contents as in the cache, directories only as fsynced
    zero_tail        sizes as in the cache, unsynced contents zero
"""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random

PAGE_BYTES = 4096
MODELS = ("kept", "synced", "torn_512", "torn_4096", "renames_first", "entries_missing", "zero_tail")


class PowerCut(BaseException):
    """The machine stops before this call takes effect."""


class MemoryFile:
    """`unreadable`: offsets of bytes whose reading fails."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.synced = bytes(data)
        self.unreadable: set[int] = set()
        self.lost_pages: set[int] = set()
        """Pages that an fsync has failed to write, and that count as written."""

    def write(self, data: bytes, offset: int) -> None:
        self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset : offset + len(data)] = data
        if self.lost_pages:  # what is written anew is written with its whole page
            self.lost_pages.difference_update(range(offset // PAGE_BYTES, (offset + len(data)) // PAGE_BYTES + 1))
        if self.unreadable:  # what is written anew can be read
            self.unreadable.difference_update(range(offset, offset + len(data)))

    def on_its_way(self) -> bytes:
        """What is in the cache, but for what no fsync will write any more."""
        if not self.lost_pages:
            return bytes(self.data)
        found = bytearray(self.data)
        for start in (page * PAGE_BYTES for page in self.lost_pages):
            size = min(PAGE_BYTES, len(found) - start)
            found[start : start + size] = self.synced[start : start + size].ljust(size, b"\0")
        return bytes(found)

    def sync(self) -> None:
        self.synced = self.on_its_way()

    def fail_to_sync(self) -> None:
        for page in range(-(-len(self.data) // PAGE_BYTES)):
            place = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
            if self.data[place] != self.synced[place]:
                self.lost_pages.add(page)

    def drop_cache(self) -> None:
        self.data[:] = self.on_its_way()
        self.lost_pages.clear()

    def truncate(self, size: int) -> None:
        del self.data[size:]
        self.unreadable = {at for at in self.unreadable if at < size}
        self.lost_pages = {page for page in self.lost_pages if page * PAGE_BYTES < size}


Directory = dict[str, "MemoryFile | None"]  # None: a directory of that name


def _split(path: Path | str) -> tuple[str, str]:
    """The directory's path and the name in it: strings, for a Path is taken apart each time it is made or hashed."""
    directory, slash, name = str(path).rpartition("/")
    return directory or slash, name


class MemoryDisk:
    """`calls` lists the changing calls so far, as (name, what); the `stop_at`-th of them (from 0) raises PowerCut.

    `fail_at`: the error that the n-th of them raises; a write that fails leaves `part_written` of its data. `room`: the
    bytes that fit into all files together; a write that needs more writes what fits, and a new file needs one at least.
    """

    def __init__(self) -> None:
        self.cached: dict[str, Directory] = {"/": {}}
        self.synced: dict[str, Directory] = {"/": {}}
        self.calls: list[tuple[str, str]] = []
        self.stop_at: int | None = None
        self.fail_at: dict[int, OSError] = {}
        self.part_written = 0.0
        self.room: int | None = None
        self._open: dict[int, tuple[Path, MemoryFile]] = {}
        self._next_fd = 100
        self._locks: dict[int, Path] = {}

    def __repr__(self) -> str:
        return f"disk after {len(self.calls)} calls"

    # What a test does with it.

    def after_crash(self, model: str, seed: int = 0) -> MemoryDisk:
        """The disk after the machine stopped now. A file that both directory tables name stays one file."""
        disk = MemoryDisk()
        names = self.synced if model in ("synced", "entries_missing") else self.cached
        for path, directory in names.items():
            entries: Directory = {}
            for name, file in directory.items():
                entries[name] = None if file is None else _found(file, model, Random(f"{seed}{name}"))
            disk.cached[path] = entries
            disk.synced[path] = dict(entries)
        return disk

    def copy(self) -> MemoryDisk:
        """The same disk, everything synced, nothing open."""
        return self.after_crash("kept")

    def contents(self) -> dict[str, bytes]:
        """Every file but the locks: path -> bytes."""
        return {
            f"{path.rstrip('/')}/{name}": bytes(file.data)
            for path, directory in self.cached.items()
            for name, file in directory.items()
            if file is not None and name != "lock"
        }

    def file(self, path: Path | str) -> MemoryFile:
        directory, name = _split(path)
        file = self.cached.get(directory, {}).get(name)
        if file is None:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return file

    def put(self, path: Path | str, data: bytes) -> None:
        """Replace a file's bytes, durably, as rot or an operator would."""
        directory, name = _split(path)
        self.cached[directory][name] = self.synced[directory][name] = MemoryFile(data)

    def remove(self, path: Path | str) -> None:
        directory, name = _split(path)
        del self.cached[directory][name], self.synced[directory][name]

    @property
    def bytes_used(self) -> int:
        files = {id(file): file for directory in self.cached.values() for file in directory.values()}
        return sum(len(file.data) for file in files.values() if file is not None)

    # The port.

    def open_read(self, path: Path) -> int:
        return self._opened(path, self.file(path))

    def open_write(self, path: Path) -> int:
        return self._opened(path, self.file(path))

    def create(self, path: Path) -> int:
        directory, name = _split(path)
        self._call("create", name)
        if self.room is not None and name not in self.cached[directory] and self.bytes_used >= self.room:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        file = self.cached[directory].setdefault(name, MemoryFile())
        assert file is not None
        file.truncate(0)
        return self._opened(path, file)

    def lock(self, path: Path) -> int:
        if path in self._locks.values():
            raise BlockingIOError(11, "Resource temporarily unavailable", str(path))
        directory, name = _split(path)
        file = self.cached[directory].setdefault(name, MemoryFile(b"4711\n"))
        assert file is not None
        fd = self._opened(path, file)
        self._locks[fd] = path
        return fd

    def close(self, fd: int) -> None:
        del self._open[fd]
        self._locks.pop(fd, None)

    def size(self, fd: int) -> int:
        return len(self._open[fd][1].data)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        path, file = self._open[fd]
        if any(offset <= at < offset + count for at in file.unreadable):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return bytes(file.data[offset : offset + count])

    def pwrite(self, fd: int, data: bytes, offset: int) -> None:
        path, file = self._open[fd]
        try:
            self._call("pwrite", path.name)
        except OSError:
            file.write(data[: int(len(data) * self.part_written)], offset)
            raise
        growth = offset + len(data) - len(file.data)
        if self.room is not None and growth > 0 and (lacking := self.bytes_used + growth - self.room) > 0:
            file.write(data[: max(0, len(data) - lacking)], offset)
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        file.write(data, offset)

    def truncate(self, fd: int, size: int) -> None:
        path, file = self._open[fd]
        self._call("truncate", path.name)
        file.truncate(size)

    def fsync(self, fd: int) -> None:
        self._sync("fsync", fd)

    def fdatasync(self, fd: int) -> None:
        self._sync("fdatasync", fd)

    def fsync_dir(self, path: Path) -> None:
        self._call("fsync_dir", path.name)
        self.synced[str(path)] = dict(self.cached[str(path)])

    def drop_cache(self, fd: int) -> None:
        path, file = self._open[fd]
        self._call("drop_cache", path.name)
        file.drop_cache()

    def rename(self, source: Path, target: Path) -> None:
        self._call("rename", f"{source.name} {target.name}")
        (source_directory, source_name), (target_directory, target_name) = _split(source), _split(target)
        self.cached[target_directory][target_name] = self.cached[source_directory].pop(source_name)

    def unlink(self, path: Path) -> None:
        directory, name = _split(path)
        self._call("unlink", name)
        del self.cached[directory][name]

    def mkdir(self, path: Path) -> None:
        directory, name = _split(path)
        self._call("mkdir", name)
        self.cached[directory][name] = None
        self.cached.setdefault(str(path), {})
        self.synced.setdefault(str(path), {})

    def listdir(self, path: Path) -> list[str]:
        return sorted(self.cached[str(path)])

    def kind(self, path: Path) -> str | None:
        directory, name = _split(path)
        if not name:
            return "directory"
        names = self.cached.get(directory, {})
        if name not in names:
            return None
        return "directory" if names[name] is None else "file"

    def _sync(self, name: str, fd: int) -> None:
        path, file = self._open[fd]
        try:
            self._call(name, path.name)
        except OSError:
            file.fail_to_sync()
            raise
        file.sync()

    def _opened(self, path: Path, file: MemoryFile) -> int:
        self._next_fd += 1
        self._open[self._next_fd] = (path, file)
        return self._next_fd

    def _call(self, name: str, what: str) -> None:
        if len(self.calls) == self.stop_at:
            raise PowerCut
        self.calls.append((name, what))
        error = self.fail_at.get(len(self.calls) - 1)
        if error is not None:
            raise error


def _found(file: MemoryFile, model: str, random: Random) -> MemoryFile:
    """What the next start finds of a file."""
    if model != "kept":
        return MemoryFile(_content(file, model, random))
    found = MemoryFile(bytes(file.data))
    found.synced, found.lost_pages = file.on_its_way(), set(file.lost_pages)
    return found


def _content(file: MemoryFile, model: str, random: Random) -> bytes:
    new, old = file.on_its_way(), file.synced
    if model == "entries_missing" or new == old:
        return new
    if model in ("synced", "renames_first"):
        return old
    if model == "zero_tail":
        return old[: len(new)].ljust(len(new), b"\0")
    return _torn(old, new, int(model.removeprefix("torn_")), random)


def _torn(old: bytes, new: bytes, sector: int, random: Random) -> bytes:
    size = random.choice((len(old), len(new)))
    old, new = old.ljust(size, b"\0")[:size], new.ljust(size, b"\0")[:size]
    return b"".join(random.choice((old, new))[at : at + sector] for at in range(0, size, sector))
