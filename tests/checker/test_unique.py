"""The zones of unique values say what the definition says."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checker import linearizable
from tests.checker.brute_force import is_linearizable
from tests.checker.history import FAIL, OK, UNKNOWN, History, Operation
from tests.checker.models import Keys
from tests.checker.unique import check


def wrote(value: bytes, invoked: float, returned: float, key: bytes = b"k") -> Operation:
    return Operation(1, "SET", key, value, invoked, returned, UNKNOWN if returned == inf else OK, b"OK")


def read(value: bytes | None, invoked: float, returned: float, key: bytes = b"k") -> Operation:
    return Operation(2, "GET", key, None, invoked, returned, OK, value)


@st.composite
def histories(draw: st.DrawFn, size_max: int) -> History:
    """Writes of different values, and reads of any of these, or of nothing, at any time."""
    writes, reads = draw(st.integers(0, size_max // 2)), draw(st.integers(0, size_max - size_max // 2))
    history = []
    for number in range(writes):
        invoked = draw(st.integers(0, 12))
        status = draw(st.sampled_from([OK, OK, OK, UNKNOWN, FAIL]))
        returned = inf if status is UNKNOWN else invoked + draw(st.integers(0, 5))
        history.append(Operation(number, "SET", b"k", b"%d" % number, invoked, returned, status))
    for number in range(reads):
        invoked = draw(st.integers(0, 12))
        value = draw(st.sampled_from([None, *(b"%d" % number for number in range(writes))]))
        history.append(read(value, invoked, invoked + draw(st.integers(0, 5)))._replace(process=writes + number))
    return history


@settings(max_examples=300)
@given(histories(6))
def test_by_definition(history: History) -> None:
    history = [each._replace(result=b"OK") if each.kind == "SET" and each.status is OK else each for each in history]
    assert check(history).is_linearizable == is_linearizable(history, Keys([b"k"]))


@settings(max_examples=300)
@given(histories(12))
def test_as_the_black_box(history: History) -> None:
    history = [each._replace(result=b"OK") if each.kind == "SET" and each.status is OK else each for each in history]
    assert check(history).is_linearizable == linearizable.check(history).is_linearizable


FAULTS = {
    "nobody wrote": [read(b"1", 0, 1)],
    "nobody wrote what": [wrote(b"1", 0, 1, b"other"), read(b"1", 2, 3)],
    "before it was written": [read(b"1", 0, 1), wrote(b"1", 2, 3)],
    "what failed was read": [wrote(b"1", 0, 1)._replace(status=FAIL), read(b"1", 2, 3)],
    # a backward zone in a forward one; two forward zones; the value that was there first
    "another value was there": [wrote(b"1", 0, 1), wrote(b"2", 2, 3), read(b"1", 4, 5)],
    "one value from": [wrote(b"1", 0, 9), wrote(b"2", 0, 9), read(b"1", 1, 2), read(b"2", 3, 4), read(b"1", 5, 6)],
    "the beginning": [wrote(b"1", 0, 1), read(None, 2, 3)],
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_are_told(text: str) -> None:
    verdict = check(FAULTS[text])
    assert text in verdict.text


def test_an_unknown_write_counts_once_it_was_seen() -> None:
    assert check([wrote(b"1", 0, inf), read(None, 5, 6)]).is_linearizable
    assert check([wrote(b"1", 0, inf), read(None, 5, 6), read(b"1", 7, 8)]).is_linearizable
    assert not check([wrote(b"1", 0, inf), read(b"1", 5, 6), read(None, 7, 8)]).is_linearizable


@pytest.mark.parametrize(
    "history",
    [
        [wrote(b"1", 0, 1), wrote(b"1", 2, 3)],
        [wrote(b"1", 0, 1)._replace(kind="DEL", argument=None)],
        [wrote(b"1", 0, 1)._replace(argument=(b"1", b"NX"))],
    ],
)
def test_it_refuses_what_it_can_not_judge(history: History) -> None:
    with pytest.raises(ValueError, match="SET"):
        check(history)
