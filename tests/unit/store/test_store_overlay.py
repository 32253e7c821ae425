"""The leader's view while records are logged and applied at any moment: same replies as if there were no log at all."""

from __future__ import annotations

import re
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
            self.overlay.keyspace.apply(msgpack.unpackb(record, use_list=False))
            self.overlay.applied(seq)


def is_int64(text: bytes) -> bool:
    return bool(re.fullmatch(rb"0|-?[1-9][0-9]*", text)) and -(2**63) <= int(text) < 2**63


class Model:
    """What Redis answers, written down once more and as simply as possible."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def run(self, name: bytes, *args: bytes) -> Reply:
        return getattr(self, {b"DEL": "delete"}.get(name, name.decode().lower()))(*args)

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
        if not is_int64(value) or not is_int64(amount):
            return "-ERR value is not an integer or out of range"
        total = b"%d" % (int(value) + sign * int(amount))
        if not is_int64(total):
            return "-ERR increment or decrement would overflow"
        if too_long := self.too_long(key, total):
            return too_long
        self.values[key] = total
        return int(total)

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


def request(name: bytes, *args: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    return st.tuples(st.just(name), *args).map(list)


def request_on(name: bytes, *args: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    """A request on one key or several."""
    several = st.lists(st.tuples(*args), min_size=1, max_size=3).map(
        lambda groups: [arg for group in groups for arg in group]
    )
    return several.map(lambda args: [name, *args])


OPTIONS = st.lists(st.sampled_from([b"NX", b"XX", b"GET"]), max_size=2)
READS = st.one_of(
    *(request(name, KEY) for name in (b"GET", b"STRLEN", b"TYPE")),
    *(request_on(name, KEY) for name in (b"MGET", b"EXISTS")),
)
WRITES = st.one_of(
    *(request(name, KEY, VALUE) for name in (b"SET", b"UPD", b"SETNX", b"GETSET", b"APPEND")),
    *(request(name, KEY, st.sampled_from(NUMBERS)) for name in (b"INCRBY", b"DECRBY")),
    *(request(name, KEY) for name in (b"INCR", b"DECR", b"GETDEL")),
    st.tuples(request(b"SET", KEY, VALUE), OPTIONS).map(lambda parts: parts[0] + parts[1]),
    request_on(b"DEL", KEY),
    request_on(b"MSET", KEY, VALUE),
    request(b"FLUSHALL"),
)
STEPS = st.lists(st.one_of(READS, WRITES, WRITES, st.sampled_from(["seal", "apply one"])), max_size=40)


@given(STEPS)
def test_replies_and_replay_are_those_of_a_plain_dict(steps: list) -> None:
    node = Node()
    model = Model()
    for step in steps:
        match step:
            case "seal":
                node.seal()
            case "apply one":
                node.apply_one()
            case args:
                assert node.run(*args) == model.run(*args)
    node.seal()
    while node.records:
        node.apply_one()
    assert {key: node.overlay.keyspace.get(key) for key in model.values} == model.values
    assert len(node.overlay.keyspace) == len(model.values)


def changed_keys(entries: list, every_key: list[bytes]) -> set[bytes]:
    changed: set[bytes] = set()
    for entry in entries:
        if entry[0] == "TX":
            changed |= changed_keys(entry[1], every_key)
        else:
            changed.update(every_key if entry[0] == "FLUSHALL" else [entry[1]])
    return changed


@given(STEPS, KEY)
def test_seen_is_the_newest_pending_record_that_has_a_word_on_the_key(steps: list, key: bytes) -> None:
    node = Node()
    pending: list[tuple[int, list]] = []
    for step in steps:
        match step:
            case "seal":
                entries = list(node.overlay.effects)
                node.seal()
                pending.append((node.last_seq, entries))
            case "apply one":
                node.apply_one()
            case args:
                node.run(*args)
    in_log = [seq for seq, _ in node.records]
    words = [seq for seq, entries in pending if seq in in_log and key in changed_keys(entries, [key])]
    expected = OPEN if key in changed_keys(node.overlay.effects, [key]) else max(words, default=0)
    node.overlay.seen = 0
    node.run(b"GET", key)
    assert node.overlay.seen == expected


def test_seen_of_several_keys_is_the_highest() -> None:
    node = Node()
    for key in (b"a", b"b"):
        node.run(b"SET", key, b"1")
        node.seal()
    node.overlay.seen = 0
    node.run(b"MGET", b"b", b"a", b"c")
    assert node.overlay.seen == 2


def test_one_entry_for_each_command_with_an_effect() -> None:
    node = Node()
    node.run(b"SET", b"a", b"1")
    node.run(b"GET", b"a")
    node.run(b"UPD", b"missing", b"1")
    node.run(b"INCR", b"a")
    node.run(b"APPEND", b"a", b"0")
    node.run(b"MSET", b"b", b"1", b"c", b"2")
    node.run(b"DEL", b"b", b"missing", b"c")
    node.run(b"DEL", b"a", b"a")
    node.run(b"FLUSHALL")
    assert node.overlay.seal(7) == [
        ("SET", b"a", b"1"),
        ("SET", b"a", b"2"),
        ("APPEND", b"a", b"0"),
        ("TX", [("SET", b"b", b"1"), ("SET", b"c", b"2")]),
        ("TX", [("DEL", b"b"), ("DEL", b"c")]),
        ("DEL", b"a"),
        ("FLUSHALL",),
    ]
    assert repr(node.overlay) == "Overlay open=0 sealed=[7] over KeySpace keys=0 unmerged=0 snapshots=0"


def test_lost_leadership_leaves_what_is_applied() -> None:
    node = Node()
    node.run(b"SET", b"a", b"applied")
    node.seal()
    node.apply_one()
    node.run(b"FLUSHALL")
    node.seal()
    node.run(b"SET", b"a", b"open")
    node.overlay.drop_all()
    assert node.run(b"GET", b"a") == b"applied"
    assert node.overlay.is_open_empty


def test_a_command_that_took_effect_cannot_be_refused() -> None:
    overlay = Overlay(KeySpace())
    bookmark = overlay.begin()
    overlay.set(b"a", b"1")
    with pytest.raises(InvariantError, match="refused after"):
        overlay.abandon(bookmark)
