"""What a leader's answers wait for: the commit of what they wrote or saw, or a round sent after they were asked."""

from __future__ import annotations

import pytest

from kvnode.node import applying
from kvnode.node.leading import HOPE_MS
from kvnode.raft import messages as m
from tests.unit.node.small_cluster import Cluster, led_by


def test_a_write_is_answered_when_a_majority_has_it_on_disk() -> None:
    cluster = led_by("A")
    cluster.stop_disk("B", "C")
    client = cluster.client("A").send("SET k 1")
    cluster.settle()
    assert cluster["A"].raft.durable_seq == 2
    assert client.replies == []
    cluster.start_disk("C")
    cluster.settle()
    assert client.take() == [b"OK"]


def test_the_leaders_own_disk_is_not_needed_for_a_majority() -> None:
    cluster = led_by("A")
    cluster.stop_disk("A")
    assert cluster.client("A").ask("SET k 1") == b"OK"
    assert cluster["A"].raft.durable_seq == 1


@pytest.mark.parametrize("is_pipeline", [False, True], ids=["one by one", "in a pipeline"])
def test_a_command_like_the_last_but_for_the_number_of_its_words_is_refused(is_pipeline: bool) -> None:
    commands = ("SET k 1", "SET k", "SET k 2", "GET k", "GET", "GET k k", "GET k")
    cluster = led_by("A")
    client = cluster.client("A")
    for chunk in [commands] if is_pipeline else [(command,) for command in commands]:
        client.send(*chunk)
        cluster.settle()
    set_, get = (f"-ERR wrong number of arguments for '{name}' command" for name in ("set", "get"))
    assert client.take() == [b"OK", set_, b"OK", b"2", get, get, b"2"]


def test_a_cluster_of_one_answers_a_write_when_its_disk_has_it() -> None:
    cluster = led_by("A", "A")
    cluster.stop_disk("A")
    client = cluster.client("A").send("SET k 1")
    cluster.run(100)
    assert client.replies == []
    cluster.start_disk("A")
    cluster.settle()
    assert client.take() == [b"OK"]


def test_an_increment_builds_on_what_is_committed_and_not_applied_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four records are committed at once, and one is applied in a turn; a fifth is not logged yet."""
    monkeypatch.setattr(applying, "ENTRIES_PER_TURN", 1)
    cluster = led_by("A", batch_bytes_max=1)  # each write is a record
    cluster.stop_disk("B", "C")
    cluster.client("A").send(*["INCR n"] * 4, "SET k 1")
    cluster.settle()
    cluster.start_disk("B", "C")
    while cluster["A"].raft.commit_seq < 5:
        assert cluster._step()
    assert cluster["A"].applier.applied_seq == 2
    client = cluster.client("A").send("INCR n")
    cluster.run(HOPE_MS)
    assert client.take() == [5]


def test_increments_that_are_not_committed_build_on_each_other() -> None:
    cluster = led_by("A")
    cluster.hold("A>B A>C")
    first = cluster.client("A").send("INCR n", "INCR n")
    cluster.settle()
    second = cluster.client("A").send("INCR n")
    cluster.settle()
    third = cluster.client("A").send("SET n x NX", "GET n", "DEL n", "INCR n")
    cluster.settle()
    assert (first.replies, second.replies, third.replies) == ([], [], [])
    cluster.let_go("A>B A>C")
    cluster.settle()
    assert (first.take(), second.take(), third.take()) == ([1, 2], [3], [None, b"3", 1, 1])


def test_a_flush_that_is_not_committed_hides_what_is_applied() -> None:
    cluster = led_by("A")
    client = cluster.client("A")
    client.ask("SET n 5")
    cluster.hold("A>B A>C")
    client.send("FLUSHALL")
    cluster.settle()
    client.send("INCR n", "EXISTS n")
    cluster.let_go("A>B A>C")
    cluster.settle()
    assert client.take() == [b"OK", 1, 1]


def test_what_was_read_from_an_uncommitted_record_is_not_told_before_it_is_committed() -> None:
    """Rounds go through, so the read is confirmed; but its value could still be cut."""
    cluster = led_by("A")
    cluster.stop_disk("B", "C")
    cluster.client("A").send("SET k 1")
    cluster.settle()
    in_record = cluster.client("A").send("GET k")
    cluster.client("A").send("SET open 1")
    cluster.settle()
    in_open_batch = cluster.client("A").send("GET open")
    failed = cluster.client("A").send("SET k 2 NX")
    elsewhere = cluster.client("A").send("GET other")
    cluster.settle()
    assert (in_record.replies, in_open_batch.replies, failed.replies) == ([], [], [])
    assert elsewhere.take() == [None]
    cluster.start_disk("B", "C")
    cluster.run(HOPE_MS)  # those who were answered with the record might have more for the open batch
    assert (in_record.take(), in_open_batch.take(), failed.take()) == ([b"1"], [b"1"], [None])


def test_a_failed_update_is_not_logged_and_waits_for_the_deletion_that_it_saw() -> None:
    cluster = led_by("A")
    client = cluster.client("A")
    client.ask("SET k 1")
    cluster.stop_disk("B", "C")
    client.send("DEL k")
    cluster.settle()
    other = cluster.client("A").send("UPD k 2")
    cluster.settle()
    assert other.replies == []
    cluster.start_disk("B", "C")
    cluster.settle()
    assert other.take() == ["-ERR no such key"]
    assert cluster.log("A") == [("NOOP",), ("SET", b"k", b"1"), ("DEL", b"k")]


def test_a_read_is_answered_by_a_round_that_was_sent_after_it() -> None:
    cluster = led_by("A")
    cluster.hold("B>A C>A")
    early = cluster.client("A").send("GET k")
    cluster.settle()
    assert early.replies == []
    assert cluster.messages("B>A", m.HeartbeatReply)
    cluster.hold("A>B A>C")  # the round of the next read will not arrive
    late = cluster.client("A").send("GET k")
    cluster.settle()
    cluster.let_go("B>A C>A")
    cluster.settle()
    assert early.take() == [None]
    assert late.replies == []
    cluster.let_go("A>B A>C")
    cluster.settle()
    assert late.take() == [None]


def deposed() -> Cluster:
    """A still leads term 1 as far as it knows; B and C have gone on without it."""
    cluster = led_by("A")
    cluster.client("A").ask("SET k old")
    cluster.hold("A")
    cluster.elect("B")
    assert cluster.client("B").ask("SET k new") == b"OK"
    assert cluster.leaders == ["A", "B"]
    return cluster


def test_a_deposed_leader_answers_no_read() -> None:
    cluster = deposed()
    single, whole, failed = (cluster.client("A").send(text) for text in ("GET k", "KEYS *", "UPD missing 1"))
    cluster.run(3900)
    assert (single.replies, whole.replies, failed.replies) == ([], [], [])
    cluster.run(200)
    for client in (single, whole):
        (reply,) = client.take()
        assert reply.startswith("-CLUSTERDOWN")
        assert reply.endswith("the command was not applied")


def test_what_a_deposed_leader_was_asked_is_answered_by_the_new_one() -> None:
    cluster = deposed()
    client = cluster.client("A").send("GET k", "UPD missing 1", "DBSIZE")
    cluster.settle()
    cluster.heal()
    cluster.run(200)
    assert client.take() == [b"new", "-ERR no such key", 1]


def test_a_deposed_leader_tells_followers_nothing_either() -> None:
    cluster = led_by("A")
    cluster.client("A").ask("SET k old")
    cluster.hold("A>B B>A")
    cluster.hold("C>A")
    reader = cluster.client("C").send("GET k")
    cluster.settle()
    assert cluster.messages("C>A", m.ReadQuestion)
    cluster.campaign("B")
    cluster.hold("B>C C>B")
    cluster.let_go("C>A")
    cluster.lose("B>A")
    cluster.settle()  # C's question reaches A with a term that has passed, or is answered while A still leads
    cluster.let_go("B>C C>B")
    cluster.settle()
    writer = cluster.client("B").send("SET k new")
    cluster.settle()
    assert writer.take() == [b"OK"]
    late = cluster.client("C").send("GET k")
    cluster.settle()
    assert late.take() == [b"new"]
    assert reader.take() in ([b"old"], [b"new"])


def test_reads_of_the_whole_key_space_wait_for_what_is_logged_before_them() -> None:
    cluster = led_by("A")
    cluster.stop_disk("B", "C")
    cluster.client("A").send("SET logged 1")
    cluster.settle()
    cluster.client("A").send("SET evaluated 1")
    cluster.settle()
    counter, lister = cluster.client("A").send("DBSIZE"), cluster.client("A").send("KEYS *", "PING")
    cluster.settle()
    assert (counter.replies, lister.replies) == ([], [])
    cluster.start_disk("B", "C")
    cluster.settle()
    assert counter.take() == [2]
    keys, pong = lister.take()
    assert sorted(keys) == [b"evaluated", b"logged"]
    assert pong == b"PONG"


def test_replies_of_one_connection_leave_in_the_order_of_its_requests() -> None:
    cluster = led_by("A")
    cluster.stop_disk("B", "C")
    client = cluster.client("A").send("SET a 1", "GET none", "PING", "DBSIZE", "nonsense", "GET", "GET a")
    cluster.settle()
    assert client.replies == []
    cluster.start_disk("B", "C")
    cluster.settle()
    *first, unknown, arity, last = client.take()
    assert first == [b"OK", None, b"PONG", 1]
    assert unknown.startswith("-ERR unknown command")
    assert arity.startswith("-ERR wrong number")
    assert last == b"1"


def test_a_cluster_of_one_elects_itself_and_answers() -> None:
    cluster = Cluster("A")
    cluster.run(10)
    client = cluster.client("A")
    assert client.ask("INCR n") == 1
    assert client.ask("GET n") == b"1"
    assert client.ask("DBSIZE") == 1


def test_a_cluster_of_one_with_a_slow_disk_stays_in_its_term() -> None:
    cluster = Cluster("A")
    cluster.stop_disk("A")
    cluster.run(400)
    term = cluster["A"].raft.term
    cluster.start_disk("A")
    cluster.run(10)
    assert cluster.leaders == ["A"]
    assert cluster["A"].raft.term == term == 1
