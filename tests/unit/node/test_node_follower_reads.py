"""Reads at a follower: asked about after earlier writes were answered, evaluated before later ones leave."""

from __future__ import annotations

import pytest

from kvnode.node import applying
from kvnode.node.wire import Forward
from kvnode.raft import messages as m
from tests.unit.node.small_cluster import led_by


def test_a_follower_reads_what_was_acknowledged_anywhere() -> None:
    cluster = led_by("A")
    cluster.hold("A>B")
    assert cluster.client("C").ask("SET k 1") == b"OK"
    reader = cluster.client("B").send("GET k", "MGET k none", "DBSIZE")
    cluster.settle()
    assert cluster.local("B", "k") is None
    assert reader.replies == []
    cluster.let_go("A>B")
    cluster.settle()
    assert reader.take() == [b"1", [b"1", None], 1]


def test_an_answer_is_waited_for_until_it_is_applied() -> None:
    """It comes on the control lane, and overtakes the records on the data lane."""
    cluster = led_by("A")
    data = cluster.links["A", "B", "data"]
    cluster.hold_link(data)
    cluster.client("A").ask("SET k 1")
    reader = cluster.client("B").send("GET k")
    cluster.settle()
    assert cluster.messages("A>B", m.ReadAnswer) == []
    assert cluster["B"].reads._applying
    assert reader.replies == []
    cluster.let_go_link(data)
    cluster.run(10)
    assert reader.take() == [b"1"]


def test_it_is_not_enough_that_it_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """B hears all at once of four records, three of them committed, and applies one in a turn."""
    monkeypatch.setattr(applying, "ENTRIES_PER_TURN", 1)
    cluster = led_by("A")
    data = cluster.links["A", "B", "data"]
    cluster.hold_link(data)
    for value in "123":
        cluster.client("A").ask(f"SET k {value}")
    reader = cluster.client("B").send("GET k")
    cluster.settle()
    cluster.client("A").ask("SET k 4")
    queue = data.on_its_way[cluster.hosts["B"]]
    together = b"".join(queue)
    queue.clear()
    queue.append(together)
    cluster.let_go_link(data)
    while cluster["B"].raft.commit_seq < 4:
        assert cluster._step()
    assert cluster["B"].applier.applied_seq == 2
    assert reader.replies == []
    cluster.settle()
    assert reader.take() == [b"3"]


def test_the_question_leaves_after_the_replies_to_earlier_writes() -> None:
    cluster = led_by("A")
    cluster.hold("A>B")
    client = cluster.client("B").send("SET k 1", "KEYS *")
    cluster.settle()
    cluster.hold("B>A")
    cluster.run(10)
    assert cluster.messages("B>A", m.ReadQuestion) == []
    cluster.let_go("A>B")
    cluster.settle()
    assert client.take() == [b"OK"]
    assert len(cluster.messages("B>A", m.ReadQuestion)) == 1
    cluster.let_go("B>A")
    cluster.settle()
    assert client.take() == [[b"k"]]


def test_a_later_write_leaves_after_the_read_was_evaluated() -> None:
    cluster = led_by("A")
    cluster.client("B").ask("SET k 1")
    cluster.hold("A>B B>A")
    client = cluster.client("B").send("GET k", "SET k 2")
    cluster.settle()
    assert cluster.messages("B>A", Forward) == []
    cluster.let_go("A>B B>A")
    cluster.settle()
    assert client.take() == [b"1", b"OK"]


def test_reads_of_one_turn_share_a_question_and_those_after_it_share_the_next() -> None:
    cluster = led_by("A")
    cluster.hold("B>A")
    for _ in range(3):
        cluster.client("B").send("GET k")
    cluster.settle()
    assert len(cluster.messages("B>A", m.ReadQuestion)) == 1
    cluster.hold("A>B")
    cluster.let_go("B>A")
    cluster.settle()
    late = [cluster.client("B").send("GET k") for _ in range(3)]
    cluster.hold("B>A")
    cluster.settle()
    assert cluster.messages("B>A", m.ReadQuestion) == []
    cluster.let_go("A>B")
    cluster.settle()
    assert len(cluster.messages("B>A", m.ReadQuestion)) == 1
    assert [client.replies for client in late] == [[], [], []]
    cluster.let_go("B>A")
    cluster.settle()
    assert [client.take() for client in late] == [[None], [None], [None]]


def test_an_answer_to_an_earlier_question_answers_no_later_read() -> None:
    cluster = led_by("A")
    cluster.hold("A>B")
    early = cluster.client("B").send("GET k")
    cluster.settle()
    cluster.hold("B>A")
    cluster.client("C").ask("SET k 1")
    late = cluster.client("B").send("GET k")
    cluster.settle()
    cluster.let_go("A>B")
    cluster.settle()
    assert early.take() in ([None], [b"1"])
    assert late.replies == []
    cluster.let_go("B>A")
    cluster.settle()
    assert late.take() == [b"1"]


def test_reads_run_again_when_their_leader_is_lost() -> None:
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    cluster.hold("B>A")
    reader = cluster.client("B").send("GET k", "DBSIZE")
    cluster.settle()
    cluster.elect("C")
    cluster.run(100)
    assert reader.take() == [b"1", 1]


def test_local_reads_ask_nobody_and_can_be_taken_back() -> None:
    cluster = led_by("A")
    client = cluster.client("B")
    client.ask("SET k 1")
    cluster.run(10)
    cluster.hold("B")
    assert client.ask("READONLY") == b"OK"
    assert client.ask("GET k") == b"1"
    assert client.ask("DBSIZE") == 1
    assert client.ask("READWRITE") == b"OK"
    client.send("GET k")
    cluster.run(100)
    assert client.replies == []


def test_local_reads_at_a_leader_ask_nobody_either() -> None:
    cluster = led_by("A")
    client = cluster.client("A")
    client.ask("SET k 1")
    cluster.hold("A")
    client.send("READONLY", "GET k", "SET k 2", "GET k")
    cluster.settle()
    assert client.take() == [b"OK", b"1"]


@pytest.mark.parametrize("at", ["A", "B"])
def test_replies_that_a_client_does_not_want_do_not_come(at: str) -> None:
    cluster = led_by("A")
    client = cluster.client(at).send("CLIENT REPLY SKIP", "INCR n", "INCR n", "CLIENT REPLY SKIP", "GET n", "GET n")
    client.send("CLIENT REPLY OFF", "INCR n", "GET n", "PING", "CLIENT REPLY ON", "INCR n")
    cluster.run(20)
    assert client.take() == [2, b"2", b"OK", 4]


@pytest.mark.parametrize("at", ["A", "B"])
def test_a_long_read_does_not_hold_up_what_follows_it(at: str) -> None:
    """What is pipelined behind a read in slices goes on as soon as that is done, without waiting for a timer."""
    cluster = led_by("A")
    writer = cluster.client("A")
    for start in range(0, 60_000, 4_000):
        writer.send([b"MSET", *(word for n in range(start, start + 4_000) for word in (b"key:%d" % n, b"v"))])
        cluster.settle()
    client = cluster.client(at).send("KEYS nothing*", "PING", "GET key:1")
    cluster.settle()
    assert client.take() == [[], b"PONG", b"v"]
