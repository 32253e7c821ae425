"""The key space: what the log says once its entries are applied.

Dicts hold the values (partitions.py). An ordered index of the keys serves SCAN, RANGE, KEYS and the digest; keeping it
up to date with each new key would cost more than the write itself, so it is lazy: `_touched` collects the keys that
came or went since, and `merge_some` brings the index up to date, in idle moments and before an ordered read.

    values        key -> value, the truth; others only read it
    _index        SortedList of the keys as of the last merge
    _touched      the keys that came or went since then, in order; one that did so again is there again
    _has_gone     whether one of these went. If not, none is in the index, and none is there twice
    _touched_max  how many may be there; reckoned anew when there are more, for it grows with the keys

    always:       a key that is in one of values and _index alone is in _touched

Nothing here takes long at once, however many keys there are: the dicts grow one at a time; merging, the freeing of what
FLUSHALL removed, and ordered reads (snapshot.py) all go slice by slice, and the caller decides when.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sortedcontainers import SortedList

from kvnode.invariant import InvariantError, invariant
from kvnode.store.effects import Entry
from kvnode.store.limits import DEFAULT_LIMITS, Limits
from kvnode.store.partitions import Partitions
from kvnode.store.snapshot import Snapshot

MERGE_SLICE: Final = 2_000  # keys; 2 to 3 microseconds each
TOUCHED_SPARE: Final = 10 * MERGE_SLICE
"""How many more than two for each key that there is may be in `_touched`: otherwise keys that come and go all the time
would pile up there."""
FREE_SLICE: Final = 10_000  # keys; half a microsecond each


class KeySpace:
    """Keys and values, changed only by `apply`."""

    __slots__ = ("_garbage", "_has_gone", "_index", "_snapshots", "_touched", "_touched_max", "limits", "values")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self._snapshots: list[Snapshot] = []
        self._garbage: list[Any] = []  # what can be popped from
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
        self.values = Partitions()
        self._index: Any = SortedList()
        self._touched: list[bytes] = []
        self._has_gone = False
        self._touched_max = TOUCHED_SPARE

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply the effects of `entries` in order.

        Raises InvariantError for an effect that cannot have happened (UPD, DEL or APPEND of a key that is not there) or
        that is unknown: this node and the one that logged it do not hold the same state, or not the same version.
        """
        try:
            for snapshot in self._snapshots:
                snapshot.remember(entries, self.values)
            touched_before = len(self._touched)
            self._apply_all(entries)
            if len(self._touched) > self._touched_max:
                self._limit_touched(len(self._touched) - touched_before)
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
                dict_ = values.of(key)
                if verb == "SET":
                    count = len(dict_)
                    dict_[key] = value
                    if len(dict_) != count:  # rather than asking first: with many keys each look costs as much
                        self._touched.append(key)
                    continue
                if verb == "UPD" and key in dict_:
                    dict_[key] = value
                    continue
            self._apply_other(entry)
            values = self.values  # FLUSHALL puts another one there

    def _apply_other(self, entry: Entry) -> None:
        values = self.values
        match entry:
            case ["DEL", key] if key in values:
                del values.of(key)[key]
                self._touched.append(key)
                self._has_gone = True
            case ["APPEND", key, operand] if key in values:
                values.of(key)[key] += operand
            case ["TX", effects] if all(effect[0] != "TX" for effect in effects):
                self._apply_all(effects)
            case ["FLUSHALL"]:
                self._throw_away()
            case ["NOOP"]:
                pass
            case _:
                raise InvariantError(f"an entry that cannot be applied: {entry!r:.200}")

    # The ordered index

    def merge_some(self, count: int = MERGE_SLICE) -> bool:
        """Bring the index up to date by up to `count` keys. True: there is more to do, call again.

        Does nothing while a snapshot is open, since that reads the index as it is.
        """
        if self._snapshots:
            return bool(self._touched)
        touched, values, index = self._touched, self.values, self._index
        came = touched[-count:]
        del touched[-count:]
        if self._has_gone:
            slice_ = set(came)
            came = [key for key in slice_ if key in values and key not in index]
            went = {key for key in slice_ if key not in values and key in index}
            if len(went) * 4 >= len(index):  # as SortedList.update does it for additions
                self._index = index = SortedList(key for key in index if key not in went)
            else:
                for key in went:
                    index.remove(key)
            self._has_gone = bool(touched)
        index.update(came)
        return bool(touched)

    def _limit_touched(self, added: int) -> None:
        self._touched_max = TOUCHED_SPARE + 2 * (len(self.values) + len(self._index))
        if len(self._touched) > self._touched_max and added > 0:
            self.merge_some(2 * added)  # in proportion to what is applied, so that this never takes long either

    def snapshot(self) -> Snapshot:
        """The key space as it is now, to be closed after use. The index must be merged: see `take_snapshot`."""
        invariant(not self._touched, "a snapshot of a key space with an index that is out of date")
        snapshot = Snapshot(self.values, self._index, self._snapshots)
        self._snapshots.append(snapshot)
        return snapshot

    # Freeing what FLUSHALL removed

    def _throw_away(self) -> None:
        # Freeing a million keys takes a tenth of a second: it is done bit by bit.
        self._garbage += [self._touched, self._index, self.values]
        self._start_empty()

    def free_some(self, count: int = FREE_SLICE) -> bool:
        """Free up to `count` of the keys that FLUSHALL has removed. True: there is more to do, call again."""
        garbage = self._garbage
        if garbage and not self._snapshots:  # a snapshot may still read what was thrown away
            last = garbage[-1]
            for _ in range(min(count, len(last))):
                last.pop()
            if not last:
                garbage.pop()
        return bool(garbage)
