"""Messages between members as frames: [code, field, …], fields in the order of the message's class.

An Append carries its records as one binary field, byte for byte as they stand in the log. What comes in is checked
field by field: numbers are integers in [0, 2**63), and nothing else passes for them. A bad message is the sender's
fault and drops the link; records that do not verify are for consensus to judge, since a mismatch before them comes
first.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, get_type_hints

from kvnode.log.record import BadRecord, Record, split
from kvnode.net.frames import FrameError, frame, unpack
from kvnode.raft import messages as m

CONTROL: Final = "control"
DATA: Final = "data"
RECORDS: Final = "records"
LANES: Final = (CONTROL, DATA, RECORDS)
"""Connections to each member: what must not wait goes on the control lane, records and forwarded commands on the data
lane, so that bulk never holds up a heartbeat. On the lane of records a member asks for some that it has lost."""

MAGIC: Final = "kvnode peer"
VERSION: Final = 1
HELLO_BYTES_MAX: Final = 1024
ENVELOPE_BYTES_MAX: Final = 1024 * 1024
"""What a frame may hold besides one record or one request of the largest size."""


@dataclass(frozen=True, slots=True)
class JoinQuestion:
    """I may not vote yet; `nonce` is new with this start of mine. Are you empty? What is your term?"""

    nonce: int


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """At your question I was `empty` (no record and no ballot) or not, and no term that I know was above `term`."""

    nonce: int
    empty: bool
    term: int


@dataclass(frozen=True, slots=True)
class JoinTarget:
    """I led `term` after your question, had committed in it, and `seq` was committed then."""

    nonce: int
    term: int
    seq: int


@dataclass(frozen=True, slots=True)
class Forward:
    """For the leader of `term` and nobody else: requests as [request id, protocol, tells seq, last write seq,
    milliseconds left, commands]. I send nothing later of their sessions before they are resolved."""

    term: int
    requests: list[list[Any]]


@dataclass(frozen=True, slots=True)
class ForwardReplies:
    """Outcomes as [request id, commands done, replies, last write seq]. What is not done never will be, by me."""

    outcomes: list[list[Any]]


@dataclass(frozen=True, slots=True)
class CompareQuestion:
    """I lead `term`. Which checksums do the records of your log have that end at `seqs`?"""

    nonce: int
    term: int
    seqs: list[int]


@dataclass(frozen=True, slots=True)
class CompareAnswer:
    """These, when your question came; None where no record ends. `voting`: I had the right to vote."""

    nonce: int
    checksums: list[int | None]
    voting: bool


@dataclass(frozen=True, slots=True)
class StandAside:
    """I lead `term`. Your log is mine up to `after_seq`, where both have `after_checksum`. At `seq` mine has `checksum`
    and yours another one, and a majority of all members has my record where they part."""

    term: int
    after_seq: int
    after_checksum: int
    seq: int
    checksum: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """I lack records: those after `after_seq`, where my log has `after_checksum`; some `bytes_max` bytes of them."""

    token: int
    after_seq: int
    after_checksum: int
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """These `records` follow there in my log, durably; or none do, and `why` says what is there instead (deeds.py).
    With `leads` I lead a term in which I have committed, so that what I do not have is not committed."""

    token: int
    records: bytes
    why: str
    leads: bool


# isinstance asks for the classes of a union one by one: compiled, it has Python look for the union itself.
ComparingMessage = CompareQuestion | CompareAnswer | StandAside
PeerMessage = m.Message | JoinQuestion | JoinAnswer | JoinTarget | Forward | ForwardReplies | ComparingMessage
RecordsMessage = Fetch | Fetched

# The position is the code on the wire: append only.
_TYPES: Final[tuple[type[Any], ...]] = (
    m.Append,
    m.Appended,
    m.Heartbeat,
    m.HeartbeatReply,
    m.ReadQuestion,
    m.ReadAnswer,
    m.Position,
    m.BackUp,
    m.Damaged,
    m.Newer,
    m.PreVoteRequest,
    m.PreVoteReply,
    m.VoteRequest,
    m.VoteReply,
    m.TimeoutNow,
    JoinQuestion,
    JoinAnswer,
    JoinTarget,
    Forward,
    ForwardReplies,
    Fetch,
    Fetched,
    CompareQuestion,
    CompareAnswer,
    StandAside,
)
_APPEND: Final = 0
_APPENDED: Final = 1
_APPEND_FIELDS: Final = 7
_CODES: Final = {kind: code for code, kind in enumerate(_TYPES)}
_FIELDS: Final = {kind: [field.name for field in fields(kind)] for kind in _TYPES}
_KINDS: Final = {
    kind: [get_type_hints(kind)[name] for name in _FIELDS[kind]] for kind in _TYPES if kind is not m.Append
}
COMPARED_SEQS_MAX: Final = 64
"""Seqs in one CompareQuestion."""
REASON_CHARS_MAX: Final = 500


def lane_of(message: PeerMessage | RecordsMessage) -> str:
    if isinstance(message, (m.Append, Forward, ForwardReplies)):
        return DATA
    return RECORDS if isinstance(message, (Fetch, Fetched)) else CONTROL


def encode(message: PeerMessage | RecordsMessage) -> bytes:
    """The frame of any message but Append."""
    kind = type(message)
    fields_of_kind: list[Any] = [_CODES[kind]]
    for name in _FIELDS[kind]:
        fields_of_kind.append(getattr(message, name))
    return frame(fields_of_kind)


def encode_append(append: m.Append, raw: bytes) -> bytes:
    """The frame of an Append with the bytes of its records."""
    a = append
    return frame([_APPEND, a.term, a.prev_seq, a.prev_term, a.commit_seq, a.round, a.catch_up_to, a.last_seq, raw])


def decode(body: bytes) -> PeerMessage | RecordsMessage:
    """The message of a frame's body. Raises FrameError."""
    array = unpack(body)
    code = array[0] if array else None
    if type(code) is not int or not 0 <= code < len(_TYPES):
        raise FrameError(f"a message of unknown type {code!r:.50}")
    if code == _APPEND:
        return _decode_append(array)
    if code == _APPENDED:
        return _decode_appended(array)
    kind = _TYPES[code]
    hints = _KINDS[kind]
    values = array[1 : 1 + len(hints)]
    if len(values) < len(hints) or not _all_fit(values, hints):
        raise FrameError(f"a {kind.__name__} with a field missing, of a wrong type or out of range")
    message: PeerMessage | RecordsMessage = kind(*values)
    if isinstance(message, Forward) and not all(map(_is_request, message.requests)):
        raise FrameError("a Forward with a malformed request")
    if isinstance(message, ForwardReplies) and not all(map(_is_outcome, message.outcomes)):
        raise FrameError("a ForwardReplies with a malformed outcome")
    if isinstance(message, (CompareQuestion, CompareAnswer, StandAside)) and not _is_in_range(message):
        raise FrameError(f"a {kind.__name__} with a field out of range")
    return message


def _decode_append(array: list[Any]) -> m.Append:
    numbers = array[1 : 1 + _APPEND_FIELDS]
    raw = array[1 + _APPEND_FIELDS] if len(array) > 1 + _APPEND_FIELDS else None
    if type(raw) is not bytes or not _are_numbers(numbers):
        raise FrameError("an Append with a field missing, of a wrong type or out of range")
    records: list[Record] = []
    damage = None
    try:
        records = split(raw)
    except BadRecord as error:
        damage = str(error)
    term, prev_seq, prev_term, commit_seq, round_number, catch_up_to, last_seq = numbers
    return m.Append(term, prev_seq, prev_term, commit_seq, round_number, catch_up_to, last_seq, records, damage)


def _decode_appended(array: list[Any]) -> m.Appended:
    """The other of the two messages that come with each record: a third of the time of the way of all others."""
    if len(array) < 4 or not _is_number(array[1]) or not _is_number(array[2]) or type(array[3]) is not bool:
        raise FrameError("an Appended with a field missing, of a wrong type or out of range")
    return m.Appended(array[1], array[2], array[3])


def _are_numbers(values: list[Any]) -> bool:
    for value in values:  # noqa: SIM110 - a generator is slower, compiled
        if not _is_number(value):
            return False
    return True


def _is_number(value: Any) -> bool:
    if type(value) is not int:
        return False
    number: int = value
    return number >> 63 == 0  # 0 <= number < 2**63, which is no small number in compiled code


def _all_fit(values: list[Any], hints: list[Any]) -> bool:
    for i in range(len(hints)):  # noqa: SIM110
        if not _fits(values[i], hints[i]):
            return False
    return True


def _fits(value: Any, hint: Any) -> bool:
    if hint is int:
        return _is_number(value)
    if hint in (bool, bytes, str):
        return type(value) is hint
    return type(value) is list


def _is_request(value: Any) -> bool:
    if type(value) is not list or len(value) != 6:
        return False
    request_id, protocol, tells_seq, last_write_seq, left_ms, commands = value
    return (
        all(map(_is_number, (request_id, last_write_seq, left_ms)))
        and protocol in (2, 3)
        and type(tells_seq) is bool
        and type(commands) is list
        and len(commands) > 0
        and all(type(c) is list and c and all(type(argument) is bytes for argument in c) for c in commands)
    )


def _is_outcome(value: Any) -> bool:
    return (
        type(value) is list
        and len(value) == 4
        and all(map(_is_number, (value[0], value[1], value[3])))
        and type(value[2]) is bytes
    )


def _is_in_range(message: ComparingMessage) -> bool:
    if isinstance(message, CompareQuestion):
        return 0 < len(message.seqs) <= COMPARED_SEQS_MAX and all(map(_is_number, message.seqs))
    if isinstance(message, CompareAnswer):
        return 0 < len(message.checksums) <= COMPARED_SEQS_MAX and all(
            checksum is None or _is_checksum(checksum) for checksum in message.checksums
        )
    checksums = (message.after_checksum, message.checksum)
    return len(message.reason) <= REASON_CHARS_MAX and all(map(_is_checksum, checksums))


def _is_checksum(value: Any) -> bool:
    return _is_number(value) and value < 2**32
