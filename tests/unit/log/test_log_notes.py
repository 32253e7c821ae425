"""identity, ballot and mark: they come back, and any change is noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from kvnode.log.ballot import COPY_OFFSET, Ballot, decode_ballot, encode_ballot
from kvnode.log.errors import ForeignLogError
from kvnode.log.identity import Identity, cluster_id, decode_identity, encode_identity, refuse_foreign
from kvnode.log.mark import MARK_BYTES, Mark, decode_mark, encode_mark
from kvnode.log.notes import decode_note, encode_note
from kvnode.log.record import BadRecord, frame

IDENTITY = Identity("c1", "B", ("A", "B", "C"), may_vote=True)


@pytest.mark.parametrize(
    ("encoded", "decoder", "value"),
    [
        (encode_identity(IDENTITY), decode_identity, IDENTITY),
        (encode_mark(Mark(2**62, 9, 2**32 - 1)), decode_mark, Mark(2**62, 9, 2**32 - 1)),
        (encode_mark(Mark()), decode_mark, Mark()),
    ],
)
def test_every_change_is_noticed(encoded: bytes, decoder: Callable[[bytes], Any], value: Any) -> None:
    assert decoder(encoded) == value
    note_bytes = len(encoded.rstrip(b"\0"))
    for bit in range(8 * note_bytes):
        changed = bytearray(encoded)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadRecord):
            decoder(bytes(changed))
    for length in range(note_bytes):
        with pytest.raises(BadRecord):
            decoder(encoded[:length])


@pytest.mark.parametrize("mark", [Mark(), Mark(1, 1, 1), Mark(2**63 - 1, 2**63 - 1, 2**32 - 1)])
def test_a_mark_always_has_the_same_size_and_fits_a_sector(mark: Mark) -> None:
    assert len(encode_mark(mark)) == MARK_BYTES <= 512


@pytest.mark.parametrize("ballot", [Ballot(), Ballot(7, None), Ballot(2**62, "B")])
def test_either_copy_of_a_ballot_is_enough(ballot: Ballot) -> None:
    encoded = encode_ballot(ballot)
    assert decode_ballot(encoded) == (ballot, True)
    for offset in (*range(len(encoded) - COPY_OFFSET), *range(COPY_OFFSET, len(encoded))):
        changed = bytearray(encoded)
        changed[offset] ^= 0xFF
        assert decode_ballot(bytes(changed)) == (ballot, False)
    assert decode_ballot(encoded[:COPY_OFFSET]) == (ballot, False)
    changed[0] ^= 0xFF
    with pytest.raises(BadRecord, match="neither copy"):
        decode_ballot(bytes(changed))


def test_two_good_copies_that_differ_are_not_believed() -> None:
    first, second = encode_ballot(Ballot(1, "A")), encode_ballot(Ballot(1, "B"))
    with pytest.raises(BadRecord, match="differ"):
        decode_ballot(first[:COPY_OFFSET] + second[COPY_OFFSET:])


def test_notes_of_another_kind_or_version() -> None:
    note = encode_note("kind", [1, "x", None])
    assert decode_note(note + b"junk", "kind", (int, str, object)) == [1, "x", None]
    for data, types in ((note, (int, int)), (note, (int, str, object, int)), (note, (bool,))):
        with pytest.raises(BadRecord, match="missing or has the wrong type"):
            decode_note(data, "kind", types)
    with pytest.raises(BadRecord, match="not a kind"):
        decode_note(encode_note("other", []), "kind", ())
    with pytest.raises(BadRecord, match="version"):
        decode_note(frame(msgpack.packb(["kind", 2, 1]))[0], "kind", ())
    with pytest.raises(BadRecord, match="msgpack"):
        decode_note(frame(b"\xc1")[0], "kind", ())


@pytest.mark.parametrize("fields", [[-1, None], [1, 2], [1, b"A"]])
def test_a_ballot_out_of_range(fields: list[Any]) -> None:
    with pytest.raises(BadRecord):
        decode_ballot(encode_note("kvnode ballot", fields))


def test_cluster_id() -> None:
    assert cluster_id(["A", "B"]) == cluster_id(("B", "A")) != cluster_id(["A", "B"], "name")
    assert cluster_id(["AB"]) != cluster_id(["A", "B"])


def test_the_same_node_with_or_without_a_vote_is_not_foreign() -> None:
    refuse_foreign("data", IDENTITY, Identity("c1", "B", ("A", "B", "C"), may_vote=False))
    with pytest.raises(ForeignLogError, match="another cluster"):
        refuse_foreign("data", IDENTITY, Identity("c2", "B", ("A", "B", "C"), may_vote=False))
