"""The leader's view while records are logged and applied at any moment: same replies as if there were no log at all."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.invariant import InvariantError
from kvnode.reply import CommandError, Reply, Status
from kvnode.store.keyspace import KeySpace
from kvnode.store.limits import Limits
from kvnode.store.overlay import OPEN, Overlay
from kvnode.store.table import resolve

LIMITS = Limits(key_bytes_max=8, value_bytes_max=24)
NUMBERS = [
    b"0",
    b"-1",
    b"41",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"01",
    b" 1",
    b"x",
]
KEY = st.sampled_from([b"a", b"b", b"c", b"too long a key"])
VALUE = st.sampled_from([*NUMBERS, b"", b"text", b"a value of 24 bytes, yes", b"a value of 25 bytes, alas"])


@dataclass
class Node:
    """A leader without a cluster: records are applied when the test says so."""

    overlay: Overlay = field(default_factory=lambda: Overlay(KeySpace(LIMITS)))
    records: deque[tuple[int, list]] = field(default_factory=deque)
    last_seq: int = 0
    touched: dict[bytes, int] = field(default_factory=dict)  # key -> last seq of the record that changed it

    def run(self, *args: bytes) -> Reply:
        """Evaluate one command and say what the client would be told."""
        command = resolve(list(args))
        assert command.evaluate is not None
        bookmark = self.overlay.begin()
        try:
            reply = command.evaluate(self.overlay, list(args))
        except CommandError as error:
            self.overlay.abandon(bookmark)
            return repr(error)
        self.overlay.finish(bookmark)
        assert self.overlay.open_count - bookmark <= 1
        return reply.text if isinstance(reply, Status) else reply

    def seal(self) -> None:
        if not self.overlay.is_open_empty:
            self.last_seq += self.overlay.open_count
            self.records.append((self.last_seq, msgpack.packb(self.overlay.seal(self.last_seq))))

    def apply_one(self) -> None:
        if self.records:
            seq, record = self.records.popleft()
            self.overlay.keyspace.apply(msgpack.unpackb(record))
            self.overlay.applied(seq)


class Model:
    """What Redis answers, written down once more and as simply as possible."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def run(self, name: bytes, *args: bytes) -> Reply:
        return getattr(self, name.decode().lower())(*args)

    def store(self, key: bytes, value: bytes) -> None:
        self.values[key] = value

    def get(self, key: bytes) -> Reply:
        return self.values.get(key)

    def strlen(self, key: bytes) -> Reply:
        return len(self.values.get(key, b""))

    def type(self, key: bytes) -> Reply:
        return "string" if key in self.values else "none"

    def mget(self, *keys: bytes) -> Reply:
        return [self.values.get(key) for key in keys]

    def exists(self, *keys: bytes) -> Reply:
        return len([key for key in keys if key in self.values])

    def set(self, key: bytes, value: bytes, *options: bytes) -> Reply:
        if too_long := self.too_long(key, value):
            return too_long
        if b"NX" in options and b"XX" in options:
            return "-ERR syntax error"
        old = self.values.get(key)
        stored = False
        if not (b"NX" in options and old is not None) and not (b"XX" in options and old is None):
            self.values[key] = value
            stored = True
        if b"GET" in options:
            return old
        return "OK" if stored else None

    def upd(self, key: bytes, value: bytes) -> Reply:
        if too_long := self.too_long(key, value):
            return too_long
        if key not in self.values:
            return "-ERR no such key"
        self.values[key] = value
        return "OK"

    def setnx(self, key: bytes, value: bytes) -> Reply:
        reply = self.set(key, value, b"NX")
        return reply if isinstance(reply, str) and reply != "OK" else int(reply == "OK")

    def getset(self, key: bytes, value: bytes) -> Reply:
        return self.set(key, value, b"GET")

    def getdel(self, key: bytes) -> Reply:
        return self.values.pop(key, None)

    def delete(self, *keys: bytes) -> Reply:
        return sum(self.values.pop(key, None) is not None for key in keys)

    def mset(self, *args: bytes) -> Reply:
        pairs = list(zip(args[::2], args[1::2], strict=True))
        for pair in pairs:
            if too_long := self.too_long(*pair):
                return too_long
        self.values.update(pairs)
        return "OK"

    def append(self, key: bytes, value: bytes) -> Reply:
        grown = self.values.get(key, b"") + value
        if too_long := self.too_long(key, grown):
            return too_long
        self.values[key] = grown
        return len(grown)

    def incrby(self, key: bytes, amount: bytes) -> Reply:
        return self.add(key, amount, 1)

    def decrby(self, key: bytes, amount: bytes) -> Reply:
        if amount == b"-9223372036854775808":
            return "-ERR decrement would overflow"
        return self.add(key, amount, -1)

    def incr(self, key: bytes) -> Reply:
        return self.add(key, b"1", 1)

    def decr(self, key: bytes) -> Reply:
        return self.add(key, b"1", -1)

    def add(self, key: bytes, amount: bytes, sign: int) -> Reply:
        value = self.values.get(key, b"0")
        numbers = [b"0", b"-1", b"1", b"41", b"9223372036854775807", b"-9223372036854775808"]
        if amount not in numbers or not (value in numbers or value.lstrip(b"-").isdigit() and len(value) > 1):
            return "-ERR value is not an integer or out of range"
        if value in (b"9223372036854775808", b"01"):
            return "-ERR value is not an integer or out of range"
        total = int(value) + sign * int(amount)
        if not -(2**63) <= total < 2**63:
            return "-ERR increment or decrement would overflow"
        if too_long := self.too_long(key, b"%d" % total):
            return too_long
        self.values[key] = b"%d" % total
        return total

    def flushall(self) -> Reply:
        self.values.clear()
        return "OK"

    @staticmethod
    def too_long(key: bytes, value: bytes) -> str | None:
        if len(value) > 24:
            return f"-ERR value is too long ({len(value)} bytes, the limit is 24: value_bytes_max)"
        if len(key) > 8:
            return f"-ERR key is too long ({len(key)} bytes, the limit is 8: key_bytes_max)"
        return None
