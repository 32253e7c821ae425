"""The witness check finds each way in which servers can lie, and accepts what unknown outcomes may have done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checker import linearizable
from tests.checker.history import FAIL, OK, UNKNOWN, Error, History, Operation
from tests.checker.models import may_write
from tests.checker.simulated import simulate
from tests.checker.witness import FAULTS_MAX, Witness, check
from tests.checker.workloads import Bank, Counters, Registers

INF = float("inf")
Entries = list[Sequence[Any]]


def asked(kind: str, argument: Any, result: Any, seq: int, at: tuple[float, float], process: int = 1) -> Operation:
    return Operation(process, kind, b"k", argument, at[0], at[1], OK, result, seq)


def unknown(kind: str, argument: Any, at: float, process: int = 9) -> Operation:
    return Operation(process, kind, b"k", argument, at, INF, UNKNOWN)


def failed(kind: str, argument: Any) -> Operation:
    return Operation(8, kind, b"k", argument, 0, 1, FAIL)


def fault(history: History, *entries: Sequence[Any]) -> str:
    """The only fault of the history, or "" if there is none; `entries` follow a no-op."""
    faults = Witness(history).faults(enumerate([("NOOP",), *entries], 1))
    assert len(faults) <= 1, faults
    return "".join(faults)


ONE, TWO, GONE = ("SET", b"k", b"1"), ("UPD", b"k", b"2"), ("DEL", b"k")
SET_ONE = asked("SET", b"1", b"OK", 2, (0, 1))
UPD_TWO = asked("UPD", b"2", b"OK", 3, (2, 3))
READ_TWO = asked("GET", None, b"2", 3, (4, 5), process=2)


def test_what_is_right_has_no_fault() -> None:
    assert fault([SET_ONE, UPD_TWO, READ_TWO], ONE, TWO) == ""
    assert fault([]) == ""


def test_writes_without_effect_are_reads() -> None:
    refused = asked("UPD", b"2", Error("no such key"), 1, (0, 1))
    missed = asked("DEL", None, 0, 1, (0, 1), process=2)
    taken = asked("SETNX", b"2", 0, 2, (3, 4), process=3)
    assert fault([refused, missed, SET_ONE, taken], ONE) == ""
    assert "should have been 1" in fault([SET_ONE, missed._replace(seq=2, invoked=2, returned=3)], ONE)


MUTANTS: dict[str, tuple[str, History, Entries]] = {
    "a reply without seq": ("tells no seq", [READ_TWO._replace(seq=None)], []),
    "two writes at one seq": (
        "two writes tell seq 2",
        [SET_ONE, asked("SET", b"1", b"OK", 2, (0, 1), process=2)],
        [ONE],
    ),
    "a read of what went before": (
        "seq 3 had been told",
        [SET_ONE, UPD_TWO, READ_TWO._replace(result=b"1", seq=2)],
        [ONE, TWO],
    ),
    "a wrong value at the right seq": (
        "should have been b'2' at seq 3",
        [SET_ONE, UPD_TWO, READ_TWO._replace(result=b"1")],
        [ONE, TWO],
    ),
    "a read of what comes after": (
        "should have been b'1' at seq 2",
        [SET_ONE, READ_TWO._replace(seq=2, invoked=1, returned=3), UPD_TWO],
        [ONE, TWO],
    ),
    "a read from beyond the log": ("the log ends at seq 2", [SET_ONE, READ_TWO], [ONE]),
    "a lost write": ("the log ends at seq 2", [SET_ONE, UPD_TWO], [ONE]),
    "another write in its place": (
        "not what was asked",
        [SET_ONE, UPD_TWO],
        [ONE, GONE],
    ),
    "no write in its place": ("not what was asked", [SET_ONE, UPD_TWO], [ONE, ("NOOP",)]),
    "a failed write in the log": ("it failed, they say", [SET_ONE, failed("UPD", b"2")], [ONE, TWO]),
    "a write that nobody asked for": ("nobody made", [SET_ONE], [ONE, TWO]),
    "a write twice": ("nobody made", [SET_ONE], [ONE, ONE]),
    "an unknown write twice": ("nobody made", [SET_ONE, unknown("UPD", b"2", 2)], [ONE, TWO, TWO]),
    "an unknown write before it was asked for": (
        "nobody made",
        [SET_ONE, asked("DEL", None, 1, 4, (2, 3)), unknown("UPD", b"2", 4)],
        [ONE, TWO, GONE],
    ),
    "a write at the seq of an earlier read": (
        "seq 3 had been told",
        [SET_ONE, asked("GET", None, b"2", 3, (1, 2), process=2), UPD_TWO._replace(invoked=3, returned=4)],
        [ONE, TWO],
    ),
    "a pipeline out of order": (
        "for what it sent before",
        [asked("SET", b"1", b"OK", 2, (0, 5)), asked("GET", None, None, 1, (1, 5))],
        [ONE],
    ),
    "a write that tells of another's reply": ("should have been 1", [asked("INCR", None, 2, 2, (0, 1))], [ONE]),
    "a gap in the log": ("from seq 2 to 4", [SET_ONE], [ONE, ()]),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_found(name: str) -> None:
    text, history, entries = MUTANTS[name]
    if name == "a gap in the log":
        (found,) = Witness(history).faults([(1, ("NOOP",)), (2, ONE), (4, ("NOOP",))])
    else:
        found = fault(history, *entries)
    assert text in found


def test_an_unknown_write_may_be_in_the_log_late_or_not_at_all() -> None:
    late = unknown("UPD", b"2", 0)
    assert fault([late, SET_ONE], ONE) == ""
    assert fault([late, SET_ONE], ONE, TWO) == ""
    assert fault([late, SET_ONE, asked("UPD", b"3", b"OK", 3, (2, 3))], ONE, ("UPD", b"k", b"3"), TWO) == ""


def test_unknown_writes_are_given_to_entries_so_that_all_have_one() -> None:
    """The first entry may be the SET or the INCR, the second the SET alone: whichever is tried first, it works out."""
    four, five = ("SET", b"k", b"4"), ("SET", b"k", b"5")
    wrote = asked("SET", b"4", b"OK", 2, (0, 1))
    for history in (
        [unknown("SET", b"5", 2), unknown("INCR", None, 2)],
        [unknown("INCR", None, 2), unknown("SET", b"5", 2)],
    ):
        assert fault([wrote, *history], four, five) == ""
        assert fault([wrote, *history], four, five, five) == ""
        assert "nobody made" in fault([wrote, *history], four, five, five, five)


def test_an_operation_on_several_keys_is_one_entry() -> None:
    bank = Operation(1, "MSET", (b"a", b"b"), (b"1", b"2"), 0, 1, OK, b"OK", 2)
    read = Operation(2, "MGET", (b"a", b"b", b"c"), None, 2, 3, OK, (b"1", b"2", None), 2)
    effects = [("SET", b"a", b"1"), ("SET", b"b", b"2")]
    assert fault([bank, read], ("TX", effects)) == ""
    assert "not what was asked" in fault([bank], effects[0])
    gone = Operation(1, "DEL", (b"a", b"b", b"b"), None, 4, 5, OK, 2, 3)
    assert fault([bank, gone], ("TX", effects), ("TX", [("DEL", b"a"), ("DEL", b"b")])) == ""


def test_values_may_grow_within_an_entry() -> None:
    entry = ("TX", [("SET", b"k", b"1"), ("APPEND", b"k", b"2")])
    assert fault([asked("SET", b"12", b"OK", 2, (0, 1))], entry) == ""


def test_entries_that_no_operation_makes_are_refused() -> None:
    with pytest.raises(ValueError, match="FLUSHALL"):
        fault([], ("FLUSHALL",))


def test_only_the_first_faults_are_told() -> None:
    history = [asked("GET", None, b"1", 1, (at, at + 1)) for at in range(0, 100, 2)]
    assert len(Witness(history).faults([(1, ("NOOP",))])) == FAULTS_MAX


# Spoilt runs


def lost_write(random: Random, history: History, log: Entries) -> None:
    """The log lost an entry, and everything after it moved up."""
    del log[random.choice([each.seq - 1 for each in history if each.seq and may_write(each)])]


def doubled_write(random: Random, history: History, log: Entries) -> None:
    entry = log[random.choice([each.seq - 1 for each in history if each.seq and may_write(each)])]
    log.append(entry)


def failed_write(random: Random, history: History, log: Entries) -> None:
    number = random.choice([number for number, each in enumerate(history) if may_write(each) and each.seq])
    history[number] = history[number]._replace(status=FAIL, result=None, seq=None)


def shared_seq(random: Random, history: History, log: Entries) -> None:
    one, other = random.sample([number for number, each in enumerate(history) if may_write(each) and each.seq], 2)
    history[one] = history[one]._replace(seq=history[other].seq)


def future_reply(random: Random, history: History, log: Entries) -> None:
    number = random.choice([number for number, each in enumerate(history) if each.status is OK])
    history[number] = history[number]._replace(seq=len(log) + 1)


@pytest.mark.parametrize("spoil", [lost_write, doubled_write, failed_write, shared_seq, future_reply])
@pytest.mark.parametrize("workload", [Registers, Counters, Bank])
def test_spoilt_runs_are_found(workload: Callable[[], Any], spoil: Callable[[Random, History, Entries], None]) -> None:
    for seed in range(30):
        random = Random(seed)
        history, log = simulate(random, workload().next, 5, 60, failing=0.05)
        entries = [entry for _, entry in log]
        spoil(random, history, entries)
        assert not check(history, enumerate(entries, 1)).is_linearizable, f"seed {seed}"


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.data())
def test_what_it_accepts_is_linearizable(seed: int, data: st.DataObject) -> None:
    """Replies, seqs and times changed at random: whenever a witness is found, the black box finds an order too."""
    history, log = simulate(Random(seed), Registers(width=1, mixed=True).next, 3, 8, unknown=0.1)
    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.integers(0, len(history) - 1))
        operation = history[number]
        if operation.status is not OK:
            continue
        change = data.draw(st.sampled_from(["result", "seq", "invoked", "returned"]))
        value: Any = data.draw(st.integers(0, 15))
        if change == "result":
            value = data.draw(st.sampled_from([each.result for each in history]))
        elif change == "seq":
            value = min(value, len(log))
        else:
            value = min(value, operation.returned) if change == "invoked" else max(value, operation.invoked)
        history[number] = operation._replace(**{change: value})
    if check(history, log).is_linearizable:
        assert linearizable.check(history).is_linearizable
