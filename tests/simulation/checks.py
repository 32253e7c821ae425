"""What must hold after every turn of every node, in every run.

S1  one leader in a term                      S5  commit seq and term never go back while a node lives
S2  logs agree where they are committed       S6  what is committed is durable at a majority, what is told is committed
S3  what is committed never changes           S7  no member votes twice in a term, over all its lives
S4  applied in order, never beyond commit     S8  equal key spaces at equal seqs
S13 of two leaders one soon steps down

S9, linearizable, is judged at the end of a run (verdict.py), and so are S10, that a healed cluster converges, and S12,
that log time never goes back (run.py); S11, that nothing but damage is taken for damage, at each start (host.py). And
what a message promises is checked when it leaves: a vote and a term are on the disk, and so is all that is
acknowledged.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from typing import Any

from kvnode.log.wal import WriteAheadLog
from kvnode.node.node import Node
from kvnode.raft import LogIndex
from kvnode.raft import messages as m
from kvnode.raft.candidate import Candidate
from kvnode.store.keyspace import KeySpace
from tests.simulation.clients import Request
from tests.simulation.host import Host
from tests.simulation.world import Violation, World

RIVALS_MARGIN_MS = 500.0
"""For turns and clocks; of two leaders one has stepped down by then."""


class Checks:
    """`committed` is the one history: the end of each committed record -> its checksum."""

    def __init__(self, world: World, hosts: list[Host]) -> None:
        self.world = world
        self.hosts = hosts
        self.committed: dict[int, int] = {0: 0}
        self.committed_seq = 0
        self._leaders: dict[int, str] = {}
        self._rivals: tuple[str, ...] = ()
        self._rivals_since_ms = 0.0
        self._rivals_ms_max = 4 * world.options.election_ms + RIVALS_MARGIN_MS  # twice the longest election timeout
        self._votes: dict[tuple[str, int], str] = {}
        self._seen: dict[str, tuple[int, int, int, int]] = {}  # host -> (life, commit, applied, term)
        self._digests: dict[int, int] = {}  # applied seq -> of the key space there, whoever was there first
        self._past: dict[str, list[tuple[LogIndex, int]]] = {host.id: [] for host in hosts}
        self._present: dict[str, Node] = {}
        for host in hosts:
            host.watch = self.after_turn

    # Before a message leaves

    def attach(self, host: Host) -> None:
        """Look at what the node of this life says."""
        node = host.node
        if node is None or self._present.get(host.id) is node:
            return
        before = self._present.get(host.id)
        if before is not None:
            self._past[host.id].append((before.raft.index, before.raft.durable_seq))
        self._present[host.id] = node
        send = node.peers.send

        def checked(peer: str, message: Any) -> None:
            self._on_send(host, node, peer, message)
            send(peer, message)

        with suppress(AttributeError):  # of a compiled node, which see test_compiled.py
            node.peers.send = checked  # type: ignore[method-assign]

    def _on_send(self, host: Host, node: Node, peer: str, message: Any) -> None:
        log: WriteAheadLog = host.log
        if isinstance(message, m.VoteReply) and message.granted:
            self._require(log.ballot.vote == peer and log.ballot.term == message.term, host, "a vote is durable first")
            self._vote(host, message.term, peer)
        elif isinstance(message, m.Appended):
            is_durable = message.match_seq <= log.last_seq and node.raft.index.ends_at(message.match_seq)
            self._require(is_durable, host, f"what is acknowledged is durable: {message}, {log!r}")
        elif isinstance(message, m.VoteRequest | m.Heartbeat | m.Append):
            self._require(log.ballot.term >= message.term, host, f"a term is durable before it is claimed: {message}")

    def _vote(self, host: Host, term: int, candidate: str) -> None:
        given = self._votes.setdefault((host.id, term), candidate)
        self._require(given == candidate, host, f"S7 votes for {candidate} in term {term}, after {given}")

    # After a turn

    def after_turn(self, host: Host) -> None:
        node = host.node
        if node is None:
            return
        self.attach(host)
        raft, applied_seq = node.raft, node.applier.applied_seq
        life, commit_before, applied_before, term_before = self._seen.get(host.id, (0, 0, 0, 0))
        if life == host.life:
            self._require(raft.commit_seq >= commit_before, host, f"S5 the commit seq goes back from {commit_before}")
            self._require(applied_seq >= applied_before, host, f"S4 the applied seq goes back from {applied_before}")
            self._require(raft.term >= term_before, host, f"S5 the term goes back from {term_before}")
        self._require(applied_seq <= raft.commit_seq, host, "S4 applied beyond the commit seq")
        self._check_role(host, node)
        if life != host.life or raft.commit_seq != commit_before:
            self._check_commit(host, raft.index, raft.commit_seq)
        if life != host.life or applied_seq != applied_before:
            self._check_key_space(host, node.applier.keyspace, applied_seq)
        self._seen[host.id] = (host.life, raft.commit_seq, applied_seq, raft.term)

    def _check_role(self, host: Host, node: Node) -> None:
        raft = node.raft
        role = raft._role
        if isinstance(role, Candidate) and not role._pre_vote and raft.id in role._granted:
            self._require(raft.may_vote, host, "a candidate without the right to vote")
            self._vote(host, raft.term, raft.id)
        if raft.leading is not None:
            leader = self._leaders.setdefault(raft.term, host.id)
            self._require(leader == host.id, host, f"S1 leads term {raft.term}, and so does {leader}")
            self._check_rivals(host)

    def _check_rivals(self, host: Host) -> None:
        """Who has been replaced hears of it, or hears from no majority and steps down."""
        leaders = [each for each in self.hosts if each.node and not each.is_paused and each.node.raft.leading]
        rivals = tuple(each.id for each in leaders) if len(leaders) > 1 else ()
        if rivals != self._rivals:
            self._rivals, self._rivals_since_ms = rivals, self.world.now_ms
        is_brief = self.world.now_ms - self._rivals_since_ms <= self._rivals_ms_max
        self._require(not rivals or is_brief, host, f"S13 {' and '.join(rivals)} go on leading")

    def _check_commit(self, host: Host, index: LogIndex, seq: int) -> None:
        known = self.committed_seq
        if seq <= known and seq and index.checksum_at(seq) in host.forged:
            return  # not committed by it: such a log may say so when it is read, and must never get any further
        if seq <= known:
            self._require(self.committed.get(seq) == index.checksum_at(seq), host, f"S3 another record at seq {seq}")
            return
        has_known = index.ends_at(known) and index.checksum_at(known) == self.committed[known]
        self._require(has_known, host, f"S2 commits {seq}, but has another record at committed seq {known}")
        for row in range(bisect_right(index._ends, known), bisect_right(index._ends, seq)):
            self.committed[index._ends[row]] = index._checksums[row]
        self.committed_seq = seq
        holders = [each.id for each in self.hosts if self._holds(each, seq)]
        is_majority = len(holders) > len(self.hosts) // 2
        self._require(is_majority, host, f"S6 commits seq {seq}, which is durable at {holders} alone")

    def _check_key_space(self, host: Host, keyspace: KeySpace, seq: int) -> None:
        digest = hash(frozenset(pair for each in keyspace.values._dicts for pair in each.items()))
        known = self._digests.setdefault(seq, digest)
        self._require(digest == known, host, f"S8 the key space differs from another at seq {seq}")

    # When a reply arrives

    def on_seq(self, request: Request) -> None:
        if request.seq is not None and request.seq > self.committed_seq:
            raise Violation(f"S6 a reply tells a seq beyond what is committed, {self.committed_seq}: {request}")

    def _holds(self, host: Host, seq: int) -> bool:
        """Whether it ever had the record durably: also on a disk that was wiped since, or where it was replaced."""
        lives = list(self._past[host.id])
        present = self._present.get(host.id)
        if present is not None:
            lives.append((present.raft.index, present.raft.durable_seq))
        checksum = self.committed[seq]
        return checksum in host.replaced or any(
            durable_seq >= seq and index.ends_at(seq) and index.checksum_at(seq) == checksum
            for index, durable_seq in lives
        )

    def _require(self, condition: bool, host: Host, rule: str) -> None:
        if not condition:
            raise Violation(f"{rule} [{host!r}]")
