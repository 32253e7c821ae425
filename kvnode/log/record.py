"""The record codec: the unit of writing, of fsync and of replication. Pure: bytes in, values out.

A record is a msgpack value in a fixed form, so that its header always has 11 bytes:

     0     1     2     3     4     5     6     7     8     9    10    11 …
    +-----+-----+-----------------------+-----+-----------------------+-----------+
    | 92  | ce  | checksum, uint32      | c6  | length, uint32        | payload   |
    +-----+-----+-----------------------+-----+-----------------------+-----------+
     array  uint32, CRC32C of the payload bin32

The payload is a msgpack array, of seven elements or (written by a later version) more:

    [prev_checksum, first_seq, term, time_ms, commit_seq, entries, origins]

    prev_checksum   checksum of the record before it: the chain. 0 before seq 1
    first_seq       sequence number of entries[0]; entry i has first_seq + i
    term            the term of the leader that made it, never lower than that of the record before
    time_ms         log time
    commit_seq      what that leader knew to be committed then; always below first_seq
    entries         one or more; not looked into here
    origins         nil, or [[position in the record, client, request number, reply], …]

A segment file begins with a header record, outside the chain; its payload begins with a string:

    ["kvnode log", format version, cluster id, node id, first_seq, prev_checksum, prev_term]

All integers of msgpack and of the frame are big-endian. Limits: the payload has 1 to PAYLOAD_BYTES_MAX bytes.
A zeroed or random tail can not pass for a record: the first byte is 0x92, and the checksum must hold. The last byte of
a record is never zero (that of nil, or the LF of a reply): zeros behind the header that end a file belong to none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

import google_crc32c
import msgpack

from kvnode.invariant import InvariantError
from kvnode.log.packed import pack_payload
from kvnode.packing import Packing
from kvnode.record_head import RecordHead

FORMAT_VERSION: Final = 1
MAGIC: Final = "kvnode log"
HEADER_BYTES: Final = 11
PAYLOAD_BYTES_MAX: Final = 256 * 1024 * 1024
"""What a reader believes of a length field. Part of the format and well above what a node writes."""
SEQ_MAX: Final = 2**63 - 1

FRAME_START: Final = b"\x92\xce"
_FRAME: Final = Struct(">HIBI")
_ARRAY2_UINT32: Final = 0x92CE
_BIN32: Final = 0xC6

_crc32c: Final = google_crc32c.value
_unpack: Final = msgpack.unpackb
_packing: Final = Packing()


class BadRecord(Exception):
    """These bytes are not a record. `reason` is a phrase; `offset` is where it should begin, in the bytes given.

    `is_short`: the bytes end before the record does, which more bytes might mend. `may_be_torn`: a write that a crash
    interrupted can look like this. It can not where the checksum holds: then the record was written wrongly, or
    belongs elsewhere.
    """

    def __init__(self, reason: str, offset: int = 0, *, is_short: bool = False, may_be_torn: bool = True) -> None:
        super().__init__(f"{reason}, at offset {offset}")
        self.reason = reason
        self.offset = offset
        self.is_short = is_short
        self.may_be_torn = may_be_torn


class Record(RecordHead):
    """One record, decoded. `raw` is the whole framed record, as it stands in files and goes to peers."""

    __slots__ = ("commit_seq", "entries", "origins", "raw", "time_ms")

    def __init__(
        self,
        raw: bytes,
        checksum: int,
        prev_checksum: int,
        first_seq: int,
        term: int,
        time_ms: int,
        commit_seq: int,
        entries: Sequence[Any],
        origins: Any,
    ) -> None:
        super().__init__(first_seq, first_seq + len(entries) - 1, term, checksum, prev_checksum, len(raw))
        self.raw = raw
        self.time_ms = time_ms
        self.commit_seq = commit_seq
        self.entries = entries
        self.origins = origins

    def __repr__(self) -> str:
        return f"record {self.first_seq}-{self.last_seq}@{self.term} {self.size}B crc={self.checksum:08x}"


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What the first record of a segment file says; `prev_*` describe the record before `first_seq` (0 for none)."""

    cluster_id: str
    node_id: str
    first_seq: int
    prev_checksum: int
    prev_term: int
    version: int = FORMAT_VERSION


def frame(payload: bytes) -> tuple[bytes, int]:
    """The framed payload, and its checksum."""
    if not 0 < len(payload) <= PAYLOAD_BYTES_MAX:
        raise InvariantError(f"a record's payload of {len(payload)} bytes can not be written")
    checksum = _crc32c(payload)
    return _FRAME.pack(_ARRAY2_UINT32, checksum, _BIN32, len(payload)) + payload, checksum


def unframe(data: bytes, offset: int = 0) -> tuple[int, bytes]:
    """(checksum, payload) of the frame that begins at `offset`; the checksum holds. Raises BadRecord.

    Nothing is allocated for a length that is only announced.
    """
    start = offset + HEADER_BYTES
    if start > len(data):
        if FRAME_START.startswith(data[offset : offset + 2]):
            raise BadRecord("the data ends within a record's header", offset, is_short=True)
        raise BadRecord("no record begins here", offset)
    head, checksum, kind, length = _FRAME.unpack_from(data, offset)
    if head != _ARRAY2_UINT32 or kind != _BIN32:
        raise BadRecord("no record begins here", offset)
    if not 0 < length <= PAYLOAD_BYTES_MAX:
        raise BadRecord(f"the record's length field says {length}", offset)
    payload = data[start : start + length]
    if len(payload) < length:
        raise BadRecord(f"the data ends within a record of {HEADER_BYTES + length} bytes", offset, is_short=True)
    if _crc32c(payload) != checksum:
        raise BadRecord("the checksum does not match", offset)
    return checksum, payload


def encode(
    prev_checksum: int,
    first_seq: int,
    term: int,
    time_ms: int,
    commit_seq: int,
    entries: Sequence[Any],
    origins: Any = None,
) -> Record:
    """Make a record of a batch: one payload, one CRC. The fields' meaning: see the module."""
    if not entries:
        raise InvariantError("a record needs an entry")
    if not 0 <= commit_seq < first_seq:
        raise InvariantError(f"a record that begins at {first_seq} can not know {commit_seq} committed")
    payload = pack_payload((prev_checksum, first_seq, term, time_ms, commit_seq), entries, origins)
    raw, checksum = frame(payload)
    return Record(raw, checksum, prev_checksum, first_seq, term, time_ms, commit_seq, entries, origins)


def decode(raw: bytes) -> Record:
    """Decode exactly one record. Raises BadRecord when it is anything else."""
    record = decode_at(raw, 0)
    if len(record.raw) != len(raw):
        raise BadRecord("bytes follow the record", len(record.raw))
    return record


def decode_at(data: bytes, offset: int) -> Record:
    """The record that begins at `offset`: framing, checksum, types and ranges hold. Raises BadRecord."""
    checksum, payload = unframe(data, offset)
    fields = _fields(payload, offset)
    if len(fields) < 7:
        raise BadRecord("a field is missing in the record", offset, may_be_torn=False)
    for i in range(5):
        if type(fields[i]) is not int:
            raise BadRecord("a field of the record has the wrong type", offset, may_be_torn=False)
    prev_checksum: int = fields[0]
    first_seq: int = fields[1]
    term: int = fields[2]
    time_ms: int = fields[3]
    commit_seq: int = fields[4]
    entries, origins = fields[5], fields[6]
    if type(entries) is not tuple or not entries or (origins is not None and type(origins) is not tuple):
        raise BadRecord("the record's entries are not a list", offset, may_be_torn=False)
    end_seq = first_seq + len(entries)
    # `>> 63`: negative or above SEQ_MAX, which is no small number in compiled code, and slow to compare with.
    is_high = prev_checksum >> 32 or end_seq >> 63 or term >> 63 or time_ms >> 63
    if is_high or term == 0 or not 0 <= commit_seq < first_seq:
        raise BadRecord("a field of the record is out of range", offset, may_be_torn=False)
    size = HEADER_BYTES + len(payload)
    raw = data if size == len(data) else data[offset : offset + size]
    return Record(raw, checksum, prev_checksum, first_seq, term, time_ms, commit_seq, entries, origins)


def split(data: bytes | memoryview) -> list[Record]:
    """All records of `data`, a run of whole records that follow each other. Raises BadRecord.

    Each is verified, and each continues the one before it: seq, chain of checksums, order of terms. What the first
    of them continues is for the caller to compare.
    """
    run = bytes(data)
    records: list[Record] = []
    offset = 0
    end = len(run)
    while offset < end:
        record = decode_at(run, offset)
        if records and (reason := why_not_after(records[-1], record)):
            raise BadRecord(reason, offset, may_be_torn=False)
        records.append(record)
        offset += len(record.raw)
    return records


def why_not_after(previous: Record, record: Record) -> str | None:
    """None if `record` continues `previous`, otherwise a phrase that says why it does not."""
    return why_not_next(record, previous.last_seq, previous.term, previous.checksum)


def why_not_next(record: Record, last_seq: int, last_term: int, last_checksum: int) -> str | None:
    """None if `record` continues a log that ends so (0, 0, 0: an empty one), otherwise a phrase that says why not."""
    if record.first_seq != last_seq + 1:
        return f"the record begins at seq {record.first_seq}, {last_seq + 1} should follow"
    if record.prev_checksum != last_checksum:
        return f"the record continues a record with checksum {record.prev_checksum:08x}, not {last_checksum:08x}"
    if record.term < last_term:
        return f"the record's term {record.term} is lower than the term {last_term} before it"
    return None


def encode_header(header: SegmentHeader) -> bytes:
    """The header record of a segment file, framed."""
    fields = [
        MAGIC,
        header.version,
        header.cluster_id,
        header.node_id,
        header.first_seq,
        header.prev_checksum,
        header.prev_term,
    ]
    return frame(_packing.pack(fields))[0]


def decode_header(data: bytes) -> tuple[SegmentHeader, int]:
    """The header record at the beginning of a segment's bytes, and its size. Raises BadRecord."""
    _, payload = unframe(data)
    fields = _fields(payload, 0)
    if not fields or fields[0] != MAGIC:
        raise BadRecord("this is not the header of a kvnode log", may_be_torn=False)
    if len(fields) < 7 or [type(field) for field in fields[1:7]] != [int, str, str, int, int, int]:
        raise BadRecord("a field of the segment's header is missing or has the wrong type", may_be_torn=False)
    version, cluster_id, node_id, first_seq, prev_checksum, prev_term = fields[1:7]
    if not (0 < first_seq <= SEQ_MAX and 0 <= prev_checksum < 2**32 and 0 <= prev_term <= SEQ_MAX):
        raise BadRecord("a field of the segment's header is out of range", may_be_torn=False)
    header = SegmentHeader(cluster_id, node_id, first_seq, prev_checksum, prev_term, version)
    return header, HEADER_BYTES + len(payload)


def _fields(payload: bytes, offset: int) -> tuple[Any, ...]:
    """The payload's array. The checksum held, so whatever is wrong here was written wrongly.

    In tuples: they take a third less time to make than lists, and the garbage collector forgets those of bytes."""
    try:
        fields = _unpack(payload, use_list=False, raw=False, strict_map_key=True)
    except (ValueError, TypeError, OverflowError) as error:
        reason = f"the payload is not valid msgpack ({error or type(error).__name__})"
        raise BadRecord(reason, offset, may_be_torn=False) from None
    if type(fields) is not tuple:
        raise BadRecord("the record's payload is not an array", offset, may_be_torn=False)
    return fields
