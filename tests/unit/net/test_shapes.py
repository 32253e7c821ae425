"""Shapes of commands: what they take for commands is what the strict parser reads, whatever byte is another one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.net import shapes
from kvnode.net.requests import Requests
from kvnode.net.shapes import MISSES_MAX, SIZE_MAX, Shape, learn, of_size
from tests.unit.net.test_requests import array, single_bytes

COMMANDS = ([b"GET", b"key"], [b"SET", b"key", b"value"], [b"set", b"", b"\r\n$1\r\n"], [b"MSET", *[b"k" * 12] * 4])


def read_strictly(data: bytes) -> list[list[bytes]]:
    requests = Requests()
    return [command for byte in single_bytes(data) for command in requests.feed(byte)]


@pytest.fixture(autouse=True)
def unlearned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_by_size", [None] * (SIZE_MAX + 1))


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_commands_of_the_shape_are_read(command: list[bytes]) -> None:
    shape = Shape(command)
    other = [command[0], *(argument[::-1] for argument in command[1:])]
    assert shape.size == len(array(*command))
    assert shape.read(array(*command)) == [command]
    assert shape.read(array(*other) + array(*command) * 2) == [other, command, command]


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_with_any_other_byte_it_is_what_the_strict_parser_reads_or_not_of_the_shape(command: list[bytes]) -> None:
    shape = Shape(command)
    data = array(*command) * 2
    arguments = sum(map(len, command[1:]))
    for byte in b"\r\n$*0129aG\x00\xff":
        read = 0
        for position in range(len(data)):
            changed = data[:position] + bytes([byte]) + data[position + 1 :]
            commands = shape.read(changed)
            if commands is not None:
                assert commands == read_strictly(changed), changed
                read += changed != data
        assert read <= 2 * arguments, "only bytes of arguments may differ"


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_what_is_cut_or_goes_on_is_not_of_the_shape(command: list[bytes]) -> None:
    shape = Shape(command)
    data = array(*command)
    for end in range(1, len(data)):
        assert shape.read(data[:end]) is None
        assert shape.read(data + data[:end]) is None
    assert shape.read(data + b"\r\n") is None
    assert shape.read(data[:-2] + b"ab") is None


def test_a_shape_is_kept_until_it_was_tried_in_vain_for_long() -> None:
    size = len(array(b"GET", b"key"))
    get = learn([b"GET", b"key"], size)
    assert get is not None
    assert of_size(size) is get
    for _ in range(MISSES_MAX - 1):
        assert learn([b"TTL", b"key"], size) is get
    ttl = learn([b"TTL", b"key"], size)
    assert ttl is not None
    assert ttl is not get
    assert of_size(size) is ttl
    assert ttl.read(array(b"TTL", b"abc")) == [[b"TTL", b"abc"]]


@pytest.mark.parametrize(
    ("command", "size"),
    [([b"PING"], 14), ([b"GET", b"key"], 23), ([b"SET", b"k", b"v" * SIZE_MAX], SIZE_MAX + 40), ([b"DEL"] * 10, 94)],
    ids=["no argument", "of another size", "long", "many arguments"],
)
def test_what_has_no_shape_is_not_learned(command: list[bytes], size: int) -> None:
    assert learn(command, size) is None
    assert of_size(size) is None


same_sized = st.tuples(st.sampled_from([b"GET", b"TTL", b"SET"]), st.binary(max_size=4), st.binary(max_size=4))


@given(chunks=st.lists(st.lists(same_sized, min_size=1, max_size=4), max_size=60))
def test_what_was_learned_changes_nothing_of_what_is_read(chunks: list[list[tuple[bytes, ...]]]) -> None:
    requests = Requests()
    for chunk in chunks:
        commands = [list(command) for command in chunk]
        assert requests.feed(b"".join(array(*command) for command in commands)) == commands
    assert requests.fault is None
