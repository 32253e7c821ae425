"""What a scenario tells badly: randomness, timers, refusals of what only a bug can ask for, and costs."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from kvnode.invariant import InvariantError
from kvnode.raft import LogIndex, Options, Raft, Role, SaveBallot
from kvnode.raft import messages as m
from tests.scenarios.spelling import Record

MEMBERS = ("A", "B", "C")


def make(
    members: tuple[str, ...] = MEMBERS,
    *,
    terms: tuple[int, ...] = (),
    term: int | None = None,
    commit_seq: int = 0,
    may_vote: bool = True,
    seed: int = 1,
    size: int = 100,
) -> Raft:
    index = LogIndex()
    for seq, of in enumerate(terms, 1):
        index.append(Record(seq, seq, of, index.last_checksum))
    raft = Raft(
        "A",
        members,
        index,
        term=max(terms, default=0) if term is None else term,
        vote=None,
        commit_seq=commit_seq,
        may_vote=may_vote,
        options=Options(),
        random=Random(seed),
        now_ms=0,
    )
    for peer in raft.peers:
        raft.link_up(peer, 0)
    return raft


def next_record(raft: Raft, entries: int = 1) -> Record:
    first = raft.index.last_seq + 1
    return Record(first, first + entries - 1, raft.term, raft.index.last_checksum)


def carry_out(raft: Raft) -> list[tuple[str, m.Message]]:
    """Flush, let the disk finish everything, and return all that was sent."""
    sent: list[tuple[str, m.Message]] = []
    while True:
        raft.flush()
        output = raft.take_output()
        sent += output.messages
        if not output.disk:
            return sent
        for deed in output.disk:
            if isinstance(deed, SaveBallot):
                raft.ballot_saved(deed.term, deed.vote)
            else:
                raft.durable(deed.last_seq, deed.term)  # type: ignore[union-attr]


def elect(raft: Raft) -> Raft:
    """Make it the leader of its next term, with its no-op appended."""
    raft.tick(raft.deadline_ms())
    voters = raft.peers[: raft.quorum - 1]
    carry_out(raft)
    for voter in voters:
        raft.step(voter, m.PreVoteReply(raft.term + 1, True), raft.now_ms)
    carry_out(raft)
    for voter in voters:
        raft.step(voter, m.VoteReply(raft.term, True), raft.now_ms)
    raft.propose(next_record(raft))
    carry_out(raft)
    assert raft.role is Role.LEADER
    return raft


# Randomness


def test_each_election_has_its_own_timeout_within_the_bounds() -> None:
    """Dissertation 3.4, pitfall 29."""
    raft = make()
    waits = []
    for _ in range(200):
        waits.append(raft.deadline_ms() - raft.now_ms)
        raft.tick(raft.deadline_ms())
    assert min(waits) >= 500
    assert max(waits) <= 1000
    assert max(waits) - min(waits) > 300
    assert len(set(waits)) > 150


def test_a_sign_of_life_draws_a_new_timeout_too() -> None:
    raft = make(term=1)
    deadlines = set()
    for now_ms in range(50):
        raft.step("B", m.Heartbeat(1, 0, 1, False, 0), now_ms)
        deadlines.add(raft.deadline_ms() - now_ms)
    assert len(deadlines) > 40


def test_tickets_of_two_lives_are_apart() -> None:
    """Pitfall 19: an answer to an earlier life of the process must not answer a question of this one."""
    tickets = set()
    for seed in range(20):
        raft = make(term=1, seed=seed)
        raft.step("B", m.Heartbeat(1, 0, 1, False, 0), 0)
        ticket = raft.read()
        assert ticket is not None
        tickets.add(ticket >> 20)
    assert len(tickets) == 20


# Timers


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("members", [MEMBERS, ("A",)], ids=["three", "one"])
def test_a_deadline_that_was_served_is_not_due_any_more(members: tuple[str, ...], role: Role) -> None:
    """Else the node would spin."""
    raft = make(members)
    if role is Role.LEADER:
        raft = elect(raft)
    elif role is Role.CANDIDATE:
        raft.tick(raft.deadline_ms())
    for _ in range(100):
        now_ms = raft.deadline_ms()
        raft.tick(now_ms)
        carry_out(raft)
        if len(members) == 1 and not raft.leading:
            continue
        assert raft.deadline_ms() > now_ms


def test_an_idle_leader_is_quiet_but_for_heartbeats() -> None:
    raft = elect(make())
    for peer in raft.peers:
        raft.step(peer, m.Appended(raft.term, 1, True), raft.now_ms)
    carry_out(raft)
    sent, turns, until_ms = [], 0, raft.now_ms + 1000
    while raft.deadline_ms() < until_ms:
        now_ms = raft.deadline_ms()
        raft.tick(now_ms)
        for to, message in carry_out(raft):
            sent.append(message)
            if isinstance(message, m.Heartbeat):
                raft.step(to, m.HeartbeatReply(raft.term, message.round, True, True), now_ms)
        turns += 1
    assert all(isinstance(message, m.Heartbeat) for message in sent)
    assert len(sent) <= 24
    assert turns <= 24


def test_a_silent_member_is_asked_ever_more_rarely() -> None:
    """Pitfall 30: it is asked at all; and not ten times a second for ever."""
    raft = elect(make(("A", "B", "C")))
    raft.step("B", m.Appended(raft.term, 1, True), raft.now_ms)
    asked_ms, start_ms = [], raft.now_ms
    while raft.now_ms < start_ms + 60_000:
        now_ms = raft.deadline_ms()
        raft.tick(now_ms)
        for to, message in carry_out(raft):
            if to == "B" and isinstance(message, m.Heartbeat):
                raft.step("B", m.HeartbeatReply(raft.term, message.round, True, True), now_ms)
            elif to == "C" and isinstance(message, m.Append) and message.last_seq == message.prev_seq:
                asked_ms.append(now_ms)
    gaps = [round(later - earlier) for earlier, later in pairwise(asked_ms)]
    assert asked_ms[0] - start_ms <= 1200
    assert gaps == sorted(gaps)
    assert max(gaps) <= 8200
    assert len(asked_ms) <= 12


# Costs


def test_members_that_are_sent_the_same_are_sent_the_same_object() -> None:
    """So the node encodes it once."""
    raft = elect(make(("A", "B", "C", "D", "E")))
    raft.propose(next_record(raft))
    appends = [message for _, message in carry_out(raft) if isinstance(message, m.Append)]
    assert len(appends) == 4
    assert all(append is appends[0] for append in appends)


def test_a_large_append_does_not_delay_a_round() -> None:
    """A heartbeat goes beside it; a small one carries the round itself."""
    raft = elect(make())
    raft.step("B", m.Appended(raft.term, 1, True), raft.now_ms)
    carry_out(raft)
    raft.read()
    raft.propose(next_record(raft, 10))
    kinds = [type(message) for to, message in carry_out(raft) if to == "B"]
    assert kinds == [m.Append]
    raft.step("B", m.HeartbeatReply(raft.term, raft.leading.rounds.number, True, True), raft.now_ms)  # type: ignore[union-attr]
    raft.read()
    raft.propose(next_record(raft, 1000))
    kinds = [type(message) for to, message in carry_out(raft) if to == "B"]
    assert kinds == [m.Append, m.Heartbeat]


# What only a bug can ask for


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": ("B", "C")}, "not one of the members"),
        ({"terms": (1, 2), "term": 1}, "older than the log's"),
        ({"terms": (1, 2), "commit_seq": 3}, "beyond the log's end"),
    ],
)
def test_a_past_that_can_not_be_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvariantError, match=message):
        make(**arguments)  # type: ignore[arg-type]


def test_only_a_leader_proposes_and_in_its_own_term() -> None:
    raft = make(term=1)
    with pytest.raises(InvariantError, match="only a leader"):
        raft.propose(next_record(raft))
    elect(raft)
    with pytest.raises(InvariantError, match="another term"):
        raft.propose(Record(2, 2, raft.term - 1, raft.index.last_checksum))


def test_nothing_committed_is_ever_cut() -> None:
    """Pitfall 13: it is better to stop."""
    raft = make(terms=(1, 1, 1), commit_seq=2)
    with pytest.raises(InvariantError, match="2 is committed"):
        raft.step("B", m.Append(2, 0, 0, 0, 0, 0, 1, (Record(1, 1, 2, 0),)), 0)


def test_a_second_vote_of_one_term_is_refused() -> None:
    raft = make(term=1)
    raft.set_ballot(1, "B")
    for term, vote in ((1, "C"), (1, None), (0, "B")):
        with pytest.raises(InvariantError, match="second vote"):
            raft.set_ballot(term, vote)


def test_a_disk_that_reports_what_was_never_written_stops_the_node() -> None:
    raft = elect(make())
    with pytest.raises(InvariantError, match="not cut"):
        raft.durable(1, raft.term + 1)


# The right to vote


def test_the_right_is_granted_once() -> None:
    raft = make(may_vote=False)
    raft.grant_right_to_vote()
    with pytest.raises(InvariantError, match="twice"):
        raft.grant_right_to_vote()


def test_a_cluster_of_one_leads_as_soon_as_it_may() -> None:
    raft = make(("A",), may_vote=False)
    raft.tick(10)
    assert raft.deadline_ms() > 10
    raft.grant_right_to_vote()
    assert raft.deadline_ms() <= 10
    elect(raft)


def test_what_was_forsworn_is_voted_for_by_nobody() -> None:
    raft = make(may_vote=False)
    raft.forswear(5)
    assert [deed for deed in raft.take_output().disk if isinstance(deed, SaveBallot)][-1] == SaveBallot(5, "A")
    raft.ballot_saved(5, "A")
    raft.grant_right_to_vote()
    raft.step("B", m.VoteRequest(5, 9, 4, False), 0)
    assert raft.take_output().messages == [("B", m.VoteReply(5, False))]
    raft.step("B", m.VoteRequest(6, 9, 4, False), 0)
    assert raft.vote == "B"


def test_a_new_cluster_forswears_nothing() -> None:
    raft = make(may_vote=False)
    raft.forswear(0)
    assert raft.take_output().disk == []
    raft.grant_right_to_vote()
    raft.step("B", m.VoteRequest(1, 0, 0, False), 0)
    assert raft.vote == "B"


# What is shown


def test_a_raft_prints_as_one_line() -> None:
    raft = make(terms=(1, 1), commit_seq=1)
    assert repr(raft) == "A@1 follower last=2@1 durable=2 commit=1"
    leader = elect(raft).leading
    assert leader is not None
    assert repr(leader.progress["B"]) == "B stream match=0 sent=3"
    raft.step("B", m.HeartbeatReply(raft.term, 0, False, True), raft.now_ms)
    assert repr(leader.progress["B"]) == "B probe match=0 sent=3 no vote"


# Setting aside


def test_who_is_set_aside_says_nothing_more() -> None:
    """Neither what was to leave in this turn nor what a ballot would release; and what is to be written stays."""
    raft = make(terms=(1, 1), commit_seq=1)
    raft.step("B", m.VoteRequest(2, 2, 1, False), 0)
    assert raft.vote == "B"
    raft.set_aside()
    output = raft.take_output()
    assert output.messages == []
    assert output.disk[-1] == SaveBallot(2, "B")
    raft.ballot_saved(2, "B")
    raft.tick(5000)
    raft.step("C", m.VoteRequest(9, 99, 9, True), 5000)
    output = raft.take_output()
    assert output.messages == []
    assert output.disk == []


def test_a_leader_that_is_set_aside_leads_no_more() -> None:
    raft = elect(make(terms=(1, 1), commit_seq=1))
    raft.step("B", m.Appended(raft.term, 3, True), raft.now_ms)
    assert raft.read() is not None
    raft.flush()
    raft.step("B", m.HeartbeatReply(raft.term, raft._last_ticket, True, True), raft.now_ms)
    raft.set_aside()
    raft.flush()
    output = raft.take_output()
    assert output.messages == []
    assert output.reads_ready == []
    assert output.reads_void
    assert raft.role is Role.FOLLOWER
    assert raft.leader is None
    assert not raft.may_vote
