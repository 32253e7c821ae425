"""Nodes that are killed while clients write: what was acknowledged is there, and only what was missed is fetched.

KVNODE_TEST_KILL_ROUNDS sets how often all nodes are killed at once (the suite does a few rounds).
"""

from __future__ import annotations

import os
import random

import pytest

from tests.cluster.harness import Cluster, eventually
from tests.cluster.load import Told, load

ROUNDS = int(os.environ.get("KVNODE_TEST_KILL_ROUNDS", "4"))


def check_everywhere(cluster: Cluster, told: Told) -> None:
    """Every node holds the same, and every acknowledged write, read locally."""
    cluster.wait_until_equal()
    for id in cluster.running:
        client = cluster.client(id)
        client.readonly()
        told.check(client)


@pytest.mark.parametrize("killed", ["follower", "leader"])
def test_one_is_killed_while_clients_write(cluster: Cluster, killed: str) -> None:
    node = cluster.wait_for_leader() if killed == "leader" else cluster.followers()[0]
    others = [id for id in cluster.ids if id != node]
    with load(cluster, "key", *others, pipeline=8) as writers:
        writers.wait_for(1000)
        cluster.kill(node)
        writers.wait_for(2000)
        told = writers.stop()
    cluster.wait_until_equal(*others)
    end = cluster.info(others[0])["last_seq"]
    log = cluster.log_text(node)
    cluster.start(node)
    check_everywhere(cluster, told)
    assert len(told.acknowledged) >= 3000
    # It comes back with what its own log holds, and is sent the rest: no entry twice, none that it had.
    recovered = recovered_seq(cluster.log_text(node)[len(log) :])
    missed = cluster.info(node)["applied_seq"] - recovered
    assert recovered > 500
    assert missed >= 1500
    assert end - recovered <= missed <= end - recovered + 1  # a record of a change of term is no write
    assert cluster.info(node)["catch_up_entries_received"] == missed


def recovered_seq(log: str) -> int:
    """The last seq that a node says it has found in its log."""
    line = next(line for line in log.splitlines() if "log read" in line)
    return int(next(word for word in line.split() if word.startswith("last_seq=")).removeprefix("last_seq="))


def test_a_node_that_missed_nothing_is_sent_nothing(cluster: Cluster) -> None:
    node = cluster.followers()[0]
    client = cluster.client(node)
    for number in range(200):
        client.set(f"key{number}", number)
    cluster.wait_until_equal()
    leader = cluster.wait_for_leader()
    cluster.restart(node)
    cluster.wait_until_equal()
    if cluster.wait_for_leader() == leader:
        assert cluster.info(node)["catch_up_entries_received"] == 0
    assert cluster.client(node).dbsize() == 200


def test_all_are_killed_while_clients_write(cluster: Cluster) -> None:
    """Round after round over the same logs, with kills at any moment, at once or one after the other."""
    rng = random.Random(os.environ.get("KVNODE_TEST_SEED", "kills"))
    everything = Told()
    for number in range(ROUNDS):
        with load(cluster, f"round{number}:", clients=2, pipeline=rng.choice((1, 1, 16))) as writers:
            writers.wait_for(rng.randrange(1, 600))
            order = list(cluster.ids)
            rng.shuffle(order)
            if rng.random() < 0.3:
                cluster.kill(order[0])
                writers.wait_for(1)
                cluster.kill(*order[1:])
            else:
                cluster.kill(*order)
            told = writers.stop()
        everything.acknowledged |= told.acknowledged
        everything.refused |= told.refused
        everything.faults += told.faults
        rng.shuffle(order)
        for id in order:
            cluster.start(id)
        cluster.wait_for_leader()
        # Fresh connections, linearizable reads: nothing of what any round was told may be missing.
        told.check(cluster.client(rng.choice(cluster.ids)))
        if number % 10 == 9 or number == ROUNDS - 1:
            check_everywhere(cluster, everything)
    assert everything.acknowledged


def test_killed_while_it_catches_up(cluster: Cluster) -> None:
    """A returning node is killed at any point of its catch-up, again and again, and goes on where it was."""
    node = cluster.followers()[0]
    others = [id for id in cluster.ids if id != node]
    cluster.kill(node)
    with load(cluster, "key", *others, pipeline=64, value_bytes=2000) as writers:
        writers.wait_for(4000)
        told = writers.stop()
    end = cluster.info(others[0])["last_seq"]
    rng = random.Random(7)
    for _ in range(4):
        cluster.start(node)
        begun = cluster.info(node)["last_seq"]
        goal = min(end, begun + rng.randrange(1, 1000))
        eventually(lambda goal=goal: cluster.info(node)["last_seq"] >= goal, "it catches up")  # type: ignore[misc]
        cluster.kill(node)
    cluster.start(node)
    check_everywhere(cluster, told)
