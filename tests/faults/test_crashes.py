"""Nodes killed before and after a call to the disk, or half way through a write, while clients write (P7).

Of five nodes the leader and others are killed at the same time, and are started again for the next calls.
KVNODE_TEST_CRASH_ROUNDS sets how often each kind of call has its turn (the suite: once), KVNODE_TEST_SEED at which
node, and at which of many such calls.
"""

from __future__ import annotations

import os
import random
import signal

from tests.cluster.load import load
from tests.faults.disks import (
    KILLED,
    WRITERS,
    FaultyCluster,
    check_everywhere,
    end_and_return,
    wait_for_a_leader,
)

ROUNDS = int(os.environ.get("KVNODE_TEST_CRASH_ROUNDS", "1"))
SEED = os.environ.get("KVNODE_TEST_SEED", "crashes")

APPENDS = [
    "pwrite .log n={n} crash=before",
    "pwrite .log n={n} short=30 crash=after",
    "pwrite .log n={n} crash=after",
    "fdatasync .log n={n} crash=before",
    "fdatasync .log n={n} crash=after",
    "pwrite mark n={n} crash=after",
]
"""Of these the n-th call; n is drawn."""
NEXT_SEGMENTS = [
    "fdatasync mark crash=after",
    "open .log.tmp crash=after",
    "pwrite .log.tmp short=10 crash=after",
    "fsync .log.tmp crash=before",
    "rename .log crash=before",
    "rename .log crash=after",
    "fsync / crash=after",
    "open .log crash=after",
]
BALLOTS = [
    "pwrite ballot short=50 crash=after",
    "fsync ballot crash=after",
    "rename ballot crash=before",
    "rename ballot crash=after",
    "fsync / crash=after",
]
"""At a voter, when the leader has been killed."""


def test_killed_at_a_call(cluster_of_five: FaultyCluster) -> None:
    cluster, rng = cluster_of_five, random.Random(SEED)
    with load(cluster, "key", **WRITERS) as writers:
        for _ in range(ROUNDS):
            calls = APPENDS + NEXT_SEGMENTS
            rng.shuffle(calls)
            for number, pair in enumerate(zip(calls[::2], calls[1::2], strict=True)):
                leader = wait_for_a_leader(cluster)
                follower, voter, *_ = rng.sample([id for id in cluster.ids if id != leader], 4)
                rules = dict(zip((leader, follower), pair, strict=True))
                if number < len(BALLOTS):
                    rules[voter] = BALLOTS[number]
                rules = {id: rule.format(n=rng.randrange(1, 40)) for id, rule in rules.items()}
                end_and_return(cluster, writers, rules, KILLED, in_a_hurry=True)
        told = writers.stop()
    check_everywhere(cluster, told)


def test_all_crash_and_lose_what_was_not_synced(cluster: FaultyCluster) -> None:
    """As when the power fails: the leader at an append, the others right after it (D1)."""
    rng = random.Random(SEED)
    for number in range(3 * ROUNDS):
        with load(cluster, f"round{number}:", pipeline=4) as writers:
            writers.wait_for(20)
            leader = wait_for_a_leader(cluster)
            cluster.break_disk(leader, rng.choice(APPENDS[:5]).format(n=rng.randrange(1, 40)) + " lose")
            assert cluster.wait_for_exit(leader) == KILLED
            for id in cluster.running:
                cluster.break_disk(id, "* * lose crash=before")
                for _ in range(2):  # the first asks it to hand over, which takes a while when nobody is left
                    cluster.send_signal(id, signal.SIGTERM)
            for id in cluster.ids:
                assert cluster.wait_for_exit(id) == KILLED
                cluster.mend_disk(id)
            told = writers.stop()
        cluster.start()
        check_everywhere(cluster, told)
