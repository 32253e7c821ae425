"""What must hold after every event, whatever the schedule. Each check names the promise that was broken.

The checks know more than any member does: everything that was ever committed, every vote that ever left, every disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kvnode.raft import messages as m

if TYPE_CHECKING:
    from tests.scenarios.cluster import Member


class BrokenPromise(AssertionError):
    """Safety is lost. The message says which promise, by whom."""


def promise(condition: object, message: str) -> None:
    if not condition:
        raise BrokenPromise(message)


class Promises:
    def __init__(self) -> None:
        self.leaders: dict[int, str] = {}  # term -> who led it
        self.votes: dict[tuple[str, int], str] = {}  # (voter, term) -> for whom
        self.checksums: dict[tuple[int, int], int] = {}  # (end of record, term) -> checksum
        self.committed: dict[int, tuple[int, int]] = {}  # end of record -> (term, checksum)
        self._committed_in: dict[int, int] = {}  # end of record -> the term whose leader committed it
        self.commit_seq = 0
        """The highest seq that any member ever knew committed."""
        self._owed: dict[str, list[tuple[int, int]]] = {}  # member -> (ticket, what its reads must see)

    # What leaves a member

    def on_message(self, member: Member, to: str, message: m.Message) -> None:
        """A message leaves: what it promises must be on the disk."""
        term, vote = member.disk.ballot
        is_question = isinstance(message, m.PreVoteRequest) or (isinstance(message, m.PreVoteReply) and message.granted)
        promise(
            message.term <= term or is_question,
            f"{member.id} sends {message} though its disk knows term {term} alone",
        )
        if isinstance(message, m.VoteReply) and message.granted:
            promise(vote == to, f"{member.id} grants {to} a vote that is not on its disk ({vote})")
            self._vote(member.id, term, to)
        elif isinstance(message, m.Appended) and message.match_seq:
            promise(
                member.disk.keeps(message.match_seq),
                f"{member.id} acknowledges seq {message.match_seq}, which its disk may lose: {member.disk}",
            )

    def _vote(self, voter: str, term: int, candidate: str) -> None:
        earlier = self.votes.setdefault((voter, term), candidate)
        promise(earlier == candidate, f"{voter} votes for {candidate} in term {term}, as before for {earlier}")

    # What a member is

    def check(self, member: Member, everyone: Iterable[Member]) -> None:
        raft = member.raft
        promise(
            raft.durable_seq == 0 or member.disk.keeps(raft.durable_seq), f"{raft!r} believes more than {member.disk}"
        )
        for record in member.new_records:
            known = self.checksums.setdefault((record.last_seq, record.term), record.checksum)
            promise(known == record.checksum, f"{member.id} has another {record} than others: logs do not match")
        member.new_records.clear()
        if raft.leading:
            self._check_leader(member)
        self._check_commit(member, list(everyone))

    def _check_leader(self, member: Member) -> None:
        raft = member.raft
        earlier = self.leaders.get(raft.term)
        promise(earlier in (None, member.id), f"{member.id} leads term {raft.term}, which {earlier} leads")
        if earlier:
            return
        self.leaders[raft.term] = member.id
        self._vote(member.id, raft.term, member.id)
        promise(member.disk.ballot == (raft.term, member.id), f"{member.id} leads, its disk says {member.disk.ballot}")
        for seq, (term, _) in self.committed.items():
            is_owed = self._committed_in[seq] < raft.term and not member.has(seq, term)
            promise(not is_owed, f"{member.id} leads term {raft.term} without the committed {seq}@{term}")

    def _check_commit(self, member: Member, everyone: list[Member]) -> None:
        raft = member.raft
        promise(raft.commit_seq >= member.commit_before, f"{member.id} takes back commits after {raft.commit_seq}")
        for record in member.records:
            if not member.commit_before < record.last_seq <= raft.commit_seq:
                continue
            fact = (record.term, record.checksum)
            known = self.committed.setdefault(record.last_seq, fact)
            self._committed_in.setdefault(record.last_seq, raft.term)
            promise(known == fact, f"{member.id} commits {record}, others {record.last_seq}@{known[0]}")
        if raft.leading and raft.commit_seq > self.commit_seq:
            holders = [one.id for one in everyone if one.disk.may_vote and one.disk.has(raft.commit_seq)]
            if not any(one.is_played for one in everyone):
                promise(
                    len(holders) >= raft.quorum,
                    f"{member.id} commits {raft.commit_seq}, which is on the disks of {holders} alone",
                )
        member.commit_before = raft.commit_seq
        self.commit_seq = max(self.commit_seq, raft.commit_seq)

    # Reads

    def on_read(self, member: str, ticket: int) -> None:
        self._owed.setdefault(member, []).append((ticket, self.commit_seq))

    def on_reads_ready(self, member: str, ticket: int, seq: int) -> None:
        owed = self._owed.get(member, [])
        for number, must_see in owed:
            if number <= ticket:
                promise(seq >= must_see, f"{member} reads at seq {seq}, though {must_see} was committed when it asked")
        self._owed[member] = [(number, must_see) for number, must_see in owed if number > ticket]

    def on_reads_void(self, member: str) -> bool:
        """Whether there were any."""
        return bool(self._owed.pop(member, None))
