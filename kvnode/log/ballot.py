"""Term and vote: the file `ballot`, replaced as a whole before any message that depends on it leaves.

    offset 0      ["kvnode ballot", 1, term, vote]    vote: a member id, or nil
    offset 4096   the same again, in another block of the disk

One bad copy is mended from the other. With both bad it is not known whom this node voted for: it gives up the right
to vote.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvnode.log.notes import NewerNote, decode_note, encode_note
from kvnode.log.record import BadRecord

KIND = "kvnode ballot"
NAME = "ballot"
COPY_OFFSET = 4096


@dataclass(frozen=True, slots=True)
class Ballot:
    """`term` 0: this node has not taken part in any election yet."""

    term: int = 0
    vote: str | None = None


def encode_ballot(ballot: Ballot) -> bytes:
    """The whole file."""
    note = encode_note(KIND, [ballot.term, ballot.vote])
    return note.ljust(COPY_OFFSET, b"\0") + note


def decode_ballot(data: bytes) -> tuple[Ballot, bool]:
    """The ballot, and whether both copies are good. Raises BadRecord when neither is."""
    copies = []
    for copy in (data[:COPY_OFFSET], data[COPY_OFFSET:]):
        try:
            copies.append(_decode_copy(copy))
        except NewerNote:
            raise
        except BadRecord as bad:
            reason = bad.reason
    if not copies:
        raise BadRecord(f"neither copy of the ballot can be read ({reason})")
    if len(copies) == 2 and copies[0] != copies[1]:
        raise BadRecord("the two copies of the ballot differ")
    return copies[0], len(copies) == 2


def _decode_copy(data: bytes) -> Ballot:
    term, vote = decode_note(data, KIND, (int, object))[:2]
    if term < 0 or not (vote is None or type(vote) is str):
        raise BadRecord("a field of the ballot is out of range")
    return Ballot(term, vote)
