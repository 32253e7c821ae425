"""Disks that take long: a leader whose fsync lasts beyond the election timeout makes way; a slow follower holds up
nobody. What was slow is told with its number.
"""

from __future__ import annotations

import re

import pytest

from tests.cluster.harness import eventually
from tests.cluster.load import load
from tests.faults.disks import FaultyCluster, check_everywhere, leader_and_follower, wait_for_a_leader, who_leads

SLOW_MS = 2000
SERVED_S = 1.5
"""A write that the slow disk does not hold up is answered within this; far below SLOW_MS."""


def slow_lines(cluster: FaultyCluster, id: str) -> list[int]:
    """The milliseconds in the node's lines about a slow disk."""
    lines = [line for line in cluster.log_text(id).splitlines() if "slow disk" in line]
    return [int(match[1]) for line in lines if (match := re.search(r"\bms=(\d+)", line))]


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_an_fsync_takes_a_while(cluster: FaultyCluster, role: str) -> None:
    """Below the election timeout nothing changes."""
    leader, follower = leader_and_follower(cluster, 0)
    term = cluster.info(leader)["term"]
    with load(cluster, "key", pipeline=4) as writers:
        cluster.break_disk(leader if role == "leader" else follower, "sync * delay_ms=50")
        writers.wait_for(300)
        told = writers.stop()
    assert cluster.faults(leader if role == "leader" else follower)
    check_everywhere(cluster, told)
    assert (wait_for_a_leader(cluster), cluster.info(leader)["term"]) == (leader, term)


def test_the_leaders_fsync_takes_longer_than_an_election(cluster: FaultyCluster) -> None:
    slow = wait_for_a_leader(cluster)
    with load(cluster, "key", clients=1) as writers:
        writers.wait_for(20)
        cluster.break_disk(slow, f"fdatasync .log delay_ms={SLOW_MS}")
        eventually(lambda: who_leads(cluster) not in (None, slow), "another one leads", 3 * SLOW_MS / 1000)
        writers.wait_for(300)
        assert who_leads(cluster) != slow
        eventually(lambda: slow_lines(cluster, slow), "it says how slow its disk is")
        assert SLOW_MS <= slow_lines(cluster, slow)[0] < 2 * SLOW_MS
        cluster.mend_disk(slow)
        told = writers.stop()
    check_everywhere(cluster, told)


def test_a_followers_fsync_takes_longer_than_an_election(cluster: FaultyCluster) -> None:
    leader, slow = leader_and_follower(cluster, 0)
    term = cluster.info(leader)["term"]
    others = [id for id in cluster.ids if id != slow]
    with load(cluster, "key", *others, clients=1) as writers:
        writers.wait_for(20)
        cluster.break_disk(slow, f"fdatasync .log delay_ms={SLOW_MS}")
        eventually(lambda: slow_lines(cluster, slow), "it says how slow its disk is")
        writers.wait_for(300)
        told = writers.stop()
    assert told.longest_s < SERVED_S
    cluster.mend_disk(slow)
    check_everywhere(cluster, told)
    assert (wait_for_a_leader(cluster), cluster.info(leader)["term"]) == (leader, term)
