"""System calls of real nodes: what goes to the disk and to other nodes for one record, and that it is not less.

One client sends one pipeline after the other, so that each is one record. tests/faults/shim.c notes the calls that
concern the data directory and the connections; what heartbeats do meanwhile is told apart by the types of messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.cluster.conftest import started
from tests.cluster.wire import Wire
from tests.costs.counting import set_pipeline
from tests.faults.disks import FaultyCluster

RECORDS = 50
COMMANDS = 16
NOTED = "sync *|pwrite *|write *|send client|recv client|send member/0/|recv member/0/|send member/1/|recv member/1/"
"""Message type 0 is Append, type 1 is Appended."""
SLACK = 3
"""Of calls in all: a record of before or after, a mark that is synced when the log falls idle."""

AT_MOST = {
    "leader": {
        "recv client": 1,
        "send client": 1,
        "pwrite log": 1,
        "fdatasync log": 1,
        "pwrite mark": 1,
        "send member/0/": 2,
        "recv member/1/": 2,
    },
    "follower": {
        "recv member/0/": 1,
        "pwrite log": 1,
        "fdatasync log": 1,
        "pwrite mark": 1,
        "send member/1/": 1,
    },
}
"""For each record."""


@pytest.fixture
def noted(make_faulty: Callable[..., FaultyCluster]) -> tuple[str, dict[str, Counter[str]]]:
    """The leader, and by node how often each call was made for RECORDS pipelines."""
    cluster = make_faulty()
    started(cluster)
    leader = cluster.wait_for_leader()
    with cluster.connect(leader) as wire:
        send_pipelines(wire, 5)
        for id in cluster.ids:
            cluster.break_disk(id, NOTED)
        send_pipelines(wire, RECORDS)
    return leader, {id: Counter(map(call, cluster.faults(id))) for id in cluster.ids}


def send_pipelines(wire: Wire, count: int) -> None:
    for number in range(count):
        wire.send(set_pipeline(number * COMMANDS, COMMANDS))
        assert [wire.line() for _ in range(COMMANDS)] == [b"+OK\r\n"] * COMMANDS


def call(line: str) -> str:
    """`fdatasync 00000000000000000001.log call=3 …` -> `fdatasync log`."""
    operation, path = line.split()[:2]
    return f"{operation} {'log' if path.endswith('.log') else path}"


def test_calls_for_one_record(noted: tuple[str, dict[str, Counter[str]]]) -> None:
    leader, calls = noted
    for id, counts in calls.items():
        at_most = AT_MOST["leader" if id == leader else "follower"]
        too_many = {name: count for name, count in counts.items() if count > at_most.get(name, 0) * RECORDS + SLACK}
        assert too_many == {}, f"{id}, leader {leader}, {RECORDS} records: {dict(counts)}"


def test_each_acknowledged_record_was_synced_at_two_nodes(noted: tuple[str, dict[str, Counter[str]]]) -> None:
    _, calls = noted
    assert sum(counts["fdatasync log"] for counts in calls.values()) >= 2 * RECORDS
