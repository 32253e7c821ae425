"""Where two logs part: members compare checksums, and the one that differs from the majority sets itself aside.

Each record's checksum covers that of the record before it, so logs with the same checksum at one place are the same up
to there. Each heartbeat names the leader's at the commit seq, each Position the member's at its end. Where a record of
the same term ends in both logs with different checksums, one of the logs is corrupt: consensus (raft/leader.py) stops
sending records there, and tells of it here. The leader then

    CompareQuestion   asks the member for its checksums at up to 63 ends of records between the last place that is known
                      equal and the first known different, again and again until these two are neighbours: each
                      question leaves a 64th, three of them find one record in 260,000
    CompareQuestion   asks all members for theirs at both ends of what differs: where the logs part, where it was seen
    StandAside        tells the member, if a majority has what the leader has. If a majority has what the member has,
                      the leader does the same to itself, and hands over nothing: its log is the wrong one

and says so in one line. With no majority on either side nobody is cut: the line says who is missing.

Setting aside: the right to vote is given up durably, then all after the last common record is cut (a copy stays in
discarded/), then the node begins anew and rejoins by the leader as an empty directory does (joining.py).

**S** A node may do this to itself at any time. It forgets entries that it has acknowledged, and that commits may rest
on; it is then a member whose disk was lost, which neither counts nor votes before a leader that a majority without it
confirms has brought it up to what was committed. From the moment of the order it sends nothing: not what is in its
outboxes, not what a completion of the disk would release. What has left before was true when it left. Its ballot
stays, so it votes in no term twice.

**S** Too many at once would end the cluster. So only members with the right to vote count for a majority, which is of
all members: while one has no right, another one of three is not set aside. And a leader tells others only when it has
committed in its own term, beyond the place: then a majority holds its records there durably.

**S** Matching is decided by (seq, term) alone, as ever: nothing here makes logs match, and nothing is cut while the
node takes part. An order is for the log that was asked about, from the leader of the present term: it names the
checksum that this log must have where the common part ends, and one that it must not have further on.

Limits: a majority is believed, not proven right. A member that lacks the record in question has no evidence: it takes
the leader's, and from then on it has the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvnode.node.wire import (
    COMPARED_SEQS_MAX,
    REASON_CHARS_MAX,
    CompareAnswer,
    CompareQuestion,
    ComparingMessage,
    StandAside,
)

if TYPE_CHECKING:
    from kvnode.node.node import Node

ASK_AGAIN_HEARTBEATS = 10
"""After so long without a decision the questions, which may be lost, are asked again."""
FORGET_HEARTBEATS = 30
"""A difference that nobody has told of for so long is forgotten: the member is away, or heals."""
REPEAT_MS = 60_000.0
"""How often the same is said again."""


class Difference:
    """Between this leader and `member`: known equal at `equal_seq`, known different from `parted_seq` on up to `seq`,
    where it was seen. `is_found`: the first two are neighbours, and `answers` tell what members have at `seq`, at
    `parted_seq` and at `equal_seq`."""

    __slots__ = ("answers", "asked_ms", "equal_seq", "is_found", "is_told", "member", "parted_seq", "seen_ms", "seq")

    def __init__(self, member: str, seq: int, now_ms: float) -> None:
        self.member = member
        self.seq = self.parted_seq = seq
        self.equal_seq = 0
        self.is_found = self.is_told = False
        self.answers: dict[str, CompareAnswer] = {}
        self.asked_ms = self.seen_ms = now_ms

    def __repr__(self) -> str:
        return f"{self.member} equal={self.equal_seq} parted={self.parted_seq} seen={self.seq} found={self.is_found}"


class Comparing:
    def __init__(self, node: Node, nonce: int) -> None:
        self.node = node
        self.raft = node.raft
        self._nonce = nonce
        self._differences: dict[str, Difference] = {}
        self._asked: dict[int, tuple[str, Difference, list[int]]] = {}  # nonce -> (whom, about what, seqs)
        self._noted: dict[str, tuple[str, float]] = {}  # member -> what was last said of it, and when

    def __repr__(self) -> str:
        return f"Comparing {list(self._differences.values())}"

    def told(self) -> str:
        """For INFO: the members that differ from this leader, and from where on."""
        found = [each for each in self._differences.values() if each.is_found]
        return ",".join(f"{each.member}@{each.equal_seq + 1}" for each in found)

    def on_message(self, peer: str, message: ComparingMessage) -> None:
        if isinstance(message, CompareAnswer):
            self._on_answer(peer, message)
        elif peer != self.raft.leader or message.term != self.raft.term:
            return  # late, or from somebody who does not lead
        elif isinstance(message, CompareQuestion):
            self._on_question(peer, message)
        else:
            self._on_order(message)

    # The member

    def _on_question(self, peer: str, question: CompareQuestion) -> None:
        checksums = [self._checksum_at(seq) for seq in question.seqs]
        self.node.peers.send(peer, CompareAnswer(question.nonce, checksums, self.raft.may_vote))

    def _checksum_at(self, seq: int) -> int | None:
        index = self.raft.index
        return index.checksum_at(seq) if index.ends_at(seq) else None

    def _on_order(self, order: StandAside) -> None:
        """**S** Only while this log is the one that was asked about; `after_seq` may well be committed and applied."""
        is_common = self._checksum_at(order.after_seq) == order.after_checksum
        if is_common and order.after_seq < order.seq and self._checksum_at(order.seq) not in (None, order.checksum):
            self.node.set_aside(order.after_seq, order.reason)

    # The leader: finding the place

    def on_difference(self, member: str, seq: int) -> None:
        """The member has told, once more, that its log is another one at `seq`."""
        if self.raft.leading is None:
            return
        known = self._differences.get(member)
        if known is None:
            self._differences[member] = difference = Difference(member, seq, self.node.now_ms)
            self._ask(difference)
        else:
            known.seen_ms = self.node.now_ms

    def _ask(self, difference: Difference) -> None:
        """The member alone, until the place is found; then everybody."""
        self._take_back_questions(difference)
        difference.asked_ms = self.node.now_ms
        difference.answers = {}
        difference.is_told = False
        between = self.raft.index.ends_between(difference.equal_seq, difference.parted_seq, COMPARED_SEQS_MAX - 1)
        difference.is_found = not between
        seqs = [difference.seq, *(between or [difference.parted_seq, difference.equal_seq])]
        for peer in self.raft.peers if difference.is_found else (difference.member,):
            if self.node.peers.is_up(peer):
                self._nonce += 1
                self._asked[self._nonce] = (peer, difference, seqs)
                self.node.peers.send(peer, CompareQuestion(self._nonce, self.raft.term, seqs))

    def _take_back_questions(self, difference: Difference) -> None:
        self._asked = {nonce: asked for nonce, asked in self._asked.items() if asked[1] is not difference}

    def _forget(self, difference: Difference) -> None:
        self._take_back_questions(difference)
        del self._differences[difference.member]

    def _on_answer(self, peer: str, answer: CompareAnswer) -> None:
        whom, difference, seqs = self._asked.get(answer.nonce, ("", None, []))
        if difference is None or whom != peer or len(answer.checksums) != len(seqs):
            return
        del self._asked[answer.nonce]
        if peer == difference.member and answer.checksums[0] in (None, self._checksum_at(difference.seq)):
            self._forget(difference)  # it has healed, or another log by now
        elif difference.is_found:
            if peer == difference.member and answer.checksums[2] != self._checksum_at(difference.equal_seq):
                # It has been set aside and come back with yet another log meanwhile: search anew.
                difference.equal_seq, difference.parted_seq = 0, difference.seq
                self._ask(difference)
                return
            difference.answers[peer] = answer
            self._conclude(difference)
        else:
            for seq, checksum in zip(seqs[1:], answer.checksums[1:], strict=True):
                if checksum != self._checksum_at(seq):
                    difference.parted_seq = min(difference.parted_seq, seq)
                    break
                difference.equal_seq = seq
            self._ask(difference)

    # The leader: who is right

    def _conclude(self, difference: Difference, *, is_late: bool = False) -> None:
        """As soon as the answers allow; `is_late`: with those that have come."""
        raft, leader, member = self.raft, self.raft.leading, difference.member
        if leader is None or difference.is_told or member not in difference.answers:
            return
        right, holders = self._majority(difference)
        names = ", ".join(holders)
        reason = f"the log differs from that of {names} from seq {difference.equal_seq + 1} on"[:REASON_CHARS_MAX]
        if right is None:
            if is_late or len(difference.answers) == len(raft.peers):
                self._note(difference, f"no majority can be named, nothing is cut; {self._missing(difference)}")
        elif raft.id in holders:
            if leader.has_committed and difference.parted_seq <= raft.commit_seq:
                self._note(difference, f"{member} differs from the majority ({names}) and is set aside")
                difference.is_told = True
                self._order(difference, reason)
            elif is_late:
                self._note(difference, f"{member} differs from the majority ({names})")
        elif member in holders:
            self._note(difference, f"{raft.id}, which leads, differs from the majority ({names}) and sets itself aside")
            self.node.set_aside(difference.equal_seq, reason)
        else:
            self._note(difference, f"{member} and {raft.id}, which leads, both differ from the majority ({names})")

    def _majority(self, difference: Difference) -> tuple[int | None, list[str]]:
        """The checksum that a majority of all members has, all with the right to vote, and who they are."""
        for position, seq in ((1, difference.parted_seq), (0, difference.seq)):
            holders: dict[int, list[str]] = {}
            mine = self._checksum_at(seq)
            if mine is not None and self.raft.may_vote:
                holders[mine] = [self.raft.id]
            for peer, answer in difference.answers.items():
                checksum = answer.checksums[position]
                if checksum is not None and answer.voting:
                    holders.setdefault(checksum, []).append(peer)
            for checksum, members in holders.items():
                if len(members) >= self.raft.quorum:
                    return checksum, sorted(members)
        return None, []

    def _missing(self, difference: Difference) -> str:
        """Who could have made a majority, and why not."""
        reasons = []
        for peer in self.raft.peers:
            answer = difference.answers.get(peer)
            if answer is None:
                reasons.append(f"{peer} does not answer")
            elif not answer.voting:
                reasons.append(f"{peer} has no right to vote")
            elif answer.checksums[1] is None and peer != difference.member:
                reasons.append(f"{peer} does not have the record")
        return ", ".join(reasons) or "all members have answered"

    def _order(self, difference: Difference, reason: str) -> None:
        index, after_seq, seq = self.raft.index, difference.equal_seq, difference.seq
        places = (after_seq, index.checksum_at(after_seq), seq, index.checksum_at(seq))
        self.node.peers.send(difference.member, StandAside(self.raft.term, *places, reason))

    def _note(self, difference: Difference, verdict: str) -> None:
        """One line, and again only when it says something new, or after a long time."""
        known = {self.raft.id: self._checksum_at(difference.parted_seq)}
        known |= {peer: answer.checksums[1] for peer, answer in difference.answers.items()}
        checksums = " ".join(
            f"{member}={'none' if known[member] is None else f'{known[member]:08x}'}" for member in sorted(known)
        )
        text = f"{difference.equal_seq} {checksums} {verdict}"
        last_text, last_ms = self._noted.get(difference.member, ("", 0.0))
        if text == last_text and self.node.now_ms - last_ms < REPEAT_MS:
            return
        self._noted[difference.member] = (text, self.node.now_ms)
        fields: dict[str, object] = {
            "member": difference.member,
            "seq": difference.equal_seq + 1,
            "record_ends_at": difference.parted_seq,
            "checksums": checksums,
            "verdict": verdict,
        }
        self.node.note("error", "histories differ", fields)

    # Time and change

    def sweep(self) -> None:
        heartbeat_ms, now_ms = self.raft.options.heartbeat_ms, self.node.now_ms
        for difference in list(self._differences.values()):
            if now_ms - difference.seen_ms >= FORGET_HEARTBEATS * heartbeat_ms:
                self._forget(difference)
                continue
            is_late = now_ms - difference.asked_ms >= ASK_AGAIN_HEARTBEATS * heartbeat_ms
            if difference.is_found:
                self._conclude(difference, is_late=is_late)
            if is_late and difference.is_told:
                self._forget(difference)  # the order was lost, or that log is another one by now: look anew
            elif is_late:
                self._ask(difference)

    def void(self) -> None:
        """Another term or leader: what was asked is asked anew by whoever leads now."""
        self._differences.clear()
        self._asked.clear()
