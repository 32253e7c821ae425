"""The leader's view: the key space, and over it the effects of every entry that is logged here but not yet applied.

    open layer      what the commands of the batch in the making have changed
    sealed layers   one per record that is logged but not applied, each with the record's last seq
    key space       what is applied

A command is evaluated against the newest word on each key, so that the increments that many clients pipeline, or two
SET with NX of which the first is not yet committed, come out as if each had waited for the one before. A layer maps
keys to values, None for a deleted key. After FLUSHALL a layer is opaque: nothing below it is seen.

`seen` says how far the log must be committed before what was read here may be answered: the last seq of the newest
layer that had a word on it, OPEN for the open one, 0 when the key space alone answered. The caller resets it.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from kvnode.invariant import invariant
from kvnode.store.effects import Entry
from kvnode.store.keyspace import KeySpace

OPEN: Final = 2**63  # above every seq

Changes = dict[bytes, bytes | None]

_MISSING: Final[Any] = object()  # "no word on this key", as opposed to None, "deleted"


class Layer:
    """What a sealed batch changed; `is_opaque`: it removed all that was there before."""

    __slots__ = ("changes", "is_opaque", "last_seq")

    def __init__(self, last_seq: int, changes: Changes, is_opaque: bool) -> None:
        self.last_seq = last_seq
        self.changes = changes
        self.is_opaque = is_opaque


class Overlay:
    """Evaluation of one command is bracketed by `begin` and `finish` (or `abandon`), a batch is ended by `seal`.

    `effects` are the entries of the open layer, in order. `seal` and `drop_all` put a new list there.
    """

    __slots__ = ("_changes", "_is_opaque", "_sealed", "effects", "keyspace", "limits", "seen")

    effects: list[Entry]
    _changes: Changes

    def __init__(self, keyspace: KeySpace) -> None:
        self.keyspace = keyspace
        self.limits = keyspace.limits
        self.seen = 0
        self.drop_all()

    def __repr__(self) -> str:
        sealed = [layer.last_seq for layer in reversed(self._sealed)]
        return f"Overlay open={len(self.effects)} sealed={sealed} over {self.keyspace!r}"

    # Reading

    @property
    def holds_changes(self) -> bool:
        """Whether there is a word here that the key space does not know."""
        return bool(self._changes or self._sealed or self._is_opaque)

    def get(self, key: bytes) -> bytes | None:
        """The newest value of `key`, or None; raises `seen` to where it was found."""
        if not self.holds_changes:
            return self.keyspace.get(key)  # nobody writes
        value = self._changes.get(key, _MISSING)
        if value is not _MISSING or self._is_opaque:
            self.seen = OPEN
            return None if value is _MISSING else value
        for layer in self._sealed:
            value = layer.changes.get(key, _MISSING)
            if value is not _MISSING or layer.is_opaque:
                if layer.last_seq > self.seen:
                    self.seen = layer.last_seq
                return None if value is _MISSING else value
        return self.keyspace.get(key)

    # Writing: each call is one effect

    def set(self, key: bytes, value: bytes) -> None:
        self._changes[key] = value
        self.effects.append(("SET", key, value))

    def update(self, key: bytes, value: bytes) -> None:
        """Replace the value of `key`, which must exist."""
        self._changes[key] = value
        self.effects.append(("UPD", key, value))

    def delete(self, key: bytes) -> None:
        """Remove `key`, which must exist."""
        self._changes[key] = None
        self.effects.append(("DEL", key))

    def append(self, key: bytes, operand: bytes) -> int:
        """Let the value of `key`, which must exist, grow by `operand`. Returns its new length in bytes."""
        value = self.get(key)
        invariant(value is not None, f"APPEND to a key that does not exist: {key!r:.100}")
        grown = (value or b"") + operand
        self._changes[key] = grown
        self.effects.append(("APPEND", key, operand))
        return len(grown)

    def flush(self) -> None:
        """Remove every key."""
        self._changes = {}
        self._is_opaque = True
        self.effects.append(("FLUSHALL",))

    # The brackets around one command

    def begin(self) -> int:
        """A bookmark for `finish` or `abandon`."""
        return len(self.effects)

    def finish(self, bookmark: int) -> bool:
        """The command is evaluated. True: what it changed is now one entry, the last of `effects`. False: a read."""
        effects = self.effects
        count = len(effects) - bookmark
        if count > 1:
            effects[bookmark:] = [("TX", effects[bookmark:])]
        return count > 0

    def abandon(self, bookmark: int) -> None:
        """The command was refused by a CommandError, and so must not have had an effect."""
        invariant(len(self.effects) == bookmark, "a command was refused after it had taken effect")

    # The life of a layer

    @property
    def is_open_empty(self) -> bool:
        return not self.effects

    @property
    def open_count(self) -> int:
        """Entries in the open layer."""
        return len(self.effects)

    def seal(self, last_seq: int) -> list[Entry]:
        """End the batch: its entries are logged as the record that ends at `last_seq`. Returns them."""
        entries = self.effects
        if self._changes or self._is_opaque:
            self._sealed.appendleft(Layer(last_seq, self._changes, self._is_opaque))
        self._open_layer()
        return entries

    def applied(self, seq: int) -> None:
        """The key space now holds everything up to `seq`: the layers up to there have served."""
        sealed = self._sealed
        while sealed and sealed[-1].last_seq <= seq:
            sealed.pop()

    def drop_open(self) -> None:
        """The batch in the making is not logged: what it changed has not happened."""
        self._open_layer()

    def drop_all(self) -> None:
        """Leadership is lost: what is not applied may never be."""
        self._sealed: deque[Layer] = deque()  # newest first
        self._open_layer()

    def _open_layer(self) -> None:
        self._changes = {}
        self._is_opaque = False
        self.effects = []
