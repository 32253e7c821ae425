"""P7: SIGKILL before and after whatever a node does that others hear of, or that is on its disk afterwards.

The calls to the disk have a run of their own (tests/faults/test_crashes.py, tests/faults/test_healing.py), and so have
those of a recovery (test_p09). In `make test` it is the messages, the replies and the cut; with KVNODE_TEST_MATRIX=full
everything, in every role. There are no snapshots yet, and no segment is removed.
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

import pytest

from kvnode.node import wire
from kvnode.raft import messages as m
from tests.cluster.harness import eventually
from tests.faults import damage
from tests.faults.disks import KILLED, QUICK, FaultyCluster
from tests.matrix.conftest import MakeCluster
from tests.matrix.rounds import IS_FULL, Traffic, under_traffic, wait_for_leader_among
from tests.torture.judge import require

LEADER, FOLLOWER, VOTER = "leader", "follower", "voter or candidate"


def message(kind: type[Any]) -> str:
    """As shim.c names it."""
    return f"/{wire._TYPES.index(kind)}/"


class Failpoint(NamedTuple):
    """`rule`: as shim.c wants it, `{n}`: at the n-th such call."""

    name: str
    roles: tuple[str, ...]
    rule: str


def around(name: str, roles: tuple[str, ...], call: str) -> list[Failpoint]:
    return [Failpoint(f"{when} {name}", roles, f"{call} crash={when}") for when in ("before", "after")]


MESSAGES = [
    *around("the reply to an Append", (FOLLOWER,), f"send {message(m.Appended)} n={{n}}"),
    *around("a request for votes", (VOTER,), f"send {message(m.VoteRequest)}"),
    *around("a vote", (VOTER,), f"send {message(m.VoteReply)}"),
    *around("sending an Append", (LEADER,), f"send {message(m.Append)} n={{n}}"),
    Failpoint("before what a majority has is applied", (LEADER,), f"recv {message(m.Appended)} n={{n}} crash=before"),
    Failpoint("before what is committed is applied", (FOLLOWER,), f"recv {message(m.Append)} n={{n}} crash=before"),
    *around("a reply to a client", (LEADER, FOLLOWER), "send client n={n}"),
    *around("a reply to who forwarded", (LEADER,), f"send {message(wire.ForwardReplies)} n={{n}}"),
    *around("forwarding", (FOLLOWER,), f"send {message(wire.Forward)} n={{n}}"),
]
CALLS = [
    *around("a write of records", (LEADER, FOLLOWER), "pwrite .log$ n={n}"),
    Failpoint("half way through a write of records", (LEADER, FOLLOWER), "pwrite .log$ n={n} short=30 crash=after"),
    *around("an fsync of records", (LEADER, FOLLOWER), "fdatasync .log$ n={n}"),
    *around("writing the mark", (LEADER, FOLLOWER), "pwrite mark n={n}"),
    *around("saving a vote", (VOTER,), "rename ballot"),
    *around("the fsync of a vote", (VOTER,), "fsync ballot"),
    *around("the fsync of the directory of a vote", (VOTER,), "fsync /"),
    *around("making a segment", (LEADER, FOLLOWER), "open .log.tmp$"),
    *around("writing a segment's header", (LEADER, FOLLOWER), "pwrite .log.tmp$"),
    *around("the fsync of a segment", (LEADER, FOLLOWER), "fsync .log.tmp$"),
    *around("naming a segment", (LEADER, FOLLOWER), "rename .log$"),
    *around("the fsync of the directory of a segment", (LEADER, FOLLOWER), "fsync /"),
]


def killed_at(traffic: Traffic, cluster: FaultyCluster, role: str, rule: str, turn: int) -> None:
    """Whoever comes there first is killed, and started again at once."""
    leader = wait_for_leader_among(cluster, cluster.ids)
    others = [id for id in cluster.ids if id != leader]
    ids = {LEADER: [leader], FOLLOWER: [others[turn % 2]], VOTER: others}[role]
    for id in ids:
        cluster.break_disk(id, rule)
    if role == VOTER:
        cluster.kill(leader)
    eventually(lambda: not set(ids) <= set(cluster.running), f"a {role} is killed: {rule}")
    for id in ids:
        cluster.mend_disk(id)
    for id in set(ids) - set(cluster.running):
        ended = cluster.wait_for_exit(id)
        require(ended == KILLED, f"{id} ended with {ended}: {rule}: {cluster.log_text(id)[-2000:]}")
    cluster.start()


def test_p07_killed_at_each_failpoint(make_cluster: MakeCluster) -> None:
    cluster, rng = make_cluster("p07", **QUICK | {"segment_bytes": 16384}), Random("p07")
    points = MESSAGES + CALLS if IS_FULL else MESSAGES
    with under_traffic(cluster, "p07") as traffic:
        for number, point in enumerate(points):
            for role in point.roles if IS_FULL else [point.roles[number % len(point.roles)]]:
                killed_at(traffic, cluster, role, point.rule.format(n=rng.randrange(1, 30)), number)
                traffic.wait_for(20)


CUTS = [
    "pwrite discarded short=30 crash=after",
    "rename discarded crash=after",
    "fsync mark crash=before",
    "ftruncate .log$ crash=before",
    "ftruncate .log$ crash=after",
]
"""In this order: each leaves the cut to be done once more, or to be ended, but for the last."""


@pytest.mark.parametrize("lose", ["", " lose"] if IS_FULL else [" lose"])
def test_p07_killed_while_it_cuts_what_lost_an_election(make_cluster: MakeCluster, lose: str) -> None:
    """A leader alone logs what is never committed; others are elected without it; then it has to cut its log."""
    cluster = make_cluster(f"p07.cut{lose}", **QUICK)
    with under_traffic(cluster, f"p07.cut{lose}", pause_ms=5) as traffic:
        traffic.wait_for(50)
        old = wait_for_leader_among(cluster, cluster.ids)
        others = [id for id in cluster.ids if id != old]
        with traffic.asker(old) as asker:
            traffic.fleet.pause()  # with a record under way it would not begin another
            cluster.kill(*others)
            for number in range(10):
                asker.send("SET", b"p07.alone", b"%d" % number)
            eventually(lambda: cluster.info(old)["role"] != "leader", "it notices that it is alone")
            cluster.kill(old)
            traffic.fleet.go_on()
        ends = {id: damage.last_seq(cluster.data(id)) for id in cluster.ids}
        assert ends[old] > max(ends[id] for id in others), "it has logged something that nobody else has"
        cluster.start(*others)
        traffic.wait_for(50)
        for rule in CUTS:
            cluster.break_disk(old, rule + lose)
            cluster.launch(old)
            ended = cluster.wait_for_exit(old)
            require(ended == KILLED, f"{old} ended with {ended}: {rule}: {cluster.log_text(old)[-2000:]}")
            traffic.wait_for(10)
        cluster.mend_disk(old)
        cluster.start(old)
    assert any((cluster.data(old) / "discarded").iterdir())
