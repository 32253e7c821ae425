"""What a node does with commands while it does not lead: forward writes to the leader, ask it about reads, answer those
itself.

A session has one chunk under way at a time. A run that begins with a read is made of reads alone: one question to the
leader for all of a turn, then they are evaluated here. A run that begins with a write is forwarded, with the reads
that follow it, since the leader evaluates them in order anyway; the cursors of SCAN and other reads of the whole key
space stay here.

**S** A forward names the leader and term that it is meant for. Refused, it certainly had no effect and is run again;
sent and not refused, its outcome is unknown when the link breaks or its time is up, and it is never sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvnode.net.refused import Refused
from kvnode.node.session import Arrival, Chunk, Command, RemoteSession, Session
from kvnode.node.wire import Forward, ForwardReplies
from kvnode.reply import CommandError
from kvnode.store.command import Command as Row
from kvnode.store.command import Kind
from kvnode.store.table import resolve

if TYPE_CHECKING:
    from kvnode.node.node import Node

FORWARD_BYTES_MAX = 1024 * 1024
"""A Forward is closed at this size, or at one request."""


class Following:
    def __init__(self, node: Node, first_request_id: int) -> None:
        self.node = node
        self.raft = node.raft
        # An outcome for an earlier life of this process must never be taken for one of this.
        self._request_id = first_request_id
        self._forwards: dict[int, tuple[str, Chunk]] = {}  # request id -> (leader, chunk)
        self._requests: list[list[Any]] = []  # of this turn
        self._requests_bytes = 0

    def __repr__(self) -> str:
        return f"Following forwards={len(self._forwards)}"

    # Running commands

    def run(self, session: Session) -> None:
        """Run what has arrived until something has to be waited for."""
        while (arrival := session.arrival) is not None and session.chunk is None and not session.is_backed_up:
            if self.node.has_had_enough(session):
                self.node.run_next_turn(session)
                return
            command = arrival.commands[arrival.position]
            try:
                row = resolve(command)
            except CommandError as error:
                reply = CommandError(command.text) if isinstance(command, Refused) else error
                self.node.take(session, arrival, 1)
                self.node.answer_now(session, command, reply, arrival.deadline_ms)
                continue
            if self.node.refuse_expired(session, arrival, row):
                continue
            if not self._run(session, arrival, command, row):
                self.node.wait(session)
                return

    def _run(self, session: Session, arrival: Arrival, command: Command, row: Row) -> bool:
        """Begin a run of commands of one kind. False: it has to wait for a leader."""
        deadline_ms = arrival.deadline_ms
        if row.kind is Kind.SESSION and row.name != "WAIT":
            self.node.take(session, arrival, 1)
            self.node.session_commands.run(session, row, command, deadline_ms)
            return True
        if row.kind is Kind.READ:
            return self._read(session, arrival, [command] if session.skips_reply else self._reads(arrival))
        if self.raft.leading:
            return self._lead_for_reads(session, arrival, command, row)
        leader = self.raft.leader
        if leader is None or not self.node.peers.can_forward_to(leader):
            return False
        alone = row.kind is Kind.SESSION or session.skips_reply
        run = [command] if alone else self._writes(session, arrival)
        self.node.take(session, arrival, len(run))
        self._forward(leader, session, run, deadline_ms)
        return True

    def _lead_for_reads(self, session: Session, arrival: Arrival, command: Command, row: Row) -> bool:
        """At a leader that can not log. False: it may be able to soon."""
        refusal = self.node.disk.refusal
        if refusal is None:
            return False
        self.node.take(session, arrival, 1)
        if row.kind is Kind.WRITE:
            self.node.answer_now(session, command, CommandError(refusal), arrival.deadline_ms)
        else:
            self.node.leading.start_wait(session, command, arrival.deadline_ms)
        return True

    def _read(self, session: Session, arrival: Arrival, run: list[Command]) -> bool:
        deadline_ms = arrival.deadline_ms
        if session.reads_locally:
            self.node.take(session, arrival, len(run))
            self.node.reads.read_locally(session, run, deadline_ms)
            return True
        ticket = self.raft.read()
        if ticket is None:
            return False
        self.node.take(session, arrival, len(run))
        chunk = Chunk(session, run, deadline_ms)
        chunk.gates = 1
        session.add(chunk, is_blocker=True)
        self.node.reads.add(chunk, ticket)
        return True

    def _reads(self, arrival: Arrival) -> list[Command]:
        return _take_while(arrival, lambda row: row.kind is Kind.READ)

    def _writes(self, session: Session, arrival: Arrival) -> list[Command]:
        reads_too = not session.reads_locally
        return _take_while(
            arrival, lambda row: row.kind is Kind.WRITE or (reads_too and row.kind is Kind.READ and not row.whole)
        )

    # Forwarding

    def _forward(self, leader: str, session: Session, run: list[Command], deadline_ms: float) -> None:
        chunk = Chunk(session, run, deadline_ms)
        chunk.gates = 1
        chunk.is_logged = True
        session.add(chunk, is_blocker=True)
        self._request_id += 1
        self._forwards[self._request_id] = (leader, chunk)
        left_ms = max(0, int(deadline_ms - self.node.now_ms))
        self._requests.append(
            [self._request_id, session.protocol, session.tells_seq, session.last_write_seq, left_ms, run]
        )
        self._requests_bytes += sum(sum(map(len, command)) for command in run)
        if self._requests_bytes >= FORWARD_BYTES_MAX:
            self.flush()

    def flush(self) -> None:
        """Send the requests of this turn. The leader can not have changed since they were made: see `on_change`."""
        if not self._requests:
            return
        if self.raft.leader is not None:
            self.node.peers.send(self.raft.leader, Forward(self.raft.term, self._requests))
        self._requests = []
        self._requests_bytes = 0

    def on_replies(self, peer: str, replies: ForwardReplies) -> None:
        for request_id, done, data, last_write_seq in replies.outcomes:
            leader, chunk = self._forwards.get(request_id, (None, None))
            if chunk is None or leader != peer:
                continue  # too late: it has been answered -UNKNOWN
            del self._forwards[request_id]
            if chunk.gates == 0:
                continue
            session = chunk.session
            session.last_write_seq = max(session.last_write_seq, last_write_seq)
            rest = chunk.commands[done:]
            if done:
                chunk.replies = [b"" if self._drops_replies(session) else data]
                chunk.gates = 0
                self.node.release(session)
            else:
                session.put_back(chunk)
                rest = []
            if rest:
                session.receive_first(Arrival(rest, chunk.deadline_ms, 0))
            if done < len(chunk.commands):
                self.node.wait(session)  # refused: not again at once, but when something has changed
            else:
                self.node.enqueue(session)

    def _drops_replies(self, session: Session) -> bool:
        if session.skips_reply:
            session.skips_reply = False
            session.note_mode()
            return True
        return session.is_silent

    def on_change(self) -> None:
        """Another term or leader: requests that have not left yet go to nobody."""
        for request in self._requests:
            _, chunk = self._forwards.pop(request[0])
            if chunk.gates:
                self.node.run_again(chunk)
        self._requests = []
        self._requests_bytes = 0

    def on_link_down(self, peer: str) -> None:
        """**S** What was sent may have been applied, and nobody will tell."""
        lost = [number for number, (leader, _) in self._forwards.items() if leader == peer]
        for request_id in lost:
            self._give_up(self._forwards.pop(request_id)[1])

    def expire(self) -> None:
        now_ms = self.node.now_ms
        expired = [number for number, (_, chunk) in self._forwards.items() if chunk.deadline_ms <= now_ms]
        for request_id in expired:
            self._give_up(self._forwards.pop(request_id)[1])

    def _give_up(self, chunk: Chunk) -> None:
        if chunk.gates and not chunk.session.is_gone:
            self.node.answer_unknown(chunk)

    # Requests that others forward to this node

    def on_forward(self, peer: str, forward: Forward) -> None:
        """**S** Only the leader of that very term takes them: any other node's refusal proves that nothing happened."""
        if self.raft.leading is None or forward.term != self.raft.term:
            for request in forward.requests:
                self.node.outcome(peer, [request[0], 0, b"", 0])
            return
        for request_id, protocol, tells_seq, last_write_seq, left_ms, commands in forward.requests:
            session = RemoteSession(peer, request_id, forward.term, self.node.now_ms)
            session.protocol = protocol
            session.tells_seq = tells_seq
            session.note_mode()
            session.last_write_seq = last_write_seq
            size = sum(sum(map(len, command)) for command in commands)
            session.receive(Arrival(commands, self.node.now_ms + left_ms, size))
            session.queued_bytes = size
            self.node.take_remote(session)

    def finish_remote(self, session: RemoteSession) -> None:
        """Nothing of it is under way any more: tell the member what has been done, and so what has not."""
        outcome = [session.request_id, session.done, b"".join(session.collected), session.last_write_seq]
        self.node.outcome(session.peer, outcome)


def _take_while(arrival: Arrival, fits: Any) -> list[Command]:
    """The commands of the arrival from its position on, as long as their row fits."""
    commands = arrival.commands
    end = arrival.position
    if end == 0 and len(commands) == 1:
        return commands  # its row is why this is asked
    for end in range(arrival.position, len(commands)):
        try:
            if not fits(resolve(commands[end])):
                break
        except CommandError:
            break
    else:
        end = len(commands)
    return commands if end - arrival.position == len(commands) else commands[arrival.position : end]
