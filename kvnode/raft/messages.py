"""What nodes say to each other about terms, logs and reads. Each docstring is the promise that the sender makes.

Every message names the sender's term. A receiver that knows a higher one answers `Newer` and does nothing else.

Those that come with each record or read have their own __init__, which is compiled; that of a dataclass is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvnode.record_head import RecordHead


@dataclass(frozen=True, slots=True)
class Newer:
    """My term is `term`, newer than yours: what you sent had no effect."""

    term: int


@dataclass(frozen=True, slots=True)
class PreVoteRequest:
    """I would campaign in `term`, which I have not adopted; my log ends at `last_seq` with `last_term`."""

    term: int
    last_seq: int
    last_term: int


@dataclass(frozen=True, slots=True)
class PreVoteReply:
    """Whether I would vote for you in `term`. Binds me to nothing."""

    term: int
    granted: bool


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """I campaign in `term`, durably mine. `transfer`: the leader of the term before asked me to."""

    term: int
    last_seq: int
    last_term: int
    transfer: bool


@dataclass(frozen=True, slots=True)
class VoteReply:
    """If granted, my vote of `term` is yours, durably."""

    term: int
    granted: bool


@dataclass(init=False, slots=True)
class Heartbeat:
    """I lead `term`. `commit_seq` is committed and within what you have acknowledged; a record of my log ends there,
    with `checksum`. Confirm `round` at once. With `probe`, tell me your Position as well. Tell me the one at
    `commit_seq` if our logs match there and your checksum is another."""

    term: int
    commit_seq: int
    round: int
    probe: bool
    checksum: int

    def __init__(self, term: int, commit_seq: int, round: int, probe: bool, checksum: int) -> None:
        self.term = term
        self.commit_seq = commit_seq
        self.round = round
        self.probe = probe
        self.checksum = checksum


@dataclass(init=False, slots=True)
class HeartbeatReply:
    """At the time of your `round`, or later, I knew of no leader or term newer than yours. `has_room`: what you send me
    can be written, as far as my disk's room goes."""

    term: int
    round: int
    voting: bool
    has_room: bool

    def __init__(self, term: int, round: int, voting: bool, has_room: bool) -> None:
        self.term = term
        self.round = round
        self.voting = voting
        self.has_room = has_room


@dataclass(init=False, slots=True)
class Append:
    """I lead `term`. My log has the record ending at `prev_seq` in `prev_term`, and after it these records, up to
    `last_seq`. `commit_seq` is committed. Entries up to `catch_up_to` are ones that you missed (0: none).

    The sender's core leaves `records` empty: the node puts the bytes of [prev_seq + 1, last_seq] on the wire. At the
    receiver `records` holds them decoded, and `damage` says what was wrong with them, if anything was."""

    term: int
    prev_seq: int
    prev_term: int
    commit_seq: int
    round: int
    catch_up_to: int
    last_seq: int
    records: Sequence[RecordHead]
    damage: str | None

    def __init__(
        self,
        term: int,
        prev_seq: int,
        prev_term: int,
        commit_seq: int,
        round: int,
        catch_up_to: int,
        last_seq: int,
        records: Sequence[RecordHead] = (),
        damage: str | None = None,
    ) -> None:
        self.term = term
        self.prev_seq = prev_seq
        self.prev_term = prev_term
        self.commit_seq = commit_seq
        self.round = round
        self.catch_up_to = catch_up_to
        self.last_seq = last_seq
        self.records = records
        self.damage = damage


@dataclass(init=False, slots=True)
class Appended:
    """My log is durable and, in your `term`, the same as yours up to `match_seq`, the end of a record."""

    term: int
    match_seq: int
    voting: bool

    def __init__(self, term: int, match_seq: int, voting: bool) -> None:
        self.term = term
        self.match_seq = match_seq
        self.voting = voting


@dataclass(frozen=True, slots=True)
class Position:
    """A record of my log ends at `last_seq`, of `last_term`, with `last_checksum`. Send me what comes after, or tell
    me to back up. Chooses where to send from; acknowledges nothing."""

    term: int
    last_seq: int
    last_term: int
    last_checksum: int
    voting: bool


@dataclass(frozen=True, slots=True)
class BackUp:
    """Our histories differ where you are. Name your last record that ends at or before `at_or_before` with a term of
    at most `term_there`."""

    term: int
    at_or_before: int
    term_there: int


@dataclass(frozen=True, slots=True)
class Damaged:
    """The records that you sent after `after_seq` do not verify, though what stands before them matched."""

    term: int
    after_seq: int


@dataclass(init=False, slots=True)
class ReadQuestion:
    """Up to where must I have applied the log to answer reads that have arrived by now?"""

    term: int
    question: int

    def __init__(self, term: int, question: int) -> None:
        self.term = term
        self.question = question


@dataclass(init=False, slots=True)
class ReadAnswer:
    """I led `term` at a moment after your question, and `seq` was my commit seq when it reached me."""

    term: int
    question: int
    seq: int

    def __init__(self, term: int, question: int, seq: int) -> None:
        self.term = term
        self.question = question
        self.seq = seq


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """Campaign at once: you hold all of my log, and I make way."""

    term: int


Message = (
    Newer
    | PreVoteRequest
    | PreVoteReply
    | VoteRequest
    | VoteReply
    | Heartbeat
    | HeartbeatReply
    | Append
    | Appended
    | Position
    | BackUp
    | Damaged
    | ReadQuestion
    | ReadAnswer
    | TimeoutNow
)
