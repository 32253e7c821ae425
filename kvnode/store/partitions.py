"""A mapping that grows without a pause, however large it is: its keys are spread over many dicts by their hash.

A dict that is full is copied into one twice as large, all of it at once; with five million keys that takes longer than
an election timeout, and nothing else runs meanwhile. Here it is a piece of a few milliseconds. It costs a look at the
key's hash, which the key keeps.

The number of the dict is taken from the upper bits of the hash. A dict finds the place of a key by the lower ones: keys
that have these in common would all be in each other's way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

PARTITIONS: Final = 128
"""A power of two. At eleven million keys one dict paused for 1.8 s on a slow machine, each of these for 1/128."""
_HASH_SHIFT: Final = 48


class Partitions:
    """Keys and values are bytes. Who changes many, or looks many up, asks for the dict of each (`of`)."""

    __slots__ = ("_dicts",)

    def __init__(self) -> None:
        self._dicts: list[dict[bytes, bytes]] = [{} for _ in range(PARTITIONS)]

    def __repr__(self) -> str:
        return f"Partitions keys={len(self)}"

    def of(self, key: bytes) -> dict[bytes, bytes]:
        """The dict that has `key`, or would have it. Raises TypeError for what has no hash."""
        hash_: i64 = hash(key)  # a machine word: half of all hashes are no small numbers, and would be objects
        return self._dicts[(hash_ >> _HASH_SHIFT) & (PARTITIONS - 1)]

    def __len__(self) -> int:
        return sum(map(len, self._dicts))

    def __contains__(self, key: bytes) -> bool:
        return key in self.of(key)

    def get(self, key: bytes) -> bytes | None:
        return self.of(key).get(key)

    def __getitem__(self, key: bytes) -> bytes:
        return self.of(key)[key]

    def pop(self) -> None:
        """Remove one of the keys that are left, and dicts that have become empty: a mapping that nobody needs any more
        is freed bit by bit. Raises IndexError when nothing is left."""
        dicts = self._dicts
        while not dicts[-1]:
            dicts.pop()
        dicts[-1].popitem()
