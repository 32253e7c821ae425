"""What can be wrong with a log. The text of each is a full sentence, or several, for the operator.

LogError
+-- LockedError       another process has the directory open
+-- ForeignLogError   the directory belongs to another node, another cluster or another set of members
+-- DamageError       something that was durable here can not be read any more
+-- DoesNotFit        records that were offered to fill a hole are not those that are missing there
+-- DiskError         a read, write or fsync failed. The process must end: a failed fsync is never retried
    +-- NoSpaceError  there is no room on the disk. Nothing half-written stays, and the same call may be tried again
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kvnode.log.damage import Hole, entries

ADVICE = (
    "Nothing was changed. If the other members are in good order, move this directory away and start the node again: "
    "it comes back empty and fetches everything from them. Otherwise restore the directory from a copy."
)


class LogError(Exception):
    """The log can not be used; the text says why, and what to do."""


class LockedError(LogError):
    """Another process has the directory open."""


class ForeignLogError(LogError):
    """The directory is not what this node was told that it is. Nothing in it was touched."""


class DiskError(LogError):
    """The disk failed. What was written since the last success may or may not be there."""


class NoSpaceError(DiskError):
    """No room on the disk, or none left in a quota. What was there before the call is as it was; it may be repeated."""


class DoesNotFit(LogError):
    """The offered records do not chain: to what is before the hole, to what is after it, or to each other."""

    def __init__(self, side: Literal["before", "within", "after"], reason: str) -> None:
        self.side = side
        super().__init__(reason)


class DamageError(LogError):
    """Something durable is missing or wrong. Nothing in the directory was changed.

    `holes` are what other members can fill record by record; empty when that is not enough.

    `first_seq` to `last_seq` are the entries concerned: `last_seq` None when it is not known how far, both None when
    it is not the log. `offset` is in bytes, None when it is not about a place in the file.
    """

    def __init__(
        self,
        path: Path,
        reason: str,
        *,
        offset: int | None = None,
        first_seq: int | None = None,
        last_seq: int | None = None,
        holes: tuple[Hole, ...] = (),
        advice: str = ADVICE,
    ) -> None:
        self.holes = holes
        self.path = path
        self.reason = reason
        self.offset = offset
        self.first_seq = first_seq
        self.last_seq = last_seq
        place = f"{path}" if offset is None else f"{path} at offset {offset}"
        what = "" if first_seq is None else f" ({entries(first_seq, last_seq)})"
        super().__init__(f"Damage in {place}{what}: {reason}. {advice}")
