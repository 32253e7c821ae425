"""**S** On loss of leadership nothing is answered that was not committed, nothing runs twice, nothing overtakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.node.small_cluster import Client, Cluster, led_by


def test_what_the_new_leader_has_is_answered_when_it_is_committed() -> None:
    cluster = led_by("A")
    cluster.hold("B>A C>A")
    client = cluster.client("A").send("INCR n")
    cluster.settle()
    cluster.elect("B")
    assert client.replies == []
    cluster.let_go("B>A C>A")
    cluster.settle()
    assert client.take() == [1]
    assert cluster.log("B").count(("SET", b"n", b"1")) == 1


def test_what_was_cut_runs_again_when_a_newer_term_has_committed() -> None:
    cluster = led_by("A")
    cluster.hold("A")
    client = cluster.client("A").send("INCR n")
    cluster.settle()
    cluster.elect("B")
    cluster.client("B").ask("SET n 10")
    cluster.lose("A")
    cluster.heal()
    cluster.run(200)
    assert client.take() == [11]
    assert ("SET", b"n", b"1") not in cluster.log("A")


def test_what_was_cut_stays_pending_until_the_newer_term_has_committed() -> None:
    cluster = led_by("A")
    cluster.hold("A")
    client = cluster.client("A").send("INCR n")
    cluster.settle()
    cluster.hold("C>B")
    cluster.campaign("B")
    cluster.settle()
    cluster.stop_disk("B", "C")  # A alone will have what B logs
    cluster.let_go("C>B")
    cluster.settle()
    cluster.lose("A")
    cluster.let_go("A-B")
    cluster.run(150)
    assert cluster.log("A") == [("NOOP",), ("NOOP",)]
    cluster.run(100)
    assert cluster["B"].waiting_count == 0  # nothing has been forwarded
    assert client.replies == []
    cluster.start_disk("B", "C")
    cluster.heal()
    cluster.run(100)
    assert client.take() == [1]


def test_what_was_cut_may_come_back_until_a_newer_term_has_committed() -> None:
    """B cuts what A has logged. C, which has it, is elected next, commits it, and gives it back to A in two pieces.
    With the first of them A knows of a commit, but of none in a newer term."""
    cluster = led_by("A", "ABCDE", batch_bytes_max=1000)
    cluster.hold("A-B A-D A-E C>A")
    cluster.client("A").send([b"SET", b"large", bytes(300_000)])
    cluster.settle()
    client = cluster.client("A").send("INCR n")
    cluster.client("A").send([b"SET", b"pad", bytes(1000)])  # ends the batch of the INCR
    cluster.settle()
    cluster.hold("D>B E>B C")
    cluster.campaign("B")
    cluster.settle()
    cluster.hold("B>D B>E")
    cluster.let_go("D>B E>B B>A")
    cluster.settle()
    assert [cluster[id].raft.index.last_seq for id in "ABCDE"] == [2, 2, 3, 1, 1]
    assert cluster["A"].raft.commit_seq == 1
    cluster.crash("B")
    cluster.let_go("C-D C-E")
    cluster.campaign("C")  # in term 2, where the others have voted for B
    cluster.elect("C")
    cluster.run(10)
    assert cluster["C"].raft.commit_seq == 4
    cluster.heal()
    cluster.run(300)
    assert cluster.log("C").count(("SET", b"n", b"1")) == 1
    assert client.take() == [1]
    assert cluster.local("C", "n") == b"1"


def test_nothing_of_what_was_cut_is_seen_when_the_node_leads_again() -> None:
    """The new log may be shorter than what was cut: what it saw then must not come back with an old seq."""
    cluster = led_by("A")
    cluster.hold("A")
    client = cluster.client("A").send("SET k lost", "SET l lost", "SET m lost", "SET n lost")
    cluster.settle()
    client.close()  # so that it is not run again
    cluster.elect("B")
    cluster.lose("A")
    cluster.heal()
    cluster.run(100)
    cluster.elect("A")
    cluster.run(10)
    assert cluster["A"].raft.index.last_seq == 3
    assert cluster.client("A").ask("MGET k l m n") == [None] * 4
    assert cluster.client("A").ask("SET n kept NX") == b"OK"


def test_what_was_logged_is_unknown_and_what_was_not_is_refused_at_the_deadline() -> None:
    cluster = led_by("A")
    cluster.hold("A")
    logged = cluster.client("A").send("INCR n", "GET k")
    cluster.settle()
    only_evaluated = cluster.client("A").send("INCR m")
    read = cluster.client("A").send("GET k")
    cluster.run(3950)
    assert (logged.replies, only_evaluated.replies, read.replies) == ([], [], [])
    cluster.run(150)
    write, read_behind_it = logged.take()
    assert write.startswith("-UNKNOWN the command may have been applied or not")
    assert read_behind_it.startswith("-CLUSTERDOWN")
    for client in (only_evaluated, read):
        (reply,) = client.take()
        assert reply == "-CLUSTERDOWN no leader within the time of the request; the command was not applied"


def test_what_was_never_logged_runs_again_at_once() -> None:
    """It does not wait for the fate of what was."""
    cluster = led_by("A")
    cluster.stop_disk("A", "B", "C")
    logged = cluster.client("A").send("INCR n")
    cluster.settle()
    only_evaluated = cluster.client("A").send("INCR m")
    cluster.settle()
    cluster.hold("B>A C>A")
    cluster.run(1500)
    assert cluster.leaders == []
    assert cluster["A"].waiting_count == 1
    cluster.start_disk("A", "B", "C")
    cluster.heal()
    cluster.run(1500)
    assert (logged.take(), only_evaluated.take()) == ([1], [1])


def test_a_client_that_has_gone_takes_nothing_with_it_and_is_not_run_again() -> None:
    cluster = led_by("A")
    cluster.hold("A")
    client = cluster.client("A").send("INCR n")
    cluster.settle()
    client.close()
    cluster.elect("B")
    cluster.lose("A")
    cluster.heal()
    cluster.run(200)
    assert cluster.log("B") == [("NOOP",), ("NOOP",)]


# Pipelines. One client alone: whatever becomes of the leader, its replies are those of the commands run once, in order.

PIPELINES: list[list[Sequence[str]]] = [
    [["SET a 1"], ["SET b 2", "DBSIZE", "INCR b"]],  # a whole read, confirmed, that waits for the open batch
    [["SET a 1"], ["SET b 2", "PING", "INCR b"]],  # what needs nobody, behind the open batch
    [["SET a 1"], ["SET b 2"], ["GET"], ["nonsense"], ["INCR b"]],  # errors that wait for nothing
    [["GET a", "SET a 1"], ["GET a", "GET b"], ["INCR a"]],  # an unconfirmed read, then a logged write
    [["GET a"], ["SET a 1"]],
    [["INCR a"], ["GET b"], ["INCR a"], ["GET b"], ["INCR a"]],
    [["INCR a"], ["KEYS *"], ["INCR a"]],
    [["SET a 1"], ["UPD b 1", "SET a 2 NX"], ["ECHO x", "DEL a"], ["EXISTS a"]],
    [["INCR a", "FLUSHALL"], ["INCR a", "DBSIZE"], ["INCR a"]],
    [["INCR a"], ["GET b"], ["APPEND a x", "APPEND a y"], ["PING"], ["APPEND a z"]],
    [["PING", "SET a 1", "PING"], ["PING", "GET a", "PING"], ["PING"]],
]


def model(pipeline: list[Sequence[str]]) -> list[Any]:
    """The replies of a cluster of one."""
    cluster = Cluster("A")
    cluster.run(10)
    client = cluster.client("A")
    return [client.ask(request) for chunk in pipeline for request in chunk]


def send(cluster: Cluster, pipeline: list[Sequence[str]]) -> Client:
    client = cluster.client("A")
    for chunk in pipeline:
        client.send(*chunk)
        cluster.settle()
    return client


def taken_over_with_what_was_logged(cluster: Cluster) -> None:
    cluster.hold("B>A C>A")
    cluster.start_disk("A", "B", "C")
    cluster.settle()
    cluster.elect("B")
    cluster.heal()


def taken_over_without(cluster: Cluster) -> None:
    cluster.crash("B", "C")  # their disks stood still: they do not have it
    cluster.hold("A")
    cluster.start("B", "C")
    cluster.start_disk("A")
    cluster.elect("B")
    cluster.lose("A")
    cluster.heal()


def stepped_down_and_elected_again(cluster: Cluster) -> None:
    cluster.hold("B>A C>A")
    cluster.run(1100)
    assert cluster.leaders == []
    cluster.start_disk("A", "B", "C")
    cluster.heal()
    cluster.elect("A")


FATES = [taken_over_with_what_was_logged, taken_over_without, stepped_down_and_elected_again]


@pytest.mark.parametrize("batch_bytes_max", [1, 1 << 20], ids=["small batches", "one batch"])
@pytest.mark.parametrize("acknowledged", ["rounds", "nothing"])
@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: "; ".join(", ".join(chunk) for chunk in pipeline))
def test_a_pipeline_keeps_its_order_its_number_of_replies_and_its_effects(
    pipeline: list[Sequence[str]], fate: Any, acknowledged: str, batch_bytes_max: int
) -> None:
    cluster = led_by("A", batch_bytes_max=batch_bytes_max)
    cluster.stop_disk("B", "C")
    if acknowledged == "nothing":
        cluster.hold("B>A C>A")
    client = send(cluster, pipeline)
    fate(cluster)
    cluster.run(1500)
    assert _spell(client.take()) == _spell(model(pipeline))


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: "; ".join(", ".join(chunk) for chunk in pipeline))
def test_a_pipeline_that_nobody_takes_over_has_one_reply_for_each_request(pipeline: list[Sequence[str]]) -> None:
    """Those to writes are never -CLUSTERDOWN where the write was logged, and the others are the right ones."""
    cluster = led_by("A")
    cluster.stop_disk("B", "C")
    client = send(cluster, pipeline)
    cluster.hold("A")
    cluster.run(4200)
    requests = [request for chunk in pipeline for request in chunk]
    replies = client.take()
    assert len(replies) == len(requests)
    for request, reply in zip(requests, replies, strict=True):
        word = request.split()[0]
        if word in ("PING", "ECHO"):
            assert isinstance(reply, bytes)
        elif request in ("GET", "nonsense"):
            assert reply.startswith("-ERR")
        elif word in ("GET", "DBSIZE", "KEYS", "EXISTS"):
            assert not str(reply).startswith("-UNKNOWN")


MODES: list[list[Sequence[str]]] = [
    [["INCR a"], ["INCR a", "CLIENT REPLY SKIP", "INCR a", "INCR a"]],
    [["INCR a"], ["CLIENT REPLY SKIP", "INCR a", "INCR a"]],
    [["INCR a"], ["CLIENT REPLY OFF", "INCR a", "CLIENT REPLY ON", "INCR a"]],
    [["INCR a"], ["GET a", "INCR a"], ["READONLY", "PING"]],
    [["INCR a"], ["INCR a", "GET none"], ["HELLO 3", "PING"]],
    [["INCR a"], ["INCR a", "GET none"], ["CLIENT REPLYSEQ ON"]],
    [["INCR a"], ["CLIENT SETNAME x", "INCR a"], ["CLIENT GETNAME", "RESET", "CLIENT GETNAME"]],
]


@pytest.mark.parametrize("acknowledged", ["rounds", "nothing"])
@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("pipeline", MODES, ids=lambda pipeline: "; ".join(", ".join(chunk) for chunk in pipeline))
def test_a_change_of_mode_holds_for_what_follows_it_alone(
    pipeline: list[Sequence[str]], fate: Any, acknowledged: str
) -> None:
    """Also for commands before it that are run again after it."""
    cluster = led_by("A")
    cluster.stop_disk("B", "C")
    if acknowledged == "nothing":
        cluster.hold("B>A C>A")
    client = send(cluster, pipeline)
    fate(cluster)
    cluster.run(1500)
    alone = Cluster("A")
    alone.run(10)
    expected = alone.client("A").send(*(request for chunk in pipeline for request in chunk))
    alone.settle()
    assert [_shape(reply) for reply in client.take()] == [_shape(reply) for reply in expected.take()]


def _shape(reply: Any) -> Any:
    """Without what may differ: the id of a connection, and the seq at which something took effect."""
    if isinstance(reply, dict):
        return sorted(reply)
    return ["seq", *reply[1:]] if isinstance(reply, list) and isinstance(reply[0], int) else reply


REQUESTS = st.sampled_from(
    ["INCR a", "INCR b", "GET a", "GET b", "SET a 1 NX", "UPD a 7", "DEL b", "DBSIZE", "PING", "FLUSHALL", "nonsense"]
)


@settings(max_examples=60)
@given(
    pipeline=st.lists(st.lists(REQUESTS, min_size=1, max_size=3), min_size=1, max_size=5),
    fate=st.sampled_from(FATES),
    delivers=st.booleans(),
    at=st.integers(0, 3),
    batch_bytes_max=st.sampled_from([1, 1 << 20]),
)
def test_any_pipeline_keeps_its_order_its_number_of_replies_and_its_effects(
    pipeline: list[Sequence[str]], fate: Any, delivers: bool, at: int, batch_bytes_max: int
) -> None:
    """`at`: how many chunks are sent before the disks stop. With tiny batches many records are under way."""
    cluster = led_by("A", batch_bytes_max=batch_bytes_max)
    client = cluster.client("A")
    for number, chunk in enumerate(pipeline):
        if number == at:
            cluster.stop_disk("B", "C")
            if not delivers:
                cluster.hold("B>A C>A")
        client.send(*chunk)
        cluster.settle()
    fate(cluster)
    cluster.run(1500)
    assert _spell(client.take()) == _spell(model(pipeline))


def _spell(replies: list[Any]) -> list[Any]:
    """The keys that KEYS finds come in no order."""
    return [sorted(reply) if isinstance(reply, list) else reply for reply in replies]
