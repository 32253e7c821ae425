"""Leading a term: send records to each member in a window, count what is durable, hand over. Reads: rounds.py. Who
is sent records later than others: trailing.py.

The state of leadership lives and ends with this object. Two numbers per member tell all of replication: `match_seq`,
what it has acknowledged in this term, and `sent_seq`, what is on its way. A member that is not `streaming` is asked
where it is (`probe`); its Position, or a rejected Append, chooses where to send from. The bytes of (match_seq,
sent_seq] exceed the window by one chunk at most.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from kvnode.raft import messages as m
from kvnode.raft.rounds import Rounds
from kvnode.raft.trailing import Trailing

if TYPE_CHECKING:
    from kvnode.raft.core import Raft

ROUND_CARRIER_BYTES_MAX: Final = 64 * 1024
"""An Append up to this size carries a read round as quickly as a heartbeat would; a larger one would delay it."""
PROBE_BACKOFF_MAX_MS: Final = 8000.0


class Progress:
    """What the leader knows of one member."""

    __slots__ = (
        "catch_up_from",
        "catch_up_started_ms",
        "catch_up_to",
        "commit_told",
        "has_room",
        "heard_ms",
        "is_positioned",
        "match_seq",
        "must_append",
        "peer",
        "probe_after_ms",
        "progress_ms",
        "reads_until_ms",
        "round",
        "sent_seq",
        "streaming",
        "voting",
    )

    def __init__(self, peer: str, sent_seq: int, now_ms: float, probe_after_ms: float, *, streaming: bool) -> None:
        self.peer = peer
        self.match_seq = 0
        self.sent_seq = sent_seq
        self.streaming = streaming
        self.must_append = streaming
        self.is_positioned = False
        self.voting = True
        self.has_room: bool | None = None  # it has not said yet
        self.heard_ms = now_ms
        self.progress_ms = now_ms
        self.probe_after_ms = probe_after_ms
        self.round = 0
        self.reads_until_ms = 0.0
        self.commit_told = 0
        self.catch_up_from = self.catch_up_to = 0
        self.catch_up_started_ms = now_ms

    def __repr__(self) -> str:
        state = "stream" if self.streaming else "probe"
        return f"{self.peer} {state} match={self.match_seq} sent={self.sent_seq}{'' if self.voting else ' no vote'}"


class Leader:
    def __init__(self, raft: Raft) -> None:
        self.raft = raft
        self.leader: str | None = raft.id
        self.acknowledged_seq = 0
        self.noop_seq = raft.index.last_seq + 1
        """The seq of the no-op that the node proposes at once. **S** Until it is committed no read is confirmed."""
        # Hopeful: most members have all of it, and a rejected Append says where they are instead.
        self.progress = {
            peer: Progress(
                peer,
                raft.index.last_seq,
                raft.now_ms,
                raft.options.election_timeout_max_ms,
                streaming=peer in raft.links,
            )
            for peer in raft.peers
        }
        self._heartbeat_due_ms = raft.now_ms
        self._quorum_due_ms = raft.now_ms + raft.options.election_timeout_max_ms
        self._commit_notice_due_ms = inf
        quickest_first = list(raft.peers)
        self.rounds = Rounds(self, quickest_first)
        self.trailing = Trailing(self, quickest_first)
        self._transfer_to: str | None = None
        self._transfer_sent = self._transfer_needs_room = False
        self._transfer_deadline_ms = 0.0
        self._append: m.Append | None = None

    @property
    def has_committed(self) -> bool:
        """Whether an entry of this leader's own term is committed."""
        return self.raft.commit_seq >= self.noop_seq

    @property
    def is_handing_over(self) -> bool:
        """Proposals must wait: a successor is being made."""
        return self._transfer_to is not None

    @property
    def has_named_successor(self) -> bool:
        """The successor has been told to take over. What is logged now would make its log too short to be elected."""
        return self._transfer_to is not None and self._transfer_sent

    # Messages

    def on_message(self, sender: str, message: m.Message) -> None:
        progress = self.progress[sender]
        progress.heard_ms = self.raft.now_ms
        if isinstance(message, m.Appended):
            self._on_appended(progress, message)
        elif isinstance(message, m.HeartbeatReply):
            self._on_heartbeat_reply(progress, message)
        elif isinstance(message, m.Position):
            self._on_position(progress, message)
        elif isinstance(message, m.ReadQuestion):
            self.rounds.on_question(sender, message.question)
        elif isinstance(message, m.Damaged):
            progress.streaming = False
            self.raft.output.suspect_after.append(message.after_seq)
        elif isinstance(message, (m.Append, m.Heartbeat)):
            reason = f"claims to lead term {self.raft.term}, which this node leads"
            self.raft.output.drop_links.append((sender, reason))

    def note_without_right(self, peer: str) -> None:
        """The member may not vote: what it has acknowledged may be forgotten."""
        self._note_voting(self.progress[peer], voting=False)

    def _note_voting(self, progress: Progress, voting: bool) -> None:
        if progress.voting and not voting:
            # Its disk is another one: what the old one acknowledged is gone.
            progress.match_seq = 0
            progress.streaming = False
        gained = voting and not progress.voting
        progress.voting = voting
        if gained:
            self._maybe_commit()

    def _on_appended(self, progress: Progress, appended: m.Appended) -> None:
        raft = self.raft
        self._note_voting(progress, appended.voting)
        if not raft.index.ends_at(appended.match_seq):
            reason = f"acknowledges seq {appended.match_seq}, where no record of this log ends"
            raft.output.drop_links.append((progress.peer, reason))
            return
        if appended.match_seq > progress.match_seq:
            progress.match_seq = appended.match_seq
            progress.sent_seq = max(progress.sent_seq, appended.match_seq)
            progress.progress_ms = raft.now_ms
            progress.probe_after_ms = raft.options.election_timeout_max_ms
        self._maybe_end_catch_up(progress)
        if appended.match_seq > raft.commit_seq:
            self._maybe_commit()

    def on_durable(self) -> None:
        if self.raft.durable_seq > self.raft.commit_seq:
            self._maybe_commit()

    def _maybe_commit(self) -> None:
        """**S** What a majority of *all* members holds durably, and only through an entry of this term (pitfall 1)."""
        raft = self.raft
        matches = [progress.match_seq if progress.voting else 0 for progress in self.progress.values()]
        matches.append(raft.durable_seq if raft.may_vote else 0)
        matches.sort()
        seq = matches[-raft.quorum]
        if seq > raft.commit_seq and raft.index.term_at(seq) == raft.term:
            raft.advance_commit(seq)
            if self.has_committed:
                self.rounds.take_early_questions()

    # Where a member is

    def _on_position(self, progress: Progress, position: m.Position) -> None:
        raft, index = self.raft, self.raft.index
        self._note_voting(progress, position.voting)
        seq = position.last_seq
        is_here = seq <= index.last_seq and index.has(seq, position.last_term)
        if is_here and index.checksum_at(seq) != position.last_checksum:
            # **S** The checksum is evidence of corruption, never of agreement: nothing is cut because of it here.
            progress.streaming = False
            raft.output.differences.append((progress.peer, seq))
            return
        waited_ms = raft.now_ms - progress.progress_ms
        if progress.streaming and progress.is_positioned and waited_ms < raft.options.election_timeout_ms:
            return  # what it lacks is on its way: an answer to an older question
        if not is_here:
            end = index.end_at_or_before(seq, position.last_term)
            raft.emit(progress.peer, m.BackUp(raft.term, end, index.term_at(end)))
            return
        if (not progress.streaming or progress.match_seq == 0) and seq < index.last_seq > progress.catch_up_to:
            progress.catch_up_from, progress.catch_up_to = seq, index.last_seq
            progress.catch_up_started_ms = raft.now_ms
        progress.sent_seq = seq
        progress.streaming = progress.must_append = progress.is_positioned = True
        progress.progress_ms = raft.now_ms

    def _maybe_end_catch_up(self, progress: Progress) -> None:
        raft = self.raft
        if not progress.catch_up_to or progress.match_seq < progress.catch_up_to:
            return
        index = raft.index
        raft.note(
            "info",
            "catch-up sent",
            member=progress.peer,
            entries=progress.catch_up_to - progress.catch_up_from,
            bytes=index.bytes_until(progress.catch_up_to) - index.bytes_until(progress.catch_up_from),
            ms=round(raft.now_ms - progress.catch_up_started_ms, 1),
        )
        progress.catch_up_from = progress.catch_up_to = 0

    def read(self) -> int | None:
        return self.rounds.read()

    def _on_heartbeat_reply(self, progress: Progress, reply: m.HeartbeatReply) -> None:
        self._note_voting(progress, reply.voting)
        if progress.has_room != reply.has_room:
            progress.has_room = reply.has_room
            self.raft.output.has_heard_of_room = True
        if reply.voting and reply.round > progress.round:  # what it says without a vote must not count when it has one
            progress.round = reply.round
            self.rounds.maybe_confirm()

    # Handing over (dissertation 3.10)

    def transfer(self, *, for_room: bool, for_speed: bool) -> str | None:
        raft = self.raft
        if for_speed and raft.commit_seq <= raft.durable_seq:
            return self._transfer_to
        able = [
            p
            for p in self.progress.values()
            if p.voting and p.streaming and p.peer in raft.links and (p.has_room or not for_room)
        ]
        if not able or self._transfer_to:
            return self._transfer_to
        self._transfer_to = max(able, key=lambda p: (p.has_room is not False, p.match_seq)).peer
        self._transfer_sent = False
        self._transfer_needs_room = for_room
        self._transfer_deadline_ms = raft.now_ms + raft.options.election_timeout_max_ms
        return self._transfer_to

    def _maybe_hand_over(self) -> None:
        raft = self.raft
        if self._transfer_to is None:
            return
        successor = self.progress[self._transfer_to]
        has_no_room = self._transfer_needs_room and not successor.has_room
        if raft.now_ms >= self._transfer_deadline_ms or has_no_room:
            raft.note("warning", "handing over failed", member=self._transfer_to)
            self._transfer_to = None
        elif not self._transfer_sent and successor.match_seq == raft.index.last_seq:
            self._transfer_sent = True
            raft.emit(self._transfer_to, m.TimeoutNow(raft.term))

    def decisively_full(self) -> list[str]:
        """The members, this one included, whose disks are full, if without them there is no majority to hold a record.
        Who has not said yet is trusted to have room; who is silent holds nothing."""
        raft = self.raft
        oldest_ms = raft.now_ms - raft.options.election_timeout_max_ms
        counting = [p for p in self.progress.values() if p.voting and p.heard_ms >= oldest_ms]
        full = [] if raft.has_room else [raft.id]
        full += [p.peer for p in counting if p.has_room is False]
        return full if 1 + len(counting) - len(full) < raft.quorum else []

    # Sending

    def flush(self) -> None:
        raft = self.raft
        beat = raft.now_ms >= self._heartbeat_due_ms
        if beat:
            self._heartbeat_due_ms = raft.now_ms + raft.options.heartbeat_ms
        self._maybe_hand_over()
        notice_due = raft.now_ms >= self._commit_notice_due_ms
        untold = False
        to_ask = self.rounds.whom_to_ask()
        self.trailing.begin()
        for progress in self.progress.values():
            if progress.peer not in raft.links:
                continue
            is_lacking = progress.streaming and progress.sent_seq < raft.index.last_seq
            is_held_back = is_lacking and self.trailing.holds_back(progress)
            carried = not is_held_back and self._replicate(progress)
            behind = not is_held_back and progress.commit_told < min(raft.commit_seq, progress.match_seq)
            if beat or (not carried and progress.peer in to_ask) or (behind and notice_due):
                self._heartbeat(progress)
            elif behind:
                untold = True
        if not untold:
            self._commit_notice_due_ms = inf
        elif self._commit_notice_due_ms == inf:
            self._commit_notice_due_ms = raft.now_ms + raft.options.commit_notice_ms
        self.rounds.sent()

    def _replicate(self, progress: Progress) -> bool:
        """Send what the window allows; whether an Append left that carries the round quickly."""
        raft, index = self.raft, self.raft.index
        if not progress.streaming:
            return False
        carried = False
        while progress.must_append or progress.sent_seq < index.last_seq:
            prev_seq = progress.sent_seq
            sent_bytes = index.bytes_until(prev_seq)
            if not progress.must_append and progress.match_seq != prev_seq:
                unacknowledged_bytes = sent_bytes - index.bytes_until(progress.match_seq)
                if unacknowledged_bytes >= raft.options.window_bytes:
                    break
            last_seq = prev_seq
            if prev_seq < index.last_seq:
                if progress.match_seq == prev_seq:
                    progress.progress_ms = raft.now_ms  # the wait for an answer begins now
                last_seq = index.end_of_chunk(prev_seq, raft.options.chunk_bytes)
            catch_up_to = progress.catch_up_to if prev_seq < progress.catch_up_to else 0
            raft.emit(progress.peer, self._make_append(prev_seq, last_seq, catch_up_to))
            progress.must_append = False
            progress.sent_seq = last_seq
            progress.commit_told = max(progress.commit_told, min(raft.commit_seq, last_seq))
            carried = index.bytes_until(last_seq) - sent_bytes <= ROUND_CARRIER_BYTES_MAX
        return carried

    def _make_append(self, prev_seq: int, last_seq: int, catch_up_to: int) -> m.Append:
        """The same object for members that are sent the same, so that it is encoded once."""
        raft = self.raft
        fields = (raft.term, prev_seq, raft.index.term_at(prev_seq), raft.commit_seq, self.rounds.number, catch_up_to)
        last = self._append
        if (
            last is None
            or last.last_seq != last_seq
            or fields
            != (
                last.term,
                last.prev_seq,
                last.prev_term,
                last.commit_seq,
                last.round,
                last.catch_up_to,
            )
        ):
            last = self._append = m.Append(*fields, last_seq)
        return last

    def _heartbeat(self, progress: Progress) -> None:
        raft = self.raft
        probe = not progress.streaming
        if progress.sent_seq > progress.match_seq and raft.now_ms - progress.progress_ms >= progress.probe_after_ms:
            # Something was lost, or it is slow: ask, ever more rarely (pitfall 30). The question follows what was sent,
            # so that what is merely slow is not sent again: it would hold up itself.
            raft.emit(progress.peer, self._make_append(progress.sent_seq, progress.sent_seq, progress.catch_up_to))
            progress.is_positioned = False  # its answer counts
            progress.progress_ms = raft.now_ms
            progress.probe_after_ms = min(2 * progress.probe_after_ms, PROBE_BACKOFF_MAX_MS)
        commit_seq = min(raft.commit_seq, progress.match_seq)
        progress.commit_told = max(progress.commit_told, commit_seq)
        checksum = raft.index.checksum_at(commit_seq)
        raft.emit(progress.peer, m.Heartbeat(raft.term, commit_seq, self.rounds.number, probe, checksum))

    # Time and links

    def deadline_ms(self) -> float:
        # Two at a time: mypyc compiles that; the min of three is a call, and these were 8 % of what a record costs.
        trailing = self.trailing
        due_ms = min(self._heartbeat_due_ms, self._quorum_due_ms)
        due_ms = min(due_ms, self.rounds.enough.overdue_ms)
        due_ms = min(due_ms, trailing.due_ms)
        due_ms = min(due_ms, trailing.enough.overdue_ms)
        return min(due_ms, self._commit_notice_due_ms)

    def tick(self) -> None:
        """**S** Check-quorum: who has not heard from a majority for an election timeout leads no more (6.2)."""
        raft = self.raft
        if raft.now_ms < self._quorum_due_ms:
            return
        self._quorum_due_ms = raft.now_ms + raft.options.heartbeat_ms
        oldest_ms = raft.now_ms - raft.options.election_timeout_max_ms
        heard = 1 + sum(p.voting and p.heard_ms >= oldest_ms for p in self.progress.values())
        if heard < raft.quorum:
            raft.note("warning", "no majority of members was heard", term=raft.term)
            raft.become_follower(raft.term, leader=None)

    def on_link(self, peer: str, *, up: bool) -> None:
        progress = self.progress[peer]
        progress.streaming = progress.is_positioned = False
        if up:
            self._heartbeat(progress)
        else:
            self.trailing.send_all()

    def has_live_leader(self) -> bool:
        return True

    def on_vote_granted(self) -> None:
        """A leader has voted for itself."""

    def on_ballot_saved(self) -> None:
        """It was durable before the election was won."""
