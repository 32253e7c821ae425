"""Every message survives the wire, and nothing that is not one gets through."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.log.record import encode as encode_record
from kvnode.net.frames import FrameError, Frames
from kvnode.node import wire
from kvnode.raft import messages as m

KINDS = [kind for kind in wire._TYPES if kind is not m.Append]
NUMBERS = st.integers(0, 2**63 - 1)
COMMANDS = st.lists(st.lists(st.binary(max_size=8), min_size=1, max_size=3), min_size=1, max_size=3)
REQUESTS = st.tuples(NUMBERS, st.sampled_from([2, 3]), st.booleans(), NUMBERS, NUMBERS, COMMANDS).map(list)
OUTCOMES = st.tuples(NUMBERS, NUMBERS, st.binary(max_size=8), NUMBERS).map(list)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: NUMBERS,
    bool: st.booleans(),
    bytes: st.binary(max_size=8),
    str: st.text(max_size=8),
}


CHECKSUMS = st.integers(0, 2**32 - 1)
LISTS = {
    wire.Forward: st.lists(REQUESTS, max_size=3),
    wire.ForwardReplies: st.lists(OUTCOMES, max_size=3),
    wire.CompareQuestion: st.lists(NUMBERS, min_size=1, max_size=64),
    wire.CompareAnswer: st.lists(st.none() | CHECKSUMS, min_size=1, max_size=64),
}


def message_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    values = {field.name: VALUES.get(hints[field.name], LISTS.get(kind)) for field in fields(kind)}
    if kind is wire.StandAside:
        values |= dict.fromkeys(("after_checksum", "checksum"), CHECKSUMS)
    return st.builds(kind, **values)


def body(message: Any) -> bytes:
    (only,) = Frames(1 << 30).feed(wire.encode(message))
    return only


def array(message: Any) -> list[Any]:
    found: list[Any] = msgpack.unpackb(body(message))
    return found


@given(st.one_of([message_of(kind) for kind in KINDS]))
def test_every_message_comes_out_as_it_went_in(message: Any) -> None:
    assert wire.decode(body(message)) == message


@given(st.one_of([message_of(kind) for kind in KINDS]), st.lists(st.none(), max_size=2))
def test_a_later_version_may_add_fields(message: Any, more: list[None]) -> None:
    assert wire.decode(msgpack.packb([*array(message), *more])) == message


JUNK = [None, True, False, 0, -1, 2**63, 2**64 - 1, 1.0, "1", b"1", [], [1], {}, {"a": 1}]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_field_of_a_wrong_type_or_out_of_range_is_refused(kind: type[Any], data: st.DataObject) -> None:
    good = array(data.draw(message_of(kind)))
    position = data.draw(st.integers(1, len(good) - 1))
    hint = get_type_hints(kind)[fields(kind)[position - 1].name]
    junk = data.draw(st.sampled_from([value for value in JUNK if not _fits(value, hint)]))
    with pytest.raises(FrameError, match=kind.__name__):
        wire.decode(msgpack.packb([*good[:position], junk, *good[position + 1 :]]))


def _fits(value: Any, hint: Any) -> bool:
    if hint is int:
        return type(value) is int and 0 <= value < 2**63
    if hint in (bool, bytes, str):
        return type(value) is hint
    return value == [] or (value == [1] and hint != list[list[Any]])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_missing_field_is_refused(kind: type[Any], data: st.DataObject) -> None:
    good = array(data.draw(message_of(kind)))
    with pytest.raises(FrameError):
        wire.decode(msgpack.packb(good[: data.draw(st.integers(0, len(good) - 1))]))


@pytest.mark.parametrize("code", [-1, len(wire._TYPES), 10**6, None, "0", 0.0, True, [0], b"\x00"])
def test_an_unknown_kind_is_refused(code: Any) -> None:
    with pytest.raises(FrameError, match="unknown type"):
        wire.decode(msgpack.packb([code, 1, 2, 3]))


@pytest.mark.parametrize(
    "bad",
    [
        *([wire.CompareQuestion, 1, 2, seqs] for seqs in ([], [-1], [None], [True], ["1"], [1.0], [2**63], [1] * 65)),
        *([wire.CompareAnswer, 1, sums, True] for sums in ([], [-1], [False], ["1"], [1.0], [2**32], [None] * 65)),
        [wire.StandAside, 1, 2, 2**32, 3, 0, ""],
        [wire.StandAside, 1, 2, 0, 3, 2**32, ""],
        [wire.StandAside, 1, 2, 0, 3, 0, "x" * 501],
    ],
)
def test_what_members_say_of_checksums_is_bounded(bad: list[Any]) -> None:
    kind, *values = bad
    with pytest.raises(FrameError, match=kind.__name__):
        wire.decode(msgpack.packb([wire._TYPES.index(kind), *values]))


GOOD_REQUEST = [1, 2, False, 0, 4000, [[b"GET", b"k"]]]
GOOD_OUTCOME = [1, 1, b"+OK\r\n", 7]


@pytest.mark.parametrize(
    ("position", "value"),
    [
        *((place, value) for place in (0, 3, 4) for value in (-1, None, 1.5, True, "1", 2**63)),
        *((1, value) for value in (0, 1, 4, None, "2")),
        *((2, value) for value in (0, 1, None)),
        *((5, value) for value in (None, [], [[]], [b"GET"], [["GET"]], [[b"GET", 1]], [[b"GET", [b"k"]]], [None], {})),
    ],
)
def test_a_malformed_request_of_a_forward_is_refused(position: int, value: Any) -> None:
    code = wire._TYPES.index(wire.Forward)
    wire.decode(msgpack.packb([code, 1, [GOOD_REQUEST]]))
    bad = [*GOOD_REQUEST]
    bad[position] = value
    with pytest.raises(FrameError, match="Forward"):
        wire.decode(msgpack.packb([code, 1, [GOOD_REQUEST, bad]]))


@pytest.mark.parametrize("bad", [None, [], GOOD_REQUEST[:5], [*GOOD_REQUEST, 0], 7, b"x", {}])
def test_a_request_that_is_no_list_of_six_is_refused(bad: Any) -> None:
    with pytest.raises(FrameError, match="Forward"):
        wire.decode(msgpack.packb([wire._TYPES.index(wire.Forward), 1, [bad]]))


@pytest.mark.parametrize(
    "bad",
    [
        *(
            [*GOOD_OUTCOME[:place], value, *GOOD_OUTCOME[place + 1 :]]
            for place in (0, 1, 3)
            for value in (-1, None, "1", True)
        ),
        *([1, 1, value, 7] for value in (None, "x", [], 1)),
        GOOD_OUTCOME[:3],
        [*GOOD_OUTCOME, 0],
        None,
        7,
    ],
    ids=repr,
)
def test_a_malformed_outcome_is_refused(bad: Any) -> None:
    code = wire._TYPES.index(wire.ForwardReplies)
    wire.decode(msgpack.packb([code, [GOOD_OUTCOME]]))
    with pytest.raises(FrameError, match="ForwardReplies"):
        wire.decode(msgpack.packb([code, [GOOD_OUTCOME, bad]]))


@given(st.binary(max_size=40))
def test_any_bytes_either_are_a_message_or_raise_the_one_error(data: bytes) -> None:
    try:
        message = wire.decode(data)
    except FrameError:
        return
    assert type(message) in wire._TYPES


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(max_size=3)
        | st.binary(max_size=3),
        lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.integers(0, 20), inner, max_size=2),
        max_leaves=12,
    ),
    st.integers(0, len(wire._TYPES)),
)
def test_any_array_either_is_a_message_or_raises_the_one_error(value: Any, code: int) -> None:
    fields_ = value if isinstance(value, list) else [value]
    try:
        message = wire.decode(msgpack.packb([code, *fields_]))
    except FrameError:
        return
    assert type(message) in wire._TYPES


# Append


def some_records(count: int) -> list[Any]:
    records: list[Any] = []
    for seq in range(1, count + 1):
        records.append(
            encode_record(records[-1].checksum if records else 0, seq, 3, 1, 0, [("SET", b"k", b"%d" % seq)])
        )
    return records


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_append_carries_its_records_byte_for_byte(count: int) -> None:
    records = some_records(count)
    append = m.Append(3, 0, 0, 2, 9, 5, count)
    raw = b"".join(record.raw for record in records)
    (only,) = Frames(1 << 30).feed(wire.encode_append(append, raw))
    decoded = wire.decode(only)
    assert isinstance(decoded, m.Append)
    assert b"".join(record.raw for record in decoded.records) == raw  # type: ignore[attr-defined]
    assert (decoded.term, decoded.commit_seq, decoded.round, decoded.catch_up_to, decoded.damage) == (3, 2, 9, 5, None)


@given(st.integers(0, 200), st.integers(1, 255))
def test_records_that_do_not_verify_are_for_consensus_to_judge(at: int, flip: int) -> None:
    raw = bytearray(b"".join(record.raw for record in some_records(3)))
    raw[at % len(raw)] ^= flip
    (only,) = Frames(1 << 30).feed(wire.encode_append(m.Append(3, 0, 0, 0, 0, 0, 3), bytes(raw)))
    decoded = wire.decode(only)
    assert isinstance(decoded, m.Append)
    assert decoded.records == []
    assert decoded.damage


@pytest.mark.parametrize("position", range(1, 9))
@pytest.mark.parametrize("junk", [None, -1, "1", [], 1.0, True, 2**63], ids=repr)
def test_a_malformed_append_is_refused(position: int, junk: Any) -> None:
    good = [0, 3, 0, 0, 2, 9, 5, 0, b""]
    assert isinstance(wire.decode(msgpack.packb(good)), m.Append)
    with pytest.raises(FrameError, match="Append"):
        wire.decode(msgpack.packb([*good[:position], junk, *good[position + 1 :]]))
    with pytest.raises(FrameError, match="Append"):
        wire.decode(msgpack.packb(good[:position]))


def test_every_message_has_its_lane() -> None:
    lanes = {m.Append: "data", wire.Forward: "data", wire.ForwardReplies: "data"}
    lanes |= {wire.Fetch: "records", wire.Fetched: "records"}
    for kind in wire._TYPES:
        assert wire.lane_of(object.__new__(kind)) == lanes.get(kind, "control")
