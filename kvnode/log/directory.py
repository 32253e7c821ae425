"""A data directory as a whole: what belongs into it, its lock, the small files beside the log, and whose it is."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from kvnode.log import ballot as ballots
from kvnode.log import identity as identities
from kvnode.log import mark as marks
from kvnode.log import reserve
from kvnode.log.ballot import Ballot, decode_ballot
from kvnode.log.discard import DISCARDED
from kvnode.log.errors import DamageError, DiskError, ForeignLogError, LockedError, LogError
from kvnode.log.files import Files, read_file
from kvnode.log.identity import Identity, decode_identity, refuse_foreign
from kvnode.log.mark import Mark, decode_mark
from kvnode.log.notes import NOTE_BYTES_MAX, NewerNote
from kvnode.log.record import BadRecord, SegmentHeader
from kvnode.log.segment import first_seq_of, read_header, refuse_newer, written_size

LOCK = "lock"
_KINDS = {
    identities.NAME: "file",
    ballots.NAME: "file",
    marks.NAME: "file",
    reserve.NAME: "file",
    LOCK: "file",
    DISCARDED: "directory",
}
_NOT_SETTLED = (LOCK, DISCARDED)
READ_ERRORS = {errno.EIO, errno.EBADMSG, errno.EILSEQ, errno.ENODATA, errno.EREMOTEIO, errno.EUCLEAN}
"""What a disk, or the file system above it, says of a place that it can not read. Anything else is no damage."""

T = TypeVar("T")


def refuse(directory: Path, error: OSError) -> LogError:
    """The error to raise when a directory can not be opened: the disk has failed, or something is in the way."""
    kind = DiskError if error.errno in READ_ERRORS else LogError
    return kind(f"The data directory can not be used: {error.filename or directory}: {error.strerror or error}.")


def is_ours(name: str) -> bool:
    """Whether a file of that name in a data directory is one that kvnode makes."""
    plain = name.removesuffix(".tmp")
    return plain in _KINDS or first_seq_of(plain) is not None


def is_harmless(name: str) -> bool:
    """Whether it may stand in any directory, and says nothing of what that is."""
    return name.startswith(".") or name == "lost+found"


def is_strange(name: str) -> bool:
    """Whether somebody else put it there."""
    return not (is_ours(name) or is_harmless(name))


def refuse_strange_kinds(files: Files, directory: Path) -> None:
    """Raise LogError where something has a name of ours and is not what it should be: a link, a directory, a pipe."""
    for name in files.listdir(directory):
        wanted = _KINDS.get(name, "file")
        if not is_ours(name) or (kind := files.kind(directory / name)) in (wanted, None):
            continue
        if kind == "link":
            raise LogError(f"{directory / name} is a symbolic link; kvnode does not follow links in a data directory.")
        raise LogError(f"{directory / name} is not a {wanted}. Nothing was touched: move it away.")


def lock(files: Files, directory: Path) -> int:
    """Take the lock. Raises LockedError."""
    try:
        return files.lock(directory / LOCK)
    except BlockingIOError:
        holder = read_file(files, directory / LOCK, 20).decode("ascii", "replace").strip()
        raise LockedError(
            f"{directory} is in use by another process{f' (process id {holder})' if holder else ''}."
        ) from None


def settle(files: Files, directory: Path) -> None:
    """Let the disk hold, and the next reads show, the same bytes: a failed fsync may have left pages that look written
    and are not."""
    for name in files.listdir(directory):
        if name in _NOT_SETTLED or not is_ours(name) or name.endswith(".tmp"):
            continue
        fd = files.open_read(directory / name)
        try:
            files.fsync(fd)
            files.drop_cache(fd)
        finally:
            files.close(fd)
    files.fsync_dir(directory)


def remove_temporary(files: Files, directory: Path) -> None:
    """What an interrupted write left under a temporary name."""
    for place in (directory, directory / DISCARDED):
        if files.kind(place) is None:
            continue
        for name in files.listdir(place):
            if name.endswith(".tmp") and is_ours(name):
                files.unlink(place / name)


def segment_paths(files: Files, directory: Path) -> list[tuple[int, Path]]:
    """(first seq, path) of each segment, in order."""
    return [(seq, directory / name) for name in files.listdir(directory) if (seq := first_seq_of(name)) is not None]


def read_identity(files: Files, directory: Path) -> Identity:
    """Raises BadRecord, also when it is missing; ForeignLogError for a later format."""
    return _read_note(files, directory / identities.NAME, decode_identity)


def read_ballot(files: Files, directory: Path) -> tuple[Ballot, bool]:
    """The ballot, and whether both copies are good. Raises as read_identity does."""
    return _read_note(files, directory / ballots.NAME, decode_ballot)


def read_mark(files: Files, directory: Path) -> Mark:
    """Raises as read_identity does."""
    return _read_note(files, directory / marks.NAME, decode_mark)


def _read_note(files: Files, path: Path, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(read_file(files, path, NOTE_BYTES_MAX))
    except FileNotFoundError:
        raise BadRecord("the file is missing") from None
    except OSError as error:
        if error.errno not in READ_ERRORS:
            raise
        raise BadRecord(f"the disk reports a read error ({error.strerror})") from error
    except NewerNote as newer:
        raise ForeignLogError(
            f"{path}: {newer.reason}. Nothing was touched. Use the version of kvnode that wrote it, or a later one."
        ) from None


def identify(files: Files, directory: Path, wanted: Identity) -> tuple[Identity | None, str | None]:
    """Whose the directory is, and why that had to be inferred, if it had; (None, None): nobody's yet.

    Without `identity` the headers of the segments must say it, and must agree with `wanted`: the identity that was
    there is then taken to be that, without the right to vote. Writes nothing. Raises LogError when it belongs to
    somebody else, or when nothing says to whom.
    """
    names = files.listdir(directory)
    try:
        found = read_identity(files, directory)
    except BadRecord as bad:
        reason = bad.reason
    else:
        refuse_foreign(directory, found, wanted)
        return found, None
    if identities.NAME not in names:
        strangers = [name for name in names if is_strange(name)]
        if strangers:
            raise ForeignLogError(
                f"{directory} is not a kvnode data directory: it holds {strangers[0]!r} and no identity. Nothing was "
                "touched. Name an empty or a new directory."
            )
        if not has_remains(files, directory, names):
            return None, None
        reason = "the file identity is missing, though something was recorded in this directory"
    else:
        reason = f"the file identity can not be read ({reason})"
    found_owners = sorted(set(owners(files, directory)))
    if not found_owners:
        no_header = f"{reason}, and no header of a segment says to which node it belongs"
        raise DamageError(directory / identities.NAME, no_header)
    for cluster_id, node_id in found_owners:
        refuse_foreign(directory, Identity(cluster_id, node_id, wanted.members, may_vote=False), wanted)
    return wanted, reason


def has_remains(files: Files, directory: Path, names: Iterable[str]) -> bool:
    """Whether there is more than what an interrupted making of a new directory leaves behind: anything recorded."""
    if DISCARDED in names and files.listdir(directory / DISCARDED):
        return True
    try:
        if ballots.NAME in names and read_ballot(files, directory)[0] != Ballot():
            return True
        if marks.NAME in names and read_mark(files, directory) != Mark():
            return True
        return any(seq != 1 or _holds_records(files, path) for seq, path in segment_paths(files, directory))
    except BadRecord:
        return True


def _holds_records(files: Files, path: Path) -> bool:
    """Whether a segment is more than a header alone. Raises BadRecord."""
    fd = files.open_read(path)
    try:
        return written_size(files, fd) > read_header(files, fd)[1]
    finally:
        files.close(fd)


def owners(files: Files, directory: Path) -> Iterable[tuple[str, str]]:
    """(cluster id, node id) by each header that can be read."""
    for _, path in segment_paths(files, directory):
        header = _maybe_header(files, path)
        if header is not None:
            refuse_newer(path, header)
            yield header.cluster_id, header.node_id


def _maybe_header(files: Files, path: Path) -> SegmentHeader | None:
    """None where the header is bad, or the disk does not give it."""
    fd = files.open_read(path)
    try:
        return read_header(files, fd)[0]
    except BadRecord:
        return None
    except OSError as error:
        if error.errno not in READ_ERRORS:
            raise
        return None
    finally:
        files.close(fd)
