"""Pipelines of GETs at the leader, which are run in one go while nobody writes: answered as if each came by itself."""

from __future__ import annotations

import pytest

from kvnode.node.session import REPLY_BYTES_MAX
from tests.unit.node.small_cluster import Client, Cluster, led_by

VALUES = {"empty": b"", "k": b"v", "almost": b"x" * 1023, "just": b"y" * 1024, "long": b"z" * 100_000}
WRONG = "-ERR wrong number of arguments for 'get' command"


def with_values() -> tuple[Cluster, Client]:
    """A leader that has just run a GET, and whose next are therefore run together."""
    cluster = led_by("A")
    client = cluster.client("A")
    for key, value in VALUES.items():
        assert client.ask([b"SET", key.encode(), value]) == b"OK"
    cluster.run(10)
    assert client.ask("GET k") == b"v"
    return cluster, client


@pytest.mark.parametrize("hello", [[], ["HELLO 3"]], ids=["RESP2", "RESP3"])
def test_values_of_all_lengths_and_none(hello: list[str]) -> None:
    cluster, client = with_values()
    client.send(*hello, "GET k")
    cluster.settle()
    client.take()
    client.send("GET none", *(f"GET {key}" for key in VALUES), "GET none", "GET k", "GET none")
    cluster.settle()
    assert client.take() == [None, *VALUES.values(), None, b"v", None]


@pytest.mark.parametrize(
    ("other", "reply"),
    [("get k", b"v"), ("GET", WRONG), ("GET k k", WRONG), ("STRLEN k", 1), ("PING", b"PONG"), ("SET k w", b"OK")],
)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_another_command_among_them(other: str, reply: object, place: int) -> None:
    cluster, client = with_values()
    commands, replies = ["GET k"] * 3, [b"v"] * 3
    commands.insert(place, other)
    replies.insert(place, reply)  # type: ignore[arg-type]
    if other == "SET k w":
        replies[place + 1 :] = [b"w"] * (3 - place)
    client.send(*commands)
    cluster.settle()
    assert client.take() == replies


def test_what_is_logged_and_not_committed_is_seen_and_waited_for() -> None:
    cluster, client = with_values()
    cluster.stop_disk("B", "C")
    writer = cluster.client("B").send("SET k w")
    cluster.settle()
    cluster.client("A").send("GET none")  # the last command at the leader is a GET again
    cluster.settle()
    client.send("GET k", "GET empty", "GET k")
    cluster.settle()
    assert writer.replies == client.replies == []
    cluster.start_disk("B", "C")
    cluster.settle()
    assert (writer.take(), client.take()) == ([b"OK"], [b"w", b"", b"w"])


def test_they_wait_for_a_round_and_run_again_where_leadership_is_lost() -> None:
    cluster, client = with_values()
    cluster.hold("A>B A>C")
    client.send("GET k", "GET k")
    cluster.settle()
    assert client.replies == []
    cluster.elect("B")
    assert cluster.client("B").ask("SET k w") == b"OK"
    cluster.let_go("A>B A>C")
    cluster.run(1000)
    assert client.take() == [b"w", b"w"]


def test_local_reads_wait_for_nobody() -> None:
    cluster, client = with_values()
    client.ask("READONLY")
    cluster.client("A").ask("GET k")
    cluster.hold("A>B A>C")
    client.send("GET k", "GET none")
    cluster.settle()
    assert client.take() == [b"v", None]


def test_large_ones_are_not_answered_all_in_one_turn() -> None:
    cluster, client = with_values()
    host = cluster.hosts["A"]
    client.send(*["GET long"] * 40)
    host.turn()
    host.post("on_client_backed_up", client.id, True)
    cluster.settle()
    assert len(client.take()) == REPLY_BYTES_MAX // 100_000 + 1
    host.post("on_client_backed_up", client.id, False)
    cluster.settle()
    assert client.take()
