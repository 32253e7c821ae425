"""A call to the disk that fails ends the node at once: the others carry on, nothing acknowledged is lost, and once the
disk works again the node takes part as before.

Of five nodes the leader and others fail at the same time, and are started again for the next fault. KVNODE_TEST_FSYNCS
sets how many of the first fsyncs have their turn (the suite: 20).
"""

from __future__ import annotations

import errno
import os

import pytest

from tests.cluster.load import load
from tests.faults.disks import (
    EXIT_DISK_FAILED,
    EXIT_REFUSED,
    WRITERS,
    FaultyCluster,
    check_everywhere,
    check_one_sentence,
    end_and_return,
    leader_and_follower,
    wait_for_a_leader,
)

FSYNCS = int(os.environ.get("KVNODE_TEST_FSYNCS", "20"))


def test_the_nth_fsync_fails(cluster_of_five: FaultyCluster) -> None:
    cluster = cluster_of_five
    with load(cluster, "key", **WRITERS) as writers:
        for number in range(1, FSYNCS + 1):
            rules = dict.fromkeys(leader_and_follower(cluster, number), f"sync * n={number} EIO lose")
            said = end_and_return(cluster, writers, rules, EXIT_DISK_FAILED, in_a_hurry=number % 5 > 0)
            for id in rules:
                check_one_sentence(cluster, id, said[id], "Input/output error")
        told = writers.stop()
    check_everywhere(cluster, told)


# Of an append, and of the making of the next segment: one every 16 KiB.
SEGMENT_CALLS = [
    "pwrite .log n=3 EIO",
    "pwrite .log n=7 short=1 | pwrite .log from=8 EIO",
    "pwrite mark n=5 EROFS",
    "fdatasync mark EIO",
    "open .log.tmp EMFILE",
    "pwrite .log.tmp n=1 short=20 | pwrite .log.tmp from=2 EIO",
    "fsync .log.tmp EIO",
    "rename .log EACCES",
    "fsync / EIO",
    "open .log EIO",
]
BALLOT_CALLS = ["open ballot EMFILE", "pwrite ballot EIO", "fsync ballot EIO", "rename ballot EROFS", "fsync / EIO"]


def reason_of(rules: str) -> str:
    return os.strerror(getattr(errno, rules.split()[-1]))


def test_a_call_fails(cluster_of_five: FaultyCluster) -> None:
    """Each call at the leader, and at a follower; the first times the ballot of a voter fails, too, in the election
    that follows."""
    cluster = cluster_of_five
    with load(cluster, "key", **WRITERS) as writers:
        for number, call in enumerate(SEGMENT_CALLS):
            leader = wait_for_a_leader(cluster)
            follower, voter, *_ = [id for id in cluster.ids if id != leader]
            rules = {leader: call, follower: SEGMENT_CALLS[number - len(SEGMENT_CALLS) // 2]}
            if number < len(BALLOT_CALLS):
                rules[voter] = BALLOT_CALLS[number]
            said = end_and_return(cluster, writers, rules, EXIT_DISK_FAILED, in_a_hurry=True)
            for id in rules:
                check_one_sentence(cluster, id, said[id], reason_of(rules[id]))
        told = writers.stop()
    check_everywhere(cluster, told)


# Of a start: (rules, exit code).
STARTS = [
    ("fsync identity EIO", EXIT_DISK_FAILED),
    ("fsync .log EIO", EXIT_DISK_FAILED),
    ("fsync / EIO", EXIT_DISK_FAILED),
    ("open mark EACCES", EXIT_REFUSED),
    ("open .log EMFILE", EXIT_REFUSED),
]


def test_a_call_fails_at_the_start(cluster: FaultyCluster) -> None:
    """Nothing is changed, and the next start finds everything as it was."""
    cluster.client(cluster.wait_for_leader()).set("key", "value")
    cluster.wait_until_equal()
    id = cluster.followers()[0]
    cluster.kill(id)
    before = files_of(cluster, id)
    for rules, code in STARTS:
        cluster.break_disk(id, rules)
        ended, said = cluster.refused_start(id)
        assert cluster.faults(id), rules
        assert ended == code, f"{rules}: {said}"
        assert reason_of(rules) in said
        assert "Traceback" not in said
        assert files_of(cluster, id) == before
    cluster.mend_disk(id)
    cluster.start(id)
    cluster.wait_until_equal()


@pytest.mark.parametrize("rules", ["fdatasync mark EIO", "ftruncate .log EIO", "fsync .log EIO"])
def test_a_call_fails_at_the_stop(cluster: FaultyCluster, rules: str) -> None:
    """Nothing acknowledged depends on it. But whoever stops a node must not believe that its disk is well."""
    leader = cluster.wait_for_leader()
    cluster.client(leader).set("key", "value")
    cluster.wait_until_equal()
    id = cluster.followers()[0]
    length = len(cluster.log_text(id))
    cluster.break_disk(id, rules)
    cluster.client(leader).set("key", "another")  # so that the mark is not on the disk yet
    ended = cluster.stop(id)
    said = cluster.log_text(id)[length:]
    assert cluster.faults(id), said
    assert ended == EXIT_DISK_FAILED, said
    check_one_sentence(cluster, id, said, reason_of(rules))
    cluster.mend_disk(id)
    cluster.start(id)
    cluster.wait_until_equal()


def files_of(cluster: FaultyCluster, id: str) -> dict[str, bytes]:
    paths = [path for path in cluster.data(id).rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path): path.read_bytes() for path in paths}
