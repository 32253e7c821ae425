"""The right to vote: how a directory without a past comes to take part (DESIGN part 4).

A directory that has no identity may be new, or may belong to a member whose disk was lost. The second one has
promised things that it no longer knows: votes, and acknowledgements that commits rest on. **S** So it neither votes
nor counts until

  * every other member has answered that it is empty too (no record and no ballot): a new cluster; or
  * a leader that has committed in its own term, and whose leadership a majority *without this node* has confirmed since
    this start, has named its commit seq, this node holds the leader's log durably up to there, and every other member
    has told its term. From then on it votes in later terms only: in any of those it may have voted already.

Why every member's term: a member that campaigned with this node's forgotten vote has that term durably, and tells it.
Were one left out, this node could vote a second time in its term. (Recovery by a majority alone is known to be
unsafe: Michael et al., "Recovering Shared Objects Without Stable Storage", DISC 2017.)

A node that was set aside for damage takes the second way, never the first: whatever it holds, it is not empty.

The nonce is new with each start, so that no answer to an earlier life of this node counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvnode.node.wire import JoinAnswer, JoinQuestion, JoinTarget

if TYPE_CHECKING:
    from kvnode.node.node import Node

ASK_INTERVAL_MS: Final = 200.0


class Joining:
    def __init__(self, node: Node, nonce: int, *, was_set_aside: bool) -> None:
        """`was_set_aside`: the right to vote was taken away, for something may be missing here."""
        self.node = node
        self.raft = node.raft
        self.is_done = node.raft.may_vote
        self._is_saving = False
        self._nonce = nonce
        self._was_set_aside = was_set_aside
        self._empty: dict[str, bool] = {}
        self._terms: dict[str, int] = {}
        self._target_seq: int | None = None
        self._target_term = 0
        self._ask_due_ms = node.now_ms
        self._asked_by: list[tuple[int, str, int, int]] = []  # (ticket, member, nonce, commit seq)

    def __repr__(self) -> str:
        return f"Joining done={self.is_done} answers={sorted(self._terms)} target={self._target_seq}"

    # The member without the right

    def missing(self) -> list[str]:
        """The members that have not answered yet."""
        return [peer for peer in self.raft.peers if peer not in self._terms]

    def tick(self) -> None:
        """To be called until it is done."""
        if self._is_saving:
            return
        if self.node.now_ms >= self._ask_due_ms:
            self._ask_due_ms = self.node.now_ms + ASK_INTERVAL_MS
            for peer in self.raft.peers:
                if self.node.peers.is_up(peer):
                    self.node.peers.send(peer, JoinQuestion(self._nonce))
        self._maybe_join()

    def deadline_ms(self) -> float:
        """When `tick` must be called, until it is done."""
        return self._ask_due_ms

    def on_answer(self, peer: str, answer: JoinAnswer) -> None:
        if answer.nonce == self._nonce:
            self._empty[peer] = answer.empty
            self._terms[peer] = max(answer.term, self._terms.get(peer, 0))

    def on_target(self, target: JoinTarget) -> None:
        if target.nonce == self._nonce and self._target_seq is None:
            self._target_seq, self._target_term = target.seq, target.term

    def _is_empty(self) -> bool:
        """Whether this node never took part in anything. What it holds does not tell where something was lost."""
        return self.raft.index.last_seq == 0 and self.raft.term == 0 and not self._was_set_aside

    def _maybe_join(self) -> None:
        if self.missing():
            return
        is_new_cluster = self._is_empty() and all(self._empty.values())
        target = self._target_seq
        # A leader of that term or a later one, which has all that was committed then.
        is_up_to_date = (
            target is not None and self.raft.term >= self._target_term and self.raft.acknowledged_seq >= target
        )
        if is_new_cluster or is_up_to_date:
            self._is_saving = True
            # The ballot that forbids votes in old terms must be durable before the right is.
            term = max(self._terms.values(), default=0)
            self.raft.forswear(max(term, self.raft.term))
            self.node.save_right()
            how = "a new cluster" if is_new_cluster else "brought up to date by the leader"
            self.node.note("info", "may vote from now on", {"reason": how, "term": self.raft.term})

    def on_saved(self) -> None:
        self.is_done = True
        self.raft.grant_right_to_vote()

    # The member that is asked

    def on_question(self, peer: str, question: JoinQuestion) -> None:
        """**S** What the asking member acknowledged before it lost its memory counts for no commit from now on: the
        target covers what was committed by it until now, and nothing later would."""
        self.node.peers.send(peer, JoinAnswer(question.nonce, self._is_empty(), self.raft.term))
        if self.raft.leading:
            self.raft.leading.note_without_right(peer)
        ticket = self.raft.read() if self.raft.leading else None
        if ticket is not None:
            self._asked_by.append((ticket, peer, question.nonce, self.raft.commit_seq))

    def on_read_ready(self, ticket: int) -> None:
        """A majority has confirmed this leader since the question; a member without the right does not count in it."""
        if not self._asked_by:
            return
        for number, peer, nonce, seq in self._asked_by:
            if number <= ticket:
                self.node.peers.send(peer, JoinTarget(nonce, self.raft.term, seq))
        self._asked_by = [asked for asked in self._asked_by if asked[0] > ticket]

    def void(self) -> None:
        self._asked_by.clear()
