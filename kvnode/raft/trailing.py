"""Small records go at once to as many members as a majority needs; the others trail, and are sent several together.

A write waits for a majority, and so for its quickest members. What a record costs the others, a turn and an fsync, is
about the same for sixteen records. So they are sent what there is `trail_ms` later, or when it has grown to
TRAIL_BYTES_MAX: so far the third member is behind the others. Everything goes to all of them at once when a record is
late to be committed and when a client waits for more members than a majority; and to a member whose clients read there,
since these wait for what they read. (Three nodes and the load on two cores: a fifth more SETs of one client, a
twentieth to a tenth of 50. Larger records gain nothing, since it is their bytes that cost.)

It only delays what is sent. **S** What is committed is counted as ever, in leader.py.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from kvnode.raft.enough import Enough

if TYPE_CHECKING:
    from kvnode.raft.leader import Leader, Progress

TRAIL_BYTES_MAX: Final = 32 * 1024


class Trailing:
    """`due_ms`: when all members are sent what they lack. `enough`: who is sent it at once."""

    def __init__(self, leading: Leader, quickest_first: list[str]) -> None:
        self.leading = leading
        self.raft = leading.raft
        self.due_ms = inf
        self._bytes_max = min(TRAIL_BYTES_MAX, self.raft.options.window_bytes)
        self.enough = Enough(leading, quickest_first)
        self._is_due = self._is_wanted = False
        self._awaited_seq = 0  # the record whose commit is awaited ends here

    def send_all(self) -> None:
        """At the end of this turn: somebody waits for members that trail."""
        self._is_wanted = True

    def begin(self) -> None:
        """Before records are sent: choose who trails."""
        raft, enough = self.raft, self.enough
        if not raft.options.trail_ms:
            return
        self._is_due = self._is_wanted or raft.now_ms >= self.due_ms
        if self._is_due:
            self._is_wanted = False
            self.due_ms = inf
        if awaited_seq := self._awaited_seq:
            if raft.commit_seq < awaited_seq:
                enough.note_late()
                return
            own_is_missing = raft.durable_seq < awaited_seq
            enough.over(lambda progress: progress.match_seq < awaited_seq, own_is_missing=own_is_missing)
            self._awaited_seq = 0
        if raft.commit_seq < raft.index.last_seq:
            self._awaited_seq = raft.index.last_seq
            enough.begin(_has_all_before)

    def holds_back(self, progress: Progress) -> bool:
        """Whether the member, which lacks something, is not sent it yet."""
        raft, index = self.raft, self.raft.index
        if (
            progress.must_append
            or progress.peer in self.enough.asked
            or self._is_due
            or raft.now_ms < progress.reads_until_ms
            or self.leading.is_handing_over
            or index.bytes_until(index.last_seq) - index.bytes_until(progress.sent_seq) >= self._bytes_max
        ):
            return False
        if self.due_ms == inf:
            self.due_ms = raft.now_ms + raft.options.trail_ms
        return True


def _has_all_before(progress: Progress) -> bool:
    """Whether the member can acknowledge a new record at once."""
    return progress.voting and progress.streaming and not progress.catch_up_to
