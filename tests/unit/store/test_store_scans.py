"""Reads of the whole key space: KEYS, SCAN, RANGE, DBSIZE, while entries are applied between their slices."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.reply import CommandError, Reply
from kvnode.store.cursors import Cursors
from kvnode.store.digest import digest
from kvnode.store.keyspace import KeySpace
from kvnode.store.limits import Limits
from kvnode.store.table import resolve


@dataclass
class View:
    keyspace: KeySpace = field(default_factory=KeySpace)
    cursors: Cursors = field(default_factory=Cursors)


def view_of(*keys: bytes, limits: Limits | None = None) -> View:
    view = View(KeySpace(limits) if limits else KeySpace())
    view.keyspace.apply([("SET", key, b"value of " + key) for key in keys])
    return view


def begin(view: View, *args: bytes) -> Generator[None, None, Reply]:
    command = resolve(list(args))
    assert command.whole
    assert command.evaluate is not None
    reading = command.evaluate(view, list(args))
    assert isinstance(reading, Generator)
    return reading


def run(view: View, *args: bytes) -> Reply:
    return finish(begin(view, *args))


def finish(reading: Generator[None, None, Reply]) -> Reply:
    while True:
        try:
            next(reading)
        except StopIteration as stop:
            return stop.value


def refusal(view: View, *args: bytes) -> str:
    with pytest.raises(CommandError) as error:
        run(view, *args)
    return error.value.text


def scan_all(view: View, *options: bytes) -> list[bytes]:
    found: list[bytes] = []
    cursor = b"0"
    while True:
        cursor, part = run(view, b"SCAN", cursor, *options)
        found += part
        if cursor == b"0":
            return found


def has_snapshot(view: View) -> bool:
    return "snapshots=1" in repr(view.keyspace)


MANY = [b"%06d" % number for number in range(7_000)]  # several slices


def test_keys_come_in_order() -> None:
    assert run(view_of(b"b", b"a", b"c1", b"c"), b"KEYS", b"?") == [b"a", b"b", b"c"]


def test_dbsize() -> None:
    assert resolve([b"DBSIZE"]).evaluate(view_of(b"a", b"b"), [b"DBSIZE"]) == 2


@pytest.mark.parametrize(
    ("args", "keys"),
    [
        ((b"a", b"c"), [b"a", b"b"]),
        ((b"-", b"+"), [b"a", b"b", b"c"]),
        ((b"-", b"c"), [b"a", b"b"]),
        ((b"b", b"+"), [b"b", b"c"]),
        ((b"c", b"a"), []),
        ((b"+", b"-"), []),
        ((b"+", b"+"), []),
        ((b"-", b"-"), []),
        ((b"-", b"+", b"LIMIT", b"2"), [b"a", b"b"]),
        ((b"-", b"+", b"limit", b"0"), []),
    ],
)
def test_range(args: tuple[bytes, ...], keys: list[bytes]) -> None:
    expected = [part for key in keys for part in (key, b"value of " + key)]
    assert run(view_of(b"b", b"a", b"c"), b"RANGE", *args) == expected


@pytest.mark.parametrize("args", [(b"LIMIT",), (b"LIMIT", b"1", b"2"), (b"COUNT", b"1")])
def test_range_options_that_are_wrong(args: tuple[bytes, ...]) -> None:
    assert refusal(View(), b"RANGE", b"-", b"+", *args) == "ERR syntax error"


def test_range_limit_must_be_a_count() -> None:
    assert refusal(View(), b"RANGE", b"-", b"+", b"LIMIT", b"x") == "ERR value is not an integer or out of range"
    assert refusal(View(), b"RANGE", b"-", b"+", b"LIMIT", b"-1") == "ERR value is out of range, must be positive"


@pytest.mark.parametrize("args", [(b"KEYS", b"*"), (b"RANGE", b"-", b"+")])
def test_a_long_read_shows_one_moment(args: tuple[bytes, ...]) -> None:
    view = view_of(*MANY)
    expected = run(view, *args)
    reading = begin(view, *args)
    next(reading)
    view.keyspace.apply([("DEL", MANY[-1]), ("UPD", MANY[-2], b"later"), ("SET", b"zzz", b"later")])
    next(reading)
    view.keyspace.apply([("FLUSHALL",), ("SET", b"000", b"later")])
    view.keyspace.free_some()
    assert finish(reading) == expected
    assert run(view, b"KEYS", b"*") == [b"000"]


def test_a_read_that_is_given_up_lets_go_of_the_key_space() -> None:
    view = view_of(*MANY)
    reading = begin(view, b"KEYS", b"*")
    while not has_snapshot(view):
        next(reading)
    reading.close()
    view.keyspace.apply([("SET", b"new", b"")])
    assert not view.keyspace.merge_some()


@pytest.mark.parametrize("args", [(b"KEYS", b"*"), (b"RANGE", b"-", b"+")])
def test_replies_have_a_size_limit(args: tuple[bytes, ...]) -> None:
    view = view_of(b"a", b"b", limits=Limits(reply_bytes_max=1))
    assert "reply is too long" in refusal(view, *args)
    assert not has_snapshot(view)


@given(st.sets(st.binary(max_size=2), max_size=30), st.integers(1, 12))
def test_scan_finds_every_key_once(keys: set[bytes], count: int) -> None:
    assert scan_all(view_of(*keys), b"COUNT", b"%d" % count) == sorted(keys)


def test_scan_count_may_be_larger_than_a_slice() -> None:
    assert run(view_of(*MANY), b"SCAN", b"0", b"COUNT", b"1000000") == [b"0", MANY]
    assert len(run(view_of(*MANY), b"SCAN", b"0", b"COUNT", b"5000")[1]) == 5_000


def test_scan_filters() -> None:
    view = view_of(b"a1", b"a2", b"b1")
    assert scan_all(view, b"MATCH", b"a*", b"COUNT", b"1") == [b"a1", b"a2"]
    assert scan_all(view, b"TYPE", b"String", b"match", b"*1") == [b"a1", b"b1"]
    assert scan_all(view, b"MATCH", b"*1", b"TYPE", b"hash") == []


def test_scan_goes_on_where_keys_came_and_went() -> None:
    view = view_of(b"a", b"b", b"c", b"d")
    cursor, part = run(view, b"SCAN", b"0", b"COUNT", b"2")
    assert part == [b"a", b"b"]
    view.keyspace.apply([("DEL", b"b"), ("SET", b"bb", b""), ("DEL", b"c")])
    assert run(view, b"SCAN", cursor) == [b"0", [b"bb", b"d"]]
    assert run(view, b"SCAN", cursor) == [b"0", [b"bb", b"d"]]  # a client may ask again


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((b"x",), "ERR invalid cursor"),
        ((b"-1",), "ERR invalid cursor"),
        ((b"",), "ERR invalid cursor"),
        ((b"18446744073709551616",), "ERR invalid cursor"),
        ((b"9" * 5_000,), "ERR invalid cursor"),
        ((b"7",), "ERR unknown cursor 7: of another node, or too old; begin again with 0"),
        ((b"0", b"COUNT"), "ERR syntax error"),
        ((b"0", b"COUNT", b"0"), "ERR syntax error"),
        ((b"0", b"COUNT", b"x"), "ERR value is not an integer or out of range"),
        ((b"0", b"WHAT", b"x"), "ERR syntax error"),
        ((b"0", b"MATCH", b"x" * 2_000), "ERR pattern is too long (2000 bytes, the limit is 1024)"),
    ],
)
def test_scan_refusals(args: tuple[bytes, ...], text: str) -> None:
    assert refusal(View(), b"SCAN", *args) == text


def test_the_oldest_cursor_is_forgotten() -> None:
    cursors = Cursors(first=5, count_max=2)
    assert [cursors.remember(key) for key in (b"a", b"b", b"c")] == [5, 6, 7]
    assert cursors.key(6) == b"b"
    with pytest.raises(CommandError, match="unknown cursor 5"):
        cursors.key(5)
    assert repr(cursors) == "Cursors count=2 next=8"


def digest_of(keyspace: KeySpace) -> Reply:
    return finish(digest(keyspace))


def test_the_digest_knows_content_not_history() -> None:
    one = view_of(b"a", b"b", b"c").keyspace
    other = view_of(b"c", b"x", b"b").keyspace
    assert digest_of(one) != digest_of(other)
    other.apply([("DEL", b"x"), ("SET", b"a", b"value of a")])
    assert digest_of(one) == digest_of(other)


@given(st.dictionaries(st.binary(max_size=3), st.binary(max_size=3)), st.dictionaries(st.binary(), st.binary()))
def test_digests_differ_where_content_differs(one: dict[bytes, bytes], other: dict[bytes, bytes]) -> None:
    digests = []
    for pairs in (one, other):
        keyspace = KeySpace()
        keyspace.apply([("SET", key, value) for key, value in pairs.items()])
        digests.append(digest_of(keyspace))
    assert (digests[0] == digests[1]) == (one == other)


def test_the_digest_format_stays() -> None:
    """Nodes of different versions compare digests."""
    assert digest_of(KeySpace()) == "cae66941d9efbd404e4d88758ea67670"
    assert digest_of(view_of(b"a", b"b").keyspace) == "5bf104cc77de8cdeb082ada58043af66"


def test_a_digest_is_sliced_by_bytes_too() -> None:
    keyspace = KeySpace()
    keyspace.apply([("SET", b"%d" % number, bytes(3_000_000)) for number in range(6)])
    assert len(list(digest(keyspace))) >= 3
