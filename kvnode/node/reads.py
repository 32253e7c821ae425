"""Reads that wait: for the leader to be confirmed, for the log to be applied, for their turn when they are long.

At the leader, reads of single keys are evaluated on arrival and wait here for a round alone. All others (at a follower,
or of the whole key space) are evaluated at the end: a ticket of consensus names the seq that must be applied before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from kvnode.net.replies import encode_in_slices
from kvnode.node.session import REPLY_BYTES_MAX, Arrival, Chunk, Command, Session
from kvnode.reply import CommandError
from kvnode.store.command import Reading
from kvnode.store.cursors import Cursors
from kvnode.store.keyspace import KeySpace
from kvnode.store.table import GET, resolve

if TYPE_CHECKING:
    from kvnode.node.node import Node

SLICES_PER_TURN: Final = 5
"""A slice of a long read takes a few milliseconds."""


class Ticket:
    """A ticket of consensus, and who waits for it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.chunks: list[Chunk] = []


class Reads:
    """Also what reads of the whole key space see: `keyspace` and `cursors`."""

    def __init__(self, node: Node, keyspace: KeySpace, cursors: Cursors) -> None:
        self.node = node
        self.keyspace = keyspace
        self.cursors = cursors
        self._tickets: list[Ticket] = []  # as they were asked for
        self._applying: list[tuple[int, int, Chunk]] = []  # a heap by seq
        self._order = count()
        self._long: deque[Chunk] = deque()

    def __repr__(self) -> str:
        unconfirmed = sum(len(ticket.chunks) for ticket in self._tickets)
        return f"Reads unconfirmed={unconfirmed} unapplied={len(self._applying)} long={len(self._long)}"

    # Confirming

    def add(self, chunk: Chunk, ticket: int, seq: int = 0) -> None:
        """Let the chunk wait for `ticket`; if it is still to be evaluated, also until `seq` at least is applied."""
        if chunk.replies:
            chunk.gates += 1  # evaluated on arrival
        chunk.read_seq = seq
        # Most wait for the same as the one before; looking it up by its number took 4 % of a GET's instructions.
        if not self._tickets or self._tickets[-1].number != ticket:
            self._tickets.append(Ticket(ticket))
        self._tickets[-1].chunks.append(chunk)

    def on_ready(self, ticket: int, seq: int) -> None:
        node = self.node
        applied_seq = node.applier.applied_seq
        ready = [waiting for waiting in self._tickets if waiting.number <= ticket]
        self._tickets = [waiting for waiting in self._tickets if waiting.number > ticket]
        for waiting in ready:
            for chunk in waiting.chunks:
                if chunk.replies:
                    chunk.gates -= 1
                    if chunk.gates == 0:
                        node.release(chunk.session)
                elif seq <= applied_seq >= chunk.read_seq:
                    self._evaluate(chunk)
                else:
                    heappush(self._applying, (max(seq, chunk.read_seq), next(self._order), chunk))

    def void(self) -> None:
        """No ticket will be answered: chunks that wait for one to be evaluated are run again.

        Where leadership was lost that has been sorted out before, and no gate is left here."""
        tickets, self._tickets = self._tickets, []
        for waiting in tickets:
            for chunk in waiting.chunks:
                if chunk.gates and not chunk.replies:
                    self.node.run_again(chunk)

    # Evaluating

    @property
    def waits_for_applying(self) -> bool:
        """Whether a read needs what is committed to be applied."""
        return bool(self._applying)

    def on_applied(self, applied_seq: int) -> None:
        while self._applying and self._applying[0][0] <= applied_seq:
            self._evaluate(heappop(self._applying)[2])

    def read_locally(self, session: Session, commands: list[Command], deadline_ms: float) -> None:
        """Reads that asked for no more than what is known here to be committed."""
        self.node.apply_committed()
        chunk = Chunk(session, commands, deadline_ms)
        chunk.gates = 1
        session.add(chunk, is_blocker=True)
        self._evaluate(chunk)

    def start_long(self, chunk: Chunk, reading: Reading) -> None:
        chunk.reading = self._answer_in_slices(chunk.session, reading)
        self._long.append(chunk)
        self.node.outputs.wants_turn = True

    def _answer_in_slices(self, session: Session, reading: Reading) -> Generator[None, None, bytes]:
        """Let a long read go on to its end and encode its reply, all of it in slices; returns the bytes."""
        while self.keyspace.merge_some():
            yield
        seq = self.node.applier.applied_seq  # with nothing left to merge, the snapshot is taken at once
        reply = yield from reading
        if session.is_silent or session.skips_reply:
            return session.encode(reply, seq)
        data = yield from encode_in_slices(reply, session.protocol)
        return b"*2\r\n:%d\r\n%b" % (seq, data) if session.tells_seq else data

    def _evaluate(self, chunk: Chunk) -> None:
        """Evaluate the commands that have no reply yet, up to one that takes long."""
        session, applied_seq = chunk.session, self.node.applier.applied_seq
        if chunk.gates == 0 or session.is_gone:
            return
        keyspace = self.keyspace
        reply_bytes = 0
        reply: Any
        for command in chunk.commands[len(chunk.replies) :]:
            if reply_bytes > REPLY_BYTES_MAX:
                session.receive_first(Arrival(chunk.commands[len(chunk.replies) :], chunk.deadline_ms, 0))
                chunk.commands = chunk.commands[: len(chunk.replies)]
                break
            try:
                row = resolve(command)
                if row is GET:
                    reply = keyspace.get(command[1])
                else:
                    reply = row.evaluate(self if row.whole else keyspace, command)  # type: ignore[misc]
            except CommandError as error:
                reply = error
            if isinstance(reply, Generator):
                self.start_long(chunk, reply)
                return
            chunk.replies.append(session.encode(reply, applied_seq))
            reply_bytes += len(chunk.replies[-1])
        chunk.gates = 0
        self.node.release(session)

    def run_long(self) -> None:
        """Some slices of the long reads, in turns."""
        for _ in range(min(SLICES_PER_TURN, 4 * len(self._long))):
            if not self._long:
                break
            chunk = self._long.popleft()
            if chunk.reading is None or chunk.gates == 0 or chunk.session.is_gone:
                self._close(chunk)
                continue
            try:
                next(chunk.reading)
                self._long.append(chunk)
                continue
            except StopIteration as stop:
                encoded = stop.value
            except CommandError as error:
                encoded = chunk.session.encode(error, self.node.known_seq)
            chunk.reading = None
            chunk.replies.append(encoded)
            self._evaluate(chunk)
        if self._long:
            self.node.outputs.wants_turn = True

    def _close(self, chunk: Chunk) -> None:
        if chunk.reading is not None:
            chunk.reading.close()
            chunk.reading = None

    def expire(self) -> None:
        """Refuse what has reached its deadline: a read has no effect, so it is never in doubt."""
        now_ms = self.node.now_ms
        chunks = [chunk for waiting in self._tickets for chunk in waiting.chunks]
        chunks += [chunk for _, _, chunk in self._applying]
        chunks += self._long
        expired = [chunk for chunk in chunks if chunk.gates and chunk.deadline_ms <= now_ms]
        if not expired:
            return
        gone = set(map(id, expired))
        for waiting in self._tickets:
            waiting.chunks = [chunk for chunk in waiting.chunks if id(chunk) not in gone]
        self._applying = sorted(item for item in self._applying if id(item[2]) not in gone)
        for chunk in expired:
            self.node.answer_refused(chunk)
