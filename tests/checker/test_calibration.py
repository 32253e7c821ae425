"""A thousand histories that are linearizable by construction pass, and each with one stale read in it fails."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random

import pytest

from tests.checker import linearizable, unique, witness
from tests.checker.history import History
from tests.checker.simulated import plant_stale_read, simulate
from tests.checker.verdict import Outcome
from tests.checker.workloads import Bank, Counters, Lists, Registers, Workload

HISTORIES = 200  # of each workload

WORKLOADS: dict[str, Callable[[int], Workload]] = {
    "registers": lambda width: Registers(width=width),
    "mixed": lambda width: Registers(width=width, mixed=True),
    "counters": lambda width: Counters(width=width),
    "lists": lambda width: Lists(width=width),
    "bank": lambda width: Bank(width=width),
}
SEES_STALE_READS = {"registers", "counters", "lists"}
"""Workloads whose own check does."""


@pytest.mark.parametrize("name", WORKLOADS)
def test_valid_histories_pass_and_stale_reads_fail(name: str) -> None:
    planted = 0
    for seed in count():
        random = Random(f"{name} {seed}")
        workload = WORKLOADS[name](random.randint(1, 3))
        processes, operations = random.randint(2, 8), random.randint(30, 120)
        history, log = simulate(
            random, workload.next, processes, operations, unknown=random.choice((0, 0.05)), failing=0.05
        )
        assert verdicts(name, workload, history, log) == {Outcome.LINEARIZABLE}, f"seed {seed}"
        assert workload.faults(history) == [], f"seed {seed}"
        stale = plant_stale_read(random, history)
        if stale is not None:
            assert verdicts(name, workload, stale, log) == {Outcome.NOT_LINEARIZABLE}, f"seed {seed}"
            assert workload.faults(stale) or name not in SEES_STALE_READS, f"seed {seed}"
            planted += 1
            if planted == HISTORIES:
                break


def verdicts(name: str, workload: Workload, history: History, log: witness.Log) -> set[Outcome]:
    """What the checkers say. All, or none of them, should have said it."""
    checks = [witness.check(history, log), linearizable.check(history)]
    if name == "registers":
        checks.append(unique.check(history))
    return {verdict.outcome for verdict in checks}
