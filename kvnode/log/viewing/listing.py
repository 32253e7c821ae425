"""What there is of a log at one moment, seen from outside: its mark, its segment files and their sizes; whose it is.

Of a data directory, live or stopped, or of a single segment file, also one of those kept in `discarded/`. Read-only,
without the lock. The mark is read first: what it says to be durable stands in the files that are looked at afterwards.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvnode.log import directory
from kvnode.log.errors import LogError
from kvnode.log.files import REAL, Files, read_file
from kvnode.log.mark import Mark
from kvnode.log.notes import NOTE_BYTES_MAX
from kvnode.log.record import SEQ_MAX, BadRecord
from kvnode.log.segment import first_seq_of, read_header, refuse_newer, written_size
from kvnode.log.viewing.strangers import describe_directory, describe_file
from kvnode.log.window import Window

SEARCHED_BYTES_MAX = 4 * 1024 * 1024
"""How far a file without a header is searched for a record."""
LOOKS_MAX = 5
"""A cut may take files away between the look at their names and the look at their sizes; no more often than this."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """`first_seq`: by its name, or, for a file of another name, by its header. `size` in bytes, at that moment."""

    path: Path
    first_seq: int
    size: int


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose log it is."""

    cluster_id: str
    node_id: str


@dataclass(frozen=True, slots=True)
class Listing:
    """`segments`: in order of seq. `mark`: None when it can not be read, or for a single file."""

    path: Path
    is_directory: bool
    mark: Mark | None
    segments: tuple[SegmentFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.segments)

    def part(self, from_seq: int | None, to_seq: int | None) -> tuple[tuple[SegmentFile, ...], int | None]:
        """The segments that may hold an entry of the range, one at least, and their last seq; None: to the end."""
        first_seqs = [segment.first_seq for segment in self.segments]
        first = max(bisect_right(first_seqs, from_seq or 1) - 1, 0)
        end = len(first_seqs) if to_seq is None else max(bisect_right(first_seqs, to_seq), first + 1)
        return self.segments[first:end], first_seqs[end] - 1 if end < len(first_seqs) else None


def look_at(path: Path | str, files: Files = REAL, *, from_name: str = "") -> Listing:
    """The log at `path`; of its segments those named from_name or later. Raises LogError where there is none."""
    path = Path(path)
    try:
        kind = files.kind(path)
        if kind == "link":
            path = path.resolve()
            kind = files.kind(path)
        if kind == "directory":
            return _look_at_directory(files, path, from_name)
        if kind == "file":
            return Listing(path, False, None, (_look_at_file(files, path),))
    except OSError as error:
        raise LogError(f"can not read {error.filename or path}: {error.strerror}.") from error
    reason = "there is no such file or directory" if kind is None else "it is neither a file nor a directory"
    raise LogError(f"can not read {path}: {reason}.")


def read_mark(path: Path, files: Files = REAL) -> Mark | None:
    """The mark of a data directory; None when it can not be read, which may be for a moment only."""
    with suppress(OSError, BadRecord, LogError):
        return directory.read_mark(files, path)
    return None


def find_owner(listing: Listing, files: Files = REAL) -> Owner:
    """By `identity`, or else by the first header that can be read. Raises LogError where neither says it."""
    path = listing.path
    if not listing.is_directory:
        with suppress(BadRecord):
            return _owner_by_header(files, path)
        return Owner("?", "?")
    with suppress(OSError, BadRecord, LogError):
        identity = directory.read_identity(files, path)
        return Owner(identity.cluster_id, identity.node_id)
    for segment in listing.segments:
        with suppress(OSError, BadRecord):
            return _owner_by_header(files, segment.path)
    first = listing.segments[0].path
    what = describe_file(read_file(files, first, NOTE_BYTES_MAX)) or "its header can not be read"
    raise LogError(
        f"{path} can not be read as a data directory: there is no identity, and no segment says whose it is "
        f"({first.name}: {what})."
    )


def _owner_by_header(files: Files, path: Path) -> Owner:
    fd = files.open_read(path)
    try:
        header, _ = read_header(files, fd)
    finally:
        files.close(fd)
    refuse_newer(path, header)
    return Owner(header.cluster_id, header.node_id)


def _look_at_directory(files: Files, path: Path, from_name: str) -> Listing:
    for _ in range(LOOKS_MAX):
        mark = read_mark(path, files)
        names = [name for name in files.listdir(path) if first_seq_of(name) is not None]
        if not names:
            raise LogError(f"{path} is not a kvnode data directory: {describe_directory(files, path)}.")
        try:
            segments = [_size_up(files, path / name) for name in names if name >= from_name]
        except FileNotFoundError:
            continue
        return Listing(path, True, mark, tuple(segments))
    raise LogError(f"can not read {path}: files of the log go away while it is looked at.")


def _size_up(files: Files, path: Path) -> SegmentFile:
    if files.kind(path) not in ("file", None):
        raise LogError(f"can not read {path}: it is no plain file.")
    fd = files.open_read(path)
    try:
        return SegmentFile(path, first_seq_of(path.name) or 0, written_size(files, fd))
    finally:
        files.close(fd)


def _look_at_file(files: Files, path: Path) -> SegmentFile:
    fd = files.open_read(path)
    try:
        size = written_size(files, fd)
        try:
            header, _ = read_header(files, fd)
        except BadRecord as bad:
            # A segment whose header is damaged still holds records; anything else does not.
            found = Window(files, fd, min(size, SEARCHED_BYTES_MAX)).find(0, 1, SEQ_MAX)
            if found is None:
                what = describe_file(files.pread(fd, NOTE_BYTES_MAX, 0)) or bad.reason
                raise LogError(f"{path} is not a log of kvnode: {what}.") from None
            return SegmentFile(path, found[1].first_seq, size)
        refuse_newer(path, header)
        return SegmentFile(path, header.first_seq, size)
    finally:
        files.close(fd)
