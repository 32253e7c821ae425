"""Members without I/O: `kvnode.raft.Raft` cores, a disk and a network that do only what they are told.

A disk is a queue of deeds: what is done survives a crash, what is queued does not. A message waits in the network
until it is delivered, dropped, duplicated or held. Time moves when told to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random

from kvnode.raft import Cut, LogIndex, Options, Output, Raft, Role, SaveBallot
from kvnode.raft import messages as m
from tests.scenarios.promises import Promises
from tests.scenarios.spelling import Record, spell, spell_records

UNREMARKABLE = {"following", "leadership won", "leadership lost"}
"""Notes of the core that the line of a changed role tells already."""
TURNS_MAX = 20_000


class FixedRandom(Random):
    """Nothing is random: the first member's election timeouts are the shortest, tickets begin at `tickets_from`."""

    def __init__(self, share: float, tickets_from: int) -> None:
        super().__init__(0)
        self.share = share
        self.tickets_from = tickets_from

    def random(self) -> float:
        return self.share

    def getrandbits(self, k: int) -> int:
        return self.tickets_from


@dataclass
class Disk:
    ballot: tuple[int, str | None] = (0, None)
    records: list[Record] = field(default_factory=list)
    may_vote: bool = True
    commit_seq: int = 0
    """Known committed on start besides what the records say."""
    queue: list[SaveBallot | Cut | Record] = field(default_factory=list)
    is_held: bool = False
    room: int | None = None
    """How many records can still be written, if not all."""

    def __str__(self) -> str:
        queued = f" queued {', '.join(map(spell_deed, self.queue))}" if self.queue else ""
        return f"[{spell_records(self.records)}]{queued}"

    def has(self, seq: int) -> bool:
        return any(record.last_seq == seq for record in self.records)

    def keeps(self, seq: int) -> bool:
        """Whether the record that ends at `seq` survives a crash now and after each queued deed."""
        return self.has(seq) and not any(isinstance(deed, Cut) and deed.after_seq < seq for deed in self.queue)

    def next_deed(self) -> int | None:
        """Where in the queue it stands: what has no room is overtaken, and cut where it waits."""
        first = next((i for i, deed in enumerate(self.queue) if self.room != 0 or not isinstance(deed, Record)), None)
        deed = None if first is None else self.queue[first]
        if first and isinstance(deed, Cut):
            kept = [each for each in self.queue[:first] if isinstance(each, Record) and each.last_seq <= deed.after_seq]
            self.queue[:first] = kept
            first = len(kept)
        return first

    def do_next(self) -> SaveBallot | Cut | Record:
        deed = self.queue.pop(self.next_deed() or 0)
        if isinstance(deed, Record) and self.room:
            self.room -= 1
        if isinstance(deed, SaveBallot):
            self.ballot = (deed.term, deed.vote)
        elif isinstance(deed, Cut):
            self.records = [record for record in self.records if record.last_seq <= deed.after_seq]
        else:
            self.records.append(deed)
        return deed


def spell_deed(deed: SaveBallot | Cut | Record) -> str:
    if isinstance(deed, SaveBallot):
        return f"ballot term {deed.term}" + (f" vote {deed.vote}" if deed.vote else "")
    return f"cut after {deed.after_seq}" if isinstance(deed, Cut) else f"append {deed}"


class Member:
    """One member: its disk, and its core while it runs. `is_played`: it has none, the script speaks for it."""

    def __init__(self, member_id: str) -> None:
        self.id = member_id
        self.disk = Disk()
        self.is_running = False
        self.is_played = False
        self.raft: Raft
        self.records: list[Record] = []
        self.new_records: list[Record] = []
        self.commit_before = 0

    def has(self, seq: int, term: int) -> bool:
        return any((record.last_seq, record.term) == (seq, term) for record in self.records)


@dataclass(frozen=True)
class Letter:
    sender: str
    to: str
    message: m.Message
    records: tuple[Record, ...] = ()

    def __str__(self) -> str:
        return f"{self.sender} -> {self.to}  {spell(self.message, self.records)}"

    def as_received(self) -> m.Message:
        return replace(self.message, records=self.records) if isinstance(self.message, m.Append) else self.message


class Cluster:
    """`trace` collects what happens, a line each; `is_quiet` leaves out messages and deeds of the disk."""

    def __init__(self, members: Iterable[str], options: Options) -> None:
        self.members = {member: Member(member) for member in members}
        self.options = options
        self.now_ms = 0.0
        self.network: list[Letter] = []
        self.held: dict[str, list[Letter]] = {}
        self.cut_pairs: set[tuple[str, str]] = set()
        self.promises = Promises()
        self.trace: list[str] = []
        self.is_quiet = False
        self._lives = 0

    # Life and death

    def start(self, member_id: str) -> None:
        member = self.members[member_id]
        disk, order = member.disk, list(self.members).index(member_id)
        self._lives += 1
        rows = disk.records
        starts = [row for row, prev in zip(rows, [None, *rows], strict=False) if prev is None or row.term != prev.term]
        index = LogIndex(
            [row.last_seq for row in rows],
            [row.checksum for row in rows],
            [row.size for row in rows],
            [(row.first_seq, row.term) for row in starts],
        )
        known = max([disk.commit_seq, *(row.commit_seq for row in rows)])
        member.raft = Raft(
            member_id,
            tuple(self.members),
            index,
            term=disk.ballot[0],
            vote=disk.ballot[1],
            commit_seq=min(known, index.last_seq),
            may_vote=disk.may_vote,
            options=self.options,
            random=FixedRandom(order / len(self.members), 1000 * self._lives),
            now_ms=self.now_ms,
        )
        member.is_running = True
        member.records = list(rows)
        member.new_records = list(rows)
        member.commit_before = 0
        for other in self.members.values():
            if other is not member and (other.is_running or other.is_played):
                self.link(member_id, other.id, up=True)

    def crash(self, member_id: str) -> None:
        """What is queued for the disk is lost, and what is on its way here. What is on its way from here is not."""
        member = self.members[member_id]
        member.is_running = False
        member.disk.queue.clear()
        member.disk.is_held = False
        member.disk.room = None
        self.network = [letter for letter in self.network if letter.to != member_id]
        self.promises.on_reads_void(member_id)
        for other in self.members.values():
            if other is not member and other.is_running:
                self.event(other.id, lambda raft: raft.link_down(member_id, self.now_ms))

    def link(self, one: str, other: str, *, up: bool) -> None:
        """The links between two members in both directions; what is on its way in them is lost when they go down."""
        if not up:
            self.network = [letter for letter in self.network if {letter.sender, letter.to} != {one, other}]
        for here, there in ((one, other), (other, one)):
            if self.members[here].is_running:
                self._notice(here, there, up=up)

    def _notice(self, here: str, there: str, *, up: bool) -> None:
        self.event(here, lambda raft: (raft.link_up if up else raft.link_down)(there, self.now_ms))

    # Events

    def event(self, member_id: str, happening: Callable[[Raft], object]) -> None:
        """One event and what follows from it at this member, its disk included unless it is held."""
        member = self.members[member_id]
        before, told = self._state(member), len(self.trace)
        happening(member.raft)
        self._end_turn(member)
        self.trace[told:told] = self._spell_change(member, before)
        self.promises.check(member, self.members.values())
        if not member.disk.is_held and member.disk.next_deed() is not None:
            self.finish_deed(member_id)

    def _end_turn(self, member: Member) -> None:
        """What kvnode.node does: the no-op of a new leader, then what is due is sent."""
        raft = member.raft
        if raft.leading and raft.index.last_seq < raft.leading.noop_seq:
            raft.propose(self.next_record(member, 1))
        self._carry_out(member, raft.take_output())
        raft.flush()
        self._carry_out(member, raft.take_output())

    def next_record(self, member: Member, entries: int) -> Record:
        raft, index = member.raft, member.raft.index
        first = index.last_seq + 1
        return Record(first, first + entries - 1, raft.term, index.last_checksum, raft.commit_seq)

    def set_room(self, member_id: str, records: int | None) -> None:
        """Room for so many records, or for all; the core is told as soon as it changes."""
        self.members[member_id].disk.room = records
        self.event(member_id, lambda raft: raft.set_room(has_room=records is None))

    def finish_deed(self, member_id: str, *, unseen: bool = False) -> None:
        """The next deed of the disk is done. `unseen`: its completion will never be told."""
        member = self.members[member_id]
        deed = member.disk.do_next()
        if member.disk.is_held:
            self.say(f"{member_id} disk has done: {spell_deed(deed)}", loud=True)
        if unseen:
            return
        if isinstance(deed, SaveBallot):
            self.event(member_id, lambda raft: raft.ballot_saved(deed.term, deed.vote))
        elif isinstance(deed, Record):
            self.event(member_id, lambda raft: raft.durable(deed.last_seq, deed.term))
        else:
            self.event(member_id, lambda raft: raft.cut_done())

    def _carry_out(self, member: Member, output: Output) -> None:
        for _level, event, fields in output.notes:
            if event not in UNREMARKABLE:
                told = ", ".join(f"{name} {value}" for name, value in fields.items())
                self.say(f"{member.id} notes: {event} ({told})")
        for deed in output.disk:
            if isinstance(deed, Cut):
                member.records = [record for record in member.records if record.last_seq <= deed.after_seq]
            elif not isinstance(deed, SaveBallot):
                assert isinstance(deed, Record)
                member.records.append(deed)
                member.new_records.append(deed)
            member.disk.queue.append(deed)
            self.say(f"{member.id} disk: {spell_deed(deed)}", loud=True)
        for to, message in output.messages:
            self._send(member, to, message)
        if output.reads_void and self.promises.on_reads_void(member.id):
            self.say(f"{member.id} must ask again for its reads")
        for ticket, seq in output.reads_ready:
            self.promises.on_reads_ready(member.id, ticket, seq)
            self.say(f"{member.id} may answer reads up to {ticket} at seq {seq}")
        for peer, seq in output.differences:
            self.say(f"{member.id} has another checksum than {peer} at seq {seq}")
        for after_seq in output.suspect_after:
            self.say(f"{member.id} suspects its records after seq {after_seq}")
        for peer, reason in output.drop_links:
            self.say(f"{member.id} drops the link of {peer}: {reason}")

    def _send(self, member: Member, to: str, message: m.Message) -> None:
        self.promises.on_message(member, to, message)
        records: tuple[Record, ...] = ()
        if isinstance(message, m.Append):
            records = tuple(r for r in member.records if message.prev_seq < r.last_seq <= message.last_seq)
        letter = Letter(member.id, to, message, records)
        if self.members[to].is_played:
            self.say(str(letter), loud=True)
        elif (member.id, to) in self.cut_pairs or to not in member.raft.links:
            self.say(f"{letter}  (lost)", loud=True)
        else:
            self.say(str(letter), loud=True)
            self.network.append(letter)

    # The network

    def deliver(self, letter: Letter) -> None:
        receiver = self.members[letter.to]
        if receiver.is_running:
            self.event(letter.to, lambda raft: raft.step(letter.sender, letter.as_received(), self.now_ms))

    def settle(self) -> None:
        """Deliver whatever is on its way, in order, and let the disks finish, until nothing more follows."""
        for _ in range(TURNS_MAX):
            if not self.network:
                return
            self.deliver(self.network.pop(0))
        raise AssertionError(f"no end of messages: {self.network[0]}, {self.network[-1]}, …")

    # Time

    def tick(self, member_id: str) -> None:
        self.event(member_id, lambda raft: raft.tick(self.now_ms))

    def run(self, until_ms: float) -> None:
        """Let time pass; every timer that falls due is served, every message delivered."""
        self.settle()
        for _ in range(TURNS_MAX):
            running = [member for member in self.members.values() if member.is_running]
            due = min(running, key=lambda member: member.raft.deadline_ms())
            deadline_ms = max(self.now_ms, due.raft.deadline_ms())
            if deadline_ms > until_ms:
                self.now_ms = until_ms
                return
            self.now_ms = deadline_ms
            self.tick(due.id)
            self.settle()
        raise AssertionError("timers without end")

    # What is told

    def say(self, line: str, *, loud: bool = False) -> None:
        if not (loud and self.is_quiet):
            self.trace.append(line)

    def _state(self, member: Member) -> tuple[Role, int, str | None, int]:
        raft = member.raft
        return raft.role, raft.term, raft.leader, raft.commit_seq

    def _spell_change(self, member: Member, before: tuple[Role, int, str | None, int]) -> list[str]:
        role, term, leader, commit_seq = after = self._state(member)
        lines = []
        if after[:3] != before[:3]:
            lines.append(f"{member.id} {describe(role, leader)} in term {term}")
        if commit_seq != before[3]:
            lines.append(f"{member.id} commits up to {commit_seq}")
        return lines

    def show(self, member_id: str) -> None:
        member = self.members[member_id]
        if not member.is_running:
            self.say(f"{member_id} is down: {member.disk}")
            return
        raft = member.raft
        committed = [record for record in member.records if record.last_seq <= raft.commit_seq]
        others = member.records[len(committed) :]
        log = f"{spell_records(committed)} | {spell_records(others)}".strip()
        durable = "" if raft.durable_seq == raft.index.last_seq else f", durable up to {raft.durable_seq}"
        right = "" if raft.may_vote else ", without a vote"
        self.say(f"{member_id} {describe(raft.role, raft.leader)} in term {raft.term}: {log}{durable}{right}")


def describe(role: Role, leader: str | None) -> str:
    if role is Role.FOLLOWER:
        return f"follows {leader}" if leader else "follows nobody"
    return "leads" if role is Role.LEADER else "campaigns"
