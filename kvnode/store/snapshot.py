"""One moment of the key space, read in slices while entries go on being applied.

A read of everything (KEYS, RANGE, the digest) takes longer than a turn may. What it answers must nevertheless be the
state at one seq, and writes must not wait for it. So a snapshot shares the dicts and the index of the key space, and
from then on: the index is not merged (its keys are the keys of that moment), and before entries are applied the values
that they replace are kept in `_before`. That costs memory for what is written during the read, and nothing when no
snapshot is open.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from kvnode.store.effects import Entry
from kvnode.store.partitions import Partitions

if TYPE_CHECKING:
    from kvnode.store.keyspace import KeySpace

READ_SLICE: Final = 2_000  # keys


class Snapshot:
    """A context manager: `with` closes it."""

    __slots__ = ("_before", "_index", "_open_snapshots", "_values")

    def __init__(self, values: Partitions, index: Any, open_snapshots: list[Snapshot]) -> None:
        self._values = values
        self._index = index
        self._open_snapshots = open_snapshots
        self._before: dict[bytes, bytes | None] = {}

    def __repr__(self) -> str:
        return f"Snapshot keys={len(self)} changed={len(self._before)}"

    def __len__(self) -> int:
        return len(self._index)

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._open_snapshots.remove(self)

    def remember(self, entries: Iterable[Entry], values: Partitions) -> None:
        """Keep the values that `entries` are about to replace in `values`."""
        if values is not self._values:  # FLUSHALL has put another one there; ours no longer changes
            return
        for entry in entries:
            if entry[0] == "TX":
                self.remember(entry[1], values)
            elif len(entry) > 1:
                self._before.setdefault(entry[1], values.get(entry[1]))

    def slices(
        self, start: bytes | None = None, end: bytes | None = None, *, count: int = READ_SLICE
    ) -> Iterator[Sequence[bytes]]:
        """The keys in [start, end) in order, in slices of up to `count`. None: from the first, to the last."""
        if start is not None and end is not None and start >= end:
            return
        keys = self._index.irange(start, end, inclusive=(True, False))
        while part := list(islice(keys, count)):
            yield part

    def values(self, keys: Sequence[bytes]) -> list[bytes]:
        """The values of `keys`, all of which must be keys of this snapshot."""
        if not self._before:
            return list(map(self._values.__getitem__, keys))
        return [self[key] for key in keys]

    def __getitem__(self, key: bytes) -> bytes:
        value = self._before.get(key)
        return self._values[key] if value is None else value


def take_snapshot(keyspace: KeySpace) -> Generator[None, None, Snapshot]:
    """Merge the index slice by slice, then take a snapshot: `with (yield from take_snapshot(keyspace)) as it:`."""
    while keyspace.merge_some():
        yield
    return keyspace.snapshot()
