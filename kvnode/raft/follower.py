"""Following a leader: take its records, cut what it contradicts, acknowledge what is durable, ask it about reads.

`matched_seq` is how far this log is known to be the leader's in this term; only an Append whose prev (seq, term)
matched moves it. What is acknowledged is min(matched, durable); what is known committed never exceeds matched (pitfall
9).
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from kvnode.raft import messages as m

if TYPE_CHECKING:
    from kvnode.raft.core import Raft


STRANGE_BACK_UPS_MAX: Final = 10
"""So many in a row are not late answers any more."""
HOLD_BACKS_MAX: Final = 3
"""Election timeouts that a member with a stalled disk leaves to others. No more: all may be like that."""
HASTE: Final = 10
"""So much shorter than that of timeouts is the spread of those who hasten."""


class Follower:
    """`held_back`: election timeouts in a row that have passed without a campaign."""

    def __init__(self, raft: Raft, leader: str | None, held_back: int = 0) -> None:
        self.raft = raft
        self.leader = leader
        self.matched_seq = 0
        self._answered_seq = 0
        self._acknowledged_seq = -1
        self._round_seen = -1
        self._strange_back_ups = 0
        self._has_rejected = False
        self._held_back = held_back
        self._told_ms = -inf
        self._heard_ms = raft.now_ms
        self._deadline_ms = raft.election_deadline_ms()
        if len(raft.members) == 1 and raft.may_vote:
            self._deadline_ms = raft.now_ms  # there is nobody to wait for
        self._question: int | None = None
        self._question_unsent = False
        self._question_wanted = False
        self._asked_ms: float | None = None

    # Messages

    def on_message(self, sender: str, message: m.Message) -> None:
        if isinstance(message, (m.Append, m.Heartbeat, m.BackUp)):
            if not self._hear(sender):
                return
            if isinstance(message, m.Append):
                self._on_append(sender, message)
            elif isinstance(message, m.Heartbeat):
                self._on_heartbeat(sender, message)
            else:
                self._on_back_up(sender, message)
        elif isinstance(message, m.ReadAnswer):
            self._on_read_answer(message)
        elif isinstance(message, m.TimeoutNow) and sender == self.leader and self.raft.may_vote:
            self.raft.become_candidate(transfer=True, real=True)

    def _hear(self, sender: str) -> bool:
        """Note a sign of life of the leader of this term; False for a second one, who can not exist."""
        raft = self.raft
        if self.leader is None:
            self.leader = sender
            raft.note("info", "following", leader=sender, term=raft.term)
        elif self.leader != sender:
            reason = f"claims to lead term {raft.term}, which {self.leader} leads"
            raft.output.drop_links.append((sender, reason))
            return False
        self._heard_ms = raft.now_ms
        self._held_back = 0
        self._deadline_ms = raft.election_deadline_ms()
        return True

    def _on_append(self, sender: str, append: m.Append) -> None:
        raft, index = self.raft, self.raft.index
        self._confirm_round(sender, append.round)
        # **S** First of all prev: where it does not match, histories differ and nothing is said of corruption.
        if append.prev_seq > index.last_seq or not index.has(append.prev_seq, append.prev_term):
            if self._has_rejected:
                return  # of the Appends that were on their way together one answer is enough, until the next heartbeat
            self._has_rejected = True
            if append.prev_seq > raft.commit_seq:
                self._tell_position(sender, append.prev_seq, append.prev_term)
            else:
                self._tell_position(sender, raft.commit_seq, append.term)
            return
        damage = append.damage or self._find_damage(append)
        if damage:
            raft.emit(sender, m.Damaged(raft.term, append.prev_seq))
            raft.output.drop_links.append((sender, f"records after seq {append.prev_seq} are damaged: {damage}"))
            return
        for record in append.records:
            if record.last_seq <= index.last_seq and index.has(record.last_seq, record.term):
                continue  # already here: sent twice, or late (pitfall 8)
            if record.first_seq <= index.last_seq:
                raft.note("warning", "conflicting suffix cut", from_seq=record.first_seq, to_seq=index.last_seq)
                raft.cut(record.first_seq - 1)
            raft.append(record)
        self.matched_seq = max(self.matched_seq, append.last_seq)
        self._has_rejected = False
        self._strange_back_ups = 0
        commit_seq = max(append.commit_seq, self._answered_seq)
        raft.advance_commit(self._end_within(min(commit_seq, self.matched_seq)))
        self._acknowledge(always=True)

    def _end_within(self, seq: int) -> int:
        """The commit seq of another node is an end of a record there, and so here; a bound by matched is one too."""
        return seq if self.raft.index.ends_at(seq) else self.raft.index.end_at_or_before(seq, self.raft.term)

    def _find_damage(self, append: m.Append) -> str | None:
        """What prev has matched must continue it: anything else is corruption, not conflict."""
        index = self.raft.index
        last_seq, last_term, checksum = append.prev_seq, append.prev_term, index.checksum_at(append.prev_seq)
        for record in append.records:
            if record.first_seq != last_seq + 1:
                return f"seq {record.first_seq} follows {last_seq}"
            if not last_term <= record.term <= append.term:
                return f"term {record.term} of seq {record.first_seq} after term {last_term}"
            if record.prev_checksum != checksum:
                return f"seq {record.first_seq} does not continue the chain of checksums"
            last_seq, last_term, checksum = record.last_seq, record.term, record.checksum
            is_here = record.last_seq <= index.last_seq and index.has(record.last_seq, record.term)
            if is_here and index.checksum_at(record.last_seq) != checksum:
                return f"the record up to seq {record.last_seq} of term {record.term} has another checksum here"
        if last_seq != append.last_seq:
            return f"the records end at seq {last_seq}, not at {append.last_seq}"
        return None

    def _on_heartbeat(self, sender: str, heartbeat: m.Heartbeat) -> None:
        raft = self.raft
        if self._has_other_checksum(heartbeat):
            seq = heartbeat.commit_seq
            self._tell_position(sender, seq, raft.index.term_at(seq))
        else:
            raft.advance_commit(self._end_within(min(heartbeat.commit_seq, self.matched_seq)))
        self._round_seen = max(self._round_seen, heartbeat.round)
        raft.emit(sender, m.HeartbeatReply(raft.term, heartbeat.round, raft.may_vote, raft.has_room))
        self._has_rejected = False
        # Below the commit seq that it is told, it has forgotten what matched: it doubted its leader for a moment.
        has_forgotten = self.matched_seq < heartbeat.commit_seq
        if heartbeat.probe or (has_forgotten and raft.now_ms - self._told_ms >= raft.options.election_timeout_max_ms):
            self._told_ms = raft.now_ms
            self._tell_position(sender, raft.index.last_seq, raft.index.last_term)
        if self._asked_ms is not None and raft.now_ms - self._asked_ms > raft.options.heartbeat_ms:
            self._question_unsent = True  # the question or its answer was lost

    def on_room(self) -> None:
        """At once, since until it hears the leader takes writes that may have no room anywhere."""
        raft = self.raft
        if self.leader is not None and self._round_seen >= 0:
            raft.emit(self.leader, m.HeartbeatReply(raft.term, self._round_seen, raft.may_vote, raft.has_room))

    def _has_other_checksum(self, heartbeat: m.Heartbeat) -> bool:
        """Whether the logs match by (seq, term) where they must be equal, and are not: one of them is corrupt."""
        index, seq = self.raft.index, heartbeat.commit_seq
        return seq <= self.matched_seq and index.ends_at(seq) and index.checksum_at(seq) != heartbeat.checksum

    def _confirm_round(self, sender: str, round_number: int) -> None:
        """At once: never behind an append or an fsync."""
        if round_number > self._round_seen:
            self._round_seen = round_number
            raft = self.raft
            raft.emit(sender, m.HeartbeatReply(raft.term, round_number, raft.may_vote, raft.has_room))

    def _on_back_up(self, sender: str, back_up: m.BackUp) -> None:
        raft = self.raft
        if back_up.at_or_before < raft.commit_seq:
            # Late; or, if it goes on, disks were lost: in no other way can a leader lack what is committed here.
            self._strange_back_ups += 1
            if self._strange_back_ups == STRANGE_BACK_UPS_MAX:
                text = "the leader lacks entries that are committed here"
                raft.note("error", text, leader=sender, its_seq=back_up.at_or_before, commit_seq=raft.commit_seq)
            return
        self._tell_position(sender, back_up.at_or_before, back_up.term_there)

    def _tell_position(self, leader: str, at_or_before: int, term_max: int) -> None:
        raft, index = self.raft, self.raft.index
        # What is committed here is the leader's too, so there is never a reason to go back further.
        end = max(index.end_at_or_before(at_or_before, term_max), raft.commit_seq)
        raft.emit(leader, m.Position(raft.term, end, index.term_at(end), index.checksum_at(end), raft.may_vote))

    # Acknowledging

    @property
    def acknowledged_seq(self) -> int:
        return min(self.matched_seq, self.raft.durable_seq)

    def on_durable(self) -> None:
        self._acknowledge(always=False)

    def _acknowledge(self, *, always: bool) -> None:
        """**S** Only what is durable here and known to be the leader's."""
        raft = self.raft
        match_seq = self.acknowledged_seq
        if self.leader is None or match_seq < self._acknowledged_seq:
            return
        # A repetition is an answer to a leader that did not get the first; new records are answered when durable.
        if match_seq > self._acknowledged_seq or (always and self.matched_seq <= raft.durable_seq):
            self._acknowledged_seq = match_seq
            raft.emit(self.leader, m.Appended(raft.term, match_seq, raft.may_vote))

    # Reads (dissertation 6.4)

    def read(self) -> int | None:
        """One question is on its way at a time; reads that arrive meanwhile share the next."""
        if self.leader is None or self.leader not in self.raft.links:
            return None
        if self._question is None:
            self._question = self.raft.next_ticket()
            self._question_unsent = True
            return self._question
        if self._asked_ms is None:
            return self._question
        self._question_wanted = True
        return self._question + 1

    def _on_read_answer(self, answer: m.ReadAnswer) -> None:
        raft = self.raft
        if self._question is None or answer.question != self._question:
            return
        self._answered_seq = answer.seq  # which may have overtaken the records
        raft.advance_commit(self._end_within(min(answer.seq, self.matched_seq)))
        raft.output.reads_ready.append((answer.question, answer.seq))
        self._question = self._asked_ms = None
        if self._question_wanted:
            self._question_wanted = False
            self._question = raft.next_ticket()
            self._question_unsent = True

    def flush(self) -> None:
        if self._question_unsent and self._question is not None and self.leader is not None:
            self._question_unsent = False
            self._asked_ms = self.raft.now_ms
            self.raft.emit(self.leader, m.ReadQuestion(self.raft.term, self._question))

    # Time, links, votes

    def has_live_leader(self) -> bool:
        waited_ms = self.raft.now_ms - self._heard_ms
        return self.leader is not None and waited_ms < self.raft.options.election_timeout_ms

    def deadline_ms(self) -> float:
        return self._deadline_ms

    def tick(self) -> None:
        raft = self.raft
        if raft.now_ms < self._deadline_ms:
            return
        if not raft.may_vote or raft.is_leaving or raft.is_unfit:
            raft.become_follower(raft.term, leader=None)
        elif not raft.ballot_is_durable:
            self._deadline_ms = raft.election_deadline_ms()
        elif raft.is_disk_stalled and self._held_back < HOLD_BACKS_MAX:
            raft.hold_back(self._held_back + 1)
        else:
            raft.become_candidate()

    def hasten(self) -> None:
        """There is no leader, and whose timeout was the first lacks what this node has, as a member that trails does.
        So it is for this node to campaign: soon, though not at once, for others may have been told so too."""
        raft, options = self.raft, self.raft.options
        spread_ms = (options.election_timeout_max_ms - options.election_timeout_ms) / HASTE
        self._deadline_ms = min(self._deadline_ms, raft.now_ms + spread_ms * raft.random.random())

    def on_vote_granted(self) -> None:
        self._deadline_ms = self.raft.election_deadline_ms()

    def on_ballot_saved(self) -> None:
        """Answers that waited for it have left already."""

    def on_link(self, peer: str, *, up: bool) -> None:
        """The leader asks where we are when it reaches us; when we reach it, what was lost on the way is said anew."""
        if up and peer == self.leader:
            self._acknowledge(always=True)
