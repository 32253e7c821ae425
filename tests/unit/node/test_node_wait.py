"""WAIT: how many members other than the leader hold this connection's last write durably."""

from __future__ import annotations

import pytest

from tests.unit.node.small_cluster import led_by


@pytest.mark.parametrize("at", ["A", "B"])
def test_it_counts_the_members_that_hold_the_last_write_durably(at: str) -> None:
    cluster = led_by("A")
    client = cluster.client(at)
    client.ask("SET k 1")
    assert client.ask("WAIT 2 0") == 2
    cluster.stop_disk("C")
    client.ask("SET k 2")
    client.send("WAIT 2 100")
    cluster.run(50)
    assert client.replies == []
    cluster.run(110)
    assert client.take() == [1]


def test_it_returns_as_soon_as_the_count_is_reached() -> None:
    cluster = led_by("A")
    cluster.stop_disk("C")
    client = cluster.client("A").send("SET k 1", "WAIT 1 0", "WAIT 2 0", "PING")
    cluster.settle()
    assert client.take() == [b"OK", 1]
    cluster.start_disk("C")
    cluster.settle()
    assert client.take() == [2, b"PONG"]


def test_members_that_trail_are_not_waited_for() -> None:
    cluster = led_by("A", trail_ms=1000)
    client = cluster.client("A")
    client.ask("SET k 1")  # goes to all, to see who is the quickest
    client.ask("SET k 2")
    assert client.ask("WAIT 0 0") == 1  # one of them trails
    assert client.ask("WAIT 2 0") == 2


def test_it_waits_for_writes_that_are_pipelined_before_it() -> None:
    cluster = led_by("A")
    cluster.stop_disk("B", "C")
    client = cluster.client("A").send("SET k 1", "WAIT 1 0")
    cluster.settle()
    assert client.replies == []
    cluster.start_disk("B")
    cluster.settle()
    assert client.take() == [b"OK", 1]


def test_without_a_write_of_its_own_every_member_counts() -> None:
    cluster = led_by("A")
    cluster.stop_disk("B", "C")
    cluster.client("A").send("SET k 1")
    cluster.settle()
    assert cluster.client("A").ask("WAIT 2 0") == 2


def test_the_write_of_another_leader_is_still_known() -> None:
    cluster = led_by("A")
    client = cluster.client("B")
    client.ask("SET k 1")
    cluster.elect("C")
    cluster.run(100)
    cluster.stop_disk("B")
    assert client.ask("WAIT 2 0") == 2


def test_it_ends_before_the_request_does() -> None:
    cluster = led_by("A")
    cluster.stop_disk("C")
    client = cluster.client("A")
    client.ask("SET k 1")
    client.send("WAIT 2 0", "PING")
    cluster.run(4100)
    assert client.take() == [1, b"PONG"]


def test_its_arguments_are_checked() -> None:
    client = led_by("A").client("A")
    assert client.ask("WAIT 1 -1") == "-ERR timeout is negative"
    assert client.ask("WAIT x 1") == "-ERR value is not an integer or out of range"
    assert client.ask("PING") == b"PONG"


def test_it_is_refused_when_its_leader_is_lost_for_good() -> None:
    cluster = led_by("A")
    client = cluster.client("A")
    client.ask("SET k 1")
    cluster.hold("A")
    client.send("WAIT 2 0")
    cluster.run(4100)
    (reply,) = client.take()
    assert reply in (0, 1, 2) or reply.startswith("-CLUSTERDOWN")


def test_a_client_that_goes_is_forgotten() -> None:
    cluster = led_by("A")
    cluster.stop_disk("B", "C")
    client = cluster.client("A").send("WAIT 2 0")
    cluster.client("A").send("SET k 1", "WAIT 2 0").close()
    cluster.settle()
    cluster.start_disk("B", "C")
    cluster.settle()
    assert client.take() == [2]
