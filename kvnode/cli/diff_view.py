"""Two logs compared, for people and as JSON: how far they are equal, and the first record and entry that differ. Pure.

A  data/A: node A of cluster …, 3 segments from seq 1 on, 150,000,000 bytes
B  data/B: node B of cluster …, 3 segments from seq 1 on, 150,000,000 bytes
equal up to seq 4711 (checksum 1a2b3c4d); they part at seq 4712:
   segment                  …  the two records, one above the other
A  00000000000000000001.log …
B  00000000000000000001.log …
the first entry that differs:
A      4714    3  2023-11-14T22:13:20.123Z  SET      key value
B      4714    4  2023-11-14T22:13:20.456Z  SET      key other
# 134,217,728 of 300,000,000 bytes were read
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kvnode.cli import entries
from kvnode.cli.records_view import HEADING, record_object, record_row
from kvnode.cli.views import count, describe
from kvnode.log.viewing.compare import Comparison
from kvnode.log.viewing.reader import Found

NAMES = ("A", "B")


def diff_lines(comparison: Comparison, width: int | None) -> Iterator[str]:
    """`width`: entries are cut to so many cells."""
    for name, side in zip(NAMES, comparison.sides, strict=True):
        yield f"{name}  {describe(side.listing, side.owner).removeprefix('# ')}"
    so_far = _so_far(comparison)
    match comparison.parted:
        case (None, None):
            yield f"{so_far}; both end there: they are equal"
        case (None, found):
            yield f"{so_far}; A ends there, it is the beginning of B, which goes on:"
            yield from _records((None, found))
        case (found, None):
            yield f"{so_far}; B ends there, it is the beginning of A, which goes on:"
            yield from _records((found, None))
        case (one, other):
            first = min(one.record.first_seq, other.record.first_seq)
            yield f"{so_far}; they part at seq {first}:"
            yield from _records((one, other))
            yield from _first_difference(one, other, width)
    yield f"# {comparison.bytes_read:,} of {count(comparison.bytes_total, 'byte')} were read"


def diff_object(comparison: Comparison) -> str:
    """One JSON object; "result" is "equal", "a is a prefix", "b is a prefix" or "parted"."""
    one, other = comparison.parted
    result = "parted" if comparison.is_parted else "a is a prefix" if other else "b is a prefix" if one else "equal"
    position = first_difference(one, other) if one is not None and other is not None else 0
    checksum = comparison.equal_checksum
    return json.dumps(
        {
            "result": result,
            "equal_seq": comparison.equal_seq,
            "equal_checksum": None if checksum is None else f"{checksum:08x}",
            **{
                name.lower(): {
                    "data": str(side.listing.path),
                    "node": side.owner.node_id,
                    "cluster": side.owner.cluster_id,
                    "record": None if found is None else record_object(found),
                    "entry": None if found is None else _entry_object(found, position),
                }
                for name, side, found in zip(NAMES, comparison.sides, comparison.parted, strict=True)
            },
            "bytes_read": comparison.bytes_read,
            "bytes_total": comparison.bytes_total,
        }
    )


def first_difference(one: Found, other: Found) -> int:
    """The position of the first entry that one record has and the other has not; 0 where all are the same."""
    pairs = zip(one.record.entries, other.record.entries, strict=False)
    differing = next((position for position, (left, right) in enumerate(pairs) if left != right), None)
    if differing is not None:
        return differing
    lengths = sorted((len(one.record.entries), len(other.record.entries)))
    return lengths[0] if lengths[0] < lengths[1] else 0


def _so_far(comparison: Comparison) -> str:
    if comparison.equal_seq is None:
        return "they differ in what only one of them still holds"
    if comparison.equal_seq == 0:
        return "nothing is equal"
    return f"equal up to seq {comparison.equal_seq} (checksum {comparison.equal_checksum:08x})"


def _records(parted: tuple[Found | None, Found | None]) -> Iterator[str]:
    yield f"   {HEADING}"
    for name, found in zip(NAMES, parted, strict=True):
        if found is not None:
            yield f"{name}  {record_row(found)}"


def _first_difference(one: Found, other: Found, width: int | None) -> Iterator[str]:
    position = first_difference(one, other)
    if one.record.entries == other.record.entries:
        yield "their entries are the same; the first of them:"
    else:
        yield "the first entry that differs:"
    for name, found in ((NAMES[0], one), (NAMES[1], other)):
        text = f"{name}  {_entry_line(found, position)}"
        yield text if width is None else entries.cut(text, width)


def _entry_line(found: Found, position: int) -> str:
    record = found.record
    if position >= len(record.entries):
        return f"the record ends at seq {record.last_seq}"
    seq, entry = record.first_seq + position, record.entries[position]
    return entries.line(seq, record.term, entries.time_text(record.time_ms), entry)


def _entry_object(found: Found, position: int) -> dict[str, Any] | None:
    record = found.record
    if position >= len(record.entries):
        return None
    return entries.as_object(record.first_seq + position, record.term, record.time_ms, record.entries[position])
