"""Finding damage in the log while the node serves, and healing it.

A pass reads every record again, a piece at a time, at a limited rate, and compares it with the checksums in memory.
Places that another member found damaged are read at once. What is bad is written anew: from memory where the newest
records are still there, otherwise from what another member has. It must have the very checksums that this node
remembers, so it is what was lost. What was read once stays applied: the node keeps its vote, but hands leadership over
while its disk is doubtful. Where it alone has what it can not read, uncommitted as that is, it does not lead at all: it
could send the others nothing of its own, and one of them may lead without it.

    pass -> bad range found -> hand over -> records from memory or a member -> compared -> written -> read again
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from kvnode.log.record import BadRecord, split
from kvnode.node.deeds import DAMAGED, DIFFERS, ENDS, BadRange, FetchRecords, HealRecords, ScrubRecords
from kvnode.node.fetching import FETCH_BYTES_MAX, PAUSE_MS, Fetching
from kvnode.node.giving import Giving
from kvnode.node.links import Link
from kvnode.node.wire import Fetch, Fetched, RecordsMessage

if TYPE_CHECKING:
    from kvnode.node.node import Node

PIECE_BYTES = (256 * 1024, 1024 * 1024)
"""Least and most that is read at once; between them, what the rate allows for one sweep of the node."""
SWEEP_MS = 50
SUSPECTS_MAX = 100
HEAL_AGAIN_MS = LOOK_AGAIN_MS = 1000.0
REPEAT_NOTE_MS = 60_000.0
"""How often what can not be done now is told of again."""


@dataclass(frozen=True, slots=True)
class _Bad:
    """Records (after_seq, last_seq] that can not be read; `evidence` is the checksum of the last of them."""

    after_seq: int
    last_seq: int
    evidence: int | None


class Scrubbing:
    def __init__(self, node: Node, first_token: int) -> None:
        self.node = node
        self.raft = node.raft
        config = node.config
        self._bytes_per_ms = config.scrub_bytes_per_second / 1000
        self._piece_bytes = min(max(PIECE_BYTES[0], int(self._bytes_per_ms * SWEEP_MS)), PIECE_BYTES[1])
        self._due_ms = node.now_ms + config.scrub_pause_ms if self._bytes_per_ms else inf
        self._at_seq = 0
        # Where the present pass ends: the log's end when it began, or under load it would never end.
        self._pass_to_seq = self._found_before = 0
        self._is_reading = False
        self._suspects: deque[int] = deque()  # seqs after which to look at once
        self._bad: deque[_Bad] = deque()  # found, not healed yet; the first is being healed
        self._only_here: _Bad | None = None  # what no other member has either
        self._is_healing = False
        self._healing_parts: list[bytes] = []
        self._healed_to = 0
        self._heal_due_ms = self._look_due_ms = self._noted_ms = -inf
        self.passes = self.bytes_read = self.found = self.healed = 0
        self._giving = Giving(node.peers.links)
        self.fetching = Fetching(self, node.peers.links, node.raft.peers, first_token)

    def __repr__(self) -> str:
        return f"Scrubbing at={self._at_seq} passes={self.passes} bad={list(self._bad)}"

    @property
    def now_ms(self) -> float:
        return self.node.now_ms

    @property
    def at_seq(self) -> int:
        """How far the present pass has come; 0 between two."""
        return self._at_seq

    @property
    def damaged_entries(self) -> int:
        """Entries that can not be read on this node's disk now."""
        return sum(bad.last_seq - bad.after_seq for bad in self._bad)

    # Looking

    def suspect(self, after_seq: int) -> None:
        """Look at the records after this seq, at once."""
        if after_seq not in self._suspects and len(self._suspects) < SUSPECTS_MAX:
            self._suspects.append(after_seq)

    def sweep(self) -> None:
        """Called every now and then."""
        self.fetching.tick()
        self._check_fitness()
        if self._bad and not self._is_healing and self.now_ms >= self._heal_due_ms:
            self._heal_next()
        if self._is_reading or self.now_ms < self._look_due_ms:
            return
        if self._suspects:
            self._look(self._suspects.popleft())
        elif self.now_ms >= self._due_ms:
            self._look(self._at_seq)

    def _look(self, after_seq: int) -> None:
        index = self.raft.index
        expected = []
        is_pass = after_seq == self._at_seq and self.now_ms >= self._due_ms
        if is_pass and after_seq == 0:
            self._found_before = self.found
            self._pass_to_seq = self.raft.durable_seq
        if is_pass and after_seq >= self._pass_to_seq:
            self._end_pass()
            return
        if index.ends_at(after_seq) and after_seq < self.raft.durable_seq:
            expected = index.records_after(after_seq, self._piece_bytes)
            while expected and expected[-1][0] > self.raft.durable_seq:
                expected.pop()
        if expected:
            self._is_reading = True
            self.node.outputs.reads.append(ScrubRecords(after_seq, expected))
        elif is_pass:
            self._end_pass()  # that place has been cut off meanwhile

    def _end_pass(self) -> None:
        if self._at_seq:
            self.passes += 1
            found = self.found - self._found_before
            self.node.note("info", "log read again", {"to_seq": self._at_seq, "damaged_places": found})
        self._at_seq = 0
        self._due_ms = self.now_ms + self.node.config.scrub_pause_ms

    def on_scrubbed(self, after_seq: int, expected: list[tuple[int, int]], bad: list[BadRange], size: int) -> None:
        self._is_reading = False
        self.bytes_read += size
        if after_seq == self._at_seq and self._bytes_per_ms:
            self._at_seq = expected[-1][0]
            self._due_ms = self.now_ms + size / self._bytes_per_ms
        for each in bad if self._is_still_there(expected) else ():
            self._found(each)

    def on_not_scrubbed(self, after_seq: int, reason: str) -> None:
        """That says nothing of the records: they are read later."""
        self._is_reading = False
        self._look_due_ms = self.now_ms + LOOK_AGAIN_MS
        if after_seq != self._at_seq:
            self.suspect(after_seq)
        self._note_repeatedly("the log can not be read again now", {"reason": reason})

    def _is_still_there(self, expected: list[tuple[int, int]]) -> bool:
        """Whether the log is what the question was about: else others may have come in the place of its records."""
        index = self.raft.index
        last_seq, checksum = expected[-1]
        return index.ends_at(last_seq) and index.checksum_at(last_seq) == checksum

    def _found(self, found: BadRange) -> None:
        after_seq, last_seq, reason = found
        bad = _Bad(after_seq, last_seq, self._evidence(after_seq, last_seq))
        if bad.evidence is None or bad in self._bad:
            return
        self.found += 1
        self._bad.append(bad)
        fields: dict[str, object] = {"from_seq": after_seq + 1, "to_seq": last_seq, "reason": reason}
        self.node.note("error", "damage in the log: it is healed while this node serves", fields)
        if self.raft.leading is not None and not self.raft.leading.is_handing_over:
            successor = self.raft.transfer()
            if successor is not None:
                self.node.note("info", "handing over leadership", {"to": successor, "because": "damage in the log"})

    def _check_fitness(self) -> None:
        bad, raft = self._only_here, self.raft
        if bad is not None and (bad not in self._bad or self._is_outdated(bad) or bad.last_seq <= raft.commit_seq):
            bad = self._only_here = None
        raft.is_unfit = bad is not None
        if raft.is_unfit and raft.leading is not None and not raft.leading.is_handing_over:
            because = "no other member has what is damaged in this log, and so none could be brought up to date"
            self.node.note("warning", "stepping down", {"because": because})
            raft.step_down()

    def _evidence(self, after_seq: int, last_seq: int) -> int | None:
        """The checksum at the end of these records; None where they are not in the log, or not all durable here."""
        index = self.raft.index
        if last_seq > self.raft.durable_seq or not index.ends_at(after_seq) or not index.ends_at(last_seq):
            return None
        return index.checksum_at(last_seq)

    # Healing, one range after the other

    def _is_outdated(self, bad: _Bad) -> bool:
        """Whether the records have been cut off since; others may have come in their place."""
        return self._evidence(bad.after_seq, bad.last_seq) != bad.evidence

    def _heal_next(self) -> None:
        bad = self._bad[0]
        if self._is_outdated(bad):
            self._bad.popleft()
            return
        self._is_healing = True
        self._healing_parts = []
        self._healed_to = bad.after_seq
        raw = self.node.tail.read(bad.after_seq, bad.last_seq)
        if raw is not None:
            self._write(raw)
        else:
            self.fetching.ask(bad.after_seq, self.raft.index.checksum_at(bad.after_seq))

    def _write(self, data: bytes) -> None:
        bad = self._bad[0]
        self.fetching.stop()
        self.node.outputs.disk.append(HealRecords(bad.after_seq, bad.last_seq, data))

    def on_records(self, peer: str, records: bytes, leads: bool) -> str | None:
        bad, index = self._bad[0], self.raft.index
        if self._is_outdated(bad):
            self._start_over()
            return None
        try:
            found = split(records)
        except BadRecord:
            return DAMAGED
        before = self._healed_to
        for record in found:
            if record.last_seq > bad.last_seq:
                break
            is_right = record.first_seq == self._healed_to + 1 and index.ends_at(record.last_seq)
            if not is_right or index.checksum_at(record.last_seq) != record.checksum:
                return DIFFERS
            self._healing_parts.append(record.raw)
            self._healed_to = record.last_seq
        if self._healed_to == before:
            return DIFFERS
        if self._healed_to == bad.last_seq:
            self._write(b"".join(self._healing_parts))
        else:
            self.fetching.ask(self._healed_to, index.checksum_at(self._healed_to))
        return None

    def on_refused(self, peer: str, why: str, leads: bool) -> None:
        """The next member is asked, or the same again later."""

    def on_round_over(self, answers: dict[str, str]) -> None:
        bad = self._bad[0]
        if self._is_outdated(bad):
            self._start_over()
        else:
            told = ", ".join(f"{peer}: {why}" for peer, why in sorted(answers.items())) or "none"
            fields: dict[str, object] = {"from_seq": bad.after_seq + 1, "to_seq": bad.last_seq, "answers": told}
            self._note_repeatedly("damage in the log that no member can heal now", fields)
            if answers and all(why in (ENDS, DIFFERS) for why in answers.values()):
                self._only_here = bad
            if len(self._bad) > 1:  # members may have what is missing elsewhere
                self._start_over()
                self._bad.rotate(-1)
                self._heal_due_ms = self.now_ms + PAUSE_MS

    def _start_over(self) -> None:
        self.fetching.stop()
        self._is_healing = False

    def on_healed(self, after_seq: int, to_seq: int) -> None:
        self._is_healing = False
        self._healing_parts = []
        self.healed += 1
        self._bad.popleft()
        self.suspect(after_seq)
        self.node.note("info", "healed: the records can be read again", {"from_seq": after_seq + 1, "to_seq": to_seq})

    def on_not_healed(self, after_seq: int, reason: str) -> None:
        """What stands before these records is looked at too, and the whole is tried again."""
        self._is_healing = False
        self._healing_parts = []
        self._bad.rotate(-1)
        self._heal_due_ms = self.now_ms + HEAL_AGAIN_MS
        self.suspect(self.raft.index.end_at_or_before(max(0, after_seq - 1), self.raft.term))
        self._note_repeatedly("damage in the log that can not be healed now", {"reason": reason})

    def _note_repeatedly(self, event: str, fields: dict[str, object]) -> None:
        if self.now_ms - self._noted_ms >= REPEAT_NOTE_MS:
            self._noted_ms = self.now_ms
            self.node.note("error", event, fields)

    # The lane of records

    def on_records_message(self, link: Link, message: RecordsMessage) -> None:
        if isinstance(message, Fetched) and link.is_dialed:
            self.fetching.on_fetched(link.peer, message)
        elif isinstance(message, Fetch) and not link.is_dialed:
            self._on_fetch(link, message)

    def _on_fetch(self, link: Link, fetch: Fetch) -> None:
        if not self._giving.begins(link):
            return
        index, after_seq = self.raft.index, fetch.after_seq
        why = ""
        if after_seq >= self.raft.durable_seq:
            why = ENDS
        elif not index.ends_at(after_seq) or index.checksum_at(after_seq) != fetch.after_checksum:
            why = DIFFERS
        if why:
            self._give(link.id, fetch.token, b"", why)
        else:
            read = FetchRecords(link.id, fetch.token, after_seq, min(fetch.bytes_max, FETCH_BYTES_MAX))
            self.node.outputs.reads.append(read)

    def on_fetched(self, link_id: int, token: int, after_seq: int, records: bytes, why: str) -> None:
        if why == DAMAGED:
            self.suspect(after_seq)
        self._give(link_id, token, records, why)

    def _give(self, link_id: int, token: int, records: bytes, why: str) -> None:
        leader = self.raft.leading
        leads = leader is not None and leader.has_committed
        self._giving.give(link_id, Fetched(token, records, why, leads))

    def on_records_gone(self, link: Link) -> None:
        self.fetching.on_gone(link)
