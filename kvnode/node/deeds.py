"""What a turn asks the world to do, and the events with which the world answers.

A deed of the log is performed by the writer thread, or by the simulator, in order; `perform` returns the event that
goes back into the node when it is done: the name of one of the node's handlers, and its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from kvnode.log.damage import Hole
from kvnode.log.errors import DiskError, DoesNotFit, NoSpaceError
from kvnode.log.identity import Identity
from kvnode.log.record import BadRecord, Record, split

Event = tuple[str, tuple[Any, ...]]
ENDS, DIFFERS, DAMAGED = "ends", "differs", "damaged"
"""Why a log does not give records after a place: it ends there; has another record there; one that can not be read."""
BadRange = tuple[int, int, str]
"""(after_seq, last_seq, reason): records that can not be read; the header of a segment where the seqs are the same."""


class Log(Protocol):
    """The disk, as the node uses it: kvnode.log.wal, or a simulated one. Every call blocks until it is durable."""

    @property
    def identity(self) -> Identity: ...

    def append(self, records: Sequence[Record]) -> None: ...
    def cut(self, after_seq: int) -> object: ...
    def save_ballot(self, term: int, vote: str | None) -> None: ...
    def save_identity(self, identity: Identity) -> None: ...
    def read(self, after_seq: int, bytes_max: int) -> tuple[bytes, int]: ...
    def scrub(self, after_seq: int, expected: Sequence[tuple[int, int]]) -> tuple[list[BadRange], int]: ...
    def heal(self, after_seq: int, to_seq: int, data: bytes) -> None: ...
    def set_aside(self, after_seq: int, reason: str) -> object: ...


class HoledLog(Protocol):
    """A log with holes, as a node that is set aside uses it: kvnode.log.healing.damaged."""

    @property
    def holes(self) -> Sequence[Hole]: ...
    def checksum_at(self, seq: int) -> int | None: ...
    def read(self, after_seq: int, after_checksum: int, bytes_max: int) -> tuple[bytes, int]: ...
    def heal(self, data: bytes) -> bool: ...
    def give_up(self, reason: str) -> object: ...


class AppendRecords:
    """`is_missed`: all of them are ones that this node had missed, so that nobody waits for them."""

    __slots__ = ("is_missed", "records")

    def __init__(self, records: list[Record], *, is_missed: bool = False) -> None:
        self.records = records
        self.is_missed = is_missed

    def add(self, records: list[Record], *, is_missed: bool) -> None:
        """Make these durable with the others."""
        self.records += records
        self.is_missed = self.is_missed and is_missed

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
class SetAsideLog:
    """Give up the right to vote, then cut after `after_seq`: from there on this log is not the cluster's."""

    after_seq: int
    reason: str

    def perform(self, log: Log) -> Event:
        log.set_aside(self.after_seq, self.reason)
        return "on_set_aside", (self.after_seq,)


@dataclass(frozen=True, slots=True)
class ReadRecords:
    """Read `size` bytes of whole records, (after_seq, last_seq], for the lane of `peer`. `token` names the question:
    the same seqs may be other records by the time of the answer. It is empty if they were cut off, or can not be read.
    """

    peer: str
    token: int
    after_seq: int
    last_seq: int
    size: int

    def perform(self, log: Log) -> Event:
        parts: list[bytes] = []
        at, left = self.after_seq, self.size
        while at < self.last_seq:  # a piece may end early, where a segment ends
            try:
                data, at_next = log.read(at, left)
            except DiskError:  # one place of the disk: it is looked at, and healed
                at_next = at
            if at_next == at:
                return "on_read", (self.peer, self.token, b"")
            parts.append(data)
            at, left = at_next, left - len(data)
        return "on_read", (self.peer, self.token, b"".join(parts))


@dataclass(frozen=True, slots=True)
class HealRecords:
    """Write the records (after_seq, to_seq] anew: `data` is what they were."""

    after_seq: int
    to_seq: int
    data: bytes

    def perform(self, log: Log) -> Event:
        try:
            log.heal(self.after_seq, self.to_seq, self.data)
        except (DoesNotFit, NoSpaceError) as error:
            # More damage beside it, or no room for a copy of the segment: nothing else has to wait for that.
            return "on_not_healed", (self.after_seq, self.to_seq, str(error))
        return "on_healed", (self.after_seq, self.to_seq)


@dataclass(frozen=True, slots=True)
class ScrubRecords:
    """Read again what should be there after `after_seq`: (last_seq, checksum) of each record."""

    after_seq: int
    expected: list[tuple[int, int]]

    def perform(self, log: Log) -> Event:
        try:
            bad, size = log.scrub(self.after_seq, self.expected)
        except DiskError as error:  # too many open files, for instance: what is there is not known
            return "on_not_scrubbed", (self.after_seq, str(error))
        return "on_scrubbed", (self.after_seq, self.expected, bad, size)


@dataclass(frozen=True, slots=True)
class FetchRecords:
    """Read records for a member that has lost them: what does not verify is not given to anybody."""

    link_id: int
    token: int
    after_seq: int
    bytes_max: int

    def perform(self, log: Log) -> Event:
        try:
            data, _ = log.read(self.after_seq, self.bytes_max)
            split(data)
        except (BadRecord, DiskError):
            return "on_fetched", (self.link_id, self.token, self.after_seq, b"", DAMAGED)
        return "on_fetched", (self.link_id, self.token, self.after_seq, data, "" if data else ENDS)


@dataclass(frozen=True, slots=True)
class HealHole:
    """The next records for the first hole of a log."""

    data: bytes

    def perform(self, log: HoledLog) -> Event:
        try:
            is_closed = log.heal(self.data)
        except DoesNotFit as error:
            return "on_does_not_fit", (str(error), tuple(log.holes))
        return "on_hole_healed", (is_closed, tuple(log.holes))


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Cut the log off at its first hole; only a leader can bring this node up to date then."""

    reason: str

    def perform(self, log: HoledLog) -> Event:
        return "on_given_up", (str(log.give_up(self.reason)),)


@dataclass(frozen=True, slots=True)
class FetchFromDamaged:
    """The same question as FetchRecords to a log with holes."""

    link_id: int
    token: int
    after_seq: int
    after_checksum: int
    bytes_max: int

    def perform(self, log: HoledLog) -> Event:
        data, _ = log.read(self.after_seq, self.after_checksum, self.bytes_max)
        why = "" if data else ENDS if log.checksum_at(self.after_seq) == self.after_checksum else DIFFERS
        return "on_fetched", (self.link_id, self.token, self.after_seq, data, why)


Deed = AppendRecords | CutLog | SaveBallot | GrantRightToVote | HealRecords | SetAsideLog

Read = ReadRecords | ScrubRecords | FetchRecords | FetchFromDamaged


class Outputs:
    """Everything that one turn wants done. Writes to one connection are in order."""

    __slots__ = (
        "client_closes",
        "client_ends",
        "client_pauses",
        "client_resumes",
        "client_writes",
        "deadline_ms",
        "disk",
        "link_closes",
        "link_writes",
        "notes",
        "reads",
        "restart",
        "wants_turn",
    )

    def __init__(self) -> None:
        self.client_writes: list[tuple[int, bytes]] = []
        self.client_closes: list[int] = []
        """Close these connections once what is written to them has left."""
        self.client_ends: list[int] = []
        """The same, but those on which more has arrived stay open: this node stops, and has nothing more for them."""
        self.client_pauses: list[int] = []
        self.client_resumes: list[int] = []
        self.link_writes: list[tuple[int, bytes]] = []
        self.link_closes: list[int] = []
        self.disk: list[Deed | HealHole | GiveUp] = []
        self.reads: list[Read] = []
        self.notes: list[tuple[str, str, dict[str, object]]] = []
        """(level, event, fields) for the operator's log."""
        self.restart = False
        """This life of the node is over: close everything, open the log again, and begin anew."""
        self.wants_turn = False
        """There is more work than one turn may take: come back at once."""
        self.deadline_ms = 0.0
        """Come back then at the latest."""
