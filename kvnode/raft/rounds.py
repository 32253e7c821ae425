"""Reads at the leader: a round of heartbeats that were sent after they arrived (dissertation 6.4).

**S** A round is confirmed when a majority, this node included, has answered it. One is on its way at a time; what
arrives meanwhile shares the next. Every Append and every heartbeat carries the number of the latest round, and whoever
answers counts. For a round's sake alone no more members are asked than it takes, the quickest. Who that is turns out
once in COMPARE_INTERVAL_MS, when all are asked. All are asked, too, when a round is late, and for a while when two in a
row are. (Of three members one answers, not two: a tenth more GETs with all members and the clients on two cores.)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Final

from kvnode.raft import messages as m

if TYPE_CHECKING:
    from kvnode.raft.leader import Leader

PATIENCE_MS: Final = 5.0
"""Longer than a round takes within a data center. Where rounds take longer, or who is asked is silent, this passes
before the others are asked."""
ASK_ALL_MS: Final = 1000.0
"""After two late rounds in a row: one alone was a hiccup."""
COMPARE_INTERVAL_MS: Final = 1000.0


class Rounds:
    """`number`: the latest round. `overdue_ms`: when all are asked, if it is not confirmed before."""

    def __init__(self, leading: Leader) -> None:
        self.leading = leading
        self.raft = leading.raft
        self.number = self.raft.next_ticket()
        self.overdue_ms = inf
        self._in_flight = self._is_unsent = self._is_wanted = False
        self._quickest_first = list(self.raft.peers)
        self._is_comparing = False  # all were asked in the round on its way
        self._was_late = False
        self._ask_all_until_ms = self._compare_due_ms = -inf
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
        now_ms = self.raft.now_ms
        if self._is_unsent:
            self._is_comparing = now_ms < self._ask_all_until_ms or now_ms >= self._compare_due_ms
            if not self._is_comparing:
                self.overdue_ms = now_ms + PATIENCE_MS
                return self._enough()
            self._compare_due_ms = now_ms + COMPARE_INTERVAL_MS
        elif now_ms < self.overdue_ms:
            return ()
        else:
            self.overdue_ms = inf
            self._is_comparing = True
            if self._was_late:
                self._ask_all_until_ms = now_ms + ASK_ALL_MS
            self._was_late = True
        return self.raft.peers

    def _enough(self) -> list[str]:
        raft, progress = self.raft, self.leading.progress
        able = [peer for peer in self._quickest_first if peer in raft.links and progress[peer].voting]
        return able[: raft.quorum - 1]

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
        self.overdue_ms = inf
        if self._is_comparing:
            self._quickest_first.sort(key=lambda peer: self.leading.progress[peer].round < number)
        else:
            self._was_late = False
        raft.output.reads_ready.append((number, raft.commit_seq))
        for peer, (question, seq, round_number) in list(self._questions.items()):
            if round_number <= number:
                del self._questions[peer]
                raft.emit(peer, m.ReadAnswer(raft.term, question, seq))
        if self._is_wanted:
            self._is_wanted = False
            self._start()
