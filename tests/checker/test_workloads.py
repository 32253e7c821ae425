"""What each workload asks, and that a look at the replies finds what it says it finds."""

from __future__ import annotations

from math import inf
from random import Random
from typing import Any

import pytest

from tests.checker.history import FAIL, OK, UNKNOWN, Error, History, Operation
from tests.checker.workloads import (
    KEYS,
    OPERATIONS_PER_KEY_MAX,
    UNKNOWN_PER_KEY_MAX,
    Bank,
    Counters,
    Lists,
    Registers,
    Workload,
)


def told(kind: str, result: Any, at: tuple[float, float], argument: Any = None, key: Any = b"k") -> Operation:
    return Operation(1, kind, key, argument, *at, OK, result)


def lost(kind: str, at: float, argument: Any = None) -> Operation:
    return Operation(2, kind, b"k", argument, at, inf, UNKNOWN)


APPENDED = [
    told("APPEND", 2, (0, 1), b"a;"),
    told("APPEND", 4, (2, 3), b"b;"),
    told("GET", b"a;b;", (4, 5)),
]
ACCOUNTS = (b"k.0", b"k.1", b"k.2")
MOVED = told("MSET", b"OK", (0, 1), (b"1", b"2", b"999997"), ACCOUNTS)

FAULTS: list[tuple[Workload, str, History]] = [
    (Registers(), "nobody wrote", [told("GET", b"1", (0, 1))]),
    (Registers(), "from nowhere", [told("UPD", b"OK", (0, 1), b"1"), told("GET", b"2", (0, 1))]),
    (Registers(), "from nowhere", [told("GET", b"1", (0, 1)), told("UPD", b"OK", (2, 3), b"1")]),
    (Registers(), "from nowhere", [lost("UPD", 0, b"1")._replace(status=FAIL), told("GETSET", b"1", (2, 3), b"2")]),
    (Counters(), "to the same total", [told("INCR", 1, (0, 9)), told("INCR", 1, (0, 9))]),
    (Counters(), "had been 1", [told("INCR", 1, (0, 1)), told("GET", None, (2, 3))]),
    (Counters(), "had been 2", [lost("INCR", 0), told("GET", b"2", (4, 5)), told("INCR", 2, (6, 7))]),
    (Counters(), "more than all", [told("INCR", 1, (0, 1)), told("GET", b"2", (2, 3)), told("INCR", 3, (4, 5))]),
    (Counters(), "no number", [told("GET", b"x", (0, 1))]),
    (Lists(), "its writer is: None", [told("GET", b"a;", (0, 1))]),
    (Lists(), "its writer is: 2", [lost("APPEND", 0, b"a;")._replace(status=FAIL), told("GET", b"a;", (2, 3))]),
    (Lists(), "is twice", [lost("APPEND", 0, b"a;"), told("GET", b"a;a;", (2, 3))]),
    (Lists(), "not a beginning", [*APPENDED, told("GET", b"b;", (0, 9))]),
    (Lists(), "no element ends there", [*APPENDED, told("GET", b"a;b", (0, 9))]),
    (Lists(), "2 bytes long before", [told("GET", b"a;", (0, 1)), lost("APPEND", 0, b"a;"), told("GET", None, (2, 3))]),
    (Lists(), "4 bytes long before", [*APPENDED[:2], told("GET", b"a;", (6, 7))]),
    (Lists(), "has b'b;' in its place", [*APPENDED[::2], told("APPEND", 4, (0, 9), b"c;")]),
    (Lists(), "two elements in one place", [told("APPEND", 2, (0, 9), b"a;"), told("APPEND", 2, (0, 9), b"b;")]),
    (Lists(), "not been asked for yet", [*APPENDED, told("GET", b"a;b;", (1, 1.5))]),
    (
        Lists(),
        "not been asked for yet",
        [lost("APPEND", 0, b"b;"), told("GET", b"a;b;", (2, 3)), lost("APPEND", 5, b"a;")],
    ),
    (Lists(), "bytes long before", [told("APPEND", 1, (0, 1), b"a;")]),
    (Lists(), "no reply to this", [told("GET", Error("what"), (0, 1))]),
    (Bank(), "sum is wrong", [MOVED, told("MGET", (b"1", b"2", b"3"), (2, 3), None, ACCOUNTS)]),
    (Bank(), "sum is wrong", [MOVED, told("MGET", (b"1", b"2", None), (2, 3), None, ACCOUNTS)]),
    (Bank(), "from nowhere", [MOVED, told("MGET", (b"2", b"1", b"999997"), (2, 3), None, ACCOUNTS)]),
    (Bank(), "from nowhere", [MOVED._replace(status=FAIL), told("MGET", MOVED.argument, (2, 3), None, ACCOUNTS)]),
    (Bank(), "from nowhere", [told("MGET", MOVED.argument, (-2, -1), None, ACCOUNTS), MOVED]),
    (Bank(), "no reply to this", [told("MGET", Error("what"), (2, 3), None, ACCOUNTS)]),
]


@pytest.mark.parametrize(("workload", "text", "history"), FAULTS)
def test_faults_are_found(workload: Workload, text: str, history: History) -> None:
    assert any(text in fault for fault in workload.faults(history)), workload.faults(history)


def test_what_is_right_has_no_fault() -> None:
    assert Lists().faults([*APPENDED, told("GET", b"a;", (0, 3)), lost("APPEND", 0, b"c;")]) == []
    assert Counters().faults([lost("INCR", 0), told("INCR", 2, (1, 2)), told("GET", b"2", (3, 4))]) == []
    assert Bank().faults([MOVED, told("MGET", (None,) * 3, (0, 1), None, ACCOUNTS)]) == []
    assert Registers().faults([told("UPD", b"OK", (0, 1), b"1"), told("GET", b"1", (0, 1))]) == []


@pytest.mark.parametrize("workload", [Registers(), Registers(mixed=True), Counters(), Lists(), Bank()])
def test_keys_are_left_when_they_have_had_enough(workload: Workload) -> None:
    random = Random(1)
    count: dict[Any, int] = {}
    unknown: dict[Any, int] = {}
    arguments = []
    for _ in range(5000):
        request = workload.next(random)
        count[request.key] = count.get(request.key, 0) + 1
        arguments += [request.argument] if request.argument else []
        if random.random() < 0.01:
            workload.keys.note_unknown(request.key)
            unknown[request.key] = unknown.get(request.key, 0) + 1
    assert max(count.values()) == OPERATIONS_PER_KEY_MAX
    assert max(unknown.values()) <= UNKNOWN_PER_KEY_MAX
    assert len(set(arguments)) == len(arguments), "each is told apart"
    assert len(count) > 5000 / OPERATIONS_PER_KEY_MAX
    assert KEYS == 5
