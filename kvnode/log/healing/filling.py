"""What of some records belongs into a hole: pure. Nobody who offers records has to be believed."""

from __future__ import annotations

from kvnode.log.damage import Hole
from kvnode.log.errors import DoesNotFit
from kvnode.log.mark import Mark
from kvnode.log.record import BadRecord, split


def take_missing(hole: Hole, at: Mark, offered: bytes) -> tuple[bytes, Mark]:
    """Of a run of records that should follow `at` (the hole's `before` at first): the bytes that belong into the hole,
    at least one record, and the end of the last. Raises DoesNotFit.

    What comes after the hole is left out; the last record before it must be what that good record continues.
    """
    try:
        records = split(offered)
    except BadRecord as bad:
        raise DoesNotFit("within", f"what was offered does not verify: {bad}") from None
    missing = [record for record in records if record.last_seq <= hole.last_seq]
    if not missing or (missing[0].first_seq, missing[0].prev_checksum) != (at.seq + 1, at.checksum):
        raise DoesNotFit("before", f"what was offered does not continue the record that ends at seq {at.seq}")
    last = missing[-1]
    is_end = last.last_seq == hole.last_seq
    if not is_end and len(missing) < len(records):
        raise DoesNotFit("after", f"a record that was offered reaches beyond seq {hole.last_seq}")
    if is_end and (last.checksum != hole.next_prev_checksum or last.term > hole.next_term):
        raise DoesNotFit("after", f"the record from seq {hole.next_seq} on does not continue what was offered")
    return b"".join([record.raw for record in missing]), Mark(last.last_seq, last.term, last.checksum)
