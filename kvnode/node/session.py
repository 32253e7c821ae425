"""A client's connection, and the pieces in which its commands are worked on.

    Arrival   commands that came in one chunk of bytes, waiting to be run in order; they share a deadline
    Chunk     commands of one session that are run together and answered together, when all their gates have opened
    Group     the chunks that depend on one record of the log: answered when it is committed

Replies leave in the order of the chunks. At the leader several chunks of a session may be under way, since they are
logged in order; everywhere else a chunk is a *blocker*: nothing later of the session is run before it is resolved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TYPE_CHECKING

from kvnode.net.replies import RESP2, encode
from kvnode.net.requests import Requests

if TYPE_CHECKING:
    from kvnode.reply import Reply

Command = list[bytes]

REPLY_BYTES_MAX = 1024 * 1024
"""What a session may be answered in one turn, unless one reply alone is larger: a client that does not read what it
asked for must not fill the memory."""


class Arrival:
    """`commands[position:]` are still to be run; after `deadline_ms` they are refused. `size`: bytes, about."""

    __slots__ = ("commands", "deadline_ms", "position", "size")

    def __init__(self, commands: list[Command], deadline_ms: float, size: int) -> None:
        self.commands = commands
        self.deadline_ms = deadline_ms
        self.position = 0
        self.size = size


class Group:
    """`last_seq` and `term` name the record; both are 0 while its batch is open."""

    __slots__ = ("chunks", "deadline_ms", "last_seq", "term")

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.deadline_ms = float("inf")
        self.last_seq = 0
        self.term = 0

    def add(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        chunk.group = self
        chunk.gates += 1
        if chunk.deadline_ms < self.deadline_ms:
            self.deadline_ms = chunk.deadline_ms


class Chunk:
    """`commands` as they came, so that they can be run again if they certainly have not taken effect. `replies` are
    encoded, and in order. `gates`: how many conditions are still to come true. `group`: the record that it waits
    for."""

    is_blocker = False
    is_logged = False
    """It may have taken effect: it is part of the record that its group names (or will, while the batch is open),
    having written or read what that holds; or it was forwarded."""
    skips_reply = False
    """CLIENT REPLY SKIP took its reply away, and would again."""
    reading: Generator[None, None, bytes] | None = None
    """The read of the whole key space that is under way, in slices; returns the encoded reply."""
    read_seq = 0
    """Of a read that is evaluated at the end: what must have been applied by then at least."""
    wait_for: tuple[int, int] | None = None
    """WAIT: how many members, which seq."""

    # No __slots__: what is rare has its default in the class, and costs a common chunk nothing.
    def __init__(self, session: Session, commands: list[Command], deadline_ms: float) -> None:
        self.session = session
        self.commands = commands
        self.deadline_ms = deadline_ms
        self.replies: list[bytes] = []
        self.reply_bytes = 0
        self.gates = 0
        self.group: Group | None = None


class Session:
    """One connection. `protocol` is 2 or 3; `reads_locally` after READONLY; `tells_seq` after CLIENT REPLYSEQ ON."""

    __slots__ = (
        "_later",
        "_later_chunks",
        "address",
        "answered_bytes",
        "answered_turn",
        "arrival",
        "blockers",
        "chunk",
        "id",
        "is_backed_up",
        "is_ending",
        "is_gone",
        "is_paused",
        "is_plain",
        "is_queued",
        "is_silent",
        "last_write_seq",
        "library",
        "name",
        "pending_bytes",
        "pipelines",
        "protocol",
        "queued_bytes",
        "reads_locally",
        "requests",
        "skips_reply",
        "started_ms",
        "tells_seq",
        "told_seq",
    )

    def __init__(self, session_id: int, address: str, requests: Requests, now_ms: float) -> None:
        self.id = session_id
        self.address = address
        self.requests = requests
        self.started_ms = now_ms
        self.arrival: Arrival | None = None  # the first: its commands are next
        self._later: deque[Arrival] = deque()  # nearly always empty, and asking whether it is takes a call
        self.queued_bytes = 0
        self.pending_bytes = 0  # of replies that wait for their gates
        self.answered_turn = self.answered_bytes = 0  # the turn of the last answer, and its bytes
        self.chunk: Chunk | None = None  # the first that is under way: answered next
        self._later_chunks: list[Chunk] = []  # a list of one would be made and freed for every command
        self.blockers = 0
        self.is_queued = self.is_paused = False
        self.is_backed_up = False  # the client does not read its replies
        self.is_ending = False  # no more input: close when everything is answered
        self.is_gone = False
        self.pipelines = False  # the client has sent commands before earlier ones were answered
        self.last_write_seq = 0
        self.told_seq = 0  # the highest that a reply of this term of leadership told of
        self.name = b""
        self.library: dict[bytes, bytes] = {}
        self.reset()

    def __repr__(self) -> str:
        waiting = len(self._later) + (self.arrival is not None)
        return f"session {self.id} {self.address} waiting={waiting} pending={len(self.chunks)}"

    def reset(self) -> None:
        """What a new connection begins with, and RESET returns to."""
        self.protocol = RESP2
        self.reads_locally = self.tells_seq = False
        self.is_silent = self.skips_reply = False
        self.is_plain = True

    def note_mode(self) -> None:
        """After a change of mode. A plain session's replies are nothing but encoded."""
        self.is_plain = not (self.tells_seq or self.is_silent or self.skips_reply)

    @property
    def is_idle(self) -> bool:
        return self.chunk is None and self.arrival is None

    @property
    def chunks(self) -> list[Chunk]:
        """All that is under way, in order."""
        return [self.chunk, *self._later_chunks] if self.chunk is not None else []

    def encode(self, reply: Reply, seq: int) -> bytes:
        """A reply that took effect at `seq`, as this session gets it: perhaps not at all (CLIENT REPLY)."""
        if self.is_plain:
            return encode(reply, self.protocol)
        if self.skips_reply:
            self.skips_reply = False
            self.note_mode()
            return b""
        if self.is_silent:
            return b""
        data = encode(reply, self.protocol)
        return b"*2\r\n:%d\r\n%b" % (seq, data) if self.tells_seq else data

    def add(self, chunk: Chunk, *, is_blocker: bool) -> None:
        """Put a chunk in its place in the order of replies."""
        if is_blocker:
            chunk.is_blocker = True
            self.blockers += 1
        if self.chunk is None:
            self.chunk = chunk
        else:
            self._later_chunks.append(chunk)

    def receive(self, arrival: Arrival) -> None:
        """It comes after all that is waiting."""
        if self.arrival is None:
            self.arrival = arrival
        else:
            self._later.append(arrival)

    def receive_first(self, arrival: Arrival) -> None:
        """It comes before all that is waiting."""
        if self.arrival is not None:
            self._later.appendleft(self.arrival)
        self.arrival = arrival

    def drop_arrivals(self) -> None:
        """Nothing more is run."""
        self.arrival = None
        self._later.clear()

    def advance(self, arrival: Arrival, count: int) -> None:
        """`count` more commands of the first arrival are taken to be run. To be called before they are: one of them
        may end the session, or put commands back in front."""
        if arrival.position == 0:
            self.queued_bytes -= arrival.size
        arrival.position += count
        if arrival.position >= len(arrival.commands):
            self.arrival = self._later.popleft() if self._later else None

    def put_back(self, chunk: Chunk) -> None:
        """Run the newest chunk again: it has certainly not taken effect."""
        if chunk is self.chunk and not self._later_chunks:
            self.chunk = None
        else:
            self._later_chunks.remove(chunk)
        self.blockers -= chunk.is_blocker
        self.pending_bytes -= chunk.reply_bytes
        if chunk.skips_reply:
            self.skips_reply = True
            self.note_mode()
        chunk.gates = 0  # whatever still refers to it has nothing to open
        chunk.group = None
        self.receive_first(Arrival(chunk.commands, chunk.deadline_ms, 0))

    def take_replies(self) -> list[bytes]:
        """The replies that may leave now, in order."""
        chunk = self.chunk
        if chunk is not None and chunk.gates == 0 and not self._later_chunks:
            self.chunk = None
            self.blockers -= chunk.is_blocker
            self.pending_bytes -= chunk.reply_bytes
            return chunk.replies
        replies: list[bytes] = []
        for done in self._take_done():
            replies += done.replies
        return replies

    def _take_done(self) -> list[Chunk]:
        """The chunks in front whose gates are open."""
        done: list[Chunk] = []
        chunk, later = self.chunk, self._later_chunks
        count = 0  # of the later ones
        while chunk is not None and chunk.gates == 0:
            done.append(chunk)
            self.blockers -= chunk.is_blocker
            self.pending_bytes -= chunk.reply_bytes
            chunk = later[count] if count < len(later) else None
            count += 1
        self.chunk = chunk
        del later[:count]
        return done


class RemoteSession(Session):
    """Commands that another member forwarded: one arrival, answered with one reply to that member.

    `done` counts the commands that are answered; those after them certainly had no effect and may be run again."""

    __slots__ = ("collected", "done", "peer", "request_id", "term")

    def __init__(self, peer: str, request_id: int, term: int, now_ms: float) -> None:
        super().__init__(-request_id, f"member {peer}", Requests(), now_ms)
        self.peer = peer
        self.request_id = request_id
        self.term = term
        self.done = 0
        self.collected: list[bytes] = []

    def take_replies(self) -> list[bytes]:
        """Collected here until all of them are there."""
        for chunk in self._take_done():
            self.collected += chunk.replies
            self.done += len(chunk.commands)
        return []
