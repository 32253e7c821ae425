"""What becomes of the durable bytes of a member of the minority whose disk may lie: of a stopped one, or of a running
one behind its back.

Only what the mark covers is hit: above it damage can not be told from a torn write, and what a member of the majority
had acknowledged would be gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from kvnode.log.identity import decode_identity
from kvnode.log.mark import Mark, decode_mark
from kvnode.log.record import BadRecord
from tests.faults import damage

NOTES = ("mark", "ballot", "identity")
Segments = list[tuple[Path, int]]
"""Files, and how far they are known durable."""


def may_vote(directory: Path) -> bool:
    """As the disk says."""
    try:
        return decode_identity((directory / "identity").read_bytes()).may_vote
    except (BadRecord, FileNotFoundError):
        return False


def mark_of(directory: Path) -> Mark:
    """An empty one where it is missing or bad."""
    try:
        return decode_mark((directory / "mark").read_bytes())
    except (BadRecord, FileNotFoundError):
        return Mark()


def durable(directory: Path) -> Segments:
    """The segments with durable records, and how far they go. Empty where there is damage already."""
    ends: dict[Path, int] = {}
    seq = mark_of(directory).seq
    try:
        for place in damage.places(directory):
            ends[place.path] = place.offset + place.size
            if place.record.last_seq >= seq:
                return list(ends.items()) if place.record.last_seq == seq else []
    except (BadRecord, FileNotFoundError):
        pass  # damaged already, or a running node has moved it
    return []


def _flip(segments: Segments, random: Random) -> str:
    path, end = random.choice(segments)
    count = min(random.choice((1, 1, 16, 600)), end)
    offset = random.randrange(end - count + 1)
    damage.flip(path, offset, count)
    return f"{count} bytes of {path.name} at offset {offset} are others"


def _flip_a_note(segments: Segments, random: Random) -> str:
    path = segments[0][0].with_name(random.choice(NOTES))
    damage.flip(path, random.randrange(path.stat().st_size))
    return f"a byte of {path.name} is another one"


def _remove(segments: Segments, random: Random) -> str:
    path, _ = random.choice(segments)
    path.unlink()
    return f"{path.name} is gone"


def _shorten(segments: Segments, random: Random) -> str:
    path, end = random.choice(segments)
    size = random.randrange(end)
    with path.open("r+b") as file:
        file.truncate(size)
    return f"{path.name} ends at {size}"


WAYS: tuple[Callable[[Segments, Random], str], ...] = (_flip, _flip, _flip_a_note, _remove, _shorten)


def spoil(directory: Path, random: Random, *, is_running: bool) -> str | None:
    """Do one of these, and say what; None where there is nothing durable, or damage already. Of a running node bytes
    of the log alone: it has its files open, and its notes in memory."""
    segments = durable(directory)
    if not segments or not all((directory / name).exists() for name in NOTES):
        return None
    if not is_running:
        return random.choice(WAYS)(segments, random)
    try:
        return _flip(segments, random)
    except FileNotFoundError:
        return None  # just cut by the node


def wipe(directory: Path) -> None:
    shutil.rmtree(directory)
