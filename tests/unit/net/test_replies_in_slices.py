"""A reply encoded in slices is the same bytes, and no slice is long."""

from collections.abc import Generator

import pytest

from kvnode.net.replies import RESP2, RESP3, SLICE_ELEMENTS, encode, encode_in_slices
from kvnode.reply import OK, Reply

LONG: list[Reply] = [b"key:%d" % number for number in range(3 * SLICE_ELEMENTS + 7)]


def drain(slices: Generator[None, None, bytes]) -> tuple[bytes, int]:
    pauses = 0
    while True:
        try:
            next(slices)
            pauses += 1
        except StopIteration as stop:
            return stop.value, pauses


@pytest.mark.parametrize("protocol", [RESP2, RESP3])
@pytest.mark.parametrize("reply", [OK, None, 7, b"value", [], LONG, [b"0", LONG], [None, [1, [b"a", LONG]]]])
def test_the_bytes_are_those_of_encode(reply: Reply, protocol: int) -> None:
    data, _ = drain(encode_in_slices(reply, protocol))
    assert data == encode(reply, protocol)


def test_a_long_array_is_encoded_in_slices() -> None:
    _, pauses = drain(encode_in_slices([b"0", LONG], RESP3))
    assert pauses == 4
