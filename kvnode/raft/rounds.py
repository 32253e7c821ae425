"""Reads at the leader: a round of heartbeats that were sent after they arrived (dissertation 6.4).

**S** A round is confirmed when a majority, this node included, has answered it. One is on its way at a time; what
arrives meanwhile shares the next. Every Append and every heartbeat carries the number of the latest round, and whoever
answers counts. For a round's sake alone no more members are asked than it takes: see enough.py. (Of three members one
answers, not two: a tenth more GETs with all members and the clients on two cores.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kvnode.raft import messages as m
from kvnode.raft.enough import Enough

if TYPE_CHECKING:
    from kvnode.raft.leader import Leader, Progress

READS_MS: Final = 1000.0
"""How long after its last question a member is taken for one whose clients read."""


class Rounds:
    """`number`: the latest round. `enough`: whom to ask."""

    def __init__(self, leading: Leader, quickest_first: list[str]) -> None:
        self.leading = leading
        self.raft = leading.raft
        self.number = self.raft.next_ticket()
        self.enough = Enough(leading, quickest_first)
        self._in_flight = self._is_unsent = self._is_wanted = False
        self._questions: dict[str, tuple[int, int, int]] = {}  # member -> (question, commit seq on arrival, round)
        self._early_questions: dict[str, int] = {}

    def read(self) -> int | None:
        """The round that confirms a read which arrives now. **S** None until an entry of this term is committed."""
        if not self.leading.has_committed:
            return None
        if not self._in_flight:
            self._start()
        elif not self._is_unsent:
            self._is_wanted = True
            return self.number + 1
        return self.number

    def _start(self) -> None:
        self.number = self.raft.next_ticket()
        self._in_flight = self._is_unsent = True

    # A follower's reads: its question is worth as much as its answer to a round.

    def on_question(self, peer: str, question: int) -> None:
        self.leading.progress[peer].reads_until_ms = self.raft.now_ms + READS_MS
        if self.leading.has_committed:
            self._take_question(peer, question)
        else:
            self._early_questions[peer] = question

    def take_early_questions(self) -> None:
        """An entry of this term is committed now."""
        if self._early_questions:
            early, self._early_questions = self._early_questions, {}
            for peer, question in early.items():
                self._take_question(peer, question)

    def _take_question(self, peer: str, question: int) -> None:
        raft = self.raft
        if raft.quorum <= 2 and self.leading.progress[peer].voting:
            # **S** Who asks had no newer term when it did: with this node a majority, so nobody else can have committed
            # anything before the question. (Without the right to vote it may have forgotten a newer term.)
            raft.emit(peer, m.ReadAnswer(raft.term, question, raft.commit_seq))
            return
        asked = self._questions.get(peer)
        if asked is not None and asked[0] == question:
            return  # asked again: the round is under way
        round_number = self.read()
        if round_number is not None:
            self._questions[peer] = (question, raft.commit_seq, round_number)

    # Asking

    def whom_to_ask(self) -> Sequence[str]:
        """The members that a heartbeat must reach for the round's sake. Once at the end of each turn: the time that the
        round is given begins with it."""
        enough = self.enough
        if self._is_unsent:
            enough.begin(_may_vote)
            return enough.asked
        return enough.asked if enough.note_late() else ()

    def sent(self) -> None:
        """Whom to ask has been asked."""
        if self._is_unsent:
            self._is_unsent = False
            self.maybe_confirm()  # a cluster of one has confirmed by asking itself

    def maybe_confirm(self) -> None:
        """A member has answered the latest round, or so it may be."""
        if not self._in_flight or self._is_unsent:
            return
        raft, number = self.raft, self.number
        confirmed = 1
        for progress in self.leading.progress.values():
            if progress.voting and progress.round >= number:
                confirmed += 1
        if confirmed < raft.quorum:
            return
        self._in_flight = False
        self.enough.over(lambda progress: progress.round < number)
        raft.output.reads_ready.append((number, raft.commit_seq))
        for peer, (question, seq, round_number) in list(self._questions.items()):
            if round_number <= number:
                del self._questions[peer]
                raft.emit(peer, m.ReadAnswer(raft.term, question, seq))
        if self._is_wanted:
            self._is_wanted = False
            self._start()


def _may_vote(progress: Progress) -> bool:
    return progress.voting
