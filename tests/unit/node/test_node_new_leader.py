"""**S** A new leader evaluates nothing and confirms no read until the no-op of its term is committed and applied."""

from __future__ import annotations

from typing import Any

import pytest

from kvnode.raft.core import Role
from tests.unit.node.small_cluster import Cluster, led_by


def inherit(*requests: str, **settings: Any) -> Cluster:
    """A has crashed. B leads, has what A logged for `requests`, and neither B nor C has its no-op on disk."""
    cluster = led_by("A", **settings)
    cluster.hold("A>C")
    cluster.stop_disk("A")  # so that B alone holds it: it is not committed
    cluster.client("A").send(*requests)
    cluster.settle()
    cluster.crash("A")
    win_without_noop(cluster)
    return cluster


def win_without_noop(cluster: Cluster) -> None:
    """B wins with the vote of C; then both disks stop."""
    cluster.hold("C>B")
    cluster.campaign("B")
    cluster.settle()
    cluster.stop_disk("B", "C")
    cluster.let_go("C>B")
    cluster.settle()
    leader = cluster["B"].raft.leading
    assert leader is not None
    assert not leader.has_committed


@pytest.mark.parametrize(
    ("request_", "reply"),
    [("INCR n", 42), ("APPEND n 7", 3), ("SET n 1 NX", None), ("UPD n 5", b"OK"), ("GET n", b"41"), ("DBSIZE", 1)],
)
def test_a_command_over_an_inherited_suffix_waits_and_sees_it(request_: str, reply: object) -> None:
    cluster = inherit("SET n 41")
    assert cluster.local("B", "n") is None
    client = cluster.client("B").send(request_)
    cluster.settle()
    assert client.replies == []
    assert cluster["B"].leading.overlay.is_open_empty
    cluster.start_disk("B", "C")
    cluster.settle()
    assert client.take() == [reply]


def test_an_inherited_flush_is_seen_too() -> None:
    cluster = inherit("SET n 41", "FLUSHALL")
    client = cluster.client("B").send("INCR n")
    cluster.settle()
    cluster.start_disk("B", "C")
    cluster.settle()
    assert client.take() == [1]


@pytest.mark.parametrize("at", ["B", "C"])
def test_a_write_that_the_old_leader_acknowledged_is_read_from_the_new_one(at: str) -> None:
    """B holds it, but does not know that it is committed; C does not hold it."""
    cluster = led_by("A")
    cluster.hold("A>C")
    cluster.stop_disk("B")
    writer = cluster.client("A").send("SET k acknowledged")
    cluster.settle()
    cluster.hold("A>B")
    cluster.start_disk("B")
    cluster.settle()
    assert writer.take() == [b"OK"]
    assert cluster.local("B", "k") is None
    cluster.crash("A")
    win_without_noop(cluster)
    reader = cluster.client(at).send("GET k")
    cluster.run(50)
    assert reader.replies == []
    cluster.start_disk("B", "C")
    cluster.run(50)
    assert reader.take() == [b"acknowledged"]


def test_a_commit_that_is_not_applied_yet_is_waited_for() -> None:
    """More is inherited than two turns apply."""
    cluster = inherit(*["INCR n"] * 45_000, batch_bytes_max=1000)
    cluster.start_disk("B", "C")
    node, host = cluster["B"], cluster.hosts["B"]
    leader = node.raft.leading
    assert leader is not None
    for _ in range(1000):
        if leader.has_committed:
            break
        cluster._step()
    assert node.applier.applied_seq < leader.noop_seq <= node.raft.commit_seq
    client = cluster.client("B").send("INCR n")
    host.turn()
    assert node.applier.applied_seq < leader.noop_seq
    assert node.leading.overlay.is_open_empty
    cluster.settle()
    assert client.take() == [leader.noop_seq - 1]  # all before but the first no-op are increments


def test_a_forward_to_a_new_leader_waits_for_its_no_op() -> None:
    cluster = inherit("SET n 41")
    client = cluster.client("C").send("INCR n")
    cluster.settle()
    assert client.replies == []
    cluster.start_disk("B", "C")
    cluster.settle()
    assert client.take() == [42]
    assert cluster.log("C")[1:] == [("SET", b"n", b"41"), ("NOOP",), ("SET", b"n", b"42")]


def test_a_batch_that_waits_for_company_does_not_follow_when_leadership_is_handed_over() -> None:
    cluster = led_by("A")
    clients = [cluster.client("A") for _ in range(4)]
    for number, client in enumerate(clients):
        client.send(f"SET k{number} 1")
    cluster.settle()
    assert [client.take() for client in clients] == [[b"OK"]] * 4
    clients[0].send("SET last 1")
    cluster.hosts["A"].turn()
    assert not cluster["A"].leading.overlay.is_open_empty, "it waits for the others"
    cluster.hosts["A"].post("on_shutdown")
    cluster.hosts["A"].turn()
    cluster.now_ms += 3
    for _ in range(3):
        cluster.hosts["A"].turn()
    cluster.settle()
    assert cluster.leaders in (["B"], ["C"]), "the successor's log is long enough"
    assert clients[0].take() == [b"OK"]
    assert ("SET", b"last", b"1") in cluster.log("B")


def test_who_is_about_to_end_does_not_campaign() -> None:
    cluster = led_by("A")
    cluster.hosts["B"].post("on_shutdown")
    cluster.crash("A", "C")
    roles = set()
    for _ in range(100):
        cluster.run(50)
        roles.add(cluster["B"].raft.role)
    assert roles == {Role.FOLLOWER}


def test_a_leader_that_hands_over_evaluates_nothing_more() -> None:
    cluster = led_by("A")
    cluster.hold("A>B A>C")
    cluster["A"].on_shutdown()
    client = cluster.client("C").send("SET k 1")
    cluster.settle()
    assert cluster["A"].raft.index.last_seq == 1
    cluster.heal()
    cluster.run(100)
    assert client.take() == [b"OK"]
    assert cluster.leaders != ["A"]
