"""What belongs where, when records of an open log are written anew. Reads only; fresh.py writes.

Nobody who offers records has to be believed: they have the sizes of those that are there, verify, continue each other,
and chain to what can be read before and after them.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvnode.log.errors import DoesNotFit
from kvnode.log.files import Files
from kvnode.log.healing.lookup import read_mark_at, read_record_after, segment_after
from kvnode.log.identity import Identity
from kvnode.log.mark import Mark
from kvnode.log.record import BadRecord, Record, encode_header, split, why_not_after, why_not_next
from kvnode.log.segment import Segment, header_after

Patch = tuple[Segment, int, bytes]
"""A segment, an offset in its file, and the bytes that belong there."""


def place_records(
    files: Files, segments: Sequence[Segment], end: Mark, after_seq: int, to_seq: int, data: bytes
) -> list[Patch]:
    """`data` is the records (after_seq, to_seq] of a log that ends at `end`: a patch for each segment concerned.

    Raises DoesNotFit.
    """
    try:
        records = split(data)
    except BadRecord as bad:
        raise DoesNotFit("within", f"the records do not verify: {bad}") from None
    parts: dict[Segment, list[Record]] = {}
    at = after_seq
    for record in records:
        segment = segment_after(segments, at)
        if segment is None or segment.piece_after(at, 0)[1:] != (record.size, record.last_seq):
            raise DoesNotFit("within", f"the log has no record {record.first_seq}-{record.last_seq} of that size")
        parts.setdefault(segment, []).append(record)
        at = record.last_seq
    if at != to_seq:
        raise DoesNotFit("within", f"the records end at seq {at}, not at {to_seq}")
    _check_chain(files, segments, end, records[0], records[-1])
    return [
        (segment, segment.offset_after(part[0].first_seq - 1), b"".join([record.raw for record in part]))
        for segment, part in parts.items()
    ]


def _check_chain(files: Files, segments: Sequence[Segment], end: Mark, first: Record, last: Record) -> None:
    before = _mark_at(files, segments, end, first.first_seq - 1)
    if before is not None and (why := why_not_next(first, before.seq, before.term, before.checksum)):
        raise DoesNotFit("before", why)
    if last.last_seq == end.seq:
        if (last.term, last.checksum) != (end.term, end.checksum):
            raise DoesNotFit("after", "the log ends with another record")
        return
    try:
        following = read_record_after(files, segments, last.last_seq)
    except (BadRecord, OSError):
        return  # it is to be healed too, and must then chain to this
    if following is not None and (why := why_not_after(last, following)):
        raise DoesNotFit("after", why)


def place_header(files: Files, segments: Sequence[Segment], end: Mark, identity: Identity, after_seq: int) -> Patch:
    """The header of the segment that begins after `after_seq`. Raises DoesNotFit."""
    for segment in segments:
        if segment.first_seq == after_seq + 1:
            break
    else:
        raise DoesNotFit("within", f"no segment begins after seq {after_seq}")
    before = _mark_at(files, segments, end, after_seq)
    if before is None:
        raise DoesNotFit("before", f"the record that ends at seq {after_seq} can not be read")
    header = encode_header(header_after(before, identity))
    if len(header) != segment.start:
        raise DoesNotFit(
            "within", f"the header of the segment had {segment.start} bytes, the new one has {len(header)}"
        )
    return segment, 0, header


def _mark_at(files: Files, segments: Sequence[Segment], end: Mark, seq: int) -> Mark | None:
    """The end of the record that ends at `seq`; None where that can not be read."""
    if seq == end.seq:
        return end
    try:
        return read_mark_at(files, segments, seq)
    except (BadRecord, OSError):
        return None
