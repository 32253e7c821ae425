"""The black-box checker says what the definition says, gives up when it is told to, and explains itself."""

from __future__ import annotations

from itertools import count
from math import inf
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checker import linearizable
from tests.checker.brute_force import is_linearizable
from tests.checker.history import FAIL, OK, UNKNOWN, Error, History, Operation
from tests.checker.linearizable import check, parts
from tests.checker.models import Keys
from tests.checker.simulated import simulate
from tests.checker.verdict import Outcome
from tests.checker.workloads import Registers

VALUES = st.sampled_from([b"1", b"2"])


def asked(kind: str, key: Any, argument: Any = None, result: Any = None, at: tuple[float, float] = (0, 9)) -> Operation:
    return Operation(0, kind, key, argument, at[0], at[1], UNKNOWN if at[1] == inf else OK, result)


@st.composite
def operations(draw: st.DrawFn, keys: list[bytes]) -> Operation:
    """Any operation with any reply that its kind may give, sometime in [0, 8]."""
    kind = draw(st.sampled_from(["GET", "SET", "UPD", "DEL", "INCR", "APPEND", "SETNX", "GETSET", "MSET", "MGET"]))
    is_wide = kind in ("MSET", "MGET")
    key: Any = tuple(keys) if is_wide else draw(st.sampled_from(keys))
    values = st.none() | VALUES
    argument, result = {
        "GET": (st.none(), values),
        "SET": (VALUES, st.just(b"OK")),
        "UPD": (VALUES, st.sampled_from([b"OK", Error("no such key")])),
        "DEL": (st.none(), st.integers(0, 1)),
        "INCR": (st.none(), st.integers(1, 3)),
        "APPEND": (VALUES, st.integers(1, 2)),
        "SETNX": (VALUES, st.integers(0, 1)),
        "GETSET": (VALUES, values),
        "MSET": (st.tuples(*[VALUES] * len(keys)), st.just(b"OK")),
        "MGET": (st.none(), st.tuples(*[values] * len(keys))),
    }[kind]
    invoked = draw(st.integers(0, 6))
    returned = invoked + draw(st.integers(0, 4))
    status = draw(st.sampled_from([OK, OK, OK, OK, UNKNOWN, FAIL]))
    if status is UNKNOWN:
        return Operation(0, kind, key, draw(argument), invoked, inf, UNKNOWN)
    return Operation(0, kind, key, draw(argument), invoked, returned, status, draw(result) if status is OK else None)


@settings(max_examples=400)
@given(st.lists(operations([b"a"]), max_size=5))
def test_one_key_by_definition(history: History) -> None:
    assert check(history).is_linearizable == is_linearizable(history, Keys([b"a"]))


@settings(max_examples=200)
@given(st.lists(operations([b"a", b"b"]), max_size=5))
def test_two_keys_by_definition(history: History) -> None:
    """Also that to check keys alone, where nothing ties them, changes no verdict."""
    assert check(history).is_linearizable == is_linearizable(history, Keys([b"a", b"b"]))


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.data())
def test_nearly_right_by_definition(seed: int, data: st.DataObject) -> None:
    """Any replies at any times are mostly wrong at once. Here most of them are right."""
    history, _ = simulate(Random(seed), Registers(width=1, mixed=True).next, 3, 6, unknown=0.2)
    reads = [number for number, each in enumerate(history) if each.status is OK and each.kind in ("GET", "GETSET")]
    if reads:
        number = data.draw(st.sampled_from(reads))
        values = {each.argument for each in history if each.argument} | {None}
        history[number] = history[number]._replace(result=data.draw(st.sampled_from(sorted(values, key=repr))))
    assert check(history).is_linearizable == is_linearizable(history, Keys([history[0].key]))


def test_nothing_is_linearizable() -> None:
    assert check([]).is_linearizable


def test_an_unknown_operation_may_take_effect_late_or_never() -> None:
    write = asked("SET", b"k", b"1", at=(0, inf))
    nothing, seen, other = (asked("GET", b"k", None, result, at=(8, 9)) for result in (None, b"1", b"2"))
    assert check([write, nothing]).is_linearizable
    assert check([write, seen]).is_linearizable
    assert check([write, nothing, seen._replace(invoked=10, returned=11)]).is_linearizable
    assert not check([write, seen, nothing._replace(invoked=10, returned=11)]).is_linearizable
    assert not check([write, other]).is_linearizable
    assert not check([write._replace(invoked=10), seen]).is_linearizable, "a value from the future"


def test_an_unknown_operation_takes_effect_once() -> None:
    counted = [asked("INCR", b"k", at=(0, inf)), asked("GET", b"k", None, b"1", at=(1, 2))]
    assert check(counted).is_linearizable
    assert not check([*counted, asked("GET", b"k", None, b"2", at=(3, 4))]).is_linearizable


def test_a_failed_operation_has_no_effect() -> None:
    write = asked("SET", b"k", b"1")._replace(status=FAIL)
    assert not check([write, asked("GET", b"k", None, b"1")]).is_linearizable
    assert check([write, asked("GET", b"k", None, None)]).is_linearizable


def test_equal_times_are_concurrent() -> None:
    write, read = asked("SET", b"k", b"1", b"OK", at=(0, 5)), asked("GET", b"k", None, None, at=(5, 6))
    assert check([write, read]).is_linearizable
    assert not check([write, read._replace(invoked=5.1)]).is_linearizable


def test_operations_on_several_keys_tie_them() -> None:
    """Each key alone would be fine: the reads saw a and b in different orders."""
    history = [
        asked("MSET", (b"a", b"b"), (b"1", b"1"), b"OK", at=(0, 9)),
        asked("MSET", (b"b", b"c"), (b"2", b"2"), b"OK", at=(0, 9)),
        asked("MGET", (b"a", b"b", b"c"), None, (b"1", b"2", None), at=(0, 9)),
    ]
    assert [sorted(keys) for keys, _ in parts([*history, asked("GET", b"z")])] == [[b"a", b"b", b"c"], [b"z"]]
    assert not check(history).is_linearizable
    assert check([*history[:2], history[2]._replace(result=(b"1", b"1", None))]).is_linearizable


def hard_history() -> History:
    """Writes all at one time, and two reads after them of which one is wrong: every subset has to be tried."""
    writes = [asked("SET", b"k", b"%d" % number, b"OK", at=(0, 1)) for number in range(12)]
    return [*writes, asked("GET", b"k", None, b"0", at=(2, 3)), asked("GET", b"k", None, b"1", at=(4, 5))]


def test_it_gives_up_after_so_many_steps_and_so_long() -> None:
    assert check(hard_history(), steps_max=2000).outcome is Outcome.UNDECIDED
    seconds = count(step=10)
    verdict = check(hard_history(), seconds_max=5, clock=lambda: next(seconds))
    assert verdict.outcome is Outcome.UNDECIDED
    assert verdict.text.startswith(f"given up after {linearizable.STEPS_PER_LOOK} steps")
    assert check(hard_history()).outcome is Outcome.NOT_LINEARIZABLE


def test_a_part_that_is_wrong_decides_even_if_another_is_undecided() -> None:
    wrong = [asked("GET", b"other", None, b"1")]
    assert check([*hard_history(), *wrong], steps_max=2000).outcome is Outcome.NOT_LINEARIZABLE


def test_a_thousand_levels_need_no_recursion() -> None:
    history = [asked("APPEND", b"k", b"x", number + 1, at=(2 * number, 2 * number + 1)) for number in range(3000)]
    assert check(history).is_linearizable


def test_what_is_wrong_is_explained() -> None:
    history = [
        asked("SET", b"k", b"1", b"OK", at=(0, 1)),
        asked("SET", b"k", b"2", b"OK", at=(2, 3)),
        asked("GET", b"k", None, b"1", at=(4, 5)),
        asked("SET", b"k", b"3", at=(4, inf)),
        asked("GET", b"other", None, None, at=(4, 5)),
    ]
    assert check(history).text.splitlines() == [
        "3 operations with a reply and 1 without; the longest order found explains 2 replies, and ends in",
        "    0: SET k 1 -> OK [0, 1]",
        "    0: SET k 2 -> OK [2, 3]",
        "which leaves b'k': b'2'. What comes next is one of",
        "    0: GET k -> 1 [4, 5]",
        "    0: SET k 3 -> unknown [4, inf]",
    ]
