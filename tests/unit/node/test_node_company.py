"""Clients that are answered together ask again together: when a batch waits for company, and when it does not."""

from __future__ import annotations

from kvnode.node.leading import HOPE_MS
from tests.unit.node.small_cluster import Client, Cluster, led_by


def answered_together(cluster: Cluster, count: int) -> list[Client]:
    """Clients whose writes were in one record, and have just been answered."""
    clients = [cluster.client("A") for _ in range(count)]
    cluster.hold("A>B A>C")
    clients[0].send("SET first 1")
    cluster.settle()
    for client in clients[1:]:
        client.send("SET other 1")
    cluster.settle()
    cluster.let_go("A>B A>C")
    cluster.settle()
    assert all(client.take() == [b"OK"] for client in clients)
    return clients


def test_one_client_never_waits() -> None:
    cluster = led_by("A")
    client = cluster.client("A")
    for number in range(5):
        assert client.ask(f"SET k {number}") == b"OK"  # `ask` lets no time pass


def test_a_batch_waits_for_those_who_were_answered_together() -> None:
    cluster = led_by("A")
    clients = answered_together(cluster, 9)
    last_seq = cluster["A"].raft.index.last_seq
    clients[0].send("INCR n")
    cluster.settle()
    assert cluster["A"].raft.index.last_seq == last_seq
    for client in clients[1:]:
        client.send("INCR n")
    cluster.settle()
    assert sorted(client.take()[0] for client in clients) == list(range(1, 10))
    assert cluster["A"].raft.index.last_seq == last_seq + 9


def test_it_waits_no_longer_than_a_moment_and_then_not_again_for_a_while() -> None:
    cluster = led_by("A")
    clients = answered_together(cluster, 9)
    clients[0].send("SET k 1")
    cluster.settle()
    assert clients[0].replies == []
    cluster.run(HOPE_MS)
    assert clients[0].take() == [b"OK"]
    for client in clients[:3]:
        client.send("SET k 2")
    cluster.settle()
    assert [client.take() for client in clients[:3]] == [[b"OK"]] * 3
    assert clients[0].ask("SET k 3") == b"OK"  # three were answered together, and nobody is waited for


def test_what_waits_for_company_is_run_again_when_leadership_is_lost() -> None:
    cluster = led_by("A")
    clients = answered_together(cluster, 9)
    clients[0].send("INCR n")
    cluster.settle()
    cluster.campaign("B")
    cluster.run(50)
    assert clients[0].take() == [1]
