"""The clients of a torture run write down what happened, and the judge finds what does not fit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from tests.checker.history import FAIL, OK, UNKNOWN, Operation
from tests.cluster.harness import eventually
from tests.torture import judge
from tests.torture.clients import Clients, Overdue, Shared, Spec, all_workloads
from tests.torture.cluster import TorturedCluster
from tests.torture.fleet import Fleet
from tests.torture.judge import Spell, Violation
from tests.torture.links import isolate

ANSWER_S_MAX = 6.0


@contextmanager
def fleet_of(cluster: TorturedCluster, answer_s_max: float = ANSWER_S_MAX) -> Iterator[Fleet]:
    addresses = {id: cluster.address(id) for id in cluster.ids}
    with Fleet(addresses, all_workloads("test"), seed=1, answer_s_max=answer_s_max, pause_ms=10) as fleet:
        yield fleet


def answered(fleet: Fleet, more: int) -> None:
    until = fleet.shared.counts["answered"] + more
    eventually(lambda: fleet.shared.counts["answered"] >= until, f"{more} more answers: {fleet!r}")


def judged(cluster: TorturedCluster, fleet: Fleet) -> judge.Entries:
    """Everything holds; the log."""
    fleet.pause()
    judge.converge(cluster)
    entries = judge.read_logs(cluster)
    judge.check_history(fleet.history, 0, entries, fleet.shared.workloads)
    judge.check_values(cluster, entries)
    judge.check_processes(cluster)
    assert not fleet.shared.faults
    return entries


def test_all_is_written_down_and_holds_on_a_network_without_faults(cluster: TorturedCluster) -> None:
    with fleet_of(cluster) as fleet:
        answered(fleet, 1000)
        entries = judged(cluster, fleet)
        before = len(fleet.history)
        fleet.use(all_workloads("second"))
        fleet.go_on()
        answered(fleet, 300)
        fleet.pause()
        recent = fleet.history[before:]
        judge.check_history(fleet.history, before, judge.read_logs(cluster), fleet.shared.workloads)
    assert all(operation.keys[0].startswith(b"second.") for operation in recent)
    assert not [operation for operation in fleet.history if operation.status is FAIL]
    processes = {str(operation.process).partition(".")[0] for operation in fleet.history}
    assert processes == {*(f"client{number}" for number in range(9)), "redis-py", "kvclient"}
    assert {operation.seq is None for operation in fleet.history if operation.process == "kvclient.1"} == {True}
    assert len(entries) > 300


def test_all_holds_when_a_node_is_killed_and_the_leader_is_cut_off(cluster: TorturedCluster) -> None:
    with fleet_of(cluster) as fleet:
        answered(fleet, 200)
        cluster.links.impose(isolate(cluster.ids, cluster.wait_for_leader()), held=True)
        answered(fleet, 200)
        cluster.links.heal()
        killed = cluster.followers()[0]
        cluster.kill(killed)
        answered(fleet, 200)
        cluster.start(killed)
        answered(fleet, 200)
        judged(cluster, fleet)
    assert [operation for operation in fleet.history if operation.status is UNKNOWN]
    judge.check_overdue(fleet.shared.overdue, [])


def test_a_process_asks_nothing_after_an_unknown_outcome_but_what_had_left_with_it(cluster: TorturedCluster) -> None:
    with fleet_of(cluster) as fleet:
        for _ in range(3):
            answered(fleet, 100)
            leader = cluster.wait_for_leader()
            cluster.kill(leader)
            answered(fleet, 100)
            cluster.start(leader)
        fleet.pause()
    history = fleet.history
    unknown: dict[object, Operation] = {}
    for operation in history:
        first = unknown.get(operation.process)
        is_same_write = first is not None and operation.invoked - first.invoked < 0.05
        assert first is None or is_same_write, (first, operation)
        if operation.status is UNKNOWN:
            unknown.setdefault(operation.process, operation)
    assert unknown


def test_calls_at_a_node_that_stands_still_end_in_time_and_are_noted(cluster: TorturedCluster) -> None:
    with fleet_of(cluster, answer_s_max=1.0) as fleet:
        answered(fleet, 100)
        stopped = cluster.followers()[0]
        began_s = time.monotonic()
        os.kill(cluster.pid(stopped), signal.SIGSTOP)
        try:
            eventually(lambda: fleet.shared.overdue, "calls at the stopped node are given up")
        finally:
            os.kill(cluster.pid(stopped), signal.SIGCONT)
        ended_s = time.monotonic()
        judged(cluster, fleet)
    assert {call.node for call in fleet.shared.overdue} == {stopped}
    judge.check_overdue(fleet.shared.overdue, [Spell(stopped, began_s, ended_s)])
    with pytest.raises(Violation, match="hung"):
        judge.check_overdue(fleet.shared.overdue, [])


def test_a_hung_call_is_excused_by_its_own_node_and_time_alone() -> None:
    call = Overdue("A", all_workloads("w")[0].next(Random(1)), 10.0, 16.0)
    judge.check_overdue([call], [Spell("A", 1.0, 10.5)])
    judge.check_overdue([call], [Spell("A", 15.5, 20.0)])
    for spell in (Spell("B", 1.0, 20.0), Spell("A", 1.0, 9.0), Spell("A", 17.0, 20.0)):
        with pytest.raises(Violation, match="hung"):
            judge.check_overdue([call], [spell])


def test_resp3_and_pipelines(cluster: TorturedCluster) -> None:
    shared = Shared(all_workloads("test"))
    specs = [Spec((id,), depth=20, pause_ms=5, protocol=3) for id in cluster.ids]
    addresses = {id: cluster.address(id) for id in cluster.ids}
    with Clients(shared, addresses, specs, answer_s_max=ANSWER_S_MAX, seed=1):
        eventually(lambda: shared.counts["answered"] >= 1000, "a thousand answers")
    judge.converge(cluster)
    judge.check_history(shared.recorder.history(), 0, judge.read_logs(cluster), shared.workloads)
    assert not shared.faults


def test_the_judge_finds_what_is_lost_or_from_nowhere(cluster: TorturedCluster) -> None:
    with fleet_of(cluster) as fleet:
        answered(fleet, 300)
        entries = judged(cluster, fleet)
        history, workloads = fleet.history, fleet.shared.workloads
    writes = [operation for operation in history if operation.kind == "SET" and operation.status is OK]
    place = next(place for place, (_, entry) in enumerate(entries) if entry[0] == "SET")
    for log in (entries[:-50], [*entries[:place], (entries[place][0], ("NOOP",)), *entries[place + 1 :]]):
        with pytest.raises(Violation, match="C1"):
            judge.check_history(history, 0, log, workloads)
        with pytest.raises(Violation, match="acknowledged writes are lost"):
            judge.check_written(history, log)
    failed = [each._replace(status=FAIL, result=None, seq=None) if each is writes[0] else each for each in history]
    with pytest.raises(Violation, match="C1"):  # a node that answered no
        judge.check_history(failed, 0, entries, workloads)
    with pytest.raises(Violation, match="answers something else"):
        judge.check_values(cluster, [*entries, (len(entries) + 1, ("SET", writes[-1].key, b"another"))])
