"""A node as turns: `turn(now, events) -> outputs`.

    events      what has arrived since the last turn, in order: bytes of connections, completions of the disk
    outputs     bytes to send, deeds for the disk, notes for the log, when to come back

A turn takes events into queues and consensus, then settles: follow a change of leader, answer what is committed, apply
it, run commands, log the batch, let consensus send. It reads no clock, no disk and no network, so the simulator drives
the same node that the runtime does.

What others wait for leaves first: much that is committed is applied when answers and records for the disk have left, by
a leader also after it has logged the batch that is in the making, by a follower also after its disk is done. Commands
do not notice: a leader evaluates them against the overlay, reads that must see it wait for it, local ones ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from math import inf
from random import Random
from typing import Any, Final

from kvnode.config import Config
from kvnode.log.record import Record
from kvnode.log.recovery import Recovered
from kvnode.net.replies import encode_error
from kvnode.net.requests import Requests
from kvnode.node import applying, deeds, wire
from kvnode.node.applying import Applier
from kvnode.node.catch_up import CatchUp
from kvnode.node.comparing import Comparing
from kvnode.node.deeds import AppendRecords, BadRange, CutLog, Event, GrantRightToVote, Outputs, SetAsideLog
from kvnode.node.disk_state import DiskState
from kvnode.node.following import Following
from kvnode.node.joining import Joining
from kvnode.node.leading import Leading
from kvnode.node.peers import Peers
from kvnode.node.reads import Reads
from kvnode.node.scrubbing import Scrubbing
from kvnode.node.session import REPLY_BYTES_MAX, Arrival, Chunk, Command, RemoteSession, Session
from kvnode.node.session_commands import SessionCommands
from kvnode.node.tail import Tail
from kvnode.raft import Cut, LogIndex, Options, Raft, SaveBallot
from kvnode.raft import messages as m
from kvnode.record_head import RecordHead
from kvnode.reply import CommandError, Reply
from kvnode.store.command import Command as Row
from kvnode.store.command import Kind
from kvnode.store.cursors import Cursors
from kvnode.store.table import resolve

SWEEP_INTERVAL_MS: Final = 50.0
"""How exact deadlines are, and how soon a session that could not go on tries again."""
SESSION_QUEUE_BYTES_MAX = 1024 * 1024
"""A client that has sent more than this ahead of its replies is not read from until they have caught up."""

COMMANDS_PER_TURN = 5_000
"""About 20 ms of work: the clients of this turn that come after it have theirs in the next."""

ASIDE_INTERVAL_MS: Final = 1000.0
"""A node that has set itself aside waits for its disk alone."""

APPLY_PUT_OFF_MS_MAX: Final = 2.0
APPLY_PUT_OFF_ENTRIES_MIN: Final = 32
"""Fewer are applied in less time than another turn takes. With many it counts: measured with 50 clients and pipelines
of 16, a batch came to the disks of the followers 0.5 ms later when the batch before it was applied first, and a quarter
more was done when not."""

LINGER_HEARTBEATS: Final = 2
"""How long a node that is shutting down stays after it has handed over."""

NO_LEADER: Final = "CLUSTERDOWN no leader within the time of the request; the command was not applied"
UNKNOWN: Final = "UNKNOWN the command may have been applied or not: the leader was lost before it was known"
SHUTTING_DOWN: Final = "CLUSTERDOWN this node is shutting down; the command was not applied"
SET_ASIDE: Final = "CLUSTERDOWN this node sets itself aside: its log is not the cluster's; the command was not applied"
TOO_MANY_CLIENTS: Final = "ERR max number of clients reached"


class Node:
    """`now_ms` is monotonic, `wall_ms` the wall clock, both of the present turn."""

    lanes = wire.LANES

    def __init__(
        self,
        config: Config,
        cluster_id: str,
        recovered: Recovered,
        applier: Applier,
        *,
        log_counters: Callable[[], Iterable[tuple[str, object]]],
        random: Random,
        now_ms: float,
        wall_ms: float,
    ) -> None:
        """`applier` has been given every record of the recovered log, and has applied what is known committed."""
        self.config = config
        self._request_timeout_ms = float(config.request_timeout_ms)
        self.now_ms = self.started_ms = now_ms
        self.wall_ms = wall_ms
        self._log_time_ms = float(recovered.time_ms)
        self._log_time_at_ms = now_ms
        self.log_counters = log_counters
        self.applier = applier
        index = LogIndex(recovered.last_seqs, recovered.checksums, recovered.sizes, recovered.terms)
        self.raft = Raft(
            config.id,
            config.member_ids,
            index,
            term=recovered.ballot.term,
            vote=recovered.ballot.vote,
            commit_seq=applier.applied_seq,
            may_vote=recovered.identity.may_vote,
            options=Options(
                heartbeat_ms=config.heartbeat_ms,
                election_timeout_ms=config.election_timeout_ms,
                election_timeout_max_ms=config.election_timeout_max_ms,
                window_bytes=config.catch_up_window_bytes,
                trail_ms=config.trail_ms,
            ),
            random=random,
            now_ms=now_ms,
        )
        self.outputs = Outputs()
        self.budget = COMMANDS_PER_TURN
        self.tail = Tail(index.last_seq)
        self.catch_up = CatchUp()
        self.sessions: dict[int, Session] = {}
        self.turns = self.connections_received = self.commands_received = 0
        self._progress_at_sweep = (0, 0)
        self._remote: dict[int, RemoteSession] = {}
        self._runnable: list[Session] = []
        self._waiting: dict[int, Session] = {}
        self._next_turn: list[Session] = []
        self._outcomes: dict[str, list[list[Any]]] = {}
        self._followed_term, self._followed_leader = self.raft.term, self.raft.leader
        self._led_term = 0
        self._lost_leadership_ms = -inf
        self._must_grant_right = False
        self._sweep_due_ms = now_ms
        self._drains_since_ms = inf
        self._apply_put_off_ms = inf  # since when what is committed waits to be applied
        self.is_aside = False
        self.peers = Peers(self, cluster_id)
        self.leading = Leading(self)
        self.disk = DiskState(self)
        self.following = Following(self, random.getrandbits(50))
        self.reads = Reads(self, applier.keyspace, Cursors(random.getrandbits(51)))
        self.joining = Joining(self, random.getrandbits(62), was_set_aside=recovered.identity.set_aside != "")
        self.scrubbing = Scrubbing(self, random.getrandbits(48))
        self.comparing = Comparing(self, random.getrandbits(62))
        self.session_commands = SessionCommands(self)

    def __repr__(self) -> str:
        return f"{self.raft!r} applied={self.applier.applied_seq} sessions={len(self.sessions)}"

    # The turn

    def turn(self, now_ms: float, wall_ms: float, events: Iterable[Event]) -> Outputs:
        """Take the events in order; the outputs are to be carried out in full. An exception ends the node."""
        self.turns += 1
        self.budget = COMMANDS_PER_TURN
        self.now_ms, self.wall_ms = now_ms, wall_ms
        for handler, arguments in events:
            if self.is_aside and handler != "on_set_aside":
                continue
            if handler == "on_client_bytes":  # most events: a third of the time of the other way
                self.on_client_bytes(arguments[0], arguments[1])
            elif handler == "on_link_bytes":
                self.on_link_bytes(arguments[0], arguments[1])
            else:
                getattr(self, handler)(*arguments)
        if not self.is_aside:
            self._do_what_is_due()
            self._settle()
        outputs, self.outputs = self.outputs, Outputs()
        outputs.deadline_ms = now_ms + ASIDE_INTERVAL_MS if self.is_aside else self._deadline_ms()
        return outputs

    def _deadline_ms(self) -> float:
        due_ms = min(self.raft.deadline_ms(), self._sweep_due_ms)
        if not self.joining.is_done:
            due_ms = min(due_ms, self.joining.deadline_ms())
        due_ms = min(due_ms, self.leading.deadline_ms())
        return min(due_ms, self._apply_put_off_ms + APPLY_PUT_OFF_MS_MAX)

    def _do_what_is_due(self) -> None:
        if self._next_turn:
            later, self._next_turn = self._next_turn, []
            for session in later:
                self.enqueue(session)
        self.raft.tick(self.now_ms)
        if not self.joining.is_done:
            self.joining.tick()
        if self.now_ms >= self._sweep_due_ms:
            self._sweep()

    def _settle(self) -> None:
        """Until nothing more follows from what is known: in a cluster of one, an answer can follow in the same turn."""
        while True:
            self._follow_change()
            self._take_raft_output()
            self._apply()
            self._run()
            if self.raft.leading:
                self.leading.maybe_seal()
            self.following.flush()
            self.raft.flush()
            if not self._take_raft_output() and not self._runnable:
                break
        self.reads.run_long()
        if self._runnable:
            self.outputs.wants_turn = True
        self._send_outcomes()

    def _follow_change(self) -> None:
        """Another term or leader: nothing that was promised under the old one holds."""
        if self._has_followed():
            return
        self._followed_term, self._followed_leader = self.raft.term, self.raft.leader
        if self._led_term:
            self.leading.lose_leadership()
            self._led_term = 0
            self._lost_leadership_ms = self.now_ms
        self.reads.void()
        self.joining.void()
        self.following.on_change()
        self.peers.on_change()
        self.disk.on_change()
        self.comparing.void()
        if self.raft.leading:
            self._led_term = self.raft.term
            self.leading.propose_noop()
        self.retry_waiting()

    def _has_followed(self) -> bool:
        return self.raft.term == self._followed_term and self.raft.leader == self._followed_leader

    def _take_raft_output(self) -> bool:
        """Whether there was anything that more can follow from."""
        if self.raft.output.is_empty and not self._must_grant_right:
            return False
        output = self.raft.take_output()
        if output.disk:
            self._take_disk(output.disk)
        if self._must_grant_right:
            self._must_grant_right = False
            self.outputs.disk.append(GrantRightToVote())
        for peer, message in output.messages:
            self.peers.send(peer, message)
        for ticket, seq in output.reads_ready:
            self.joining.on_read_ready(ticket)
            self.reads.on_ready(ticket, seq)
        if output.has_heard_of_room:
            self.disk.check()
        if output.reads_void and self._has_followed():
            self.reads.void()  # asked and lost within the same term and leader
        for peer, reason in output.drop_links:
            self.peers.drop(peer, reason)
        for after_seq in output.suspect_after:
            self.note("error", "a member reports damaged records: reading them again", {"after_seq": after_seq})
            self.scrubbing.suspect(after_seq)
        for peer, seq in output.differences:
            self.comparing.on_difference(peer, seq)
        self.outputs.notes += output.notes
        return bool(output.reads_ready or output.reads_void)

    def _take_disk(self, deeds_of_raft: list[SaveBallot | Cut | RecordHead]) -> None:
        disk = self.outputs.disk
        for deed in deeds_of_raft:
            if isinstance(deed, Record):
                self.tail.append(deed)
                self.applier.append(deed)
                is_missed = not self.raft.leading and self.catch_up.received(deed)
                self._log_time_ms = max(deed.time_ms, self._log_time_ms + self.now_ms - self._log_time_at_ms)
                self._log_time_at_ms = self.now_ms
                last = disk[-1] if disk else None
                if isinstance(last, AppendRecords):
                    last.add([deed], is_missed=is_missed)
                else:
                    disk.append(AppendRecords([deed], is_missed=is_missed))
            elif isinstance(deed, Cut):
                self.tail.truncate_suffix(deed.after_seq)
                self.applier.truncate_suffix(deed.after_seq)
                disk.append(CutLog(deed.after_seq))
            elif isinstance(deed, SaveBallot):
                disk.append(deeds.SaveBallot(deed.term, deed.vote))
        self.disk.given()

    def _apply(self) -> None:
        """What is committed is answered, and applied now or soon."""
        applied_before = self.applier.applied_seq
        if applied_before < self.raft.commit_seq:
            self.leading.on_commit()
            if not self._puts_off_applying():
                self.apply_committed()
        if self.applier.keyspace.free_some():
            self.outputs.wants_turn = True
        self.leading.check_waits()
        self.reads.on_applied(self.applier.applied_seq)
        leader = self.raft.leading
        if leader is not None and applied_before < leader.noop_seq <= self.applier.applied_seq:
            self.retry_waiting()

    def apply_committed(self) -> None:
        """Put it off no longer."""
        self._apply_put_off_ms = inf
        if self.applier.apply(self.raft.commit_seq, applying.ENTRIES_PER_TURN):
            self.outputs.wants_turn = True
        self.leading.overlay.applied(self.applier.applied_seq)

    def _puts_off_applying(self) -> bool:
        """Whether others may be waiting for something that this would hold up. A leader applies best while a record is
        under way to its members, a follower when its disk is done."""
        outputs, raft, applied_seq = self.outputs, self.raft, self.applier.applied_seq
        if raft.commit_seq - applied_seq < APPLY_PUT_OFF_ENTRIES_MIN or self.reads.waits_for_applying:
            return False
        since_ms = min(self._apply_put_off_ms, self.now_ms)
        if self.now_ms >= since_ms + APPLY_PUT_OFF_MS_MAX:
            return False
        leader = raft.leading
        if leader is None:
            is_bad_moment = raft.durable_seq < raft.index.last_seq
        elif applied_seq < leader.noop_seq:
            return False  # it serves nobody before that
        else:
            is_bad_moment = raft.commit_seq == raft.index.last_seq
        if not is_bad_moment:
            if not (outputs.disk or outputs.client_writes or outputs.link_writes):
                return False
            outputs.wants_turn = True  # when these have left
        self._apply_put_off_ms = since_ms
        return True

    @property
    def known_seq(self) -> int:
        """A seq at which what this node says of itself is true, and which never goes back."""
        return self.raft.commit_seq if self.raft.leading else self.applier.applied_seq

    def can_serve(self) -> bool:
        """**S** A new leader evaluates nothing until the no-op of its term is committed and applied. Nor does one that
        could not log."""
        leader = self.raft.leading
        return (
            leader is not None
            and self.raft.has_room
            and self.disk.refusal is None
            and leader.has_committed
            and self.applier.applied_seq >= leader.noop_seq
            and not leader.is_handing_over
        )

    def _run(self) -> None:
        while self._runnable:
            sessions, self._runnable = self._runnable, []
            serves = self.can_serve()
            for session in sessions:
                session.is_queued = False
                if serves and (session.id > 0 or self._is_current(session)):
                    self.leading.run(session)
                elif isinstance(session, RemoteSession):
                    self._run_remote(session)
                else:
                    self.following.run(session)
                if session.is_paused and session.queued_bytes < SESSION_QUEUE_BYTES_MAX:
                    self._resume(session)

    def _pause(self, session: Session) -> None:
        session.is_paused = True
        self.outputs.client_pauses.append(session.id)

    def _resume(self, session: Session) -> None:
        if not self._has_drained_long():
            session.is_paused = False
            self.outputs.client_resumes.append(session.id)

    def _is_current(self, session: Session) -> bool:
        """Whether a forward was meant for this node as the leader of the present term."""
        return isinstance(session, RemoteSession) and session.term == self.raft.term and self.raft.leading is not None

    def _run_remote(self, session: RemoteSession) -> None:
        """A forward that this node can not run now: hold it while this term may still serve, else it is not done."""
        leader = self.raft.leading
        is_late = session.arrival is not None and session.arrival.deadline_ms <= self.now_ms
        if self._is_current(session) and leader and not leader.is_handing_over and not is_late:
            self.following.run(session)  # which refuses its writes, or waits
        elif session.chunk is None:
            self._finish(session)

    # Sessions

    def all_sessions(self) -> Iterable[Session]:
        return list(chain(self.sessions.values(), self._remote.values()))

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def enqueue(self, session: Session) -> None:
        """Run it in this turn."""
        if not session.is_queued and session.arrival is not None:
            session.is_queued = True
            self._runnable.append(session)

    def wait(self, session: Session) -> None:
        """It can not go on now: try again when something has changed, until its deadline."""
        self._waiting[id(session)] = session

    def retry_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for session in waiting.values():
            self.enqueue(session)

    def release(self, session: Session) -> None:
        """Send what may be sent of a session's replies, and let it go on."""
        replies = session.take_replies()
        is_here = session.id > 0 and not session.is_gone
        if replies and is_here:
            data = replies[0] if len(replies) == 1 else b"".join(replies)
            if data:
                self.outputs.client_writes.append((session.id, data))
                if session.answered_turn != self.turns:
                    session.answered_turn, session.answered_bytes = self.turns, 0
                session.answered_bytes += len(data)
        if session.arrival is not None:
            if not session.blockers:
                self.enqueue(session)
        elif session.chunk is None:
            if session.id < 0:
                self._finish(session)
            elif is_here:
                if session.is_ending:
                    self.outputs.client_closes.append(session.id)
                elif self._is_draining and not session.pipelines:
                    self.outputs.client_ends.append(session.id)

    def take(self, session: Session, arrival: Arrival, count: int) -> None:
        """Commands of a session are about to be run, or answered."""
        session.advance(arrival, count)
        self.budget -= count

    def has_had_enough(self, session: Session) -> bool:
        """Whether this turn has been long enough, or what the session was answered in it should leave first."""
        if self.budget <= 0:
            return True
        return session.answered_turn == self.turns and session.answered_bytes > REPLY_BYTES_MAX

    def run_next_turn(self, session: Session) -> None:
        self._next_turn.append(session)
        self.outputs.wants_turn = True

    def answer(self, chunk: Chunk, reply: Reply) -> None:
        """Complete a chunk of one command."""
        chunk.replies = [chunk.session.encode(reply, self.known_seq)]
        chunk.gates = 0
        self.release(chunk.session)

    def answer_now(self, session: Session, command: Command, reply: Reply, deadline_ms: float) -> None:
        """Answer a command that needs no more work, in its place."""
        chunk = Chunk(session, [command], deadline_ms)
        chunk.gates = 1
        session.add(chunk, is_blocker=True)
        self.answer(chunk, reply)

    def _answer_all(self, chunk: Chunk, error_of: Callable[[Command], str]) -> None:
        session = chunk.session
        if chunk.gates == 0:
            return
        chunk.replies = [session.encode(CommandError(error_of(command)), self.known_seq) for command in chunk.commands]
        chunk.gates = 0
        self.release(session)

    def answer_unknown(self, chunk: Chunk) -> None:
        """**S** It was logged or sent, and it is not known what became of it. Its reads certainly changed nothing."""
        chunk.session.told_seq = 0  # it was told nothing about this
        self._answer_all(chunk, lambda command: UNKNOWN if _may_write(command) else NO_LEADER)

    def answer_refused(self, chunk: Chunk) -> None:
        self._answer_all(chunk, lambda command: NO_LEADER)

    def refuse_expired(self, session: Session, arrival: Arrival, row: Row | None = None) -> bool:
        """Refuse the next command if its time is up and it needs a leader; it was never logged or sent."""
        if arrival.deadline_ms > self.now_ms:
            return False
        command = arrival.commands[arrival.position]
        try:
            row = row or resolve(command)
        except CommandError:
            return False
        is_local = row.kind is Kind.SESSION and row.name != "WAIT"
        if is_local or (row.kind is Kind.READ and session.reads_locally):
            return False
        self.take(session, arrival, 1)
        refusal = self.disk.refusal if row.kind is Kind.WRITE else None
        reply = CommandError(SHUTTING_DOWN if self._is_draining else refusal or NO_LEADER)
        self.answer_now(session, command, reply, arrival.deadline_ms)
        return True

    def run_again(self, chunk: Chunk) -> None:
        """It has certainly not taken effect, so it goes back to where it came from. Newest first."""
        session = chunk.session
        if session.is_gone:
            return
        session.put_back(chunk)
        self.enqueue(session)

    def outcome(self, peer: str, outcome: list[Any]) -> None:
        """What became of a request that the member forwarded."""
        self._outcomes.setdefault(peer, []).append(outcome)

    def take_remote(self, session: RemoteSession) -> None:
        self._remote[id(session)] = session
        self.enqueue(session)

    def drop_remote(self, peer: str) -> None:
        """The member can not be answered any more: what it forwarded and is not logged yet is not run."""
        for key, session in list(self._remote.items()):
            if session.peer == peer:
                session.drop_arrivals()
                session.is_gone = True
                self._waiting.pop(id(session), None)
                del self._remote[key]

    def _finish(self, session: Session) -> None:
        remote = self._remote.pop(id(session), None)
        if remote is not None:
            remote.drop_arrivals()
            self.following.finish_remote(remote)

    def _send_outcomes(self) -> None:
        if self._outcomes:
            outcomes, self._outcomes = self._outcomes, {}
            for peer, of_peer in outcomes.items():
                self.peers.send(peer, wire.ForwardReplies(of_peer))

    # Time

    def next_log_time_ms(self) -> int:
        """**S** Never goes back, whatever the wall clock does (DESIGN part 7)."""
        elapsed_ms = self.now_ms - self._log_time_at_ms
        self._log_time_ms = max(self.wall_ms, self._log_time_ms + elapsed_ms)
        self._log_time_at_ms = self.now_ms
        return int(self._log_time_ms)

    def _sweep(self) -> None:
        """Deadlines, and sessions that may be able to go on."""
        self._sweep_due_ms = self.now_ms + SWEEP_INTERVAL_MS
        self.disk.check()
        self.leading.expire()
        self.following.expire()
        self.reads.expire()
        self.peers.links.expire()
        self.scrubbing.sweep()
        self.comparing.sweep()
        if self._has_drained_long():
            for session in self.sessions.values():
                if not session.is_paused:
                    self._pause(session)
        self.retry_waiting()
        progress = (self.commands_received, self.applier.applied_seq)
        is_idle, self._progress_at_sweep = progress == self._progress_at_sweep, progress
        if is_idle and self.applier.keyspace.merge_some():
            self.outputs.wants_turn = True

    # Events: clients

    def on_client(self, session_id: int, address: str, requests: Requests | None = None) -> None:
        """`requests`: the parser of a connection that was made while this node was loading."""
        self.connections_received += 1
        session = Session(session_id, address, requests or Requests(self.config.request_bytes_max), self.now_ms)
        if len(self.sessions) >= self.config.clients_max or self._is_draining:
            reason = SHUTTING_DOWN if self._is_draining else TOO_MANY_CLIENTS
            self.outputs.client_writes.append((session_id, encode_error(reason)))
            self.outputs.client_closes.append(session_id)
            return
        self.sessions[session_id] = session

    def on_client_bytes(self, session_id: int, data: bytes) -> None:
        session = self.sessions.get(session_id)
        if session is None or session.is_ending:
            return
        commands = session.requests.feed(data)
        if commands:
            self.commands_received += len(commands)
            if len(commands) > 1 or session.chunk is not None or session.arrival is not None:
                session.pipelines = True
            size = len(data)
            session.receive(Arrival(commands, self.now_ms + self._request_timeout_ms, size))
            session.queued_bytes += size
            self.enqueue(session)
            if session.queued_bytes > SESSION_QUEUE_BYTES_MAX and not session.is_paused:
                self._pause(session)
        if session.requests.fault is not None:
            self._end_faulty(session, session.requests.fault)

    def _end_faulty(self, session: Session, fault: str) -> None:
        """The replies that are due, then the error, then the end."""
        self.note("info", "client dropped", {"address": session.address, "reason": fault})
        self._run()
        chunk = Chunk(session, [[b""]], self.now_ms)
        chunk.replies = [encode_error(fault)]
        session.add(chunk, is_blocker=True)
        session.is_ending = True
        self.release(session)

    def on_client_eof(self, session_id: int) -> None:
        """The client sends no more, but may still read: answer what it has asked, then close."""
        session = self.sessions.get(session_id)
        if session is not None and not session.is_ending:
            session.is_ending = True
            if session.is_idle:
                self.outputs.client_closes.append(session_id)

    def on_client_backed_up(self, session_id: int, is_backed_up: bool) -> None:
        """Whether the client leaves its replies unread: if so nothing more of it is run."""
        session = self.sessions.get(session_id)
        if session is not None:
            session.is_backed_up = is_backed_up
            if not is_backed_up:
                self.enqueue(session)

    def on_client_gone(self, session_id: int) -> None:
        session = self.sessions.pop(session_id, None)
        if session is not None:
            session.is_ending = session.is_gone = True
            session.drop_arrivals()
            self._waiting.pop(id(session), None)
            self.leading.forget(session)

    def close_when_answered(self, session: Session) -> None:
        session.is_ending = True
        session.drop_arrivals()
        if session.is_idle:
            self.outputs.client_closes.append(session.id)

    # Events: peers

    def on_dialed(self, link_id: int, peer: str, lane: str, address: str) -> None:
        self.peers.links.on_dialed(link_id, peer, lane, address)

    def on_accepted(self, link_id: int, address: str) -> None:
        self.peers.links.on_accepted(link_id, address)

    def on_link_bytes(self, link_id: int, data: bytes) -> None:
        self.peers.links.on_bytes(link_id, data)

    def on_link_closed(self, link_id: int) -> None:
        self.peers.links.on_closed(link_id)

    def on_peer_message(self, peer: str, message: wire.PeerMessage) -> None:
        if self.is_aside:
            return  # it came together with what has set this node aside
        if isinstance(message, wire.Forward):
            self._follow_change()
            self.following.on_forward(peer, message)
        elif isinstance(message, wire.ForwardReplies):
            self.following.on_replies(peer, message)
        elif isinstance(message, wire.JoinQuestion):
            self.joining.on_question(peer, message)
        elif isinstance(message, wire.JoinAnswer):
            self.joining.on_answer(peer, message)
        elif isinstance(message, wire.JoinTarget):
            self.joining.on_target(message)
        elif isinstance(message, (wire.CompareQuestion, wire.CompareAnswer, wire.StandAside)):
            self.comparing.on_message(peer, message)
        else:
            if isinstance(message, m.Append) and message.catch_up_to:
                self.catch_up.expect(message.catch_up_to, self.now_ms)
            self.raft.step(peer, message, self.now_ms)
            if self.raft.output.disk:
                self._take_raft_output()

    # Events: the disk

    def on_appended(self, seq: int, term: int) -> None:
        self.raft.durable(seq, term)
        self.tail.durable_seq = self.raft.durable_seq
        self.disk.finished()
        self.catch_up.on_durable(self.raft.durable_seq, self.now_ms, self.note)

    def on_cut(self, after_seq: int) -> None:
        self.raft.cut_done()
        self.disk.finished()
        self.note("warning", "records cut, kept in discarded/", {"after_seq": after_seq})

    def on_ballot_saved(self, term: int, vote: str | None) -> None:
        self.raft.ballot_saved(term, vote)

    def on_disk_full(self, text: str) -> None:
        self.disk.on_full(text)

    def on_disk_room(self) -> None:
        self.disk.on_room()

    def save_right(self) -> None:
        """After the ballot that consensus has asked for."""
        self._must_grant_right = True

    def on_right_granted(self) -> None:
        self.joining.on_saved()

    def on_read(self, peer: str, token: int, data: bytes) -> None:
        self.peers.on_read(peer, token, data)

    def on_scrubbed(self, after_seq: int, expected: list[tuple[int, int]], bad: list[BadRange], size: int) -> None:
        self.scrubbing.on_scrubbed(after_seq, expected, bad, size)

    def on_not_scrubbed(self, after_seq: int, reason: str) -> None:
        self.scrubbing.on_not_scrubbed(after_seq, reason)

    def on_healed(self, after_seq: int, to_seq: int) -> None:
        self.scrubbing.on_healed(after_seq, to_seq)

    def on_not_healed(self, after_seq: int, to_seq: int, reason: str) -> None:
        self.scrubbing.on_not_healed(after_seq, reason)

    def on_fetched(self, link_id: int, token: int, after_seq: int, records: bytes, why: str) -> None:
        self.scrubbing.on_fetched(link_id, token, after_seq, records, why)

    # Setting itself aside (comparing.py)

    def set_aside(self, after_seq: int, reason: str) -> None:
        """**S** From now on this node takes part in nothing. What is on its way to the disk stays in front of the cut;
        what was to leave for other members does not leave; what clients have asked is not left open, nor what other
        members have forwarded."""
        self.note("error", "set aside: this log is not the cluster's", {"after_seq": after_seq, "reason": reason})
        self.raft.set_aside()
        self._follow_change()
        self._take_raft_output()
        for session in self.all_sessions():
            self._answer_for_good(session)
        self.outputs.link_writes.clear()
        self._send_outcomes()
        self.outputs.disk.append(SetAsideLog(after_seq, reason))
        self.is_aside = True

    def _answer_for_good(self, session: Session) -> None:
        for chunk in session.chunks:
            self.answer_unknown(chunk)
        if isinstance(session, RemoteSession):
            self._finish(session)  # its member runs what is not done at the next leader
        while (arrival := session.arrival) is not None:
            command = arrival.commands[arrival.position]
            self.take(session, arrival, 1)
            self.answer_now(session, command, CommandError(SET_ASIDE), arrival.deadline_ms)

    def on_set_aside(self, after_seq: int) -> None:
        self.note("warning", "records cut, kept in discarded/", {"after_seq": after_seq})
        self.outputs.restart = True

    # Shutting down

    def on_shutdown(self) -> None:
        """Hand leadership over, and answer what still comes. Who asks one thing at a time is closed together with the
        answer to it, and so knows before it asks again; everybody else at the end."""
        self.raft.is_leaving = True
        self._drains_since_ms = self.now_ms
        successor = self.raft.transfer()
        if successor is not None:
            self.note("info", "handing over leadership", {"to": successor})

    @property
    def _is_draining(self) -> bool:
        return self._drains_since_ms < inf

    def _has_drained_long(self) -> bool:
        """Who has not stopped asking by now is not read from any more."""
        return self.now_ms - self._drains_since_ms >= LINGER_HEARTBEATS * self.config.heartbeat_ms

    @property
    def is_drained(self) -> bool:
        """Whether a node that is shutting down has nothing left to do."""
        if self.raft.leading is not None and self.raft.leading.is_handing_over:
            return False
        # Members that have not heard of the new leader yet still forward to this one: they must be refused, not left
        # in doubt by a broken connection.
        if self.now_ms - self._lost_leadership_ms < LINGER_HEARTBEATS * self.config.heartbeat_ms:
            return False
        if self.sessions and not self._has_drained_long():
            return False  # they may have asked something that has not arrived yet
        return all(session.is_idle for session in self.all_sessions())

    def note(self, level: str, event: str, fields: dict[str, object]) -> None:
        self.outputs.notes.append((level, event, fields))


def _may_write(command: Command) -> bool:
    try:
        return resolve(command).kind is Kind.WRITE
    except CommandError:
        return False
