"""What a node knows whatever its role: the ballot, the positions of its log, what is durable, what is committed.

    step(sender, message)   a message of another member       durable(seq, term)        the log is on disk up to seq
    tick()                  time has passed                   ballot_saved(term, vote)  the ballot is on disk
    propose(record)         the leader's next record          link_up / link_down       a member can (not) be reached
    read()                  a ticket for linearizable reads   cut_done()                the oldest cut is on disk
    take_output()           what is to be done now, in order  flush()                   end of a turn: send what is due

"No acknowledgement before fsync" is a matter of where messages come from. Appended is made from `durable_seq`, which
only a completion of the disk moves. A message of a term whose ballot is not on disk yet waits in `_held`, the second
outbox, until `ballot_saved` (dissertation 3.8).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from kvnode.invariant import invariant
from kvnode.raft import messages as m
from kvnode.raft.candidate import Candidate
from kvnode.raft.follower import Follower
from kvnode.raft.index import LogIndex
from kvnode.raft.leader import Leader
from kvnode.record_head import RecordHead


class Role(StrEnum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class Options:
    heartbeat_ms: float = 100
    election_timeout_ms: float = 500
    election_timeout_max_ms: float = 1000
    window_bytes: int = 4 * 1024 * 1024
    """Most bytes of records on their way to one member, not yet acknowledged."""
    chunk_bytes: int = 256 * 1024
    """Most bytes of records in one Append, unless one record alone is larger."""
    commit_notice_ms: float = 5
    """How long a commit may wait for an Append to tell of it, before a heartbeat does."""
    trail_ms: float = 20
    """How long small records may wait to be sent to members that a majority does without; 0: not at all."""


@dataclass(frozen=True, slots=True)
class SaveBallot:
    """Make term and vote durable, then call `ballot_saved`."""

    term: int
    vote: str | None


@dataclass(frozen=True, slots=True)
class Cut:
    """Cut every record after `after_seq`, durably, before anything that follows in the list."""

    after_seq: int


class Output:
    """What is to be done. `disk` in its order; `messages` may leave at once."""

    __slots__ = (
        "differences",
        "disk",
        "drop_links",
        "has_heard_of_room",
        "messages",
        "notes",
        "reads_ready",
        "reads_void",
        "suspect_after",
    )

    def __init__(self) -> None:
        self.disk: list[SaveBallot | Cut | RecordHead] = []
        self.messages: list[tuple[str, m.Message]] = []
        self.reads_ready: list[tuple[int, int]] = []
        """(ticket, seq): reads with this ticket or a lower one may be answered by who has applied seq."""
        self.reads_void = False
        """The tickets given out so far will not be answered: ask again."""
        self.drop_links: list[tuple[str, str]] = []
        """(member, reason): what came from there can not be trusted."""
        self.suspect_after: list[int] = []
        """Seqs after which a member found our records damaged: verify them on the disk."""
        self.differences: list[tuple[str, int]] = []
        """(member, seq): there this leader's log and the member's have a record of the same term, with other checksums.
        """
        self.has_heard_of_room = False
        """A member says for the first time, or other than before, whether its disk has room."""
        self.notes: list[tuple[str, str, dict[str, object]]] = []
        """For the operator's log: (level, event, fields)."""

    @property
    def is_empty(self) -> bool:
        return not (
            self.messages
            or self.disk
            or self.reads_ready
            or self.reads_void
            or self.has_heard_of_room
            or self.notes
            or self.drop_links
            or self.suspect_after
            or self.differences
        )


class Raft:
    """One node's consensus. `index`: the recovered log, all of it durable. Times are monotonic milliseconds."""

    def __init__(
        self,
        node_id: str,
        members: tuple[str, ...],
        index: LogIndex,
        *,
        term: int,
        vote: str | None,
        commit_seq: int,
        may_vote: bool,
        options: Options,
        random: Random,
        now_ms: float,
    ) -> None:
        invariant(node_id in members, f"{node_id} is not one of the members {', '.join(members)}")
        invariant(term >= index.last_term, f"the ballot's term {term} is older than the log's {index.last_term}")
        invariant(commit_seq <= index.last_seq, f"commit seq {commit_seq} is beyond the log's end {index.last_seq}")
        self.id = node_id
        self.members = members
        self.peers = tuple(member for member in members if member != node_id)
        self.quorum = len(members) // 2 + 1
        self.index = index
        self.term = term
        self.vote = vote
        self.commit_seq = commit_seq
        self.durable_seq = index.last_seq
        self.may_vote = may_vote
        self.options = options
        self.random = random
        self.now_ms = now_ms
        self.links: set[str] = set()
        self.has_room = True
        """Whether the disk has room for records; see `set_room`. For ballots it always has."""
        self.is_leaving = False
        """The process is about to end: it does not campaign, unless it is told to."""
        self.is_unfit = False
        """Set by the node: this log holds what can not be read, and nobody else has. It does not campaign either."""
        self.is_disk_stalled = False
        """Set by the node: whether an append has been on its way to the disk for longer than an election timeout."""
        self._ballot_durable = True
        self._held: list[tuple[str, m.Message]] = []
        self._pending_cuts: deque[int] = deque()
        # A ticket of an earlier life of this process must never answer a read of this one (pitfall 19).
        self._last_ticket = random.getrandbits(48)
        self._output = Output()
        self._role: Follower | Candidate | Leader = Follower(self, leader=None)

    def __repr__(self) -> str:
        return f"{self.id}@{self.term} {self.role} {self.index!r} durable={self.durable_seq} commit={self.commit_seq}"

    # What others may ask

    @property
    def role(self) -> Role:
        if isinstance(self._role, Leader):
            return Role.LEADER
        return Role.CANDIDATE if isinstance(self._role, Candidate) else Role.FOLLOWER

    @property
    def leader(self) -> str | None:
        """The leader of this term, as far as this node knows."""
        return self._role.leader

    @property
    def leading(self) -> Leader | None:
        """The state of leadership, where this node leads."""
        return self._role if isinstance(self._role, Leader) else None

    def deadline_ms(self) -> float:
        """When `tick` must be called, at the latest."""
        return self._role.deadline_ms()

    # Inputs

    def tick(self, now_ms: float) -> None:
        self.now_ms = now_ms
        self._role.tick()

    def step(self, sender: str, message: m.Message, now_ms: float) -> None:
        """Take a message of `sender`, another member."""
        self.now_ms = now_ms
        if isinstance(message, m.PreVoteRequest):
            self._on_pre_vote_request(sender, message)
        elif isinstance(message, m.VoteRequest):
            self._on_vote_request(sender, message)
        elif isinstance(message, m.PreVoteReply) and message.granted:
            self._role.on_message(sender, message)  # names the term that would be, not one that is
        elif message.term < self.term:
            if isinstance(message, (m.Heartbeat, m.Append, m.BackUp, m.ReadQuestion, m.TimeoutNow)):
                self.emit(sender, m.Newer(self.term))
        else:
            if message.term > self.term:
                self.become_follower(message.term, leader=None)
            self._role.on_message(sender, message)

    def propose(self, record: RecordHead) -> None:
        """Append the leader's next record. The first of a term must be its no-op."""
        invariant(self.leading, "only a leader proposes")
        invariant(record.term == self.term, "a record of another term proposed")
        self.append(record)

    def durable(self, seq: int, term: int) -> None:
        """All that was written before the record (seq, term), and that record, is on disk.

        **S** It may have been cut since, and a later record may have its seq (pitfall 12), or even the same record may
        be on its way to the disk anew. So while a cut is on its way, only what is below it counts."""
        if self._pending_cuts:
            seq = min(seq, *self._pending_cuts)
        else:
            invariant(
                self.index.has(seq, term), "the disk has written a record that is not in the log, yet was not cut"
            )
        if seq > self.durable_seq:
            self.durable_seq = seq
            self._role.on_durable()

    def cut_done(self) -> None:
        """The oldest cut that was asked for is durable."""
        self._pending_cuts.popleft()

    def ballot_saved(self, term: int, vote: str | None) -> None:
        if (term, vote) != (self.term, self.vote):
            return  # a newer ballot is on its way to the disk
        self._ballot_durable = True
        self._output.messages += self._held
        self._held.clear()
        self._role.on_ballot_saved()

    def link_up(self, peer: str, now_ms: float) -> None:
        self.now_ms = now_ms
        self.links.add(peer)
        self._role.on_link(peer, up=True)

    def link_down(self, peer: str, now_ms: float) -> None:
        self.now_ms = now_ms
        self.links.discard(peer)
        self._role.on_link(peer, up=False)

    def lost_append(self, peer: str) -> None:
        """An Append to the member could not be sent: ask where it is."""
        if self.leading:
            self.leading.progress[peer].streaming = False

    def read(self) -> int | None:
        """A ticket: reads that have arrived by now may be answered when `reads_ready` names it or a higher one.
        None: there is nobody to ask yet."""
        return self._role.read()

    def set_room(self, *, has_room: bool) -> None:
        """The disk is full, or is not any more."""
        self.has_room = has_room
        if isinstance(self._role, Follower):
            self._role.on_room()

    def transfer(self, *, for_room: bool = False, for_speed: bool = False) -> str | None:
        """Hand leadership to the member that is furthest, one with room if there is one; its id, or None where there is
        none to take it. `for_room`: only to one that says it has room. `for_speed`: only when the others have committed
        what this node's disk has not, so that they can do without it, for ballots too."""
        return self.leading.transfer(for_room=for_room, for_speed=for_speed) if self.leading else None

    def step_down(self) -> None:
        """Lead no more, without a successor."""
        invariant(self.leading, "only a leader steps down")
        self.become_follower(self.term, leader=None)

    @property
    def ballot_is_durable(self) -> bool:
        """Until it is nothing that this node says leaves, so it would ask for votes in vain: with slow disks, for ever
        in vain, since each new term needs another ballot."""
        return self._ballot_durable

    @property
    def acknowledged_seq(self) -> int:
        """How far this log is durable and known to be the present leader's; 0 where there is none."""
        return self._role.acknowledged_seq

    def forswear(self, term: int) -> None:
        """Vote for nobody in any term up to `term`: before this node lost its memory it may have voted in them."""
        if term > self.term:
            self.become_follower(term, leader=None)
        if term > 0 and self.vote is None:
            self.set_ballot(self.term, self.id)

    def grant_right_to_vote(self) -> None:
        """This node has all that its id ever acknowledged, and has forsworn the terms that it may have voted in."""
        invariant(not self.may_vote, "the right to vote was granted twice")
        self.may_vote = True
        if len(self.members) == 1:
            self.become_follower(self.term, leader=None)  # and so a candidate at once: see Follower

    def set_aside(self) -> None:
        """This log is not the cluster's: what was not sent yet is not said, no read is ready, and the right to vote is
        gone. What is to be written stays."""
        self.may_vote = False
        self._held.clear()
        self._output.messages.clear()
        self._output.reads_ready.clear()
        self.become_follower(self.term, leader=None)

    def flush(self) -> None:
        """The end of a turn: send what is due."""
        self._role.flush()

    def take_output(self) -> Output:
        output, self._output = self._output, Output()
        return output

    # For the roles

    @property
    def output(self) -> Output:
        return self._output

    def note(self, level: str, event: str, **fields: object) -> None:
        self._output.notes.append((level, event, fields))

    def emit(self, to: str, message: m.Message) -> None:
        """**S** A message of a term leaves only when the ballot of that term is durable (pitfall 4)."""
        if self._ballot_durable:
            self._output.messages.append((to, message))
        else:
            self._held.append((to, message))

    def next_ticket(self) -> int:
        self._last_ticket += 1
        return self._last_ticket

    def election_deadline_ms(self) -> float:
        """A new random one each time, so that candidates part (dissertation 3.4)."""
        least_ms, most_ms = self.options.election_timeout_ms, self.options.election_timeout_max_ms
        return self.now_ms + least_ms + (most_ms - least_ms) * self.random.random()

    def set_ballot(self, term: int, vote: str | None) -> None:
        invariant(
            term > self.term or (term == self.term and self.vote in (None, vote)),
            f"a second vote in term {term}: {vote} after {self.vote}",
        )
        if (term, vote) == (self.term, self.vote):
            return
        if term > self.term:
            self._held.clear()
        self.term, self.vote = term, vote
        self._ballot_durable = False
        self._output.disk.append(SaveBallot(term, vote))

    def become_follower(self, term: int, leader: str | None) -> None:
        if isinstance(self._role, Leader):
            self.note(
                "info", "leadership lost", term=self.term, because="a newer term" if term > self.term else "step down"
            )
        if term > self.term:
            self.set_ballot(term, None)
        self._output.reads_void = True
        self._role = Follower(self, leader)

    def hold_back(self, times: int) -> None:
        """Do not campaign yet: so many times in a row by now."""
        self._output.reads_void = True
        self._role = Follower(self, leader=None, held_back=times)

    def become_candidate(self, *, transfer: bool = False, real: bool = False) -> None:
        self._output.reads_void = True
        self._role = Candidate(self, transfer=transfer, real=real)

    def become_leader(self) -> None:
        self.note("info", "leadership won", term=self.term, last_seq=self.index.last_seq)
        self._role = Leader(self)

    def append(self, record: RecordHead) -> None:
        self.index.append(record)
        self._output.disk.append(record)

    def cut(self, after_seq: int) -> None:
        """**S** Never below the commit seq (pitfall 13)."""
        invariant(
            after_seq >= self.commit_seq,
            f"asked to cut after seq {after_seq}, but {self.commit_seq} is committed: the logs of the members differ",
        )
        self.index.truncate_suffix(after_seq)
        self.durable_seq = min(self.durable_seq, after_seq)
        self._pending_cuts.append(after_seq)
        self._output.disk.append(Cut(after_seq))

    def advance_commit(self, seq: int) -> None:
        if seq > self.commit_seq:
            invariant(self.index.ends_at(seq), "a commit seq that is not the end of a record")
            self.commit_seq = seq

    # Votes (dissertation 3.4, 3.6.1, 9.6)

    def _is_up_to_date(self, last_seq: int, last_term: int) -> bool:
        """Compares with what was last *appended* here, durable or not: that is the safe side."""
        return (last_term, last_seq) >= (self.index.last_term, self.index.last_seq)

    def _on_pre_vote_request(self, sender: str, request: m.PreVoteRequest) -> None:
        would_vote = self.may_vote and request.term > self.term and not self._role.has_live_leader()
        granted = would_vote and self._is_up_to_date(request.last_seq, request.last_term)
        self.emit(sender, m.PreVoteReply(request.term if granted else self.term, granted))
        if would_vote and not granted and isinstance(self._role, Follower):
            self._role.hasten()

    def _on_vote_request(self, sender: str, request: m.VoteRequest) -> None:
        if not self.may_vote or (self._role.has_live_leader() and not request.transfer and request.term > self.term):
            return  # who hears a leader does not let anybody disturb it (pitfall 26)
        if request.term > self.term:
            self.become_follower(request.term, leader=None)
        granted = (
            request.term == self.term
            and self.vote in (None, sender)
            and self._is_up_to_date(request.last_seq, request.last_term)
        )
        if granted:
            self.set_ballot(self.term, sender)
            self._role.on_vote_granted()
        self.emit(sender, m.VoteReply(self.term, granted))
