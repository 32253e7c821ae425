"""**S** A forward is for one leader and term: refused, it had no effect; in doubt, it is never sent again."""

from __future__ import annotations

import pytest

from kvnode.node.wire import Forward, ForwardReplies
from kvnode.raft import messages as m
from tests.unit.node.small_cluster import Cluster, led_by


def requests(cluster: Cluster, pair: str) -> list[list[bytes]]:
    """The commands that are on their way, forwarded."""
    return [command for f in cluster.messages(pair, Forward) for request in f.requests for command in request[5]]


def test_a_follower_takes_any_write() -> None:
    cluster = led_by("A")
    client = cluster.client("B")
    assert client.ask("SET k 1") == b"OK"
    assert client.ask("INCR k") == 2
    assert client.ask("APPEND k 5") == 2
    assert client.ask("UPD missing 1") == "-ERR no such key"
    assert client.ask("INCR k") == 26


def test_a_forward_names_the_leader_and_its_term() -> None:
    cluster = led_by("A")
    cluster.elect("B")
    cluster.hold("C>B")
    cluster.client("C").send("SET k 1")
    cluster.settle()
    (forward,) = cluster.messages("C>B", Forward)
    assert forward.term == 2
    assert cluster.messages("C>A", Forward) == []


@pytest.mark.parametrize(("receiver", "term"), [("B", 1), ("B", 0), ("B", 9), ("A", 0), ("A", 2)])
def test_all_but_the_leader_of_that_very_term_refuse_a_forward(receiver: str, term: int) -> None:
    cluster = led_by("A")
    cluster.hold(f"{receiver}>C")
    cluster.inject("C", receiver, Forward(term, [[77, 2, False, 0, 4000, [[b"INCR", b"n"]]]]))
    cluster.settle()
    assert cluster.messages(f"{receiver}>C", ForwardReplies) == [ForwardReplies([[77, 0, b"", 0]])]
    assert cluster["A"].raft.index.last_seq == 1


def test_the_leader_of_that_term_takes_it_and_tells_the_outcome() -> None:
    cluster = led_by("A")
    cluster.hold("A>C")
    cluster.inject("C", "A", Forward(1, [[77, 2, False, 0, 4000, [[b"INCR", b"n"], [b"GET", b"n"]]]]))
    cluster.settle()
    assert cluster.messages("A>C", ForwardReplies) == [ForwardReplies([[77, 2, b":1\r\n$1\r\n1\r\n", 2]])]


def test_a_refused_forward_runs_through_the_new_leader_once() -> None:
    cluster = led_by("A")
    cluster.hold("B>A")
    client = cluster.client("B").send("INCR n")
    cluster.settle()
    cluster.elect("C")
    cluster.hold("B>C")
    cluster.run(100)
    assert requests(cluster, "B>C") == []  # not refused yet: it may have had its effect
    cluster.let_go("B>A")
    cluster.run(100)
    assert requests(cluster, "B>C") == [[b"INCR", b"n"]]
    cluster.let_go("B>C")
    cluster.run(100)
    assert client.take() == [1]
    assert cluster.log("C") == [("NOOP",), ("NOOP",), ("SET", b"n", b"1")]


def test_a_forward_that_was_taken_is_not_run_again_when_its_leader_is_deposed() -> None:
    cluster = led_by("A")
    cluster.hold("A>B")
    client = cluster.client("B").send("INCR n")
    cluster.settle()
    assert cluster.local("A", "n") == b"1"
    cluster.elect("C")
    cluster.run(100)
    assert client.replies == []
    cluster.heal()
    cluster.run(100)
    assert client.take() == [1]
    assert cluster.log("C").count(("SET", b"n", b"1")) == 1


def test_the_part_that_was_not_done_is_run_elsewhere() -> None:
    """The leader answers for what it had evaluated and logged; the rest it certainly has not done."""
    cluster = led_by("A", uncommitted_bytes_max=1)
    cluster.stop_disk("B", "C")
    cluster.client("A").send("SET full 1")
    cluster.settle()
    client = cluster.client("B").send("INCR n", "INCR n", "GET n")
    cluster.settle()
    assert client.replies == []
    cluster.hold("A")
    cluster.start_disk("B", "C")
    cluster.elect("C")
    cluster.lose("A")
    cluster.heal()
    cluster.run(200)
    replies = client.take()
    assert replies == [1, 2, b"2"] or all(str(reply).startswith("-") for reply in replies)
    assert len(replies) == 3


@pytest.mark.parametrize("received", [True, False])
@pytest.mark.parametrize("broken", ["A>B", "B>A"])
def test_a_broken_link_leaves_a_forward_in_doubt_and_it_never_runs_twice(broken: str, received: bool) -> None:
    cluster = led_by("A")
    cluster.hold("A>B" if received else "B>A")
    client = cluster.client("B").send("INCR n")
    cluster.settle()
    cluster.cut_off(broken)
    cluster.settle()
    (reply,) = client.take()
    assert reply.startswith("-UNKNOWN the command may have been applied or not")
    cluster.heal()
    cluster.run(500)
    assert client.replies == []
    assert client.ask("INCR n") == (2 if received else 1) or not received


def test_reads_in_a_forward_that_is_in_doubt_are_refused_not_in_doubt() -> None:
    cluster = led_by("A")
    cluster.hold("B>A")
    client = cluster.client("B").send("INCR n", "GET n")
    cluster.settle()
    cluster.cut_off("B>A")
    cluster.settle()
    write, read = client.take()
    assert write.startswith("-UNKNOWN")
    assert read.startswith("-CLUSTERDOWN")


def test_nothing_later_leaves_before_a_forward_is_resolved() -> None:
    cluster = led_by("A")
    cluster.hold("A>B B>A")
    client = cluster.client("B").send("INCR n", "PING", "INCR n")
    client.send("GET n", "INCR n", "KEYS *")
    cluster.settle()
    assert requests(cluster, "B>A") == [[b"INCR", b"n"]]
    assert cluster.messages("B>A", m.ReadQuestion) == []
    assert client.replies == []
    cluster.let_go("A>B B>A")
    cluster.run(50)
    assert client.take() == [1, b"PONG", 2, b"2", 3, [b"n"]]


def test_a_forward_is_resolved_first_even_where_its_sender_leads_meanwhile() -> None:
    cluster = led_by("A")
    cluster.hold("B>A")
    client = cluster.client("B").send("INCR n")
    cluster.settle()
    cluster.elect("B")
    client.send("INCR n", "GET n")
    cluster.settle()
    assert cluster["B"].raft.index.last_seq == 2
    cluster.let_go("B>A")
    cluster.run(100)
    assert client.take() == [1, 2, b"2"]


def test_outcomes_for_an_earlier_life_are_not_taken() -> None:
    cluster = led_by("A")
    cluster.stop_disk("A", "C")
    cluster.hold("B>A")
    cluster.client("B").send("INCR n")
    cluster.settle()
    (earlier,) = cluster.messages("B>A", Forward)
    cluster.let_go("B>A")
    cluster.settle()
    assert cluster["A"].raft.index.last_seq == 2
    cluster.crash("B")
    cluster.start("B")
    cluster.run(100)
    cluster.hold("B>A")
    client = cluster.client("B").send("SET k 1")
    cluster.settle()
    (later,) = cluster.messages("B>A", Forward)
    assert earlier.requests[0][0] != later.requests[0][0]
    cluster.hold("A>B")
    cluster.let_go("B>A")
    cluster.settle()
    cluster.start_disk("A", "C")
    cluster.settle()
    told = [outcome[0] for replies in cluster.messages("A>B", ForwardReplies) for outcome in replies.outcomes]
    assert told == [later.requests[0][0]]
    cluster.let_go("A>B")
    cluster.settle()
    assert client.take() == [b"OK"]
    assert cluster.client("A").ask("GET n") == b"1"


def test_an_outcome_of_another_member_is_not_taken() -> None:
    cluster = led_by("A")
    cluster.hold("B>A")
    client = cluster.client("B").send("INCR n")
    cluster.settle()
    request_id = cluster.messages("B>A", Forward)[0].requests[0][0]
    cluster.inject("C", "B", ForwardReplies([[request_id, 1, b":99\r\n", 0]]))
    cluster.settle()
    assert client.replies == []
    cluster.let_go("B>A")
    cluster.settle()
    assert client.take() == [1]


def test_what_was_forwarded_and_not_logged_is_dropped_with_its_link() -> None:
    """Its member has answered -UNKNOWN; it may as well not happen, and nobody waits for it."""
    cluster = led_by("A", uncommitted_bytes_max=1)
    cluster.stop_disk("B", "C")
    cluster.client("A").send("SET full 1")
    cluster.settle()
    client = cluster.client("B").send("INCR n")
    cluster.settle()
    assert cluster["A"].waiting_count == 1
    cluster.lose("B>A")
    cluster.settle()
    assert client.take()[0].startswith("-UNKNOWN")
    assert cluster["A"].waiting_count == 0
    cluster.start_disk("B", "C")
    cluster.run(200)
    assert cluster["A"].raft.index.last_seq == 2


def test_a_follower_does_not_forward_while_the_leader_can_not_answer() -> None:
    """Outcomes come on the lane that the leader dials: while that is down the command waits, and is not in doubt."""
    cluster = led_by("A")
    cluster.cut_off("A>B")
    cluster.settle()
    client = cluster.client("B").send("INCR n")
    cluster.settle()
    assert requests(cluster, "B>A") == []
    assert client.replies == []
    cluster.heal()
    cluster.run(100)
    assert client.take() == [1]


def test_requests_of_a_turn_in_which_the_leader_changes_go_to_the_new_one() -> None:
    cluster = led_by("A")
    client = cluster.client("B").send("INCR n")
    cluster.inject("C", "B", m.Heartbeat(2, 0, 0, False, 0))
    cluster.elect("C")
    cluster.run(200)
    assert client.take() == [1]
    assert cluster.log("C").count(("SET", b"n", b"1")) == 1


def test_a_forward_is_given_up_with_its_lane_and_not_before() -> None:
    """When a leader is killed its connections end one after the other. Told on the first, a client would go on, and
    have its next command sent into the others."""
    cluster = led_by("A")
    cluster.hold("B>A")
    client = cluster.client("B").send("SET k 1")
    cluster.settle()
    cluster.links["A", "B", "control"].close()
    cluster.hosts["B"].turn()
    assert client.replies == []
    cluster.links["B", "A", "data"].close()
    cluster.hosts["B"].turn()
    assert client.take()[0].startswith("-UNKNOWN")
