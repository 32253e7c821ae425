"""Nodes killed before and after a call to the disk, or half way through a write, while clients write (P7).

Of five nodes the leader and a follower are killed at the same call, and are started again for the next.
"""

from __future__ import annotations

import random
import signal

from tests.cluster.load import load
from tests.faults.disks import (
    KILLED,
    FaultyCluster,
    check_everywhere,
    end_and_return,
    leader_and_follower,
    wait_for_a_leader,
)

ROUNDS = 4

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
    cluster, rng = cluster_of_five, random.Random("crashes")
    calls = [(rule, rule) for rule in APPENDS + NEXT_SEGMENTS]
    calls += zip(APPENDS, BALLOTS, strict=False)
    with load(cluster, "key", clients=1) as writers:
        for number, rules in enumerate(calls):
            ids = leader_and_follower(cluster, number)
            drawn = [rule.format(n=rng.randrange(1, 40)) for rule in rules]
            end_and_return(cluster, writers, dict(zip(ids, drawn, strict=True)), KILLED, in_a_hurry=True)
        told = writers.stop()
    check_everywhere(cluster, told)


def test_all_crash_and_lose_what_was_not_synced(cluster: FaultyCluster) -> None:
    """As when the power fails: the leader at an append, the others right after it (D1)."""
    rng = random.Random("power")
    for number in range(ROUNDS):
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
