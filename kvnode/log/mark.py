"""How far the log is known durable here: the file `mark`, 128 bytes overwritten in place (within one disk sector).

    ["kvnode mark", 1, seq, term, checksum]    of the last record that was fsynced; 0, 0, 0 for none

It is written after the fsync of the records that it speaks of, so it never says too much. It is itself fsynced when
the log falls idle, when a segment is sealed, and when it is lowered before a cut.
A bad record above the mark may be a torn write; at or below it, it is damage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kvnode.log.notes import decode_note, encode_note
from kvnode.log.record import BadRecord

KIND: Final = "kvnode mark"
NAME: Final = "mark"
MARK_BYTES: Final = 128


@dataclass(init=False, slots=True)
class Mark:
    """The end of a record: its last seq, term and checksum. Not changed once it is made."""

    seq: int
    term: int
    checksum: int

    def __init__(self, seq: int = 0, term: int = 0, checksum: int = 0) -> None:
        self.seq = seq
        self.term = term
        self.checksum = checksum


def encode_mark(mark: Mark) -> bytes:
    """The whole file; always of the same size."""
    return encode_note(KIND, [mark.seq, mark.term, mark.checksum]).ljust(MARK_BYTES, b"\0")


def decode_mark(data: bytes) -> Mark:
    """Raises BadRecord."""
    seq, term, checksum = decode_note(data, KIND, (int, int, int))[:3]
    if min(seq, term, checksum) < 0:
        raise BadRecord("a field of the mark is out of range")
    return Mark(seq, term, checksum)
