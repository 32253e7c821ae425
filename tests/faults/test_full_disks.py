"""Disks that fill up while clients write, and have room again: nothing acknowledged is lost, nobody ends, no half
record stays, and everything resumes by itself.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from kvnode.log.record import BadRecord
from tests.cluster.harness import Cluster, eventually
from tests.cluster.load import load
from tests.faults import damage
from tests.faults.disks import (
    EXIT_DISK_FAILED,
    FaultyCluster,
    check_everywhere,
    check_one_sentence,
    end_and_return,
    leader_and_follower,
    wait_for_a_leader,
    who_leads,
)
from tests.faults.small_disks import SmallDisks

ROOM_BYTES = 64 * 1024


def check_no_half_record(cluster: Cluster, id: str) -> None:
    """Looked at again where the node was just writing."""

    def is_whole() -> bool:
        with suppress(BadRecord):
            return damage.last_seq(cluster.data(id)) > 0
        return False

    eventually(is_whole, f"the log of {id} ends with a whole record")


def wait_for_room(cluster: SmallDisks, *ids: str) -> None:
    for id in ids:
        eventually(lambda id=id: not cluster.is_full(id), f"{id} has room again")  # type: ignore[misc]


def test_one_is_full(small_disks: SmallDisks) -> None:
    """First a follower, then the leader, which hands over."""
    cluster = small_disks
    pids = {id: cluster.pid(id) for id in cluster.ids}
    leader, follower = leader_and_follower(cluster, 0)
    with load(cluster, "key", clients=1, pipeline=4, value_bytes=500) as writers:
        for full in (follower, leader):
            writers.wait_for(50)
            cluster.fill(full, ROOM_BYTES)
            eventually(lambda: cluster.is_full(full), "it is full")  # noqa: B023
            eventually(lambda: who_leads(cluster) not in (None, full), "one with room leads")  # noqa: B023
            writers.wait_for(200)
            assert who_leads(cluster) != full
            check_no_half_record(cluster, full)
            cluster.make_room(full)
            wait_for_room(cluster, full)
            writers.wait_for(50)
            said = cluster.log_text(full)
            errors = [line for line in said.splitlines() if "level=error" in line]
            assert len(errors) == 1, errors
            assert "the disk is full" in errors[0]
            assert "the disk has room again" in said
            assert "writes are refused" not in said
        told = writers.stop()
    check_everywhere(cluster, told)
    assert {id: cluster.pid(id) for id in cluster.running} == pids


@pytest.mark.parametrize("small_disks", ["tmpfs", "ext4"], indirect=True)
def test_all_are_full(small_disks: SmallDisks) -> None:
    """Reads and elections go on, writes are refused; a node may even be killed and come back. Then there is room."""
    cluster = small_disks
    cluster.client("A").set("before", "1")
    # Before anybody writes: all are full at the same record, or nearly. What one has and another lacks has to fit the
    # reserve, or two of them could not commit the no-op of a new leader, and so confirm no read.
    for id in cluster.ids:
        cluster.fill(id, ROOM_BYTES)
    with load(cluster, "key", clients=1, pipeline=4, value_bytes=500) as writers:
        writers.wait_for(50)
        for id in cluster.ids:
            eventually(lambda: cluster.ask(id, "SET", "probe", "x") == "MISCONF", f"{id} refuses writes")  # noqa: B023
        told = writers.stop()
    assert all(cluster.ask(id, "GET", "before") == b"1" for id in cluster.ids)
    killed = wait_for_a_leader(cluster)
    cluster.kill(killed)
    leader = wait_for_a_leader(cluster)
    for id in cluster.running:
        eventually(lambda: cluster.ask(id, "GET", "before") == b"1", f"{id} answers reads")  # noqa: B023
        eventually(lambda: cluster.ask(id, "SET", "probe", "x") == "MISCONF", f"{id} refuses writes")  # noqa: B023
    told.check(cluster.client(leader))
    cluster.start(killed)
    assert "torn" not in cluster.log_text(killed)
    eventually(lambda: cluster.ask(killed, "GET", "before") == b"1", "the killed one answers reads")
    # It has room until it has looked for some, and may be made leader; what the others keep back does for few writes.
    eventually(lambda: cluster.ask(killed, "SET", "probe", "x") == "MISCONF", "the killed one refuses writes")
    other = next(id for id in cluster.ids if id != killed)
    assert cluster.stop(other) == 0, "what there is no room for does not hold up the end"
    cluster.start(other)
    pids = {id: cluster.pid(id) for id in cluster.ids}
    for id in cluster.ids:
        cluster.make_room(id)
    for id in cluster.ids:
        eventually(lambda: cluster.ask(id, "SET", f"after {id}", "x") is True, f"{id} takes writes again")  # noqa: B023
    wait_for_room(cluster, *cluster.ids)
    check_everywhere(cluster, told)
    assert {id: cluster.pid(id) for id in cluster.running} == pids


def test_what_the_reserve_does_not_hold(small_disks: SmallDisks) -> None:
    """B is full long before the others. When one of those is killed, what was committed is on one disk of the two that
    are left: nothing is confirmed, no read either, until B has room.
    """
    cluster = small_disks
    cluster.client("A").set("before", "1")
    cluster.fill("B", ROOM_BYTES)
    with load(cluster, "key", clients=1, pipeline=4, value_bytes=500) as writers:
        eventually(lambda: cluster.is_full("B"), "B is full")
        writers.wait_for(400)
        for id in "AC":
            cluster.fill(id)
        for id in cluster.ids:
            eventually(lambda: cluster.ask(id, "SET", "probe", "x") == "MISCONF", f"{id} refuses writes")  # noqa: B023
        told = writers.stop()
    assert all(cluster.ask(id, "GET", "before") == b"1" for id in cluster.ids)
    cluster.restart("B")  # what waits for room in its memory is gone: it can not lead
    killed = wait_for_a_leader(cluster)
    cluster.kill(killed)
    wait_for_a_leader(cluster)
    assert {cluster.ask(id, "GET", "before") for id in cluster.running} == {"CLUSTERDOWN"}
    pids = {id: cluster.pid(id) for id in cluster.running}
    cluster.make_room("B")
    for id in cluster.running:
        eventually(lambda: cluster.ask(id, "GET", "before") == b"1", f"{id} answers reads")  # noqa: B023
    assert {id: cluster.pid(id) for id in cluster.running} == pids
    for id in "AC":
        cluster.make_room(id)
    cluster.start(killed)
    wait_for_room(cluster, *cluster.ids)
    check_everywhere(cluster, told)


def test_a_majority_is_full(small_disks: SmallDisks) -> None:
    """The leader alone has room, and nothing that it takes could be committed: it refuses writes too."""
    cluster = small_disks
    leader = wait_for_a_leader(cluster)
    others = [id for id in cluster.ids if id != leader]
    with load(cluster, "key", clients=1, pipeline=4, value_bytes=500) as writers:
        writers.wait_for(50)
        for id in others:
            cluster.fill(id, ROOM_BYTES)
        for id in cluster.ids:
            eventually(lambda: cluster.ask(id, "SET", "probe", "x") == "MISCONF", f"{id} refuses writes")  # noqa: B023
            assert isinstance(cluster.ask(id, "DBSIZE"), int)
        # Killed while it is full, it has no half record to cut at its next start, and its disk is still full then.
        cluster.restart(others[1])
        assert "torn" not in cluster.log_text(others[1])
        eventually(lambda: cluster.is_full(others[1]), "it finds its disk full")
        cluster.make_room(others[0])
        writers.wait_for(50)
        cluster.make_room(others[1])
        wait_for_room(cluster, *others)
        writers.wait_for(50)
        told = writers.stop()
    check_everywhere(cluster, told)


def test_no_room_to_heal_in(small_disks: SmallDisks) -> None:
    """A damaged node whose disk is full waits with its healing, too."""
    cluster = small_disks
    with load(cluster, "key", clients=1, pipeline=4, value_bytes=1000) as writers:
        writers.wait_for(600)
        told = writers.stop()
    cluster.wait_until_equal()
    cluster.kill("A")
    damage.flip_records(cluster.data("A"), [10, 200, 400])
    cluster.fill("A")
    cluster.launch("A")
    eventually(lambda: "the disk is full: healing goes on when there is room" in cluster.log_text("A"), "it says so")
    cluster.make_room("A")
    eventually(lambda: cluster.maybe_info("A"), "it heals")
    check_everywhere(cluster, told)


FULL_CALLS = [
    "pwrite .log short=1 n=1 | pwrite .log ENOSPC",
    "pwrite .log short=10 n=1 | pwrite .log ENOSPC",
    "pwrite .log short=11 n=1 | pwrite .log EDQUOT",
    "pwrite .log short=40 n=1 | pwrite .log ENOSPC",
    "pwrite .log short=-1 n=1 | pwrite .log EFBIG",
    "pwrite .log short=-1 n=1 | pwrite .log ENOSPC",
    "pwrite .log.tmp ENOSPC",
    "open .log.tmp ENOSPC",
    "open .log.tmp EDQUOT",
    "rename .log ENOSPC",
    "rename .log EDQUOT",
]
"""Of an append of one record, or of the next segment's making; short=-1: all but the last byte."""


def test_no_room_half_way(cluster: FaultyCluster) -> None:
    """The disk is full after any part of a write, and has room again: at the leader and at a follower by turns."""
    pids = {id: cluster.pid(id) for id in cluster.ids}
    with load(cluster, "key", clients=1) as writers:
        for number, rules in enumerate(FULL_CALLS):
            leader, follower = leader_and_follower(cluster, number)
            full = follower if number % 2 else leader
            before = cluster.log_text(full).count("the disk is full")
            cluster.break_disk(full, rules)
            eventually(
                lambda: cluster.log_text(full).count("the disk is full") > before,  # noqa: B023
                f"{full} says that it is full: {rules}",
            )
            writers.wait_for(20)
            assert cluster.faults(full)
            check_no_half_record(cluster, full)
            cluster.mend_disk(full)
            eventually(lambda: not cluster.info(full, "persistence")["disk_full"], f"room after {rules}")  # noqa: B023
        told = writers.stop()
    check_everywhere(cluster, told)
    assert {id: cluster.pid(id) for id in cluster.running} == pids


def test_no_room_at_an_fsync_is_final(cluster_of_five: FaultyCluster) -> None:
    """It may have been delayed allocation: what was written is not on the disk."""
    cluster = cluster_of_five
    with load(cluster, "key", clients=1) as writers:
        rules = dict.fromkeys(leader_and_follower(cluster, 0), "fdatasync .log n=3 ENOSPC lose")
        said = end_and_return(cluster, writers, rules, EXIT_DISK_FAILED)
        for id in rules:
            check_one_sentence(cluster, id, said[id], "No space left on device")
        told = writers.stop()
    check_everywhere(cluster, told)
