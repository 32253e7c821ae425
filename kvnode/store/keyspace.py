"""The key space: what the log says once its entries are applied.

A dict holds the values. An ordered index of the keys serves SCAN, RANGE, KEYS and the digest; keeping it up to date
with each new key would cost more than the write itself, so it is lazy: `_touched` collects the keys that came or went
since, and `merge_some` brings the index up to date, in idle moments and before an ordered read.

    values      key -> value, the truth; others only read it
    _index      SortedList of the keys as of the last merge
    _touched    key -> False: came since the last merge; True: went since. A key that came and went again is in neither,
                so that this never grows beyond the keys of `values` and `_index`

    always:     keys of values  ==  _index - {went} + {came}

Nothing here takes long at once, however many keys there are: merging, the freeing of what FLUSHALL removed, and ordered
reads (snapshot.py) all go slice by slice, and the caller decides when.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sortedcontainers import SortedList

from kvnode.invariant import InvariantError, invariant
from kvnode.store.effects import Entry
from kvnode.store.limits import DEFAULT_LIMITS, Limits
from kvnode.store.snapshot import Snapshot

MERGE_SLICE: Final = 2_000  # keys; 2 to 3 microseconds each
FREE_SLICE: Final = 10_000  # keys; half a microsecond each


class KeySpace:
    """Keys and values, changed only by `apply`."""

    __slots__ = ("_garbage", "_index", "_snapshots", "_touched", "limits", "values")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self._snapshots: list[Snapshot] = []
        self._garbage: list[Callable[[], object]] = []
        self._start_empty()

    def __repr__(self) -> str:
        return f"KeySpace keys={len(self)} unmerged={len(self._touched)} snapshots={len(self._snapshots)}"

    def __len__(self) -> int:
        return len(self.values)

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def __contains__(self, key: bytes) -> bool:
        return key in self.values

    def _start_empty(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self._index: Any = SortedList()
        self._touched: dict[bytes, bool] = {}

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply the effects of `entries` in order.

        Raises InvariantError for an effect that cannot have happened (UPD, DEL or APPEND of a key that is not there) or
        that is unknown: this node and the one that logged it do not hold the same state, or not the same version.
        """
        try:
            for snapshot in self._snapshots:
                snapshot.remember(entries, self.values)
            self._apply_all(entries)
        except (LookupError, TypeError, ValueError) as error:
            raise InvariantError(f"an entry of unknown form among {entries!r:.200}") from error

    def _apply_all(self, entries: Sequence[Entry]) -> None:
        values = self.values
        for entry in entries:
            verb: str = entry[0]
            if len(entry) == 3:
                # Nearly all are SET or UPD. Named types make these lines a third of the instructions of a pattern.
                key: bytes = entry[1]
                value: bytes = entry[2]
                if verb == "SET":
                    count = len(values)
                    values[key] = value
                    if len(values) != count:  # rather than asking first: with many keys each look costs as much
                        self._came(key)
                    continue
                if verb == "UPD" and key in values:
                    values[key] = value
                    continue
            self._apply_other(entry)
            values = self.values  # FLUSHALL puts another one there

    def _apply_other(self, entry: Entry) -> None:
        values = self.values
        match entry:
            case ["DEL", key] if key in values:
                del values[key]
                self._went(key)
            case ["APPEND", key, operand] if key in values:
                values[key] += operand
            case ["TX", effects] if all(effect[0] != "TX" for effect in effects):
                self._apply_all(effects)
            case ["FLUSHALL"]:
                self._throw_away()
            case ["NOOP"]:
                pass
            case _:
                raise InvariantError(f"an entry that cannot be applied: {entry!r:.200}")

    def _came(self, key: bytes) -> None:
        if self._touched.pop(key, None) is None:
            self._touched[key] = False

    def _went(self, key: bytes) -> None:
        if self._touched.pop(key, None) is None:
            self._touched[key] = True

    # The ordered index

    def merge_some(self, count: int = MERGE_SLICE) -> bool:
        """Bring the index up to date by up to `count` keys. True: there is more to do, call again.

        Does nothing while a snapshot is open, since that reads the index as it is.
        """
        if self._snapshots:
            return bool(self._touched)
        if count >= len(self._touched):
            slice_, self._touched = self._touched, {}
        else:
            slice_ = dict(self._touched.popitem() for _ in range(count))
        went = [key for key, is_gone in slice_.items() if is_gone]
        if len(went) * 4 >= len(self._index):  # as SortedList.update does it for additions
            self._index = SortedList(key for key in self._index if key not in slice_)
        else:
            for key in went:
                self._index.remove(key)
        self._index.update(key for key, is_gone in slice_.items() if not is_gone)
        return bool(self._touched)

    def merge(self) -> None:
        """Bring the index up to date at once: after recovery, when there is no turn to hold up."""
        self.merge_some(len(self._touched))

    def snapshot(self) -> Snapshot:
        """The key space as it is now, to be closed after use. The index must be merged: see `take_snapshot`."""
        invariant(not self._touched, "a snapshot of a key space with an index that is out of date")
        snapshot = Snapshot(self.values, self._index, self._snapshots)
        self._snapshots.append(snapshot)
        return snapshot

    # Freeing what FLUSHALL removed

    def _throw_away(self) -> None:
        # Freeing a million keys takes a tenth of a second: it is done bit by bit. Each thing here removes one item.
        self._garbage += [self._touched.popitem, self._index.pop, self.values.popitem]
        self._start_empty()

    def free_some(self, count: int = FREE_SLICE) -> bool:
        """Free up to `count` of the keys that FLUSHALL has removed. True: there is more to do, call again."""
        if self._garbage and not self._snapshots:  # a snapshot may still read what was thrown away
            remove_one = self._garbage[-1]
            try:
                for _ in range(count):
                    remove_one()
            except (KeyError, IndexError):
                self._garbage.pop()
        return bool(self._garbage)
