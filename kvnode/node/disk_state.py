"""Whether this node's disk has room and keeps up, and what a leader does where it does not.

    on_full     an append could not be written for want of room: it waits, and ballots overtake it
    on_room     all that waited is written, and the reserve for ballots is back

A node without room votes, confirms reads and answers them, and acknowledges nothing. A leader without room hands over
to a member that says it has room. While none can take it, or no majority has room, a leader leads for reads alone:
writes are refused, and reads are made at the commit seq, as at a follower, so that none of them waits for a record that
can not be written. (A successor without a majority could not even commit its no-op, and so confirm no read.) Nothing
of this needs anybody to end it.

**S** What is refused is in no record: the open batch is taken back first. A record that was proposed keeps its (seq,
term), and its commands are answered when it is committed, or -UNKNOWN at their deadline.

The disk is stalled when it has had something to append for an election timeout and has finished nothing. A leader
hands over, or steps down if that fails, when the others have committed what its disk has not: they do not need it. As
long as they have not it goes on, since its vote and its disk are needed: in a cluster of slow disks somebody has to
lead. Its heartbeats do not wait for the disk.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kvnode.node.node import Node
    from kvnode.raft.leader import Leader

ROOM_STEADY_MS: Final = 500.0
"""Room counts when it has lasted this long: else a disk that fills up time and again would move leadership each time,
and members would change their word as often."""
HAND_OVER_PAUSE_MS: Final = 5000.0
"""After handing over has failed, writes are refused for this long before it is tried again: meanwhile they wait."""

FULL: Final = (
    "the disk is full: this node votes and reads go on, but it logs nothing more. Writes go on if a member with room "
    "can lead, else they are refused. Free some space: the rest follows by itself"
)
ROOM: Final = "the disk has room again: all that waited is written, and this node takes part in writes"


class DiskState:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.raft = node.raft
        self._full_since_ms = node.now_ms
        self._room_since_ms = inf  # of room that does not count yet
        self._at_work_since_ms: float | None = None
        self._leads_since_ms = node.now_ms
        self._refusal: str | None = None
        self._successor: str | None = None
        self._pause_until_ms = -inf

    def __repr__(self) -> str:
        return f"DiskState room={self.raft.has_room} stalled={self.stalled_ms:.0f}ms refusal={self._refusal}"

    # What the disk says

    def on_full(self, text: str) -> None:
        self._room_since_ms = inf
        if self.raft.has_room:
            self.raft.set_room(has_room=False)
            self._full_since_ms = self.node.now_ms
            self.node.note("error", FULL, {"reason": text})
        self.check()

    def on_room(self) -> None:
        if not self.raft.has_room:
            self._room_since_ms = self.node.now_ms

    def given(self) -> None:
        """Records are on their way to the disk."""
        if self._at_work_since_ms is None and self.raft.durable_seq < self.raft.index.last_seq:
            self._at_work_since_ms = self.node.now_ms

    def finished(self) -> None:
        """The disk has finished something."""
        is_done = self.raft.durable_seq == self.raft.index.last_seq
        self._at_work_since_ms = None if is_done else self.node.now_ms

    @property
    def stalled_ms(self) -> float:
        """For how long the disk has finished nothing, though there is something to append and room for it."""
        raft = self.raft
        if self._at_work_since_ms is None or not raft.has_room or raft.durable_seq == raft.index.last_seq:
            return 0.0
        return self.node.now_ms - self._at_work_since_ms

    # What follows from it

    @property
    def refusal(self) -> str | None:
        """What this leader answers to writes, if it takes none. While it hands over they wait instead."""
        return None if self.raft.leading is None or self.raft.leading.is_handing_over else self._refusal

    def on_change(self) -> None:
        """Another term or leader."""
        self._leads_since_ms = self.node.now_ms
        self._refusal = None
        self._successor = None
        self._pause_until_ms = -inf

    def check(self) -> None:
        """To be called with every sweep, and when a member's room has changed."""
        raft, now_ms = self.raft, self.node.now_ms
        if now_ms - self._room_since_ms >= ROOM_STEADY_MS:
            self._room_since_ms = inf
            raft.set_room(has_room=True)
            self.node.note("info", ROOM, {"full_s": round((now_ms - self._full_since_ms) / 1000, 1)})
        raft.is_disk_stalled = self.stalled_ms > raft.options.election_timeout_ms
        leader = raft.leading
        if leader is None or leader.is_handing_over:
            return
        failed, self._successor = self._successor, None
        if failed and leader.progress[failed].has_room:
            self._pause_until_ms = now_ms + HAND_OVER_PAUSE_MS
        full = leader.decisively_full()
        if full:
            self._refuse(_disks_are_full(full, has_others=bool(raft.peers)))
        elif not raft.has_room:
            self._lead_without_room(leader)
        else:
            self._refuse(None)
            if raft.is_disk_stalled:
                self._lead_with_a_stalled_disk(has_failed=failed is not None)

    def _lead_without_room(self, leader: Leader) -> None:
        raft, now_ms = self.raft, self.node.now_ms
        if now_ms >= self._pause_until_ms and self._make_way(raft.transfer(for_room=True), because="the disk is full"):
            return
        is_new = now_ms - self._leads_since_ms < raft.options.election_timeout_ms
        if is_new and any(p.has_room is None and p.peer in raft.links for p in leader.progress.values()):
            return  # it will say in a moment
        self._refuse(_not_applied(f"the disk of node {raft.id} is full and no member with room can lead"))

    def _lead_with_a_stalled_disk(self, *, has_failed: bool) -> None:
        because = "the disk is slow: it has not finished an append for longer than the election timeout"
        if has_failed:
            self.node.note("warning", "stepping down", {"because": because, "ms": round(self.stalled_ms)})
            self.raft.step_down()
        else:
            self._make_way(self.raft.transfer(for_speed=True), because=because, ms=round(self.stalled_ms))

    def _make_way(self, successor: str | None, **fields: object) -> bool:
        if successor is None:
            return False
        self.node.note("warning", "handing over leadership", {"to": successor, **fields})
        self._successor = successor
        self.node.leading.take_back()  # the successor can have these at once
        return True

    def _refuse(self, refusal: str | None) -> None:
        had, self._refusal = self._refusal, refusal
        if refusal and not had:
            self.node.note("error", "writes are refused", {"answer": refusal})
            self.node.leading.take_back()
        elif had and not refusal:
            self.node.note("info", "writes are taken again", {})


def _disks_are_full(full: list[str], *, has_others: bool) -> str:
    is_one = len(full) == 1
    disks = f"the disk of node {full[0]} is full" if is_one else f"the disks of nodes {', '.join(full)} are full"
    without = f", and without {'it' if is_one else 'them'} there is no majority" if has_others else ""
    return _not_applied(disks + without)


def _not_applied(reason: str) -> str:
    return f"MISCONF Errors writing to the log: {reason}; the command was not applied"
