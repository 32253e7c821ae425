"""The record codec: any record comes back; any other bytes raise BadRecord and nothing else."""

from __future__ import annotations

import io
from typing import Any

import google_crc32c
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.invariant import InvariantError
from kvnode.log.record import (
    HEADER_BYTES,
    PAYLOAD_BYTES_MAX,
    BadRecord,
    Record,
    SegmentHeader,
    decode,
    decode_header,
    encode,
    encode_header,
    frame,
    split,
)
from tests.crash.log_maker import chain

SIZES = st.sampled_from([0, 1, 20, 254, 255, 256, 300])  # a head of msgpack grows at 256 bytes
BINARY = st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), SIZES)
ENTRY = st.one_of(
    st.tuples(st.sampled_from(["SET", "UPD", "APPEND"]), BINARY, BINARY),
    st.tuples(st.just("SET"), BINARY, st.integers(0, 3)),
    st.tuples(st.just("SET"), st.text(max_size=3), BINARY),
    st.tuples(st.just("SET"), BINARY, BINARY, BINARY),
    st.tuples(st.just("DEL"), st.binary(max_size=20)),
    st.just(("NOOP",)),
    st.tuples(st.just("TX"), st.lists(st.tuples(st.just("DEL"), st.binary(max_size=5)), max_size=3)),
)
ORIGINS = st.none() | st.lists(st.tuples(st.integers(0, 9), st.binary(), st.integers(0, 2**63), st.text()), max_size=3)


def as_decoded(value: Any) -> Any:
    return tuple(as_decoded(item) for item in value) if isinstance(value, list | tuple) else value


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 2**62),
    st.integers(1, 2**62),
    st.integers(0, 2**62),
    st.lists(ENTRY, min_size=1, max_size=5),
    ORIGINS,
)
def test_a_record_comes_back(
    prev: int, first_seq: int, term: int, time_ms: int, entries: list[Any], origins: list[Any] | None
) -> None:
    made = encode(prev, first_seq, term, time_ms, first_seq - 1, entries, origins)
    found = decode(made.raw)
    assert (found.prev_checksum, found.first_seq, found.last_seq) == (prev, first_seq, first_seq + len(entries) - 1)
    assert (found.term, found.time_ms, found.commit_seq, found.checksum) == (
        term,
        time_ms,
        first_seq - 1,
        made.checksum,
    )
    assert found.entries == as_decoded(entries)
    assert found.origins == as_decoded(origins)
    assert found.raw == made.raw
    assert found.size == made.size == len(made.raw)
    assert made.raw[HEADER_BYTES:] == msgpack.packb([prev, first_seq, term, time_ms, first_seq - 1, entries, origins])


@pytest.mark.parametrize("count", [1, 15, 16, 65_535, 65_536])
def test_a_record_of_any_number_of_entries_is_msgpack(count: int) -> None:
    entries = [("SET", b"k", b"v")] * count
    assert encode(1, 2, 3, 4, 1, entries).raw[HEADER_BYTES:] == msgpack.packb([1, 2, 3, 4, 1, entries, None])


def test_the_bytes_of_a_record() -> None:
    record = encode(7, 3, 2, 1000, 1, [("SET", b"k", b"v")])
    payload = msgpack.packb([7, 3, 2, 1000, 1, [["SET", b"k", b"v"]], None])
    checksum = google_crc32c.value(payload)
    assert record.raw == b"\x92\xce" + checksum.to_bytes(4, "big") + b"\xc6" + len(payload).to_bytes(4, "big") + payload
    assert len(record.raw) == HEADER_BYTES + len(payload)
    assert repr(record) == f"record 3-3@2 {len(record.raw)}B crc={checksum:08x}"


def test_any_msgpack_reader_streams_a_log() -> None:
    records = chain(5)
    data = encode_header(SegmentHeader("c", "A", 1, 0, 0)) + b"".join(record.raw for record in records)
    values = list(msgpack.Unpacker(io.BytesIO(data)))
    assert msgpack.unpackb(values[0][1])[:2] == ["kvnode log", 1]
    assert [checksum for checksum, _ in values[1:]] == [record.checksum for record in records]
    assert [msgpack.unpackb(payload)[1] for _, payload in values[1:]] == [1, 3, 5, 7, 9]


def test_every_bit_changed_and_every_length_is_bad() -> None:
    raw = chain(1)[0].raw
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadRecord):
            decode(bytes(changed))
    for length in range(len(raw)):
        with pytest.raises(BadRecord) as caught:
            decode(raw[:length])
        assert caught.value.is_short
    with pytest.raises(BadRecord, match="bytes follow"):
        decode(raw + b"\0")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_bad(data: bytes) -> None:
    with pytest.raises(BadRecord):
        decode(data)
    with pytest.raises(BadRecord):
        decode(frame(data or b"\0")[0])
    with pytest.raises(BadRecord):
        decode_header(frame(data or b"\0")[0])


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=8)))
def test_a_payload_with_a_good_checksum_is_never_torn(value: Any) -> None:
    try:
        raw = frame(msgpack.packb(value))[0]
    except OverflowError:
        return
    with pytest.raises(BadRecord) as caught:
        decode(raw)
    assert not caught.value.may_be_torn


GOOD = [0, 5, 1, 1000, 4, [["NOOP"]], None]


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, -1), (0, 2**32), (0, None), (0, True), (1, 0), (1, 2**63), (1, "5"), (2, 0), (2, 1.0), (3, -1), (3, []),
        (4, 5), (4, -1), (4, 2**63), (5, []), (5, None), (5, {}), (5, b"xx"), (6, 0), (6, "x"),
    ],
)  # fmt: skip
def test_a_field_out_of_range(position: int, value: Any) -> None:
    fields = list(GOOD)
    assert decode(frame(msgpack.packb(fields))[0]).last_seq == 5
    fields[position] = value
    with pytest.raises(BadRecord) as caught:
        decode(frame(msgpack.packb(fields))[0])
    assert not caught.value.may_be_torn


def test_longer_arrays_are_accepted_shorter_ones_not() -> None:
    assert decode(frame(msgpack.packb([*GOOD, {"new": 1}]))[0]).entries == (("NOOP",),)
    with pytest.raises(BadRecord, match="missing"):
        decode(frame(msgpack.packb(GOOD[:6]))[0])
    header = ["kvnode log", 1, "c", "A", 9, 5, 2]
    assert decode_header(frame(msgpack.packb([*header, 1]))[0])[0] == SegmentHeader("c", "A", 9, 5, 2)
    with pytest.raises(BadRecord, match="missing"):
        decode_header(frame(msgpack.packb(header[:6]))[0])


def test_deep_nesting_is_bad() -> None:
    with pytest.raises(BadRecord):
        decode(frame(b"\x91" * 100_000 + b"\xc0")[0])


@pytest.mark.parametrize("length", [0, PAYLOAD_BYTES_MAX + 1, 2**32 - 1])
def test_an_announced_length_is_not_believed(length: int) -> None:
    with pytest.raises(BadRecord, match="length field") as caught:
        decode(b"\x92\xce\0\0\0\0\xc6" + length.to_bytes(4, "big") + b"x")
    assert not caught.value.is_short


def test_zeros_are_no_record() -> None:
    for count in (1, 11, 5000):
        with pytest.raises(BadRecord) as caught:
            decode(bytes(count))
        assert not caught.value.is_short


def test_split() -> None:
    records = chain(4, entries=3)
    data = b"".join(record.raw for record in records)
    for given_data in (data, memoryview(data)):
        assert [record.raw for record in split(given_data)] == [record.raw for record in records]
    assert split(b"") == []


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (lambda first: first, "should follow"),
        (lambda first: chain(3, after=first)[1], "should follow"),
        (lambda first: encode(first.checksum ^ 1, 3, 5, 0, 0, [["NOOP"]]), "continues a record"),
        (lambda first: encode(first.checksum, 3, 4, 0, 0, [["NOOP"]]), "lower than"),
    ],
)
def test_split_wants_a_continuous_run(other: Any, reason: str) -> None:
    first: Record = chain(1, term=5)[0]
    with pytest.raises(BadRecord, match=reason) as caught:
        split(first.raw + other(first).raw)
    assert caught.value.offset == len(first.raw)
    assert not caught.value.may_be_torn


def test_what_can_not_be_a_record_is_not_made() -> None:
    with pytest.raises(InvariantError):
        encode(0, 1, 1, 0, 0, [])
    with pytest.raises(InvariantError):
        encode(0, 1, 1, 0, 1, [["NOOP"]])
