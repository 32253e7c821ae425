"""What a node does for one pipeline does not grow: turns, events, messages, bytes, calls of functions, kept memory.

Figures are for one pipeline, of a run that is the same each time. Those that say how often something is done are exact;
bytes and calls have some room above what they are now. Who makes something cheaper lowers the bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from kvnode.node import tail
from tests.costs.counting import LEADER, Counts, count_pipelines, get_pipeline, kept_blocks, set_pipeline
from tests.unit.node.small_cluster import led_by

PIPELINES = 50
FOLLOWER = "B"  # the one that is asked
TRAILING = "C"
VALUE_AND_KEY_BYTES = 64 + 16


@dataclass(frozen=True, slots=True)
class Work:
    """Pipelines of so many commands, sent to a node."""

    make: Callable[[int, int], bytes]
    commands: int
    at: str = LEADER


WORKS = {
    "SET": Work(set_pipeline, 1),
    "SET 16": Work(set_pipeline, 16),
    "GET": Work(get_pipeline, 1),
    "GET 16": Work(get_pipeline, 16),
    "forwarded 16": Work(set_pipeline, 16, FOLLOWER),
    "asked at follower 16": Work(get_pipeline, 16, FOLLOWER),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """`at_most` for each pipeline, and why it is not less."""

    work: str
    node: str
    figure: str
    at_most: float
    reason: str


COSTS = (
    # The pipeline; the completion of the disk; an Appended of one follower. Nearly nothing for the one that trails.
    Cost("SET 16", LEADER, "events", 3.1, "one for the client, the disk, and a follower"),
    Cost("SET 16", LEADER, "turns", 3, "one for each of these"),
    Cost("SET 16", LEADER, "appends", 1, "one write and one fsync for all commands of a turn"),
    Cost("SET 16", LEADER, "records", 1, "a batch is a record"),
    Cost("SET 16", LEADER, "peer_writes", 1.1, "one Append; for who trails one for many"),
    Cost("SET 16", LEADER, "client_writes", 1, "the replies of one turn leave together"),
    Cost("SET 16", LEADER, "client_bytes", 16 * 5, "+OK"),
    Cost(
        "SET 16", LEADER, "log_bytes", 16 * (VALUE_AND_KEY_BYTES + 10) + 40, "verb and lengths; header, chain and time"
    ),
    Cost("SET 16", LEADER, "peer_bytes", 2 * (16 * (VALUE_AND_KEY_BYTES + 10) + 80), "the record to two followers"),
    Cost(
        "SET 16", LEADER, "calls", 905, "about 52 for each command: 8 put its entry together, compiled without a call"
    ),
    Cost("SET 16", FOLLOWER, "events", 2, "the Append, the completion of the disk"),
    Cost("SET 16", FOLLOWER, "turns", 2, "one for each of these"),
    Cost("SET 16", FOLLOWER, "appends", 1, "the leader's batch is written as it is"),
    Cost("SET 16", FOLLOWER, "records", 1, "the same record"),
    Cost("SET 16", FOLLOWER, "peer_writes", 1, "Appended"),
    Cost("SET 16", FOLLOWER, "peer_bytes", 16, "a term and a position"),
    Cost("SET 16", FOLLOWER, "calls", 335, "for each command three: its entry's length, its key's hash and dict"),
    Cost("SET 16", TRAILING, "turns", 0.2, "several records come together"),
    Cost("SET 16", TRAILING, "appends", 0.1, "and are one write and one fsync"),
    Cost("SET 16", TRAILING, "peer_writes", 0.1, "Appended"),
    Cost("SET 16", TRAILING, "calls", 135, "a tenth of a turn, each record's header and chain, each key's dict"),
    Cost("SET", LEADER, "turns", 3, "as for sixteen"),
    Cost("SET", LEADER, "appends", 1, "as for sixteen"),
    Cost("SET", LEADER, "log_bytes", VALUE_AND_KEY_BYTES + 10 + 40, "header, chain and time for one command"),
    Cost("SET", LEADER, "calls", 465, "what a record costs, whatever is in it"),
    Cost("SET", FOLLOWER, "calls", 255, "as for sixteen"),
    Cost("GET 16", LEADER, "appends", 0, "a read is not logged"),
    Cost("GET 16", LEADER, "turns", 2, "one that asks a follower, one that answers"),
    Cost("GET 16", LEADER, "events", 2.1, "one for the client, one for the follower that is asked; seldom both are"),
    Cost("GET 16", LEADER, "peer_writes", 1.1, "one round for all reads of a turn, of one follower"),
    Cost("GET 16", LEADER, "peer_bytes", 32, "a heartbeat"),
    Cost("GET 16", LEADER, "client_writes", 1, "the replies of one turn leave together"),
    Cost("GET 16", LEADER, "calls", 386, "about 6 for each command beside what a round costs"),
    Cost("GET 16", FOLLOWER, "calls", 140, "a heartbeat, answered on receipt"),
    Cost("GET", LEADER, "calls", 300, "what a round costs"),
    Cost("forwarded 16", FOLLOWER, "client_writes", 1, "all replies together"),
    Cost("forwarded 16", LEADER, "records", 1, "commands that were forwarded together stay so"),
    Cost("asked at follower 16", FOLLOWER, "peer_writes", 1, "one question for all"),
    Cost("asked at follower 16", LEADER, "peer_writes", 1, "its answer: it needs no round"),
    Cost("asked at follower 16", LEADER, "appends", 0, "a read is not logged"),
)


def measured(name: str) -> dict[str, Counts]:
    """By node, for all pipelines together; the cluster has done some before."""
    work = WORKS[name]
    cluster = led_by(LEADER, trail_ms=20)
    pipelines = [work.make(number * work.commands, work.commands) for number in range(PIPELINES)]
    count_pipelines(cluster, pipelines, work.commands, work.at)
    return count_pipelines(cluster, pipelines, work.commands, work.at)


@pytest.mark.parametrize("name", WORKS)
def test_what_a_pipeline_costs(name: str) -> None:
    counts = measured(name)
    for cost in COSTS:
        if cost.work == name:
            value = getattr(counts[cost.node], cost.figure) / PIPELINES
            assert value <= cost.at_most, f"{cost.figure} at {cost.node} for {name}: {value}, {cost.reason}"


def test_it_is_the_same_each_time() -> None:
    assert measured("SET 16") == measured("SET 16")


@pytest.mark.parametrize(
    ("first", "blocks"),
    [
        pytest.param(0, 0, id="overwrites: what was there before is gone"),
        pytest.param(100_000, 2, id="new keys: a key and a value"),
    ],
)
def test_memory_that_a_command_leaves_behind(first: int, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "TAIL_BYTES_MAX", 0)  # the newest records are kept for followers: a fixed amount
    cluster = led_by(LEADER)
    pipelines = [set_pipeline(number * 16, 16) for number in range(PIPELINES)]
    count_pipelines(cluster, pipelines, 16)
    kept = kept_blocks(cluster, [set_pipeline(first + number * 16, 16) for number in range(PIPELINES)], 16)
    commands_at_nodes = PIPELINES * 16 * len(cluster.hosts)
    assert kept / commands_at_nodes <= blocks + 0.2  # some for the index of records
