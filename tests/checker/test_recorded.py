"""The black-box checker agrees with the known verdict of every recorded history (skipped where they are not)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest

from tests.checker import linearizable
from tests.checker.history import FAIL, OK, UNKNOWN, History, Operation, Status
from tests.checker.models import Cas, Text
from tests.checker.verdict import Outcome

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "histories"
VERDICTS: dict[str, bool] = json.loads((RECORDED / "verdicts.json").read_text()) if RECORDED.exists() else {}

JEPSEN = re.compile(r"INFO +jepsen\.util - (\d+)\s+:(\w+)\s+:(\w+)\s+(.*)")
PORCUPINE = re.compile(r'\{:process (\d+), :type :(\w+), :f :(\w+), :key "(.*)", :value (?:nil|"(.*)")\}')
STATUS_OF = {"ok": OK, "fail": FAIL, "info": UNKNOWN}

Event = tuple[str, str, str, str, Any]  # process, what happens to it, kind, key, value


def jepsen_events(text: str) -> Iterator[Event]:
    for process, event, kind, words in JEPSEN.findall(text):
        yield process, event, kind, "register", _value(words)


def _value(words: str) -> Any:
    if words in ("nil", ":timed-out"):
        return None
    numbers = tuple(int(word) for word in words.strip("[]").split())
    return numbers if words.startswith("[") else numbers[0]


def porcupine_events(text: str) -> Iterator[Event]:
    for process, event, kind, key, value in PORCUPINE.findall(text):
        yield process, event, kind, key, value.encode()


def history_of(events: Iterator[Event]) -> History:
    """The time is the number of the line."""
    operations: dict[int, Operation] = {}
    under_way: dict[str, int] = {}
    for time, (process, event, kind, key, value) in enumerate(events):
        if event == "invoke":
            under_way[process] = time
            operations[time] = Operation(process, kind, key, value, time, inf, UNKNOWN)
        else:
            invoked = under_way.pop(process)
            status, result = _outcome(STATUS_OF[event], kind, value)
            returned = inf if status is UNKNOWN else time
            operations[invoked] = operations[invoked]._replace(returned=returned, status=status, result=result)
    return list(operations.values())


def _outcome(status: Status, kind: str, value: Any) -> tuple[Status, Any]:
    if kind == "cas" and status is not UNKNOWN:
        return OK, status is OK  # that it failed is an answer: the register held something else
    return status, value if kind in ("read", "get") else None


@pytest.mark.parametrize("name", VERDICTS)
def test_the_verdict_is_the_known_one(name: str) -> None:
    text = (RECORDED / name).read_text()
    is_jepsen = name.startswith("jepsen")
    history = history_of(jepsen_events(text) if is_jepsen else porcupine_events(text))
    assert len(history) == text.count(":invoke")
    verdict = linearizable.check(history, Cas if is_jepsen else Text, seconds_max=20)
    assert verdict.outcome is not Outcome.UNDECIDED
    assert verdict.is_linearizable == VERDICTS[name], verdict
