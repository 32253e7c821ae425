"""Whom to ask for what takes a majority: as many members as that needs beside this one, the quickest.

Who that is turns out once in COMPARE_INTERVAL_MS, when all are asked. All are asked, too, when an answer is late, and
when two in a row were, until answers are in time again. Where a majority is quicker without this node, one more is
asked. It only chooses whom to trouble: what makes a majority is counted elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kvnode.raft.leader import Leader, Progress

PATIENCE_MS: Final = 5.0
"""Longer than an answer takes within a data center, an fsync included. Where it takes longer, or who is asked is
silent, this passes before the others are asked."""
OWN_MISSING_MIN: Final = 2
"""Comparisons in a row that a majority was quicker without this node: once happens where all are equally quick."""
ASK_ALL_MS: Final = 1000.0
"""After two late answers in a row, for one alone was a hiccup. At most: then it is tried again."""
IN_TIME_MIN: Final = 8
"""Answers in time, in a row, after which all need not be asked any more, unless the very next one is late. A burst of
large writes makes everybody late, and is over when it is over: one client that came after it had a tenth less while all
went on being asked."""
COMPARE_INTERVAL_MS: Final = 1000.0


class Enough:
    """`asked`: the members that are asked now. `overdue_ms`: when all are, if it is not over before. `quickest_first`:
    all members but this one; shared, so that one is asked for everything that goes on, and the others for nothing."""

    def __init__(self, leading: Leader, quickest_first: list[str]) -> None:
        self.leading = leading
        self.raft = leading.raft
        self.asked: Sequence[str] = self.raft.peers
        self.overdue_ms = inf
        self._quickest_first = quickest_first
        self._own_missing = 0  # comparisons in a row
        self._is_comparing = False  # all were asked
        self._was_late = False
        self._in_time = 0  # answers in a row, all having been asked
        self._begun_ms = 0.0
        self._ask_all_until_ms = self._compare_due_ms = -inf

    def begin(self, is_able: Callable[[Progress], bool]) -> None:
        """Something is asked now: of whom."""
        raft, progress = self.raft, self.leading.progress
        now_ms = self._begun_ms = raft.now_ms
        self._is_comparing = now_ms < self._ask_all_until_ms or now_ms >= self._compare_due_ms
        if self._is_comparing:
            self._compare_due_ms = now_ms + COMPARE_INTERVAL_MS
            self.asked = raft.peers
            return
        self.overdue_ms = now_ms + PATIENCE_MS
        able = [peer for peer in self._quickest_first if peer in raft.links and is_able(progress[peer])]
        count = raft.quorum if self._own_missing >= OWN_MISSING_MIN else raft.quorum - 1
        self.asked = able[:count] if len(able) >= count else raft.peers

    def note_late(self) -> bool:
        """Ask all when it is late. Whether it has just become so."""
        if self.raft.now_ms < self.overdue_ms:
            return False
        self.overdue_ms = inf
        self._is_comparing = True
        if self._was_late:
            self._ask_all_until_ms = self.raft.now_ms + ASK_ALL_MS
        self._was_late = True
        self.asked = self.raft.peers
        return True

    def over(self, is_missing: Callable[[Progress], bool], *, own_is_missing: bool = False) -> None:
        """A majority has answered; `is_missing`: whether a member has not yet, `own_is_missing`: whether this node."""
        self.overdue_ms = inf
        if not self._is_comparing:
            self._was_late = False
            return
        self._own_missing = self._own_missing + 1 if own_is_missing else 0
        self._quickest_first.sort(key=lambda peer: is_missing(self.leading.progress[peer]))
        self._in_time = self._in_time + 1 if self.raft.now_ms < self._begun_ms + PATIENCE_MS else 0
        if self._in_time == IN_TIME_MIN:
            self._ask_all_until_ms = -inf
