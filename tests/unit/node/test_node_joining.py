"""**S** How a directory without a past comes to vote: nobody may vote twice because its disk was lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvnode.node.deeds import AppendRecords
from kvnode.node.wire import JoinAnswer, JoinQuestion, JoinTarget
from kvnode.raft import messages as m
from tests.unit.node.small_cluster import Cluster, led_by


def may_vote(cluster: Cluster, member: str) -> bool:
    granted = cluster[member].raft.may_vote
    assert not granted or cluster.hosts[member].log.identity.may_vote, "the right is used before it is stored"
    return granted


def test_a_new_cluster_votes_when_all_members_have_said_that_they_are_empty() -> None:
    cluster = Cluster("ABC", may_vote=False, down="C")
    cluster.run(3000)
    assert not may_vote(cluster, "A")
    assert not may_vote(cluster, "B")
    assert cluster["A"].raft.term == 0
    cluster.start("C")
    cluster.run(300)
    assert all(may_vote(cluster, member) for member in "ABC")
    cluster.run(3000)
    assert len(cluster.leaders) == 1
    assert cluster.client("B").ask("SET k 1") == b"OK"


def set_aside(cluster: Cluster, member: str) -> None:
    """Its disk is as empty as a new one, but says why."""
    cluster.wipe(member)
    log = cluster.hosts[member].log
    log.save_identity(replace(log.identity, set_aside="the ballot can not be read"))


def test_a_member_that_was_set_aside_is_never_empty() -> None:
    """**S** Else members that have all lost their disks would begin anew, as if nothing had ever been committed."""
    cluster = Cluster("ABC", may_vote=False, down="ABC")
    set_aside(cluster, "B")
    cluster.start("A")
    cluster.start("B")
    cluster.start("C")
    cluster.run(3000)
    assert not any(may_vote(cluster, member) for member in "ABC")


def test_a_member_that_was_set_aside_joins_when_a_leader_has_brought_it_up_to_date() -> None:
    cluster = led_by("A")
    cluster.crash("C")
    set_aside(cluster, "C")
    cluster.client("A").ask("SET k 1")
    cluster.start("C")
    assert not may_vote(cluster, "C")
    cluster.run(1000)
    assert may_vote(cluster, "C")
    assert cluster.log("C") == cluster.log("A")
    assert cluster.hosts["C"].log.identity.set_aside == ""


@pytest.mark.parametrize("may_vote_at_first", [False, True])
def test_a_cluster_of_one_needs_nobody(may_vote_at_first: bool) -> None:
    cluster = Cluster("A", may_vote=may_vote_at_first)
    cluster.run(100)
    assert cluster.leaders == ["A"]


def wiped(cluster: Cluster, member: str) -> None:
    cluster.crash(member)
    cluster.wipe(member)


def test_a_wiped_member_joins_when_a_leader_has_brought_it_up_to_date() -> None:
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    wiped(cluster, "C")
    cluster.client("A").ask("SET k 2")
    cluster.start("C")
    assert not may_vote(cluster, "C")
    cluster.run(1000)
    assert may_vote(cluster, "C")
    assert cluster.local("C", "k") == b"2"
    assert cluster.log("C") == cluster.log("A")


def test_a_wiped_member_does_not_join_before_it_holds_durably_what_was_committed() -> None:
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    wiped(cluster, "C")
    cluster.stop_disk("C")
    cluster.start("C")
    host = cluster.hosts["C"]
    for _ in range(20):
        cluster.run(50)
        while host.deeds and not isinstance(host.deeds[0], AppendRecords):
            host.work_on_disk(1)  # ballots alone
    assert cluster["C"].raft.index.last_seq == 2
    assert not cluster["C"].joining._is_saving
    cluster.start_disk("C")
    cluster.run(1000)
    assert may_vote(cluster, "C")


def test_what_a_member_acknowledged_before_it_asked_to_join_commits_nothing_any_more() -> None:
    """**S** Else the target that it is given would not cover the commit, and it could vote for a member without it."""
    cluster = led_by("A")
    cluster.hold_link(cluster.links["A", "B", "data"])
    cluster.stop_disk("A")
    client = cluster.client("A").send("SET k 1")
    cluster.run(10)
    leader = cluster["A"].raft.leading
    assert leader is not None
    assert leader.progress["C"].match_seq == 2
    cluster.hold("A>C")
    cluster.inject("C", "A", JoinQuestion(77))  # of a new life of C, which has asked before it was asked anything
    cluster.settle()
    cluster.start_disk("A")
    cluster.settle()
    assert cluster["A"].raft.durable_seq == 2
    assert client.replies == []
    assert cluster["A"].raft.commit_seq == 1
    cluster.let_go("A>C")
    cluster.run(200)  # it holds the record after all, and says so
    assert client.take() == [b"OK"]


def test_a_wiped_member_does_not_count_for_commits_or_rounds_before_it_may_vote() -> None:
    cluster = Cluster("ABC")
    cluster.elect("A")
    cluster.client("A").ask("SET k 1")
    wiped(cluster, "C")
    cluster.hold("B")  # so that C never hears B's term, and can not join
    cluster.start("C")
    writer = cluster.client("A").send("SET k 2")
    reader = cluster.client("A").send("GET k")
    cluster.run(600)
    assert cluster["C"].raft.durable_seq == 3
    assert not may_vote(cluster, "C")
    assert (writer.replies, reader.replies) == ([], [])


def test_a_wiped_member_does_not_believe_a_leader_that_was_deposed() -> None:
    """C voted for B in term 2 and forgets it. A still leads term 1, by itself; B, the true leader, does not reach C."""
    cluster = led_by("A")
    cluster.hold("A")
    cluster.elect("B")
    assert cluster.client("B").ask("SET k acknowledged") == b"OK"
    wiped(cluster, "C")
    cluster.cut_off("B-C A-B")
    cluster.let_go("A-C")
    cluster.start("C")
    cluster.run(300)
    assert cluster.leaders == ["A", "B"]
    assert not may_vote(cluster, "C")
    cluster.run(5000)
    assert not may_vote(cluster, "C")
    cluster.heal()
    cluster.run(3000)
    assert may_vote(cluster, "C")
    assert cluster.local("C", "k") == b"acknowledged"


def test_even_with_every_member_heard_it_takes_the_true_leader_to_join() -> None:
    """B's answers reach C, but it is A, deposed and without a majority, that replicates to C."""
    cluster = led_by("A")
    cluster.hold("A")
    cluster.elect("B")
    assert cluster.client("B").ask("SET k acknowledged") == b"OK"
    wiped(cluster, "C")
    cluster.cut_off("A-B B-C")
    cluster.let_go("A-C")
    cluster.start("C")
    cluster.run(250)
    node = cluster["C"]
    assert (node.raft.leader, node.raft.term, node.raft.acknowledged_seq) == ("A", 1, 1)
    node.on_peer_message("B", JoinAnswer(node.joining._nonce, False, 2))
    cluster.run(250)
    assert node.joining.missing() == []
    assert not may_vote(cluster, "C")
    # Nor does what A has sent count towards a target that B, the leader of term 2, has named.
    node.on_peer_message("B", JoinTarget(node.joining._nonce, 2, 1))
    cluster.run(250)
    assert (node.raft.leader, node.raft.term) == ("A", 1)
    assert not may_vote(cluster, "C")


def test_every_member_must_have_told_its_term() -> None:
    """Five members: a leader with a majority has named its commit seq, and C holds it; E has not been heard."""
    cluster = led_by("A", "ABCDE")
    cluster.client("A").ask("SET k 1")
    cluster.run(10)
    cluster.crash("E")
    wiped(cluster, "C")
    cluster.hosts["E"].log.save_ballot(9, "E")  # with C's forgotten vote it may have led term 9
    cluster.start("C")
    cluster.run(2000)
    assert cluster["C"].joining._target_seq is not None
    assert cluster["C"].raft.acknowledged_seq == cluster["A"].raft.commit_seq
    assert not may_vote(cluster, "C")
    cluster.cut_off("E-A E-B E-D")
    cluster.start("E")
    cluster.run(2000)
    assert may_vote(cluster, "C")
    log = cluster.hosts["C"].log
    assert (log.term, log.vote) >= (9, "C")


def test_terms_that_it_may_have_voted_in_are_forsworn_before_it_votes() -> None:
    cluster = led_by("A")
    wiped(cluster, "C")
    cluster.start("C")
    cluster.run(1000)
    assert may_vote(cluster, "C")
    log = cluster.hosts["C"].log
    assert (log.term, log.vote) == (1, "C")
    cluster.hold("C>B")
    cluster.inject("B", "C", m.VoteRequest(1, 100, 1, True))
    cluster.settle()
    assert m.VoteReply(1, False) in cluster.messages("C>B")
    cluster.let_go("C>B")
    cluster.inject("B", "C", m.VoteRequest(2, 100, 1, True))
    cluster.hold("C>B")
    cluster.settle()
    assert m.VoteReply(2, True) in cluster.messages("C>B")


def test_the_ballot_is_on_disk_before_the_right_is() -> None:
    """The right alone, after a crash between the two, would let it vote in a term in which it may have voted."""
    cluster = led_by("A")
    wiped(cluster, "C")
    cluster.start("C")
    cluster.settle()
    host = cluster.hosts["C"]
    for _ in range(400):
        cluster.stop_disk("C")
        cluster.run(5)
        if [type(deed).__name__ for deed in host.deeds][-1:] == ["GrantRightToVote"]:
            break
        cluster.start_disk("C")
        cluster.settle()
    kinds = [type(deed).__name__ for deed in host.deeds]
    assert "GrantRightToVote" in kinds
    while host.log.identity.may_vote is False:
        host.work_on_disk(1)
    assert (host.log.term, host.log.vote) == (1, "C")


def test_it_asks_for_no_votes_and_gives_none_while_it_may_not() -> None:
    cluster = led_by("A")
    wiped(cluster, "C")
    cluster.crash("A", "B")
    cluster.start("C", "B")
    cluster.hold("C>B")
    cluster.inject("B", "C", m.PreVoteRequest(5, 100, 1))
    cluster.inject("B", "C", m.VoteRequest(5, 100, 1, True))
    cluster.run(3000)
    told = cluster.messages("C>B")
    assert not [message for message in told if isinstance(message, (m.VoteRequest, m.PreVoteRequest))]
    assert not [message for message in told if isinstance(message, (m.VoteReply, m.PreVoteReply)) and message.granted]
    assert [message for message in told if isinstance(message, JoinQuestion)]


def test_answers_to_an_earlier_life_do_not_count() -> None:
    cluster = Cluster("ABC", may_vote=False, down="BC")
    node = cluster["A"]
    nonce = node.joining._nonce
    for peer in "BC":
        node.on_peer_message(peer, JoinAnswer(nonce + 1, True, 0))
    node.on_peer_message("B", JoinTarget(nonce + 1, 1, 0))
    cluster.run(100)
    assert node.joining.missing() == ["B", "C"]
    assert node.joining._target_seq is None
    cluster.crash("A")
    cluster.start("A")
    assert cluster["A"].joining._nonce != nonce


def test_who_has_a_ballot_but_no_record_is_not_empty() -> None:
    cluster = Cluster("ABC", may_vote=False, down="AB")
    cluster.hosts["B"].log.save_ballot(1, None)
    cluster.start("A", "B")
    cluster.run(3000)
    assert not may_vote(cluster, "A")
    assert not may_vote(cluster, "C")


def test_a_leader_that_has_not_committed_in_its_term_names_no_target() -> None:
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    wiped(cluster, "C")
    cluster.crash("A", "B")
    cluster.start("A", "B")
    cluster.hold("B>A")
    cluster.campaign("A")
    cluster.settle()
    cluster.stop_disk("A", "B")
    cluster.let_go("B>A")
    cluster.settle()
    assert cluster.leaders == ["A"]
    cluster.start("C")
    cluster.run(500)
    assert cluster["C"].joining._target_seq is None
    cluster.start_disk("A", "B")
    cluster.run(500)
    assert may_vote(cluster, "C")
