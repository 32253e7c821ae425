"""Asking for votes: first whether an election could be won (pre-vote), then for real.

A pre-vote adopts no term, so a node that was cut off returns without deposing anybody (dissertation 9.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvnode.raft import messages as m

if TYPE_CHECKING:
    from kvnode.raft.core import Raft


class Candidate:
    """`real`: campaign without asking first. `transfer`: the leader itself wants to be replaced."""

    def __init__(self, raft: Raft, *, transfer: bool, real: bool) -> None:
        self.raft = raft
        self.leader: str | None = None
        self.acknowledged_seq = 0
        self._transfer = transfer
        self._granted: set[str] = set()
        self._pre_vote = not real
        self._deadline_ms = raft.election_deadline_ms()
        self._campaigned_ms = raft.now_ms
        if real:
            self._campaign()
        else:
            self._granted.add(raft.id)
            self._ask(m.PreVoteRequest(raft.term + 1, raft.index.last_seq, raft.index.last_term))
            self._maybe_win()

    def _ask(self, request: m.PreVoteRequest | m.VoteRequest) -> None:
        for peer in self.raft.peers:
            self.raft.emit(peer, request)

    def _campaign(self) -> None:
        self._pre_vote = False
        self._granted.clear()
        self._deadline_ms = self.raft.election_deadline_ms()
        self._campaigned_ms = self.raft.now_ms
        # The candidate's own vote counts when it is durable: see on_ballot_saved.
        self.raft.set_ballot(self.raft.term + 1, self.raft.id)
        index = self.raft.index
        self._ask(m.VoteRequest(self.raft.term, index.last_seq, index.last_term, self._transfer))

    def _maybe_win(self) -> None:
        if len(self._granted) < self.raft.quorum:
            return
        if self._pre_vote:
            self._campaign()
        elif self.raft.id in self._granted:
            self.raft.become_leader()

    def on_message(self, sender: str, message: m.Message) -> None:
        raft = self.raft
        if isinstance(message, m.PreVoteReply):
            if self._pre_vote and message.granted and message.term == raft.term + 1:
                self._granted.add(sender)
                self._maybe_win()
        elif isinstance(message, m.VoteReply):
            if not self._pre_vote and message.granted and message.term == raft.term:
                self._granted.add(sender)
                self._maybe_win()
        elif isinstance(message, (m.Heartbeat, m.Append, m.BackUp)):
            raft.become_follower(message.term, leader=sender)
            raft._role.on_message(sender, message)

    def on_ballot_saved(self) -> None:
        if not self._pre_vote:
            # The requests leave now, and voters have to write a ballot as well: their disks may be as slow as this one.
            took_ms = self.raft.now_ms - self._campaigned_ms
            self._deadline_ms = self.raft.election_deadline_ms() + took_ms
            self._granted.add(self.raft.id)
            self._maybe_win()

    def on_vote_granted(self) -> None:
        # In one's own term the vote is one's own; a newer term has made this node a follower before it votes. A
        # pre-candidate may still grant a vote of its present term.
        self._deadline_ms = self.raft.election_deadline_ms()

    def has_live_leader(self) -> bool:
        return False

    def deadline_ms(self) -> float:
        return self._deadline_ms

    def tick(self) -> None:
        if self.raft.now_ms < self._deadline_ms:
            return
        if self.raft.ballot_is_durable:
            self.raft.become_candidate()
        else:
            self._deadline_ms = self.raft.election_deadline_ms()

    def read(self) -> int | None:
        return None

    def on_durable(self) -> None:
        """Nobody waits for it: there is no leader to tell."""

    def on_link(self, peer: str, *, up: bool) -> None:
        """Requests that were lost are made again at the next timeout."""

    def flush(self) -> None:
        """Votes are asked for at once."""
