"""A node whose log has holes: it takes no part, and closes them with the records of other members (DESIGN part 4).

    holes known -> ask a member for what follows the last good record -> check -> write -> … -> no hole: start anew

**S** Nothing is taken on trust. The records must continue the good one before the hole, and the good one after it must
continue them: so they are, as far as checksums can tell, byte for byte what was lost. Hence no leader is needed, and
two members with damage in different places heal each other: while set aside, a node gives others what it can still
read.

**S** Where a leader that has committed in its term can not give records that fit on both sides, what this node has
there is no committed history. Then it is cut off, and the node has to be brought up to date by a leader before it
votes again (joining.py). Giving up on the word of a stale leader would be as safe, for a node without the right to
vote counts for nothing; it would only be a pity.

A member may lead astray: one that still has a part of a history that never came to be can give records that continue
the one before the hole, and not those that follow. So where it does not go on, the hole is begun again without who gave
its first records; and a refusal says something only of those who were asked at the hole's beginning, or gave all of it.

Where all other members have answered for a while, and none of them has it, the entry is lost at every member: the node
says so and ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from random import Random

from kvnode.config import Config
from kvnode.log.damage import Hole
from kvnode.log.errors import DoesNotFit
from kvnode.log.healing.filling import take_missing
from kvnode.log.mark import Mark
from kvnode.node import wire
from kvnode.node.deeds import DAMAGED, DIFFERS, ENDS, Event, FetchFromDamaged, GiveUp, HealHole, Outputs
from kvnode.node.fetching import FETCH_BYTES_MAX, Fetching
from kvnode.node.giving import Giving
from kvnode.node.links import Link, Links
from kvnode.node.wire import CONTROL, DATA, RECORDS, Fetch, Fetched

REFUSAL = "it is set aside: it heals its log"
FIRST_ANSWERS_MS = 3000.0
"""Before that nobody is missed."""
FULL_PAUSE_MS = 2000.0
LOST_AFTER_ELECTION_TIMEOUTS = 10
"""So long all members must have answered that they do not have it: long enough for them to ask, and to stop, too."""

_IN_WORDS = {ENDS: "has nothing there", DIFFERS: "has other records there", DAMAGED: "is damaged there too"}


class EntriesLost(Exception):
    """The entries of a hole can be read at no member. The text is for the operator."""

    def __init__(self, hole: Hole, answers: dict[str, str]) -> None:
        others = ", ".join(f"{peer} {_IN_WORDS[why]}" for peer, why in sorted(answers.items()))
        super().__init__(
            f"{hole} No other member has them either: {others}. What is lost at every member can not be healed, so "
            "this node stops; nothing was cut. If there is a copy of one member's data directory, put back the damaged "
            "segment file alone, never the whole directory, and start all members: they heal from it."
        )


class SetAside:
    """Takes turns as a Node does, until `outputs.restart` says that the log can be opened again.

    `now_ms` is monotonic. `holes` are those of the log, in order; the disk tells what is left of them."""

    lanes = (RECORDS,)

    def __init__(
        self, config: Config, cluster_id: str, holes: tuple[Hole, ...], *, random: Random, now_ms: float
    ) -> None:
        self.now_ms = now_ms
        self.outputs = Outputs()
        self._holes = holes
        self._at = Mark()
        self._is_writing = self._is_full = False
        self._begin_due_ms = inf
        self._peers = tuple(peer.id for peer in config.peers)
        self._lost_since_ms: float | None = None
        self._lost_ms_max = LOST_AFTER_ELECTION_TIMEOUTS * config.election_timeout_max_ms
        self._told: dict[str, str] | None = None
        # Of members that have gone meanwhile, too: what nobody has, nobody can give to those who do not have it.
        self._refusals: dict[str, str] = {}
        self._givers: set[str] = set()  # of the records since the beginning of the hole
        self._astray: set[str] = set()  # who is not asked this time
        self._given_by: set[str] = set()
        self._entries = self._bytes = 0
        frame_bytes_max = config.record_bytes_max + wire.ENVELOPE_BYTES_MAX
        self._links = Links(self, cluster_id, config.id, self._peers, frame_bytes_max)
        self._links.refuses = {CONTROL: REFUSAL, DATA: REFUSAL}
        self._giving = Giving(self._links)
        self._fetching = Fetching(self, self._links, self._peers, random.getrandbits(48))
        self._began_ms = now_ms
        self._go_on()

    def __repr__(self) -> str:
        return f"SetAside holes={len(self._holes)} at={self._at.seq} {self._fetching!r}"

    def turn(self, now_ms: float, wall_ms: float, events: Iterable[Event]) -> Outputs:
        """Take the events in order; the outputs are to be carried out in full. An exception ends the node."""
        self.now_ms = now_ms
        for handler, arguments in events:
            getattr(self, handler)(*arguments)
        if now_ms >= self._begin_due_ms:
            self._begin_due_ms = inf
            self._begin_hole()
        self._fetching.tick()
        self._links.expire()
        outputs, self.outputs = self.outputs, Outputs()
        outputs.deadline_ms = min(self._fetching.deadline_ms(), self._begin_due_ms, now_ms + 1000)
        return outputs

    @property
    def is_drained(self) -> bool:
        return not self._is_writing

    def on_shutdown(self) -> None:
        self._fetching.stop()

    def note(self, level: str, event: str, fields: dict[str, object]) -> None:
        self.outputs.notes.append((level, event, fields))

    # Closing holes, from the first on

    def _go_on(self) -> None:
        if not self._holes:
            fields: dict[str, object] = {"entries": self._entries, "bytes": self._bytes}
            fields["from_members"] = ",".join(sorted(self._given_by))
            self.note("info", "healed: the log is whole again", fields)
            self.outputs.restart = True
            return
        hole = self._holes[0]
        self._refusals = {}
        self._astray = set()
        self._lost_since_ms = None
        if hole.first_seq > hole.last_seq:
            self._write(b"")  # a header alone
        else:
            self._begin_hole()

    def _begin_hole(self) -> None:
        self._at = self._holes[0].before
        self._givers = set()
        self._ask()

    def _begin_hole_without_givers(self) -> None:
        self._astray |= self._givers
        self._refusals.update(dict.fromkeys(self._givers, DIFFERS))
        self._begin_hole()

    def _ask(self) -> None:
        self._fetching.ask(self._at.seq, self._at.checksum, without=frozenset(self._astray))

    def _write(self, data: bytes) -> None:
        self._fetching.stop()
        self._is_writing = True
        self.outputs.disk.append(HealHole(data))

    def on_records(self, peer: str, records: bytes, leads: bool) -> str | None:
        before = self._at.seq
        try:
            data, self._at = take_missing(self._holes[0], self._at, records)
        except DoesNotFit as misfit:
            return DAMAGED if misfit.side == "within" else DIFFERS
        self._entries += self._at.seq - before
        self._bytes += len(data)
        self._given_by.add(peer)
        self._givers.add(peer)
        self._refusals.pop(peer, None)
        self._write(data)
        return None

    def on_refused(self, peer: str, why: str, leads: bool) -> None:
        if not leads or why not in (ENDS, DIFFERS):
            return
        if self._givers - {peer}:
            self._begin_hole_without_givers()
        else:
            self._give_up(
                f"{peer}, which leads, does not have the records that are missing here from seq "
                f"{self._holes[0].first_seq} on, so they were never committed"
            )

    def on_round_over(self, answers: dict[str, str]) -> None:
        if self._givers:
            self._begin_hole_without_givers()
            return
        self._astray = set()  # they may have another history by now
        hole = self._holes[0]
        self._refusals.update(answers)
        answers = self._refusals
        is_early = not answers and self.now_ms - self._began_ms < FIRST_ANSWERS_MS
        if answers != self._told and not is_early:
            self._told = dict(answers)
            silent = [peer for peer in self._peers if peer not in answers]
            self.note(
                "warning",
                "no member that answers has the missing records",
                {
                    "from_seq": hole.first_seq,
                    "to_seq": hole.last_seq,
                    "answers": ", ".join(f"{peer}: {why}" for peer, why in sorted(answers.items())) or "none",
                    "waiting_for": ",".join(silent) or "nobody",
                },
            )
        if len(answers) < len(self._peers):
            self._lost_since_ms = None
        elif self._lost_since_ms is None:
            self._lost_since_ms = self.now_ms
        elif self.now_ms - self._lost_since_ms >= self._lost_ms_max:
            raise EntriesLost(hole, answers)

    def _give_up(self, reason: str) -> None:
        self._fetching.stop()
        self._is_writing = True
        self.note("warning", "records cut off: they are no committed history", {"reason": reason})
        self.outputs.disk.append(GiveUp(reason))

    # Events: the disk

    def on_hole_healed(self, is_closed: bool, holes: tuple[Hole, ...]) -> None:
        self._is_writing = False
        self._holes = holes
        if is_closed:
            if self._is_full:
                self._is_full = False
                self.note("info", "the disk has room again", {})
            self._go_on()
        else:
            self._ask()

    def on_does_not_fit(self, reason: str, holes: tuple[Hole, ...]) -> None:
        """The hole was begun again, or the disk has changed meanwhile: this hole from its beginning."""
        self._is_writing = False
        is_same = bool(holes) and holes[0] == self._holes[0]
        self._holes = holes
        if not self._is_full:
            self.note("info", "what was fetched does not fit: beginning again", {"reason": reason})
        if is_same and self._is_full:
            self._begin_due_ms = self.now_ms + FULL_PAUSE_MS
        elif is_same:
            self._begin_hole()
        else:
            self._go_on()

    def on_disk_full(self, text: str) -> None:
        """The draft is gone. The next piece then does not fit, which is no proof of room: said once until a hole is
        closed, and the hole is fetched anew at a slow pace."""
        if not self._is_full:
            self._is_full = True
            self.note("error", "the disk is full: healing goes on when there is room", {"reason": text})

    def on_disk_room(self) -> None:
        """What waited is done: a piece was written, or did not fit."""

    def on_given_up(self, cut: str) -> None:
        self.note("warning", "records cut, kept in discarded/", {"what": cut})
        self.outputs.restart = True

    def on_fetched(self, link_id: int, token: int, after_seq: int, records: bytes, why: str) -> None:
        self._giving.give(link_id, Fetched(token, records, why, leads=False))

    # Events: links

    def on_dialed(self, link_id: int, peer: str, lane: str, address: str) -> None:
        self._links.on_dialed(link_id, peer, lane, address)

    def on_accepted(self, link_id: int, address: str) -> None:
        self._links.on_accepted(link_id, address)

    def on_link_bytes(self, link_id: int, data: bytes) -> None:
        self._links.on_bytes(link_id, data)

    def on_link_closed(self, link_id: int) -> None:
        self._links.on_closed(link_id)

    def on_open(self, link: Link) -> None:
        """A member can be asked: the next round will."""

    def on_gone(self, link: Link) -> None:
        self._fetching.on_gone(link)

    def on_message(self, link: Link, message: wire.PeerMessage | wire.RecordsMessage) -> None:
        if isinstance(message, Fetched) and link.is_dialed:
            self._fetching.on_fetched(link.peer, message)
        elif isinstance(message, Fetch) and not link.is_dialed and self._giving.begins(link):
            place = (message.after_seq, message.after_checksum)
            bytes_max = min(message.bytes_max, FETCH_BYTES_MAX)
            self.outputs.reads.append(FetchFromDamaged(link.id, message.token, *place, bytes_max))
