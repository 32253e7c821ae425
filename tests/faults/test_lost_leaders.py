"""A leader that is lost for good, and a member that has only a part of what it had: X5 and X7."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import started
from tests.cluster.harness import eventually
from tests.cluster.load import load
from tests.cluster.test_kills import recovered_seq
from tests.faults.conftest import MakeFaulty
from tests.faults.disks import KILLED, FaultyCluster, check_everywhere, leader_and_follower

PARTS = 50
PART_BYTES = 20_000
SLOW_MS = 100
"""An fsync of the member that catches up: so it needs some seconds for all, and less than an election for one."""


def part(number: int) -> bytes:
    return str(number).rjust(PART_BYTES, ".").encode()


def test_the_leader_is_killed_while_it_sends(make_faulty: MakeFaulty) -> None:
    """X5: the next one goes on where the member is. Nothing is left out, nothing takes effect twice."""
    cluster = make_faulty(segment_bytes=16384, catch_up_window_bytes=PART_BYTES)
    started(cluster)
    leader, member = leader_and_follower(cluster, 0)
    other = next(id for id in cluster.ids if id not in (leader, member))
    cluster.kill(member)
    client = cluster.client(leader)
    for number in range(PARTS):
        client.append("key", part(number))
    cluster.wait_until_equal()
    end = cluster.info(other)["last_seq"]
    said_before = len(cluster.log_text(member))
    cluster.break_disk(member, f"fdatasync .log delay_ms={SLOW_MS}")
    cluster.start(member)
    begun = recovered_seq(cluster.log_text(member)[said_before:])
    eventually(lambda: cluster.info(member)["durable_seq"] > begun, "the member has something", poll_s=0.005)
    cluster.kill(leader)
    assert cluster.info(member)["last_seq"] < end, "it was not in the middle"
    cluster.mend_disk(member)
    assert cluster.wait_for_leader() == other
    cluster.wait_until_equal()
    received = cluster.info(member)["catch_up_entries_received"]
    assert end - begun <= received <= end - begun + 1  # the no-op of the next leader may be one of them
    cluster.start(leader)
    cluster.wait_until_equal()
    expected = b"".join(map(part, range(PARTS)))
    assert all(cluster.client(id).get("key") == expected for id in cluster.ids)


ENDS_OF_THE_MEMBER = {
    "before the write": "pwrite .log n={n} crash=before lose",
    "in the middle of a write, which is lost": "pwrite .log n={n} short=100 crash=after lose",
    "in the middle of a write, which is torn": "pwrite .log n={n} short=100 crash=after",
    "before the fsync, and it is lost": "fdatasync .log n={n} crash=before lose",
    "before the fsync, and it is kept": "fdatasync .log n={n} crash=before",
    "after the fsync": "fdatasync .log n={n} crash=after lose",
}
"""What is left of the last record at a member that is about to acknowledge it."""


@pytest.mark.parametrize("end", ENDS_OF_THE_MEMBER)
def test_what_two_had_is_there_when_the_leader_is_not(cluster: FaultyCluster, end: str) -> None:
    """X7: leader and member have acknowledged it, the third was away. The member's end is torn, lost or kept, and the
    leader does not come back: what any client was told is at the member, and it is elected."""
    leader, member = leader_and_follower(cluster, 0)
    third = next(id for id in cluster.ids if id not in (leader, member))
    cluster.kill(third)
    with load(cluster, "key", leader, clients=2) as writers:
        writers.wait_for(50)
        cluster.break_disk(member, ENDS_OF_THE_MEMBER[end].format(n=20))
        assert cluster.wait_for_exit(member) == KILLED
        cluster.kill(leader)
        told = writers.stop()
    cluster.mend_disk(member)
    cluster.start(member, third)
    assert cluster.wait_for_leader() == member, "the third lacks what was acknowledged"
    check_everywhere(cluster, told)
    cluster.start(leader)
    check_everywhere(cluster, told)
