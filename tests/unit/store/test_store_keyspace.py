"""The key space against a plain dict, with merges, snapshots and the freeing of garbage at any moment in between."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from kvnode.invariant import InvariantError
from kvnode.store.keyspace import TOUCHED_SPARE, KeySpace
from kvnode.store.snapshot import Snapshot, take_snapshot

KEYS = st.sampled_from([b"", b"a", b"b", b"c", b"c\0", b"\xff"])
VALUES = st.binary(max_size=3)


def merge(keyspace: KeySpace) -> None:
    while keyspace.merge_some():
        pass


def merged(keyspace: KeySpace) -> Snapshot:
    merge(keyspace)
    return keyspace.snapshot()


def content(snapshot: Snapshot, start: bytes | None = None, end: bytes | None = None, count: int = 2) -> dict:
    slices = list(snapshot.slices(start, end, count=count))
    assert all(0 < len(part) <= count for part in slices)
    keys = [key for part in slices for key in part]
    assert keys == sorted(keys)
    return dict(zip(keys, snapshot.values(keys), strict=True))


class KeySpaceMachine(RuleBasedStateMachine):
    snapshots = Bundle("snapshots")

    def __init__(self) -> None:
        super().__init__()
        self.keyspace = KeySpace()
        self.model: dict[bytes, bytes] = {}
        self.open_snapshots = 0

    def apply_to_model(self, entry: list) -> list:
        """What becomes of `entry` in the model, which may forbid it: then a NOOP."""
        verb, *rest = entry
        match verb:
            case "TX":
                return [verb, [self.apply_to_model(effect) for effect in rest[0]]]
            case "FLUSHALL":
                self.model.clear()
            case "SET":
                self.model[rest[0]] = rest[1]
            case _ if rest[0] not in self.model:
                return ["NOOP"]
            case "UPD":
                self.model[rest[0]] = rest[1]
            case "DEL":
                del self.model[rest[0]]
            case "APPEND":
                self.model[rest[0]] += rest[1]
        return entry

    effects = st.one_of(
        st.tuples(st.sampled_from(["SET", "UPD", "APPEND"]), KEYS, VALUES).map(list),
        st.tuples(st.sampled_from(["SET", "UPD", "APPEND"]), KEYS, VALUES).map(list),
        st.tuples(st.just("DEL"), KEYS).map(list),
        st.just(("FLUSHALL",)),
    )
    entries = st.one_of(effects, effects, st.lists(effects, max_size=4).map(lambda effects: ["TX", effects]))

    @rule(entries=st.lists(entries, max_size=6))
    def apply(self, entries: list) -> None:
        possible = [self.apply_to_model(entry) for entry in entries]
        self.keyspace.apply(msgpack.unpackb(msgpack.packb(possible), use_list=False))

    @rule(count=st.integers(1, 3))
    def merge_some(self, count: int) -> None:
        self.keyspace.merge_some(count)

    @rule(count=st.integers(1, 3))
    def free_some(self, count: int) -> None:
        self.keyspace.free_some(count)

    @rule(target=snapshots)
    def take(self) -> tuple[Snapshot, dict[bytes, bytes]] | None:
        if self.open_snapshots and self.keyspace.merge_some():
            return None  # waits until the others are closed
        self.open_snapshots += 1
        return merged(self.keyspace), dict(self.model)

    @rule(taken=consumes(snapshots), count=st.integers(1, 4))
    def read(self, taken: tuple[Snapshot, dict[bytes, bytes]] | None, count: int) -> None:
        if taken is None:
            return
        snapshot, expected = taken
        assert content(snapshot, count=count) == expected
        assert len(snapshot) == len(expected)
        snapshot.close()
        self.open_snapshots -= 1

    @invariant()
    def same_content(self) -> None:
        assert len(self.keyspace) == len(self.model)
        for key in (b"", b"a", b"b", b"c", b"c\0", b"\xff", b"never"):
            assert self.keyspace.get(key) == self.model.get(key)
            assert (key in self.keyspace) == (key in self.model)


TestKeySpace = KeySpaceMachine.TestCase


@given(
    st.dictionaries(st.binary(max_size=3), VALUES), st.none() | st.binary(max_size=3), st.none() | st.binary(max_size=3)
)
def test_a_range_is_half_open(pairs: dict[bytes, bytes], start: bytes | None, end: bytes | None) -> None:
    keyspace = KeySpace()
    keyspace.apply([("SET", key, value) for key, value in pairs.items()])
    expected = {k: v for k, v in pairs.items() if (start is None or k >= start) and (end is None or k < end)}
    assert content(merged(keyspace), start, end) == expected


@pytest.mark.parametrize(
    "entry",
    [
        ("UPD", b"missing", b"v"),
        ("UPD", b"a"),
        ("DEL", b"missing"),
        ("APPEND", b"missing", b"v"),
        ("RENAME", b"a", b"b"),
        ("TX", (("TX", ()),)),
        ("DEL", b"a", b"b"),
        ("NOOP", 1),
        ("SET", b"a"),
        ("SET", b"a", b"1", b"an option of a later version"),
        ("TX",),
    ],
)
def test_an_entry_that_cannot_be_applied_stops_the_node(entry: tuple) -> None:
    keyspace = KeySpace()
    keyspace.apply([("SET", b"a", b"1")])
    with pytest.raises(InvariantError, match=entry[0]):
        keyspace.apply([entry])


@pytest.mark.parametrize("entry", [(), None, ("SET", [], b""), ("UPD", {}, b""), ("TX", 1)])
@pytest.mark.parametrize("has_snapshot", [False, True])
def test_an_entry_that_is_none_stops_the_node(entry: object, has_snapshot: bool) -> None:
    keyspace = KeySpace()
    if has_snapshot:
        keyspace.snapshot()
    with pytest.raises(InvariantError, match="unknown form"):
        keyspace.apply([entry])


@given(st.lists(st.tuples(st.sampled_from(["SET", "DEL", "merge"]), st.integers(1, 3)), min_size=10))
def test_the_index_holds_what_has_not_gone_once(steps: list[tuple[str, int]]) -> None:
    """Whatever came and went between merges of parts of it; `SET` and `DEL` of key n, `merge` of n keys."""
    keyspace, model = KeySpace(), {b"other%d" % number for number in range(20)}
    keyspace.apply([("SET", key, b"") for key in model])
    merge(keyspace)
    for step, number in steps:
        key = b"%d" % number
        if step == "merge":
            keyspace.merge_some(number)
        elif step == "SET":
            keyspace.apply([("SET", key, b"")])
            model.add(key)
        elif key in model:
            keyspace.apply([("DEL", key)])
            model.remove(key)
    assert [key for part in merged(keyspace).slices() for key in part] == sorted(model)


def unmerged(keyspace: KeySpace) -> int:
    return int(repr(keyspace).split("unmerged=")[1].split()[0])


def come_and_go(keyspace: KeySpace, count: int) -> None:
    """So many keys, each in a record of its own."""
    for number in range(count):
        keyspace.apply([("SET", b"%d" % number, b""), ("DEL", b"%d" % number)])


def test_keys_that_come_and_go_do_not_pile_up() -> None:
    keyspace = KeySpace()
    keyspace.apply([("SET", b"stays", b"")])
    come_and_go(keyspace, 2 * TOUCHED_SPARE)
    assert unmerged(keyspace) <= TOUCHED_SPARE + 10
    assert content(merged(keyspace)) == {b"stays": b""}


def test_keys_that_have_piled_up_under_a_snapshot_do_not_hold_up_a_record() -> None:
    keyspace = KeySpace()
    with merged(keyspace) as snapshot:
        come_and_go(keyspace, TOUCHED_SPARE)
        assert unmerged(keyspace) == 2 * TOUCHED_SPARE
        assert content(snapshot) == {}
    keyspace.apply([("NOOP",)])
    assert unmerged(keyspace) == 2 * TOUCHED_SPARE
    come_and_go(keyspace, 1)
    assert unmerged(keyspace) == 2 * TOUCHED_SPARE - 2, "twice what came with the record"
    come_and_go(keyspace, TOUCHED_SPARE)
    assert unmerged(keyspace) <= TOUCHED_SPARE + 10


def test_keys_that_come_wait_for_an_idle_moment_however_many() -> None:
    keyspace = KeySpace()
    for first in range(0, 5 * TOUCHED_SPARE, 1000):
        keyspace.apply([("SET", b"%d" % number, b"") for number in range(first, first + 1000)])
    assert unmerged(keyspace) == 5 * TOUCHED_SPARE


def test_merging_and_freeing_go_in_slices() -> None:
    keyspace = KeySpace()
    keyspace.apply([("SET", b"%d" % number, b"") for number in range(10)])
    assert [keyspace.merge_some(4) for _ in range(3)] == [True, True, False]
    keyspace.apply([("FLUSHALL",)])
    remaining = iter(lambda: keyspace.free_some(4), False)
    assert 5 <= len(list(remaining)) < 20


@pytest.mark.parametrize("removed", [1, 2, 9, 10])
def test_few_or_many_keys_leave_the_index(removed: int) -> None:
    keyspace = KeySpace()
    keys = [b"%d" % number for number in range(10)]
    keyspace.apply([("SET", key, b"") for key in keys])
    merge(keyspace)
    keyspace.apply([("DEL", key) for key in keys[:removed]])
    assert list(content(merged(keyspace))) == keys[removed:]


def test_what_a_snapshot_reads_is_not_freed() -> None:
    keyspace = KeySpace()
    keyspace.apply([("SET", b"a", b"1")])
    with merged(keyspace) as snapshot:
        keyspace.apply([("FLUSHALL",), ("SET", b"a", b"2")])
        keyspace.free_some()
        assert content(snapshot) == {b"a": b"1"}
    while keyspace.free_some():
        pass
    assert keyspace.get(b"a") == b"2"


def test_a_snapshot_waits_for_the_index_which_waits_for_open_snapshots() -> None:
    keyspace = KeySpace()
    first = keyspace.snapshot()
    keyspace.apply([("SET", b"a", b"1")])
    with pytest.raises(InvariantError, match="out of date"):
        keyspace.snapshot()
    second = take_snapshot(keyspace)
    assert next(second) is None
    assert next(second) is None
    first.close()
    with pytest.raises(StopIteration) as stop:
        next(second)
    assert content(stop.value.value) == {b"a": b"1"}
