"""Replies larger than a session may be given in one turn: all of them come, in order, wherever they are asked for."""

from __future__ import annotations

import pytest

from kvnode.node.session import REPLY_BYTES_MAX
from tests.unit.node.small_cluster import led_by

SIZE = REPLY_BYTES_MAX // 2 + 1000


@pytest.mark.parametrize("mode", [[], ["READONLY"]], ids=["linearizable", "local"])
@pytest.mark.parametrize("at", ["A", "B"])
def test_a_pipeline_of_large_reads_is_answered_in_order(at: str, mode: list[str]) -> None:
    cluster = led_by("A")
    values = {f"key{number}": b"%d" % number * SIZE for number in range(4)}
    writer = cluster.client("A")
    for key, value in values.items():
        assert writer.ask([b"SET", key.encode(), value]) == b"OK"
    cluster.run(10)
    client = cluster.client(at)
    for request in mode:
        client.ask(request)
    gets = [f"GET {key}" for key in values]
    client.send(*gets, "PING", "GET none", *gets, "KEYS *", "GET key0")
    cluster.settle()
    *replies, keys, last = client.take()
    assert replies == [*values.values(), b"PONG", None, *values.values()]
    assert sorted(keys) == sorted(key.encode() for key in values)
    assert last == values["key0"]


def test_large_reads_behind_a_forwarded_write_come_too() -> None:
    cluster = led_by("A")
    client = cluster.client("B")
    client.send([b"SET", b"k", b"x" * SIZE], *["GET k"] * 5, "INCR n", "GET n")
    cluster.run(100)
    assert client.take() == [b"OK", *[b"x" * SIZE] * 5, 1, b"1"]


def test_what_a_session_is_given_in_one_turn_is_bounded() -> None:
    """So that a client that does not read its replies fills no memory: it is paused before the next turn."""
    cluster = led_by("A")
    cluster.client("A").ask([b"SET", b"k", b"x" * SIZE])
    host = cluster.hosts["A"]
    client = cluster.client("A").send(*["GET k"] * 10)
    host.turn()
    cluster.hosts["A"].post("on_client_backed_up", client.id, True)
    cluster.settle()
    assert len(client.take()) <= 3
    cluster.hosts["A"].post("on_client_backed_up", client.id, False)
    cluster.settle()
    assert 5 <= len(client.take()) <= 10


def test_a_client_that_sends_far_ahead_of_its_replies_is_paused_and_resumed() -> None:
    cluster = led_by("A")
    cluster.hold("A>B A>C")
    host = cluster.hosts["A"]
    client = cluster.client("A").send("DBSIZE", [b"SET", b"k", b"x" * 1_200_000])
    host.turn()
    assert host.outputs.client_pauses == [client.id]
    cluster.let_go("A>B A>C")
    resumed: list[int] = []
    while cluster._step():
        resumed += host.outputs.client_resumes
    assert client.id in resumed
    assert client.take() == [0, b"OK"]


def test_faulty_bytes_end_the_connection_after_the_replies_that_are_due() -> None:
    cluster = led_by("A")
    cluster.stop_disk("B", "C")
    client = cluster.client("A").send("SET k 1", "GET k")
    client.send_bytes(b"*1\r\n$-5\r\n")
    cluster.settle()
    assert client.replies == []
    assert not client.is_closed
    cluster.start_disk("B", "C")
    cluster.settle()
    *replies, fault = client.take()
    assert replies == [b"OK", b"1"]
    assert fault.startswith("-ERR Protocol error")
    assert client.is_closed


@pytest.mark.parametrize("at", ["A", "B"])
def test_a_client_that_ends_its_input_or_quits_is_answered_then_closed(at: str) -> None:
    cluster = led_by("A")
    half_closed = cluster.client(at).send("SET k 1", "GET k")
    cluster.hosts[at].post("on_client_eof", half_closed.id)
    quitting = cluster.client(at).send("INCR n", "QUIT", "INCR n")
    cluster.settle()
    assert half_closed.take() == [b"OK", b"1"]
    assert quitting.take() == [1, b"OK"]
    assert half_closed.is_closed
    assert quitting.is_closed
    assert cluster.client("A").ask("GET n") == b"1"
