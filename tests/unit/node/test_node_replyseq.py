"""CLIENT REPLYSEQ: the seq told with a reply is one at which it is the truth, was committed, and never goes back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.node.small_cluster import Client, Cluster, led_by


def telling(cluster: Cluster, at: str) -> Client:
    client = cluster.client(at)
    (_, reply) = client.ask("CLIENT REPLYSEQ ON")
    assert reply == b"OK"
    return client


def test_a_write_tells_its_own_seq_and_a_failed_one_that_of_a_read() -> None:
    cluster = led_by("A")
    for at in "AB":
        client = telling(cluster, at)
        last_seq = cluster["A"].raft.index.last_seq
        assert client.ask(f"SET {at} 1") == [last_seq + 1, b"OK"]
        assert client.ask(f"INCR {at}") == [last_seq + 2, 2]
        assert client.ask("UPD none 1") == [last_seq + 2, "-ERR no such key"]
        assert client.ask(f"GET {at}") == [last_seq + 2, b"2"]
        assert client.ask("PING")[1] == b"PONG"


def test_it_can_be_switched_off() -> None:
    client = telling(led_by("A"), "A")
    assert client.ask("CLIENT REPLYSEQ OFF") == b"OK"
    assert client.ask("PING") == b"PONG"


def test_a_read_behind_a_pipelined_write_tells_no_earlier_seq() -> None:
    cluster = led_by("A")
    client = telling(cluster, "A")
    cluster.stop_disk("B", "C")
    client.send("SET k 1")
    cluster.settle()
    client.send("GET other")
    cluster.settle()
    cluster.start_disk("B", "C")
    cluster.settle()
    assert client.take() == [[2, b"OK"], [2, None]]


def test_a_read_behind_a_read_of_an_uncommitted_record_tells_no_earlier_seq() -> None:
    cluster = led_by("A")
    client = telling(cluster, "A")
    cluster.stop_disk("B", "C")
    cluster.client("A").send("SET k 1")
    cluster.settle()
    client.send("GET k")
    cluster.settle()
    client.send("GET other")
    cluster.settle()
    cluster.start_disk("B", "C")
    cluster.settle()
    assert client.take() == [[2, b"1"], [2, None]]


def test_a_read_that_saw_nothing_of_the_open_batch_does_not_tell_its_seq() -> None:
    """That batch may never be logged, and another entry would get the seq."""
    cluster = led_by("A")
    client = telling(cluster, "A")
    cluster.stop_disk("B", "C")
    cluster.client("A").send("SET a 1")
    cluster.settle()
    cluster.client("A").send("SET b 1")
    cluster.settle()
    client.send("GET other")
    cluster.settle()
    assert client.take() == [[1, None]]


def test_a_read_of_the_open_batch_tells_its_seq_when_that_is_committed() -> None:
    cluster = led_by("A")
    client = telling(cluster, "A")
    cluster.stop_disk("B", "C")
    cluster.client("A").send("SET a 1")
    cluster.settle()
    cluster.client("A").send("SET b 1")
    cluster.settle()
    client.send("GET b", "GET a", "GET other")
    cluster.settle()
    assert client.replies == []
    cluster.start_disk("B", "C")
    cluster.settle()
    seqs = [seq for seq, _ in client.take()]
    assert seqs[0] == 3
    assert seqs == sorted(seqs)


def test_a_transaction_of_many_keys_is_one_seq() -> None:
    cluster = led_by("A")
    client = telling(cluster, "A")
    assert client.ask("MSET a 1 b 2 c 3") == [2, b"OK"]
    assert client.ask("DEL a b") == [3, 2]


@pytest.mark.parametrize("at", ["A", "B"])
def test_a_long_read_tells_the_seq_of_what_it_saw(at: str) -> None:
    """Entries are applied while it goes on."""
    cluster = led_by("A")
    writer = cluster.client("A")
    for start in range(0, 40_000, 4_000):
        words = (word for number in range(start, start + 4_000) for word in (b"%d" % number, b"v"))
        assert writer.ask([b"MSET", *words]) == b"OK"
    reader = telling(cluster, at).send("KEYS *")
    added = 0
    while cluster._step():
        if not reader.replies:
            writer.send(f"SET new{added} v")
            added += 1
    ((seq, keys),) = reader.take()
    assert len(keys) == 40_000 + max(0, seq - 11)  # the no-op, ten times MSET, then one key for each seq
    assert added > 3


REQUESTS = st.sampled_from(["INCR a", "GET a", "INCR b", "GET b", "UPD c 1", "DBSIZE", "PING"])


@settings(max_examples=60)
@given(
    chunks=st.lists(st.tuples(st.integers(0, 2), st.lists(REQUESTS, min_size=1, max_size=3), st.booleans()), max_size=8)
)
def test_told_seqs_never_go_back_and_values_are_those_of_their_seq(chunks: list[Any]) -> None:
    """Two clients at the leader and one at a follower; the disks of B and C stand still now and then."""
    cluster = led_by("A")
    clients = [telling(cluster, "A"), telling(cluster, "A"), telling(cluster, "B")]
    sent: list[list[str]] = [[], [], []]
    for number, chunk, is_stopped in chunks:
        (cluster.stop_disk if is_stopped else cluster.start_disk)("B", "C")
        clients[number].send(*chunk)
        sent[number] += chunk
        cluster.settle()
    cluster.start_disk("B", "C")
    cluster.run(100)
    history = _history(cluster)
    for client, requests in zip(clients, sent, strict=True):
        replies = client.take()
        assert len(replies) == len(requests)
        seqs = [seq for (seq, _), request in zip(replies, requests, strict=True) if request != "PING"]
        assert seqs == sorted(seqs)
        for (seq, value), request in zip(replies, requests, strict=True):
            verb, *key = request.split()
            if verb == "GET":
                assert value == history[seq].get(key[0].encode())
            elif verb == "INCR":
                assert b"%d" % value == history[seq][key[0].encode()]
            elif verb == "DBSIZE":
                assert value == len(history[seq])


def _history(cluster: Cluster) -> list[dict[bytes, bytes]]:
    """The key space at each seq."""
    states: list[dict[bytes, bytes]] = [{}]
    for entry in cluster.log("A"):
        state = dict(states[-1])
        if entry[0] == "SET":
            state[entry[1]] = entry[2]
        states.append(state)
    return states


def test_a_read_after_a_write_in_doubt_tells_only_what_is_committed() -> None:
    cluster = led_by("A")
    client = telling(cluster, "A")
    cluster.stop_disk("B", "C")
    client.send("SET k 1")
    cluster.run(4500)
    (answer,) = client.take()
    assert answer[1].startswith("-UNKNOWN")
    (seq, reply) = client.ask("GET other")
    assert (seq, reply) == (1, None)
    assert cluster["A"].raft.commit_seq == 1


def test_a_read_behind_a_write_waits_with_it() -> None:
    """What it tells is the seq of the write, so that must be committed first."""
    cluster = led_by("A")
    client = telling(cluster, "A")
    cluster.stop_disk("B", "C")
    client.send("SET k 1", "GET other")
    cluster.settle()
    client.send("GET another")
    cluster.run(1000)
    assert client.take() == []
    cluster.start_disk("B", "C")
    cluster.settle()
    assert client.take() == [[2, b"OK"], [2, None], [2, None]]
