"""A cluster of real nodes in one process, under virtual time, for tests that tell one situation each.

    cluster = Cluster()                   members A, B, C with the right to vote, connected, nobody leads
    cluster = led_by("A")                 the same, A leads and its no-op is applied everywhere
    client = cluster.client("B")          a connection; `ask` answers with the reply, `send` only sends
    cluster.settle()                      deliver everything, finish every disk, until nothing happens at this time
    cluster.run(ms)                       let time pass, settling at each deadline of a node

What a test wants to see half done it holds back: `hold(sender, receiver)` keeps messages in their link, `let_go` lets
them through; `cut_off` closes links and `heal` dials again; `stop_disk` keeps the deeds of a disk, `start_disk` lets
them be done, `slow_disk` makes them take time; `fill_disk` leaves no room for records, `free_disk` does again; `crash`
loses what is not durable, `start` begins again from what is.

A request is written as one string of words, or as a list of bytes where words will not do.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from random import Random
from typing import Any

import hiredis

from kvnode.config import Config, Member
from kvnode.log.ballot import Ballot
from kvnode.log.errors import DamageError
from kvnode.log.identity import Identity, cluster_id
from kvnode.log.record import Record
from kvnode.log.recovery import Recovered, open_log
from kvnode.log.wal import LogOptions, WriteAheadLog
from kvnode.net.frames import Frames, unpack
from kvnode.node import wire
from kvnode.node.applying import Applier
from kvnode.node.deeds import AppendRecords, CutLog, Event, Outputs, ReadRecords
from kvnode.node.node import Node
from kvnode.node.set_aside import SetAside
from kvnode.raft import LogIndex
from kvnode.store.keyspace import KeySpace
from kvnode.store.limits import Limits

EPOCH_MS = 1_700_000_000_000
ROUNDS_MAX = 5000
"""Nodes that talk this long at one time would talk for ever."""


class MemoryLog:
    """What is on a disk: `kvnode.node.deeds.Log` without files, as strict as the real one about what it is told."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.term = 0
        self.vote: str | None = None
        self.records: list[Record] = []
        self.records_per_read = 1 << 30
        self.rotten: set[int] = set()
        """Records, by their last seq, of which the disk gives other bytes."""

    @property
    def last_seq(self) -> int:
        return self.records[-1].last_seq if self.records else 0

    def append(self, records: Sequence[Record]) -> None:
        for record in records:
            before = self.records[-1].checksum if self.records else 0
            assert (record.first_seq, record.prev_checksum) == (self.last_seq + 1, before), f"{record!r} does not fit"
            self.records.append(record)

    def cut(self, after_seq: int) -> None:
        while self.last_seq > after_seq:
            self.records.pop()
        assert self.last_seq == after_seq, f"no record ends at {after_seq}"

    def set_aside(self, after_seq: int, reason: str) -> None:
        self.identity = replace(self.identity, may_vote=False, set_aside=reason)
        self.cut(after_seq)

    def save_ballot(self, term: int, vote: str | None) -> None:
        assert term > self.term or (term == self.term and self.vote in (None, vote)), "a ballot that takes one back"
        self.term, self.vote = term, vote

    def save_identity(self, identity: Identity) -> None:
        self.identity = identity

    def read(self, after_seq: int, bytes_max: int) -> tuple[bytes, int]:
        """As wal.read: whole records that are durable, fewer than asked for where a segment ends."""
        found = [record for record in self.records if record.first_seq > after_seq][: self.records_per_read]
        if not found or found[0].first_seq != after_seq + 1:
            return b"", after_seq
        data, at = b"", after_seq
        for record in found:
            if data and len(data) + record.size > bytes_max:
                break
            data, at = data + self._raw(record), record.last_seq
        return data, at

    def _raw(self, record: Record) -> bytes:
        return record.raw[:-1] + bytes([record.raw[-1] ^ 1]) if record.last_seq in self.rotten else record.raw

    def scrub(self, after_seq: int, expected: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int, str]], int]:
        bad: list[tuple[int, int, str]] = []
        here = {record.last_seq: record for record in self.records}
        for last_seq, checksum in expected:
            record = here.get(last_seq)
            if record is not None and record.checksum == checksum and last_seq in self.rotten:
                bad.append((record.first_seq - 1, last_seq, "rotten"))
        return bad, sum(here[last_seq].size for last_seq, _ in expected if last_seq in here)

    def heal(self, after_seq: int, to_seq: int, data: bytes) -> None:
        lost = [record for record in self.records if after_seq < record.first_seq and record.last_seq <= to_seq]
        assert b"".join(record.raw for record in lost) == data, "healed with other bytes than were there"
        self.rotten -= {record.last_seq for record in lost}

    def recover(self, on_record: Callable[[Record], None]) -> Recovered:
        index = LogIndex()
        for record in self.records:
            on_record(record)
            index.append(record)
        terms: list[tuple[int, int]] = []
        for record in self.records:
            if not terms or terms[-1][1] != record.term:
                terms.append((record.first_seq, record.term))
        return Recovered(
            log=self,  # type: ignore[arg-type]
            identity=self.identity,
            ballot=Ballot(self.term, self.vote),
            is_new=False,
            is_empty=not self.records and not self.term,
            commit_seq=min(max((r.commit_seq for r in self.records), default=0), self.last_seq),
            time_ms=max((record.time_ms for record in self.records), default=0),
            last_seq=self.last_seq,
            last_term=index.last_term,
            last_checksum=index.last_checksum,
            last_seqs=array("Q", [record.last_seq for record in self.records]),
            checksums=array("I", [record.checksum for record in self.records]),
            sizes=array("Q", [record.size for record in self.records]),
            terms=terms,
            cut=None,
            entries=self.last_seq,
            bytes=index.bytes_until(self.last_seq),
        )


class FilesLog:
    """The real log, in files. A new one has no right to vote yet."""

    SEGMENT_BYTES = 4096

    def __init__(self, directory: Path, cluster: str, member_id: str, ids: tuple[str, ...]) -> None:
        self.directory = directory
        self._whose = {"cluster_id": cluster, "node_id": member_id, "members": ids}
        self._wal: WriteAheadLog | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wal, name)

    def recover(self, on_record: Callable[[Record], None]) -> Recovered:
        options = LogOptions(segment_bytes=self.SEGMENT_BYTES)
        recovered = open_log(self.directory, on_record=on_record, options=options, **self._whose)  # type: ignore[arg-type]
        self._wal = recovered.log
        return recovered

    def open_damaged(self) -> Any:
        from kvnode.log.healing.damaged import DamagedLog

        return DamagedLog.open(self.directory, **self._whose)  # type: ignore[arg-type]

    def close(self) -> None:
        if self._wal is not None:
            self._wal.close()
            self._wal = None


class Link:
    """One connection that `sender` dialed. `forth` and `back` hold what is on its way, one write after the other."""

    def __init__(self, sender: Host, receiver: Host, lane: str) -> None:
        self.sender, self.receiver, self.lane = sender, receiver, lane
        self.ids = {sender: sender.next_id(), receiver: receiver.next_id()}
        self.on_its_way: dict[Host, deque[bytes]] = {sender: deque(), receiver: deque()}  # by receiver
        sender.links[self.ids[sender]] = receiver.links[self.ids[receiver]] = self
        sender.post("on_dialed", self.ids[sender], receiver.id, lane, receiver.id)
        receiver.post("on_accepted", self.ids[receiver], sender.id)

    def other(self, host: Host) -> Host:
        return self.receiver if host is self.sender else self.sender

    def close(self) -> None:
        for host, link_id in self.ids.items():
            if host.links.pop(link_id, None) is not None:
                host.post("on_link_closed", link_id)


class Host:
    """A machine: its disk outlives its node, which is None while it is down."""

    def __init__(self, cluster: Cluster, member_id: str, log: MemoryLog | FilesLog) -> None:
        self.cluster = cluster
        self.id = member_id
        self.log: Any = log
        self.wall_offset_ms = 0.0
        self.node: Node | None = None
        self.damaged: Any = None
        """The log while it has holes, and this member is set aside."""
        self.notes: list[tuple[str, str, dict[str, object]]] = []
        self.life = 0
        self._last_id = 0
        self._mend_disk()
        self._forget()

    def _mend_disk(self) -> None:
        self.disk_is_stopped = self.reader_is_stopped = False
        self.disk_ms = 0.0
        self.disk_is_full = self.was_full = False
        self.reserve = 0  # records for which a full disk has room

    def _forget(self) -> None:
        self.events: list[Event] = []
        self.deeds: deque[Any] = deque()
        self.stuck: deque[AppendRecords] = deque()
        self.reads: deque[ReadRecords] = deque()
        self.links: dict[int, Link] = {}
        self.clients: dict[int, Client] = {}
        self.outputs = Outputs()
        self.disk_due_ms = inf
        self._deeds_begun = 0

    def __repr__(self) -> str:
        return repr(self.node) if self.node else f"{self.id} is down"

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    @property
    def up(self) -> Node:
        assert self.node is not None, f"{self.id} is down"
        return self.node

    def post(self, handler: str, *arguments: Any) -> None:
        self.events.append((handler, arguments))

    def begin(self) -> None:
        self.life += 1
        self._forget()
        cluster = self.cluster
        config = Config(self.id, Path("/nowhere"), cluster.members, **cluster.settings)
        applier = Applier(KeySpace(Limits(config.key_bytes_max, config.value_bytes_max)))

        try:
            recovered = self.log.recover(applier.recover)
        except DamageError as damage:
            if not damage.holes:
                raise
            self._begin_set_aside(config)
            return
        self.node = Node(
            config,
            cluster_id(config.member_ids),
            recovered,
            applier,
            log_counters=tuple,
            random=Random(f"{self.id} {self.life}"),
            now_ms=cluster.now_ms,
            wall_ms=self.wall_ms,
        )
        self.turn()

    def _begin_set_aside(self, config: Config) -> None:
        """What the runtime does with a log that has holes; `node` is no Node then."""
        self.damaged = self.log.open_damaged()
        random = Random(f"{self.id} {self.life}")
        holes = tuple(self.damaged.holes)
        cluster = cluster_id(config.member_ids)
        self.node = SetAside(config, cluster, holes, random=random, now_ms=self.cluster.now_ms)  # type: ignore[assignment]
        self.turn()

    def end(self) -> None:
        if self.damaged is not None:
            self.damaged.close()
            self.damaged = None
        for link in list(self.links.values()):
            link.close()
        for client in self.clients.values():
            client.is_closed = True
        if isinstance(self.log, FilesLog) and self.node:
            self.log.close()
        self.node = None
        self._mend_disk()
        self._forget()

    @property
    def wall_ms(self) -> float:
        return EPOCH_MS + self.cluster.now_ms + self.wall_offset_ms

    def turn(self) -> None:
        """One turn of the node with what has been posted."""
        events, self.events = self.events, []
        outputs = self.outputs = self.up.turn(self.cluster.now_ms, self.wall_ms, events)
        self.deeds += outputs.disk
        self.reads += outputs.reads
        self.notes += outputs.notes
        for link_id, data in outputs.link_writes:
            link = self.links.get(link_id)
            if link is not None:
                link.on_its_way[link.other(self)].append(data)
        for session_id, data in outputs.client_writes:
            if session_id in self.clients:
                self.clients[session_id].receive(data)
        asked = {arguments[0] for handler, arguments in self.events if handler == "on_client_bytes"}
        for session_id in (*outputs.client_closes, *(each for each in outputs.client_ends if each not in asked)):
            if session_id in self.clients:
                self.clients[session_id].close()
        for link_id in outputs.link_closes:
            if link_id in self.links:
                self.links[link_id].close()
        if outputs.restart:
            self.end()
            self.begin()

    def work_on_disk(self, count: int | None = None) -> bool:
        """Perform the first `count` deeds (all: None), and the reads; whether there were any."""
        if self.disk_is_full or self.was_full:
            self._set_aside_what_has_no_room()
            count = None  # what is left now is older than what waits
        done = False
        while self.deeds and count != 0:
            self.events.append(self.deeds.popleft().perform(self.damaged or self.log))
            count = None if count is None else count - 1
            done = True
        return done

    def _set_aside_what_has_no_room(self) -> None:
        """As kvnode.runtime.disk does: appends wait, all else overtakes them, and a cut takes what it cuts of them."""
        self.deeds, deeds = deque(), self.stuck + self.deeds
        self.stuck = deque()
        for deed in deeds:
            if isinstance(deed, AppendRecords) and self.disk_is_full:
                if self.stuck or len(deed.records) > self.reserve:
                    self.stuck.append(deed)
                    continue
                self.reserve -= len(deed.records)
            elif isinstance(deed, CutLog):
                self.stuck = deque(_without_suffix(self.stuck, deed.after_seq))
                deed = CutWhatIsWritten(deed.after_seq)
            self.deeds.append(deed)
        if self.stuck and not self.was_full:
            self.was_full = True
            self.post("on_disk_full", "No space left on device")
        elif self.was_full and not self.disk_is_full:
            self.was_full = False
            self.deeds.append(SayRoom())

    def work_slowly(self) -> bool:
        """What was there when it began is done at once, `disk_ms` later."""
        if self.cluster.now_ms >= self.disk_due_ms:
            self.disk_due_ms = inf
            return self.work_on_disk(self._deeds_begun)
        if self.deeds and self.disk_due_ms == inf:
            self.disk_due_ms = self.cluster.now_ms + self.disk_ms
            self._deeds_begun = len(self.deeds)
        return False

    def read_from_disk(self) -> bool:
        done = bool(self.reads)
        while self.reads:
            self.events.append(self.reads.popleft().perform(self.damaged or self.log))
        return done


class SayRoom:
    def perform(self, log: object) -> Event:
        return "on_disk_room", ()


class CutWhatIsWritten(CutLog):
    def perform(self, log: Any) -> Event:
        log.cut(min(self.after_seq, log.last_seq))
        return "on_cut", (self.after_seq,)


def _without_suffix(deeds: Iterable[AppendRecords], after_seq: int) -> Iterable[AppendRecords]:
    for deed in deeds:
        records = [record for record in deed.records if record.last_seq <= after_seq]
        if records:
            yield AppendRecords(records)


class Client:
    """A connection of a client. `replies`: bytes, int, None, lists; an error as a string that begins with '-'."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.id = host.next_id()
        self.is_closed = False
        self.replies: list[Any] = []
        self._reader = hiredis.Reader()
        host.clients[self.id] = self
        host.post("on_client", self.id, f"client:{self.id}")

    def send(self, *requests: str | list[bytes]) -> Client:
        """One chunk of bytes with these requests."""
        self.send_bytes(b"".join(map(_encode, requests)))
        return self

    def send_bytes(self, data: bytes) -> None:
        self.host.post("on_client_bytes", self.id, data)

    def ask(self, request: str | list[bytes]) -> Any:
        """Send, settle, and return the one reply."""
        assert not self.replies, f"there are replies already: {self.replies}"
        self.send(request)
        self.host.cluster.settle()
        assert len(self.replies) == 1, f"{request} has {len(self.replies)} replies"
        return self.replies.pop()

    def take(self) -> list[Any]:
        """The replies so far, each told once."""
        replies, self.replies = self.replies, []
        return replies

    def receive(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self.replies.append(_plain(reply))

    def close(self) -> None:
        self.is_closed = True
        if self.host.clients.pop(self.id, None) is not None:
            self.host.post("on_client_gone", self.id)


def _encode(request: str | list[bytes]) -> bytes:
    words = request.encode().split() if isinstance(request, str) else request
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _plain(reply: Any) -> Any:
    if isinstance(reply, hiredis.ReplyError):
        return f"-{reply}"
    return [_plain(item) for item in reply] if isinstance(reply, list) else reply


class Cluster:
    """`settings`: keys of the configuration; no member trails unless they say so. `may_vote=False`: disks without a
    past. `data`: where real files are to be, else the disks are in memory. `down`: members that are not started yet."""

    def __init__(
        self, ids: str = "ABC", *, may_vote: bool = True, down: str = "", data: Path | None = None, **settings: Any
    ) -> None:
        self.data = data
        self.settings = {"trail_ms": 0, **settings}
        self.now_ms = 1000.0
        self.members = tuple(Member(id, "host", 3000 + k, "host", 13000 + k) for k, id in enumerate(ids))
        self.cluster_id = cluster_id(ids)
        self.hosts = {id: Host(self, id, self._new_log(id, may_vote)) for id in ids}
        self.links: dict[tuple[str, str, str], Link] = {}
        self._held: set[tuple[str, str]] = set()
        self._held_links: set[Link] = set()
        self._cut: set[tuple[str, str]] = set()
        self.start(*(id for id in ids if id not in down))

    def _new_log(self, member_id: str, may_vote: bool) -> MemoryLog | FilesLog:
        ids = tuple(member.id for member in self.members)
        if self.data is not None:
            return FilesLog(self.data / member_id, self.cluster_id, member_id, ids)
        return MemoryLog(Identity(self.cluster_id, member_id, ids, may_vote))

    def __getitem__(self, member_id: str) -> Node:
        return self.hosts[member_id].up

    def __repr__(self) -> str:
        return " / ".join(map(repr, self.hosts.values()))

    # Nodes and their disks

    def start(self, *ids: str) -> None:
        for id in ids:
            self.hosts[id].begin()
        self._dial()
        self.settle()

    def crash(self, *ids: str) -> None:
        """The process ends; what was not durable is lost, and so is what it had not sent."""
        for id in ids:
            self.hosts[id].end()

    def wipe(self, member_id: str) -> None:
        """A new disk in a machine that is down."""
        self.hosts[member_id].log = self._new_log(member_id, may_vote=False)

    def stop_disk(self, *ids: str) -> None:
        for id in ids:
            self.hosts[id].disk_is_stopped = True

    def start_disk(self, *ids: str) -> None:
        for id in ids:
            self.hosts[id].disk_is_stopped = False

    def slow_disk(self, ms: float, *ids: str) -> None:
        for id in ids:
            self.hosts[id].disk_ms = ms

    def fill_disk(self, *ids: str, reserve: int = 0) -> None:
        """`reserve`: how many records can still be written."""
        for id in ids:
            self.hosts[id].disk_is_full, self.hosts[id].reserve = True, reserve

    def free_disk(self, *ids: str) -> None:
        for id in ids:
            self.hosts[id].disk_is_full = False

    def log(self, member_id: str) -> list[tuple[Any, ...]]:
        """The entries on the (memory) disk of a member."""
        return [tuple(entry) for record in self.hosts[member_id].log.records for entry in record.entries]

    # Links

    def _dial(self) -> None:
        for sender in self.hosts.values():
            for receiver in self.hosts.values():
                if sender is receiver or not sender.node or not receiver.node or (sender.id, receiver.id) in self._cut:
                    continue
                for lane in wire.LANES:
                    name = (sender.id, receiver.id, lane)
                    link = self.links.get(name)
                    if link is None or link.ids[sender] not in sender.links:
                        self.links[name] = Link(sender, receiver, lane)

    def _between(self, pairs: str) -> Iterable[tuple[str, str]]:
        """`A>B` one way, `A-B` both ways, `A` to and from everybody; several separated by spaces."""
        for pair in pairs.split():
            if len(pair) == 1:
                for other in self.hosts:
                    if other != pair:
                        yield from ((pair, other), (other, pair))
            else:
                yield (pair[0], pair[2])
                if pair[1] == "-":
                    yield (pair[2], pair[0])

    def hold(self, pairs: str) -> None:
        """Keep what is sent from now on in the links."""
        self._held.update(self._between(pairs))

    def let_go(self, pairs: str) -> None:
        self._held.difference_update(self._between(pairs))

    def hold_link(self, link: Link) -> None:
        """One lane alone."""
        self._held_links.add(link)

    def let_go_link(self, link: Link) -> None:
        self._held_links.discard(link)

    def lose(self, pairs: str) -> None:
        """Break the links with all that is in them; they are dialed again when time passes."""
        for sender, receiver in self._between(pairs):
            for lane in wire.LANES:
                self.links[sender, receiver, lane].close()

    def cut_off(self, pairs: str) -> None:
        """Close the links that the first of each pair has dialed, and let nobody dial again."""
        for sender, receiver in self._between(pairs):
            self._cut.add((sender, receiver))
            for lane in wire.LANES:
                if (sender, receiver, lane) in self.links:
                    self.links[sender, receiver, lane].close()

    def heal(self) -> None:
        self._held.clear()
        self._held_links.clear()
        self._cut.clear()
        self._dial()
        self.settle()

    def messages(self, pair: str, kind: type[Any] | None = None) -> list[Any]:
        """What is held back between two, in order: the control lane first."""
        (sender, receiver), *_ = self._between(pair)
        found = []
        for lane in wire.LANES:
            data = b"".join(self.links[sender, receiver, lane].on_its_way[self.hosts[receiver]])
            found += [wire.decode(body) for body in Frames(1 << 30).feed(data) if type(unpack(body)[0]) is int]
        return [message for message in found if kind is None or isinstance(message, kind)]

    def inject(self, sender: str, receiver: str, message: Any) -> None:
        """A message of `sender`, after those that are on their way."""
        data = wire.encode(message)
        self.links[sender, receiver, wire.lane_of(message)].on_its_way[self.hosts[receiver]].append(data)

    # Time

    def settle(self) -> None:
        """Everything that follows without time passing."""
        for _ in range(ROUNDS_MAX):
            if not self._step():
                return
        raise AssertionError(f"this never ends: {self!r}")

    def _step(self) -> bool:
        moved = False
        for host in self.hosts.values():
            if host.node is None:
                continue
            if not host.disk_is_stopped:
                moved |= host.work_slowly() if host.disk_ms else host.work_on_disk()
            if not host.reader_is_stopped:
                moved |= host.read_from_disk()
            if host.events or host.outputs.wants_turn:
                host.turn()
                moved = True
        for link in list(self.links.values()):
            for receiver, queue in link.on_its_way.items():
                if queue and link.ids[receiver] in receiver.links and self._passes(link, receiver):
                    receiver.post("on_link_bytes", link.ids[receiver], queue.popleft())
                    moved = True
        return moved

    def _passes(self, link: Link, receiver: Host) -> bool:
        return (link.other(receiver).id, receiver.id) not in self._held and link not in self._held_links

    def run(self, ms: float) -> None:
        """Let time pass; links that were closed are dialed again."""
        end_ms = self.now_ms + ms
        self.settle()
        while True:
            due = [min(host.outputs.deadline_ms, host.disk_due_ms) for host in self.hosts.values() if host.node]
            at_ms = min(end_ms, max(self.now_ms + 0.5, min(due, default=end_ms)))
            self.now_ms = at_ms
            self._dial()
            for host in self.hosts.values():
                if host.node and host.outputs.deadline_ms <= at_ms:
                    host.turn()
            self.settle()
            if at_ms >= end_ms:
                return

    # Roles

    def campaign(self, member_id: str) -> None:
        """It campaigns at once, as if its leader had asked it to, and no message has been delivered yet."""
        self[member_id].raft.become_candidate(transfer=True, real=True)
        self.hosts[member_id].turn()

    def elect(self, member_id: str) -> None:
        self.campaign(member_id)
        self.settle()
        assert self[member_id].raft.leading, f"{member_id} was not elected: {self!r}"

    @property
    def leaders(self) -> list[str]:
        return [id for id, host in self.hosts.items() if host.node and host.node.raft.leading]

    # Clients

    def client(self, member_id: str) -> Client:
        return Client(self.hosts[member_id])

    def local(self, member_id: str, key: str) -> Any:
        """The value that is applied at a node."""
        return self[member_id].applier.keyspace.get(key.encode())


def led_by(leader: str, ids: str = "ABC", **settings: Any) -> Cluster:
    cluster = Cluster(ids, **settings)
    cluster.elect(leader)
    cluster.run(10)
    return cluster
