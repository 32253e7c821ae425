"""What a turn asks the world to do, and the events with which the world answers.

A deed of the log is performed by the writer thread, or by the simulator, in order; `perform` returns the event that
goes back into the node when it is done: the name of one of the node's handlers, and its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from kvnode.log.identity import Identity
from kvnode.log.record import Record

Event = tuple[str, tuple[Any, ...]]


class Log(Protocol):
    """The disk, as the node uses it: kvnode.log.wal, or a simulated one. Every call blocks until it is durable."""

    @property
    def identity(self) -> Identity: ...

    def append(self, records: Sequence[Record]) -> None: ...
    def cut(self, after_seq: int) -> object: ...
    def save_ballot(self, term: int, vote: str | None) -> None: ...
    def save_identity(self, identity: Identity) -> None: ...
    def read(self, after_seq: int, bytes_max: int) -> tuple[bytes, int]: ...


@dataclass(frozen=True, slots=True)
class AppendRecords:
    records: list[Record]

    def perform(self, log: Log) -> Event:
        log.append(self.records)
        last = self.records[-1]
        return "on_appended", (last.last_seq, last.term)


@dataclass(frozen=True, slots=True)
class CutLog:
    after_seq: int

    def perform(self, log: Log) -> Event:
        log.cut(self.after_seq)
        return "on_cut", (self.after_seq,)


@dataclass(frozen=True, slots=True)
class SaveBallot:
    term: int
    vote: str | None

    def perform(self, log: Log) -> Event:
        log.save_ballot(self.term, self.vote)
        return "on_ballot_saved", (self.term, self.vote)


@dataclass(frozen=True, slots=True)
class GrantRightToVote:
    def perform(self, log: Log) -> Event:
        log.save_identity(replace(log.identity, may_vote=True, set_aside=""))
        return "on_right_granted", ()


@dataclass(frozen=True, slots=True)
class ReadRecords:
    """Read `size` bytes of whole records, (after_seq, last_seq], for the lane of `peer`. `token` names the question:
    the same seqs may be other records by the time of the answer. The answer is empty if they were cut off."""

    peer: str
    token: int
    after_seq: int
    last_seq: int
    size: int

    def perform(self, log: Log) -> Event:
        parts: list[bytes] = []
        at, left = self.after_seq, self.size
        while at < self.last_seq:  # a piece may end early, where a segment ends
            data, at_next = log.read(at, left)
            if at_next == at:
                return "on_read", (self.peer, self.token, b"")
            parts.append(data)
            at, left = at_next, left - len(data)
        return "on_read", (self.peer, self.token, b"".join(parts))


Deed = AppendRecords | CutLog | SaveBallot | GrantRightToVote


@dataclass(slots=True)
class Outputs:
    """Everything that one turn wants done. Writes to one connection are in order."""

    client_writes: list[tuple[int, bytes]] = field(default_factory=list)
    client_closes: list[int] = field(default_factory=list)
    """Close these connections once what is written to them has left."""
    client_pauses: list[int] = field(default_factory=list)
    client_resumes: list[int] = field(default_factory=list)
    link_writes: list[tuple[int, bytes]] = field(default_factory=list)
    link_closes: list[int] = field(default_factory=list)
    disk: list[Deed] = field(default_factory=list)
    reads: list[ReadRecords] = field(default_factory=list)
    notes: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)
    """(level, event, fields) for the operator's log."""
    wants_turn: bool = False
    """There is more work than one turn may take: come back at once."""
    deadline_ms: float = 0.0
    """Come back then at the latest."""
