"""The cursors of SCAN: numbers that stand for the key at which a node's scan has arrived."""

from __future__ import annotations

from typing import Final

from kvnode.reply import CommandError

CURSORS_MAX: Final = 10_000


class Cursors:
    """A bounded table, local to a node and its process: cursor -> the last key that was returned.

    A cursor may be used more than once (clients retry). The oldest are forgotten when there are too many. `first`
    should differ from node to node and from start to start, so that a cursor that came from elsewhere is unknown here
    rather than another scan's; it should stay below 2**52, since some clients read a cursor as a floating point number.
    """

    __slots__ = ("_keys", "_next", "count_max")

    def __init__(self, first: int = 1, count_max: int = CURSORS_MAX) -> None:
        self._keys: dict[int, bytes] = {}
        self._next = first
        self.count_max = count_max

    def __repr__(self) -> str:
        return f"Cursors count={len(self._keys)} next={self._next}"

    def remember(self, key: bytes) -> int:
        """A new cursor, from which a scan goes on after `key`."""
        cursor = self._next
        self._next += 1
        self._keys[cursor] = key
        if len(self._keys) > self.count_max:
            del self._keys[next(iter(self._keys))]
        return cursor

    def key(self, cursor: int) -> bytes:
        """The key to go on after. Raises CommandError for a cursor that is not known here (any more)."""
        key = self._keys.get(cursor)
        if key is None:
            raise CommandError(f"ERR unknown cursor {cursor}: of another node, or too old; begin again with 0")
        return key
