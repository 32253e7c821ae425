"""Frames between nodes: whole, cut at every byte, broken, hostile."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvnode.net.frames import HELLO_BYTES_MAX, FrameError, Frames, frame, unpack

MESSAGES: list[list[Any]] = [[1, "append", b"\x00\xff", None, True, [1, [2]]], [], ["x" * 1000]]


def feed(*chunks: bytes, frame_bytes_max: int = 1 << 20) -> tuple[list[bytes], str | None]:
    frames = Frames(frame_bytes_max)
    bodies = [body for chunk in chunks for body in frames.feed(chunk)]
    return bodies, frames.fault


def test_frames_whole_and_cut_at_every_byte() -> None:
    data = b"".join([frame(message) for message in MESSAGES])
    assert [unpack(body) for body in feed(data)[0]] == MESSAGES
    assert [unpack(body) for body in feed(*[bytes([byte]) for byte in data])[0]] == MESSAGES
    for cut in range(len(data)):
        assert feed(data[:cut], data[cut:]) == feed(data), f"cut at {cut}"


def test_a_cut_frame_waits_for_the_rest() -> None:
    data = frame([b"x" * 100])
    for cut in range(1, len(data)):
        frames = Frames(1000)
        assert frames.feed(data + data[:cut]) == [data[4:]]
        assert frames.fault is None
        assert frames.buffered_bytes == (cut if cut < 4 else cut - 4)


@pytest.mark.parametrize(
    ("length", "fault"),
    [
        (0, "a frame of 0 bytes was announced, allowed are 1 to 1048576"),
        ((1 << 20) + 1, "a frame of 1048577 bytes was announced, allowed are 1 to 1048576"),
        (0xFFFFFFFF, "a frame of 4294967295 bytes was announced, allowed are 1 to 1048576"),
    ],
)
def test_a_bad_length_ends_the_link(length: int, fault: str) -> None:
    data = frame([1]) + length.to_bytes(4, "big") + b"x" * 100
    expected = ([frame([1])[4:]], fault)
    assert feed(data) == expected
    assert feed(*[bytes([byte]) for byte in data]) == expected
    assert feed(data, frame([2])) == expected, "nothing after it counts"


@pytest.mark.parametrize("data", [b"*1\r\n$4\r\nPING\r\n", b"PING\r\n", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00"])
def test_another_protocol_is_a_bad_length(data: bytes) -> None:
    bodies, fault = feed(data)
    assert bodies == []
    assert fault is not None


def test_the_limit_rises_once_the_peer_is_known() -> None:
    large = frame([b"x" * 10_000])
    frames = Frames(1000)
    assert len(frames.feed(frame(["hello"]))) == 1
    frames.frame_bytes_max = 100_000
    assert frames.feed(large) == [large[4:]]
    assert feed(large, frame_bytes_max=1000)[1] is not None


def test_the_longest_frame_is_accepted() -> None:
    body = b"\xdd" + b"x" * 99
    assert feed(b"\x00\x00\x00\x64" + body, frame_bytes_max=100) == ([body], None)


def peak_bytes(action: Any) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_is_only_announced_takes_no_memory() -> None:
    frames = Frames(1 << 30)
    assert peak_bytes(lambda: frames.feed((1 << 30).to_bytes(4, "big") + b"x" * 100)) < 10_000


def test_a_large_frame_is_not_joined_for_every_chunk() -> None:
    frames = Frames(1 << 30)
    chunk = b"x" * 65536
    frames.feed((1 << 24).to_bytes(4, "big"))

    def receive() -> None:
        for _ in range(255):
            assert frames.feed(chunk) == []
        (body,) = frames.feed(chunk + b"\x00\x00")
        assert len(body) == 1 << 24

    assert peak_bytes(receive) < 40 << 20
    assert frames.buffered_bytes == 2


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.data())
def test_frames_cut_anywhere(bodies: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    chunks = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert feed(*chunks) == (bodies, None)


# --- bodies -----------------------------------------------------------------------------------------------------------

BAD_BODIES = {
    "empty": b"",
    "not an array": msgpack.packb({"a": 1}),
    "a number": b"\x01",
    "longer than its array": msgpack.packb([1]) + b"\x00",
    "shorter than its array": msgpack.packb([1, 2])[:-1],
    "nested 100,000 deep": b"\x91" * 100_000,
    "nested 100,000 deep, complete": b"\x91" * 100_000 + b"\xc0",
    "nested headers of long arrays": b"\xdd\x00\x0f\xff\xff" * 500,
    "map32 without content": b"\x91\xdf\xff\xff\xff\xff",
    "array32 without content": b"\xdd\xff\xff\xff\xff",
    "bin32 without content": b"\x91\xc6\xff\xff\xff\xff",
    "str32 without content": b"\x91\xdb\xff\xff\xff\xff",
    "ext32 without content": b"\x91\xc9\xff\xff\xff\xff\x01",
    "a list as a key": b"\x91\x81\x91\x01\x02",
    "a map as a key": b"\x91\x81\x80\x02",
    "a number as a key": b"\x91\x81\x01\x02",
    "a float as a key": b"\x91\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x02",
    "a timestamp": b"\x91\xd6\xff\x00\x00\x00\x00",
    "a timestamp of length 0": b"\x91\xc7\x00\xff",
    "a timestamp of length 5": b"\x91\xc7\x05\xff\x00\x00\x00\x00\x00",
    "a timestamp of the year 2^34": b"\x91\xd7\xff" + b"\xff" * 8,
    "an extension": b"\x91\xd4\x7f\x00",
    "an extension of length 0": b"\x91\xc7\x00\x05",
    "the byte that is never used": b"\x91\xc1",
    "invalid UTF-8": b"\x91\xa2\xc3\x28",
    "pickle": pickle.dumps([1, 2]),
    "yaml": b"!!python/object:os.system",
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_bodies(name: str) -> None:
    with pytest.raises(FrameError):
        unpack(BAD_BODIES[name])


def test_types_are_kept_for_the_reader_to_check() -> None:
    for value in (True, 1, 1.0, math.inf, 2**64 - 1, -(2**63), "text", b"bytes", None):
        (read,) = unpack(frame([value])[4:])
        assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(("size", "bytes_max"), [(HELLO_BYTES_MAX, 16 << 20), (1 << 20, 100 << 20)])
def test_nested_headers_of_long_arrays_take_bounded_memory(size: int, bytes_max: int) -> None:
    """Each array announces as many elements as the body has bytes: believed, 8 GB for 1,000 of them in 1 MiB."""
    body = (b"\xdd" + size.to_bytes(4, "big")) * min(1000, size // 5 - 1)
    body += b"\xc0" * (size - len(body))

    def receive() -> None:
        with pytest.raises(FrameError):
            unpack(body)

    assert peak_bytes(receive) < bytes_max


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_body_is_an_array_or_an_error(body: bytes) -> None:
    try:
        message = unpack(body)
    except FrameError:
        return
    assert type(message) is list
