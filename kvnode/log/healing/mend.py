"""The steps with which a node that may have lost something is made fit to be brought up to date by a leader.

Each is durable on return. **S** The right to vote goes first: whatever a crash interrupts then, the next start finds a
node that may not vote, and goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kvnode.log import identity as identities
from kvnode.log import mark as marks
from kvnode.log.discard import Cut, copy_end, discarded, move_segments
from kvnode.log.files import Files, replace_durably
from kvnode.log.identity import Identity, encode_identity
from kvnode.log.mark import Mark, encode_mark
from kvnode.log.record import encode_header
from kvnode.log.segment import header_after, segment_name, written_size


def take_right_away(files: Files, directory: Path, identity: Identity, reason: str) -> Identity:
    """Store that the node is set aside. The first reason stays until it has been brought up to date."""
    taken = replace(identity, may_vote=False, set_aside=identity.set_aside or reason)
    replace_durably(files, directory / identities.NAME, encode_identity(taken))
    return taken


def save_mark(files: Files, directory: Path, mark: Mark) -> None:
    """Not in place: where the old mark stands, the disk may be bad."""
    replace_durably(files, directory / marks.NAME, encode_mark(mark))


def cut_off(
    files: Files,
    directory: Path,
    identity: Identity,
    kept: tuple[Path, int] | None,
    later: Sequence[Path],
    end: Mark,
    reason: str,
    *,
    lowers_mark: bool,
) -> Cut | None:
    """Keep of the log what ends at `end`: the file kept[0] up to the offset kept[1], and none of the `later` ones.

    With `kept` None nothing of it is good, and it begins anew. Order: see discard.py. Returns None when nothing had to
    go.
    """
    discarded(files, directory)
    header = header_after(end, identity)
    path, offset = kept or (directory, 0)
    copies: list[Path] = []
    size = 0
    fd = None if kept is None else files.open_write(path)
    try:
        if fd is not None and (size := max(written_size(files, fd) - offset, 0)):
            copies.append(copy_end(files, path, fd, offset, offset + size, header))
        if lowers_mark:
            save_mark(files, directory, end)
        moved, moved_size = move_segments(files, later)
        if fd is None:
            replace_durably(files, directory / segment_name(1), encode_header(header))
        elif size:
            files.truncate(fd, offset)
            files.fsync(fd)
    finally:
        if fd is not None:
            files.close(fd)
    copies += moved
    if not copies:
        return None
    return Cut(later[0] if kept is None else path, offset, size + moved_size, end.seq + 1, reason, tuple(copies))
