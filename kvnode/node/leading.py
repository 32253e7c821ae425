"""What a leader does with commands: evaluate on arrival, log the effects in batches, answer when it is safe.

**S** A command is evaluated against the key space and the effects of everything logged before it (the overlay). What it
changed, or read from the open batch, is answered when that batch's record is committed; what it read from a record that
is not committed yet, when that is; any other read when a round sent after it has confirmed leadership. A commit in this
term of a record proposed after a read confirms as much as a round.

**S** On loss of leadership nothing is answered that was not committed: what was never logged is run again, what was
logged stays pending (an orphan) until its (seq, term) is committed, or can not be any more because a newer term has
committed without it; at its deadline it is answered -UNKNOWN.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from kvnode.invariant import InvariantError
from kvnode.log.record import encode as encode_record
from kvnode.net.refused import Refused
from kvnode.net.replies import NULL_BYTES, encode
from kvnode.node.gets import run_gets
from kvnode.node.session import REPLY_BYTES_MAX, Arrival, Chunk, Group, Session
from kvnode.reply import CommandError, Reply
from kvnode.store.arguments import parse_int64
from kvnode.store.command import Command as Row
from kvnode.store.command import Kind
from kvnode.store.overlay import OPEN, Overlay
from kvnode.store.strings import set_
from kvnode.store.table import GET, SET, resolve

if TYPE_CHECKING:
    from kvnode.node.node import Node

RECORDS_IN_FLIGHT_MAX = 1
"""Records on their way to a majority at once. Measured with three nodes and the load on two cores, 50 clients: 2 cost a
fifth more CPU time per SET than 1, since batches get smaller and each costs a write, a send per member and two
answers."""
LARGE_BATCH_BYTES: Final = 32 * 1024
"""A batch of this size waits for no company, and follows a record that is under way: members and their disks work on
one while the next is made. (50 clients with pipelines of 16: a twentieth more. With 8 KiB it was less, not more.)"""
HOPE_MS: Final = 2.0
"""How long a batch waits for company at most."""
HOPE_PAUSE_MAX: Final = 64
"""Records that are not waited for after company did not come; fewer the first times. Were it many more, one pause of
the clients would cost them the larger batches for long."""
WAIT_MARGIN_MS: Final = 100
MODE_COMMANDS: Final = frozenset(("CLIENT|REPLY", "CLIENT|REPLYSEQ", "HELLO", "READONLY", "READWRITE", "RESET"))
"""They change how what follows is run and answered, and only that."""

READ, WRITE = Kind.READ, Kind.WRITE


class Leading:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.raft = node.raft
        self.overlay = Overlay(node.applier.keyspace)
        self.open = Group()
        self._open_bytes = 0
        # Of the last command. Subcommands have the same name and other rows, but are all the session's: not run here.
        self._last_row: Row | None = None
        self._last_name = b""
        self._last_count = 0  # words
        self._has_room = True
        self._expected = 0  # chunks that the open batch should have before it is sealed …
        self._expected_until_ms = 0.0  # … unless it is later than this
        self._hopeless = self._hope_pause = 0  # records that are not waited for; how many the last time
        self._batch_bytes_max = node.config.batch_bytes_max
        self._groups: deque[Group] = deque()
        self._orphans: list[Group] = []
        self._waits: list[Chunk] = []

    def __repr__(self) -> str:
        return f"Leading groups={len(self._groups)} orphans={len(self._orphans)} {self.overlay!r}"

    # Running commands

    def _note_room(self) -> None:
        """While too much is logged and not committed, commands wait, and are refused at their deadline."""
        index = self.raft.index
        uncommitted = index.bytes_until(index.last_seq) - index.bytes_until(self.raft.commit_seq)
        had_room, self._has_room = self._has_room, uncommitted < self.node.config.uncommitted_bytes_max
        if self._has_room and not had_room:
            self.node.retry_waiting()

    def run(self, session: Session) -> None:
        """Run what has arrived, as far as it goes; the rest waits for the node to call again."""
        node = self.node
        while (arrival := session.arrival) is not None and not session.blockers and not session.is_backed_up:
            if session.pending_bytes > REPLY_BYTES_MAX:
                return  # it goes on when these have left
            if node.has_had_enough(session):
                node.run_next_turn(session)
                return
            if arrival.deadline_ms <= node.now_ms and node.refuse_expired(session, arrival):
                continue
            if not self._run_data_commands(session, arrival):
                node.wait(session)
                return
            if session.arrival is arrival and not self._run_special(session, arrival):
                return  # it goes on when what is pending has been answered

    def _run_data_commands(self, session: Session, arrival: Arrival) -> bool:
        """Run the reads and writes of single keys that come next: one chunk, one answer.

        False: a write is next, and too much is logged and not committed."""
        overlay = self.overlay
        commands = arrival.commands
        start = position = arrival.position
        chunk = Chunk(session, commands, arrival.deadline_ms)
        replies = chunk.replies
        protocol = session.protocol
        is_plain = session.is_plain
        has_room = self._has_room
        measures = not has_room or arrival.size + self._open_bytes > self._batch_bytes_max
        is_full = is_stuck = reads = wrote = False
        reply_bytes = 0
        effects = overlay.effects  # a new list only when a batch is sealed
        overlay.seen = 0
        skips_reply = session.skips_reply  # CLIENT REPLY SKIP: the next command is run alone
        end = start + 1 if skips_reply else min(len(commands), start + self.node.budget)
        row, name, count = self._last_row, self._last_name, self._last_count
        reads_through = not session.reads_locally
        reply_bytes_max = REPLY_BYTES_MAX
        if row is GET and end - position > 1 and is_plain and reads_through and not overlay.holds_changes:
            null = NULL_BYTES[protocol]
            data, position = run_gets(overlay.keyspace.values, name, commands, start, end, null, reply_bytes_max)
            if position > start:
                reads = True
                replies.append(data)
                reply_bytes = len(data)
                if reply_bytes > reply_bytes_max:
                    end = position
        for i in range(position, end):
            command = commands[i]
            reply: Reply
            try:
                # Most commands are like the one before. And what clients send most is called without a detour by way of
                # its row: of 2 microseconds that a GET in a pipeline takes at the leader, these two save 0.3.
                if row is None or command[0] != name or len(command) != count:
                    row = resolve(command)
                    name, count = command[0], len(command)
                    self._last_row, self._last_name, self._last_count = row, name, count
                if row is GET and reads_through:
                    reads = True
                    reply = overlay.get(command[1])
                elif row.kind is WRITE:
                    if measures:
                        is_stuck = not has_room
                        if is_stuck:
                            break
                        size = sum(map(len, command))
                        is_full = self._open_bytes + size > self._batch_bytes_max and not overlay.is_open_empty
                        if is_full:
                            break
                        self._open_bytes += size
                    reads = True  # what has no effect is a read
                    bookmark = len(effects)
                    try:
                        reply = set_(overlay, command) if row is SET else row.evaluate(overlay, command)  # type: ignore[misc, assignment]
                    except CommandError:
                        overlay.abandon(bookmark)
                        raise
                    if len(effects) != bookmark:
                        wrote = overlay.finish(bookmark)
                elif row.kind is READ and not row.whole and reads_through:
                    reads = True
                    reply = row.evaluate(overlay, command)  # type: ignore[misc, assignment]
                else:
                    break
            except CommandError as error:
                reply = CommandError(command.text) if isinstance(command, Refused) else error
            position += 1
            encoded = encode(reply, protocol) if is_plain else session.encode(reply, self._seq_of_reply(session, wrote))
            replies.append(encoded)
            reply_bytes += len(encoded)
            if reply_bytes > reply_bytes_max:
                break
        if replies:
            self.node.take(session, arrival, position - start)
            if position - start != len(commands):
                chunk.commands = commands[start:position]
            if not measures:
                self._open_bytes += arrival.size
            if wrote:
                session.last_write_seq = self.raft.index.last_seq + overlay.open_count
            chunk.reply_bytes = reply_bytes
            session.pending_bytes += reply_bytes
            self._gate(chunk, wrote, reads)
            chunk.skips_reply = skips_reply
            session.add(chunk, is_blocker=skips_reply)
            if chunk.gates == 0:
                self.node.release(session)
        if is_full:
            self.seal()
        return not is_stuck

    def _seq_of_reply(self, session: Session, wrote: bool) -> int:
        """A seq at which the reply just evaluated is the truth, and not before what the session has done so far.

        One of the open batch only if the chunk waits for that to be committed; nothing else may tell of it."""
        overlay = self.overlay
        last_seq = self.raft.index.last_seq + overlay.open_count
        if wrote or overlay.seen == OPEN:
            session.told_seq = last_seq
        elif session.told_seq > self.raft.index.last_seq:
            overlay.seen = OPEN
            session.told_seq = last_seq
        else:
            # **S** What is told waits for that seq to be committed, as if the read had seen what is there.
            overlay.seen = max(overlay.seen, session.told_seq)
            session.told_seq = max(overlay.seen, self.raft.commit_seq)
        return session.told_seq

    def _gate(self, chunk: Chunk, wrote: bool, reads: bool) -> None:
        """**S** What has to come true before the chunk is answered."""
        seen = self.overlay.seen
        if wrote or seen == OPEN:
            chunk.is_logged = True
            self.open.add(chunk)
        elif reads:
            if seen > self.raft.commit_seq:
                next(group for group in self._groups if group.last_seq >= seen).add(chunk)
            self.node.reads.add(chunk, self._ticket())

    def _ticket(self) -> int:
        ticket = self.raft.read()
        if ticket is None:
            raise InvariantError("a leader that has committed can always confirm a read")
        return ticket

    def _run_special(self, session: Session, arrival: Arrival) -> bool:
        """Run one command that is no read or write of single keys; none if the batch is full.

        False: it changes how the session is answered, and earlier commands, which may have to run again, are not."""
        command = arrival.commands[arrival.position]
        try:
            row = resolve(command)
        except CommandError:
            return True
        if row.kind is WRITE or (row.kind is READ and not row.whole and not session.reads_locally):
            return True
        if row.name in MODE_COMMANDS and session.chunk is not None:
            return False
        self.node.take(session, arrival, 1)
        if row.name == "WAIT":
            self.start_wait(session, command, arrival.deadline_ms)
        elif row.kind is Kind.SESSION:
            self.node.session_commands.run(session, row, command, arrival.deadline_ms)
        elif session.reads_locally:
            self.node.reads.read_locally(session, [command], arrival.deadline_ms)
        else:
            chunk = Chunk(session, [command], arrival.deadline_ms)
            chunk.gates = 1
            session.add(chunk, is_blocker=True)
            # It reads the key space without the overlay, so everything logged or evaluated so far must be applied.
            self.node.reads.add(chunk, self._ticket(), self.raft.index.last_seq + self.overlay.open_count)
        return True

    # Batches

    def maybe_seal(self) -> None:
        """At the end of a turn: log what has been evaluated, unless a record is under way, or company is expected."""
        is_large = self._open_bytes >= LARGE_BATCH_BYTES
        in_flight_max = RECORDS_IN_FLIGHT_MAX + 1 if is_large else RECORDS_IN_FLIGHT_MAX
        if not self.overlay.effects or len(self._groups) >= in_flight_max:
            return
        leader = self.raft.leading
        if leader is not None and leader.has_named_successor:
            return  # it is not logged yet, so the next leader can have it
        if len(self.open.chunks) < self._expected and not is_large:
            if self.node.now_ms < self._expected_until_ms:
                return
            # They did not come: these clients do not ask again at once. Do not wait for a while.
            self._hope_pause = min(2 * self._hope_pause + 8, HOPE_PAUSE_MAX)
            self._hopeless = self._hope_pause
        elif self._expected:
            self._hope_pause = 0
        self._expected = 0
        self.seal()

    def _expect(self, answered: int) -> None:
        """So many chunks were answered together: their clients may well ask again together.

        Without this, clients that wait for each reply part into two cohorts, one under way and one waiting, and records
        have half the size that they could. (Measured with 50 clients: see ARCHITECTURE.)"""
        if self._hopeless:
            self._hopeless -= 1
        elif answered > 1:
            self._expected = (answered + len(self.open.chunks)) * 3 // 4
            self._expected_until_ms = self.node.now_ms + HOPE_MS

    def deadline_ms(self) -> float:
        return self._expected_until_ms if self._expected and self.overlay.effects else inf

    def seal(self) -> None:
        """Make the open batch a record, and propose it."""
        raft, overlay = self.raft, self.overlay
        first_seq = raft.index.last_seq + 1
        group, self.open = self.open, Group()
        group.last_seq = raft.index.last_seq + overlay.open_count
        group.term = raft.term
        entries = overlay.seal(group.last_seq)
        time_ms = self.node.next_log_time_ms()
        record = encode_record(raft.index.last_checksum, first_seq, raft.term, time_ms, raft.commit_seq, entries)
        self._open_bytes = 0
        self._groups.append(group)
        raft.propose(record)
        self._note_room()

    def take_back(self) -> None:
        """**S** Nothing of the open batch is in a record, so it certainly has no effect: it is run again, as soon as it
        can be."""
        group, self.open = self.open, Group()
        self.overlay.drop_open()
        self._open_bytes = self._expected = 0
        sessions = {id(chunk.session): chunk.session for chunk in group.chunks if chunk.gates}
        for session in sessions.values():
            self._run_lost_again(session, [group])
            pending = (chunk.group.last_seq for chunk in session.chunks if chunk.gates and chunk.group)
            newest_seq = max(pending, default=self.raft.commit_seq)
            session.told_seq = min(session.told_seq, newest_seq)
            session.last_write_seq = min(session.last_write_seq, newest_seq)
        self._waits = [chunk for chunk in self._waits if chunk.gates]

    def propose_noop(self) -> None:
        """The first record of a term. Its group has no chunks: nobody asked for it."""
        self.overlay.effects.append(("NOOP",))
        self.seal()

    # Resolving

    def on_commit(self) -> None:
        """The commit seq has moved."""
        commit_seq = self.raft.commit_seq
        groups = self._groups
        answered = 0
        while groups and groups[0].last_seq <= commit_seq:
            answered += len(groups[0].chunks)
            self._open_gates(groups.popleft())
        if answered:
            self._expect(answered)
        if self._orphans:
            self._resolve_orphans()
        self._note_room()

    def _open_gates(self, group: Group) -> None:
        node = self.node
        for chunk in group.chunks:
            chunk.group = None
            if chunk.gates:
                chunk.gates -= 1
                if chunk.gates == 0:
                    node.release(chunk.session)
        group.chunks.clear()  # they refer to each other: nothing is left for the garbage collector

    def _resolve_orphans(self) -> None:
        index, commit_seq = self.raft.index, self.raft.commit_seq
        commit_term = index.term_at(commit_seq)
        pending: list[Group] = []
        lost: list[Group] = []
        for group in self._orphans:
            is_in_log = group.last_seq <= index.last_seq and index.has(group.last_seq, group.term)
            if is_in_log and group.last_seq <= commit_seq:
                self._open_gates(group)
            elif not is_in_log and commit_term > group.term:
                lost.append(group)  # terms only grow along a log: it can not come back
            else:
                pending.append(group)
        self._orphans = pending
        sessions = {id(chunk.session): chunk.session for group in lost for chunk in group.chunks if chunk.gates}
        for session in sessions.values():
            self._run_lost_again(session, lost)

    def _run_lost_again(self, session: Session, lost: list[Group]) -> None:
        """All from the session's first lost chunk on: what was logged after it is lost too."""
        chunks = session.chunks
        first = next((i for i, chunk in enumerate(chunks) if chunk.gates and chunk.group in lost), len(chunks))
        for chunk in reversed(chunks[first:]):
            self.node.run_again(chunk)

    def lose_leadership(self) -> None:
        """**S** Drop the overlay whole; run again what was never logged; keep pending what was."""
        self.overlay.drop_all()
        self._expected = 0
        open_group, self.open = self.open, Group()
        self._open_bytes = 0
        self._orphans += self._groups
        self._groups.clear()
        self._waits.clear()
        for session in self.node.all_sessions():
            self._sort_out(session, open_group)

    def _sort_out(self, session: Session, open_group: Group) -> None:
        """**S** All that follows the session's newest logged chunk runs again, finished or not: it was not logged.

        What stands before that chunk was evaluated before it, so should that very record be committed, then what a
        read saw was the truth just before. (That a record which a read has seen is committed proves nothing: a newer
        leader may have committed more before the read began.)"""
        session.told_seq = 0
        chunks = session.chunks
        kept = len(chunks)
        while kept and not (chunks[kept - 1].is_logged and chunks[kept - 1].group is not open_group):
            kept -= 1
        for chunk in reversed(chunks[kept:]):
            self.node.run_again(chunk)
        later: Chunk | None = None
        for chunk in reversed(chunks[:kept]):
            if chunk.is_logged:
                later = chunk
            elif chunk.gates:
                if chunk.group is not None:
                    chunk.group.chunks.remove(chunk)
                chunk.gates, chunk.group = 0, None
                if later is not None and later.gates and later.group is not None:
                    later.group.add(chunk)
            if chunk.gates and not chunk.is_blocker:
                chunk.is_blocker = True
                session.blockers += 1
        if kept:
            self.node.release(session)

    def expire(self) -> None:
        """Answer what has reached its deadline while its record is neither committed nor lost."""
        now_ms = self.node.now_ms
        for group in (*self._groups, *self._orphans, self.open):
            if group.deadline_ms > now_ms:
                continue
            expired = [chunk for chunk in group.chunks if chunk.deadline_ms <= now_ms]
            group.chunks = [chunk for chunk in group.chunks if chunk.deadline_ms > now_ms]
            group.deadline_ms = min((chunk.deadline_ms for chunk in group.chunks), default=float("inf"))
            for chunk in expired:
                self.node.answer_unknown(chunk)
        self._orphans = [group for group in self._orphans if group.chunks]

    # WAIT

    def start_wait(self, session: Session, command: list[bytes], deadline_ms: float) -> None:
        chunk = Chunk(session, [command], deadline_ms)
        chunk.gates = 1
        session.add(chunk, is_blocker=True)
        try:
            count, timeout_ms = parse_int64(command[1]), parse_int64(command[2])
            if timeout_ms < 0:
                raise CommandError("ERR timeout is negative")
        except CommandError as error:
            self.node.answer(chunk, error)
            return
        until_ms = deadline_ms - WAIT_MARGIN_MS
        if timeout_ms:
            until_ms = min(until_ms, self.node.now_ms + timeout_ms)
        chunk.wait_for = (count, session.last_write_seq)
        chunk.deadline_ms = until_ms
        self._waits.append(chunk)
        self.check_waits()

    def check_waits(self) -> None:
        """Answer each WAIT whose count is reached, or whose time is up."""
        leader = self.raft.leading
        if not self._waits or leader is None:
            return
        pending = []
        for chunk in self._waits:
            count_wanted, seq = chunk.wait_for or (0, 0)
            count = sum(progress.voting and progress.match_seq >= seq for progress in leader.progress.values())
            if count >= count_wanted or self.node.now_ms >= chunk.deadline_ms:
                self.node.answer(chunk, count)
            else:
                pending.append(chunk)
        if pending:
            leader.trailing.send_all()
        self._waits = pending

    def forget(self, session: Session) -> None:
        """The session is gone."""
        if self._waits:
            self._waits = [chunk for chunk in self._waits if chunk.session is not session]
