"""Everything is answered by its deadline, and truthfully: "was not applied" only of what never will be."""

from __future__ import annotations

import pytest

from kvnode.node.wire import Forward
from tests.unit.node.small_cluster import Cluster, led_by

REFUSED = "-CLUSTERDOWN no leader within the time of the request; the command was not applied"
UNKNOWN = "-UNKNOWN the command may have been applied or not: the leader was lost before it was known"


@pytest.mark.parametrize("request_", ["SET k 1", "GET k", "KEYS *", "WAIT 1 0", "DBSIZE"])
def test_without_a_leader_a_command_is_refused_at_its_deadline(request_: str) -> None:
    cluster = Cluster("ABC", down="BC")
    client = cluster.client("A").send(request_)
    cluster.run(3950)
    assert client.replies == []
    cluster.run(100)
    assert client.take() == [REFUSED]


@pytest.mark.parametrize(
    ("request_", "reply"),
    [("PING", b"PONG"), ("ECHO x", b"x"), ("GET", None), ("nonsense", None), ("INFO raft", None), ("CLIENT ID", None)],
)
def test_without_a_leader_a_node_answers_for_itself(request_: str, reply: object) -> None:
    cluster = Cluster("ABC", down="BC")
    answer = cluster.client("A").ask(request_)
    assert reply in (None, answer)
    assert not str(answer).startswith("-CLUSTERDOWN")


def test_the_time_of_a_request_is_the_configured_one() -> None:
    cluster = Cluster("ABC", down="BC", request_timeout_ms=300)
    client = cluster.client("A").send("SET k 1")
    cluster.run(290)
    assert client.replies == []
    cluster.run(70)
    assert client.take() == [REFUSED]


def test_all_of_an_expired_pipeline_is_answered_at_once() -> None:
    """Each run of an alternating pipeline is of another kind; none of them is begun when its time is up."""
    cluster = led_by("A")
    cluster.hold("B>A")
    client = cluster.client("B").send(*["SET k 1", "GET k", "KEYS *", "PING"] * 25)
    cluster.run(4100)
    replies = client.take()
    assert len(replies) == 100
    assert replies[0] == UNKNOWN  # it was sent; the GET after it went along
    assert set(replies[1:3]) == {REFUSED}
    assert {reply for reply in replies[3:] if reply != b"PONG"} == {REFUSED}
    assert sum(len(f.requests) for f in cluster.messages("B>A", Forward)) == 1


def test_an_expired_command_is_not_begun_by_a_leader_that_could() -> None:
    cluster = led_by("A", uncommitted_bytes_max=1)
    cluster.stop_disk("B", "C")
    cluster.client("A").send("SET full 1")
    cluster.settle()
    client = cluster.client("A").send("SET k 1", "SET k 2", "SET k 3")
    cluster.run(4049)
    cluster.now_ms += 1
    cluster.start_disk("B", "C")
    cluster.run(100)
    assert client.take() == [REFUSED] * 3
    assert cluster.client("A").ask("EXISTS k") == 0


def test_what_waits_in_the_open_batch_is_answered_too() -> None:
    """Its record may still be written, so it is in doubt."""
    cluster = led_by("A")
    cluster.stop_disk("B", "C")
    first = cluster.client("A").send("SET a 1")
    cluster.settle()
    in_open_batch = cluster.client("A").send("SET b 1")
    whole = cluster.client("A").send("DBSIZE")
    cluster.run(4100)
    assert cluster.leaders == ["A"]
    assert (first.take(), in_open_batch.take()) == ([UNKNOWN], [UNKNOWN])
    assert whole.take() == [REFUSED]
    cluster.start_disk("B", "C")
    cluster.run(100)
    assert first.replies == in_open_batch.replies == []
    assert first.ask("MGET a b") == [b"1", b"1"]


def test_an_unconfirmed_read_is_refused() -> None:
    cluster = led_by("A", election_timeout_ms=8000, election_timeout_max_ms=9000)
    cluster.hold("A>B A>C")
    reads = [cluster.client("A").send("GET k"), cluster.client("A").send("DBSIZE"), cluster.client("B").send("GET k")]
    cluster.run(4100)
    assert [read.take() for read in reads] == [[REFUSED]] * 3


def test_reads_of_one_round_are_refused_each_at_its_own_deadline() -> None:
    """The first of those that wait for the next round is refused; the others, and who comes then, are answered."""
    cluster = led_by("A", election_timeout_ms=8000, election_timeout_max_ms=9000)
    cluster.client("A").ask("SET k 1")
    cluster.hold("A>B A>C")
    reads = []
    for wait_ms in (10, 3000, 1100, 0):  # the first has a round to itself
        reads.append(cluster.client("A").send("GET k"))
        cluster.run(wait_ms)
    assert [read.take() for read in reads[:2]] == [[REFUSED]] * 2
    assert [read.replies for read in reads[2:]] == [[], []]
    cluster.let_go("A>B A>C")
    cluster.run(100)
    assert [read.take() for read in reads[2:]] == [[b"1"]] * 2


def test_reads_that_no_round_confirmed_are_made_again_where_leadership_was_lost() -> None:
    """What they waited for at the old leader may have the number of what they wait for now."""
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    cluster.hold("A")
    reads = [cluster.client("A").send("GET k")]
    cluster.settle()
    reads += [cluster.client("A").send("GET k") for _ in range(3)]
    cluster.run(2000)
    assert cluster.leaders != ["A"]
    cluster.heal()
    cluster.run(1000)
    reads += [cluster.client("A").send("GET k") for _ in range(3)]
    cluster.run(100)
    assert [read.take() for read in reads] == [[b"1"]] * 7


def test_a_read_before_a_logged_write_keeps_its_own_deadline_when_leadership_is_lost() -> None:
    cluster = led_by("A")
    cluster.hold("A")
    client = cluster.client("A").send("GET k")
    cluster.run(900)
    client.send("SET k 1")
    cluster.run(3150)
    assert cluster.leaders != ["A"]
    assert client.take() == [REFUSED]
    cluster.run(900)
    assert client.take() == [UNKNOWN]


def test_a_forward_without_an_answer_is_in_doubt_at_its_deadline_and_stays_answered() -> None:
    cluster = led_by("A", election_timeout_ms=8000, election_timeout_max_ms=9000)
    cluster.hold("A>B")
    client = cluster.client("B").send("INCR n", "GET n")
    cluster.run(4100)
    assert client.take() == [UNKNOWN, REFUSED]
    cluster.let_go("A>B")
    cluster.run(100)
    assert client.replies == []
    assert client.ask("INCR n") == 2


def test_a_forward_takes_its_deadline_along() -> None:
    """The leader does not run what its member has given up."""
    cluster = led_by("A", uncommitted_bytes_max=1, election_timeout_ms=8000, election_timeout_max_ms=9000)
    cluster.stop_disk("B", "C")
    cluster.client("A").send("SET full 1")
    cluster.settle()
    client = cluster.client("B").send("SET k 1")
    cluster.run(3000)
    assert cluster["A"].waiting_count == 1
    cluster.run(1100)
    assert len(client.take()) == 1
    assert cluster["A"].waiting_count == 0
    cluster.start_disk("B", "C")
    cluster.run(100)
    assert cluster["A"].raft.index.last_seq == 2


def test_the_connection_stays_open_and_in_step_after_errors() -> None:
    cluster = led_by("A")
    cluster.hold("B")
    client = cluster.client("B").send("INCR n")
    cluster.run(4100)
    assert client.take() == [UNKNOWN]
    cluster.heal()
    cluster.run(1500)
    assert not client.is_closed
    assert client.ask("ECHO here") == b"here"


def test_a_node_that_shuts_down_says_so() -> None:
    cluster = Cluster("ABC", down="BC")
    client = cluster.client("A").send("SET k 1")
    cluster.settle()
    cluster.hosts["A"].post("on_shutdown")
    cluster.run(4100)
    assert client.take() == ["-CLUSTERDOWN this node is shutting down; the command was not applied"]
    assert cluster["A"].is_drained


def test_shutting_down_hands_over_and_answers_what_is_pending() -> None:
    cluster = led_by("A")
    cluster.stop_disk("B", "C")
    client = cluster.client("A").send("INCR n")
    cluster.settle()
    cluster.hosts["A"].post("on_shutdown")
    cluster.settle()
    assert not cluster["A"].is_drained
    cluster.start_disk("B", "C")
    cluster.run(10)
    assert client.take() == [1]
    assert cluster.leaders in (["B"], ["C"])
    assert not cluster["A"].is_drained  # who has not heard of the new leader still forwards here, and must be refused
    cluster.run(200)
    assert cluster["A"].is_drained


# Too much logged and not committed


def test_while_too_much_is_uncommitted_writes_wait_and_all_else_goes_on() -> None:
    cluster = led_by("A", uncommitted_bytes_max=1000)
    cluster.client("A").ask("SET k 1")
    cluster.stop_disk("B", "C")
    big = cluster.client("A").send([b"SET", b"big", b"x" * 2000])
    cluster.settle()
    write = cluster.client("A").send("SET k 2")
    cluster.settle()
    assert write.replies == []
    other = cluster.client("A")
    assert other.ask("PING") == b"PONG"
    assert other.ask("GET k") == b"1"
    assert other.ask("HELLO 2")[:2] == [b"server", b"redis"]
    assert b"role:leader" in other.ask("INFO raft")
    mixed = cluster.client("A").send("GET k", "PING", "SET k 3", "PING")
    cluster.settle()
    assert mixed.take() == [b"1", b"PONG"]
    cluster.start_disk("B", "C")
    cluster.settle()  # at once, not at the next sweep
    assert (big.take(), write.take(), mixed.take()) == ([b"OK"], [b"OK"], [b"OK", b"PONG"])


def test_an_unknown_command_behind_large_replies_does_no_harm_where_there_is_no_room() -> None:
    """The reads end at the bound of a turn's replies, and what comes next is no command at all."""
    cluster = led_by("A", uncommitted_bytes_max=1000)
    cluster.client("A").ask([b"SET", b"large", b"x" * 600_000])
    cluster.stop_disk("B", "C")
    cluster.client("A").send([b"SET", b"big", b"x" * 2000])
    cluster.settle()
    client = cluster.client("A").send("GET large", "GET large", "NOSUCH", "PING")
    cluster.settle()
    replies = client.take()
    assert [len(value) for value in replies[:2]] == [600_000, 600_000]
    assert replies[2].startswith("-ERR unknown command 'NOSUCH'")
    assert replies[3:] == [b"PONG"]


def test_writes_that_found_no_room_in_time_were_not_applied() -> None:
    cluster = led_by("A", uncommitted_bytes_max=1000)
    cluster.stop_disk("B", "C")
    big = cluster.client("A").send([b"SET", b"big", b"x" * 2000])
    cluster.settle()
    write = cluster.client("A").send("SET k 2", "PING")
    cluster.run(4100)
    assert big.take() == [UNKNOWN]
    assert write.take() == [REFUSED, b"PONG"]
    cluster.start_disk("B", "C")
    cluster.run(100)
    assert write.ask("EXISTS big k") == 1


def test_shutting_down_closes_a_connection_with_its_last_answer() -> None:
    """But not of a client that sends ahead: what it has sent may still be on its way."""
    cluster = led_by("A")
    idle, asks, pipelines = (cluster.client("A") for _ in range(3))
    cluster.settle()
    cluster.stop_disk("B", "C")
    asks.send("INCR n")
    pipelines.send("INCR m", "INCR m")
    cluster.settle()
    cluster.hosts["A"].post("on_shutdown")
    pipelines.send("INCR m")
    cluster.settle()
    assert not asks.is_closed
    cluster.start_disk("B", "C")
    cluster.run(100)
    assert (asks.take(), pipelines.take()) == ([1], [1, 2, 3])
    assert (idle.is_closed, asks.is_closed, pipelines.is_closed) == (False, True, False)
    assert not cluster["A"].is_drained
    cluster.run(300)
    assert cluster["A"].is_drained


def test_a_follower_that_shuts_down_waits_for_what_is_on_its_way() -> None:
    cluster = led_by("A")
    client = cluster.client("B")
    cluster.settle()
    cluster.hosts["B"].post("on_shutdown")
    cluster.settle()
    assert not cluster["B"].is_drained
    assert client.ask("INCR n") == 1
    assert client.is_closed
    assert cluster["B"].is_drained


def test_who_never_stops_asking_does_not_keep_a_node_from_shutting_down() -> None:
    cluster = led_by("A")
    host = cluster.hosts["A"]
    client = cluster.client("A")
    cluster.settle()
    cluster.stop_disk("B", "C")
    client.send("INCR n", "INCR n")
    cluster.settle()
    host.post("on_shutdown")
    cluster.run(250)  # its answers are still to come: nothing more is read of it by then
    assert host.up.sessions[client.id].is_paused
    cluster.start_disk("B", "C")
    cluster.run(300)
    assert client.take() == [1, 2]
    assert host.up.is_drained
    assert host.up.sessions[client.id].is_paused
