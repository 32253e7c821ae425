"""A record as consensus sees it: where it stands and its evidence, never its content.

A class that records inherit from, not a protocol: of that compiled code would look each attribute up by name.
"""

from __future__ import annotations


class RecordHead:
    """`size`: bytes, the frame included. Not changed once it is made."""

    __slots__ = ("checksum", "first_seq", "last_seq", "prev_checksum", "size", "term")

    def __init__(self, first_seq: int, last_seq: int, term: int, checksum: int, prev_checksum: int, size: int) -> None:
        self.first_seq = first_seq
        self.last_seq = last_seq
        self.term = term
        self.checksum = checksum
        self.prev_checksum = prev_checksum
        self.size = size
