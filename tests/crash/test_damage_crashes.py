"""Power fails at every call of every mending, in every model: the next starts get to the end, and nothing good is lost.

A node never starts with the right to vote while something is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from kvnode.log import Ballot, DamageError, Record
from kvnode.log.ballot import encode_ballot
from kvnode.log.identity import encode_identity
from kvnode.log.mark import Mark, encode_mark
from kvnode.log.segment import segment_name
from tests.crash.damage_maker import (
    LOG,
    RECORDS,
    SEGMENTS,
    ballot_of,
    damaged_log,
    end_of,
    heal,
    identity_of,
    look,
    mark_of,
    missing,
    open_damaged,
)
from tests.crash.log_maker import DIRECTORY, open_memory, raws
from tests.crash.memory_disk import MODELS, MemoryDisk, PowerCut

Damage = Callable[[MemoryDisk], None]
FIRST, SECOND, LAST = SEGMENTS
GIVEN_UP = "never committed"


def voting_log(*damages: Damage) -> MemoryDisk:
    """The damaged log of a node that may vote."""
    disk = damaged_log()
    disk.put(DIRECTORY / "identity", encode_identity(replace(identity_of(disk), may_vote=True)))
    disk.put(DIRECTORY / "ballot", encode_ballot(Ballot(3, "B")))
    for damage in damages:
        damage(disk)
    return disk


def flip(number: int, byte: int = 20) -> Damage:
    """A byte of a record."""

    def damage(disk: MemoryDisk) -> None:
        raw = RECORDS[number].raw
        for path in SEGMENTS:
            data = bytes(disk.file(path).data)
            if raw in data:
                disk.put(path, data.replace(raw, raw[:byte] + bytes([raw[byte] ^ 1]) + raw[byte + 1 :]))

    return damage


def flip_header(position: int) -> Damage:
    def damage(disk: MemoryDisk) -> None:
        data = bytes(disk.file(SEGMENTS[position]).data)
        disk.put(SEGMENTS[position], data[:15] + bytes([data[15] ^ 1]) + data[16:])

    return damage


def zero(position: int, start: int, end: int) -> Damage:
    """A region of a segment; negative offsets count from its end."""

    def damage(disk: MemoryDisk) -> None:
        data = bytearray(disk.file(SEGMENTS[position]).data)
        data[start : end or len(data)] = bytes(len(data[start : end or len(data)]))
        disk.put(SEGMENTS[position], bytes(data))

    return damage


def remove(*names: str) -> Damage:
    def damage(disk: MemoryDisk) -> None:
        for name in names:
            disk.remove(DIRECTORY / name)

    return damage


def put(name: str, data: bytes) -> Damage:
    return lambda disk: disk.put(DIRECTORY / name, data)


def swap(disk: MemoryDisk) -> None:
    first, second = (bytes(disk.file(path).data) for path in (FIRST, SECOND))
    disk.put(FIRST, second)
    disk.put(SECOND, first)


def end_with_junk(disk: MemoryDisk) -> None:
    disk.put(FIRST, bytes(disk.file(FIRST).data) + b"junk")


HOLES: dict[str, list[Damage]] = {
    "a record": [flip(2)],
    "the first record": [flip(0)],
    "the last record of a segment": [flip(5)],
    "several records": [flip(1), flip(3), flip(8)],
    "a header": [flip_header(1)],
    "the first header": [flip_header(0)],
    "the header of the last segment": [flip_header(2)],
    "a header and the record behind it": [flip_header(1), flip(6)],
    "across a boundary": [zero(0, -80, 0), zero(1, 0, 90)],
    "the first segment is missing": [remove(FIRST.name)],
    "a segment in the middle is missing": [remove(SECOND.name)],
    "two segments are missing": [remove(FIRST.name, SECOND.name)],
    "a segment is empty": [put(SECOND.name, b"")],
    "two segments are garbage": [put(FIRST.name, b"g" * 300), put(SECOND.name, b"g" * 300)],
    "two segments are exchanged": [swap],
    "junk behind a segment": [end_with_junk],
    "a file between": [put(segment_name(5), b"stray"), flip(1)],
    "a hole before a bad tail": [flip(2), flip(11)],
    "a hole before a header alone": [flip(10), flip(11)],
    "a hole and no ballot": [flip(2), remove("ballot")],
}


def interrupted(
    make: Callable[[], MemoryDisk], act: Callable[[MemoryDisk], object]
) -> Iterator[tuple[MemoryDisk, str]]:
    """The disks that a start may find after a crash at any call of `act`."""
    stop_at = 0
    is_done = False
    while not is_done:
        disk = make()
        disk.stop_at = stop_at
        is_done = True
        try:
            act(disk)
        except PowerCut:
            is_done = False
        for model in MODELS:
            yield disk.after_crash(model, stop_at), f"stopped before call {stop_at} {disk.calls[-1:]}, model {model}"
        stop_at += 1


def lost_records(disk: MemoryDisk) -> set[int]:
    """By their last seq: those that can not be read any more."""
    found = look(disk)
    kept = {seq for run in found.picture.kept for seq in run.last_seqs}
    return {record.last_seq for record in RECORDS} - kept


def open_to_the_end(disk: MemoryDisk) -> list[Record]:
    """Start, heal, and start again, as a node does; what is read in the end."""
    seen: list[Record] = []
    with suppress(DamageError):
        open_memory(disk, seen=seen).log.close()
        return seen
    heal(disk)
    seen.clear()
    open_memory(disk, seen=seen).log.close()
    return seen


@pytest.mark.parametrize("name", HOLES)
def test_healing_is_interrupted(name: str) -> None:
    damages = HOLES[name]
    lost = lost_records(voting_log(*damages))
    has_bad_tail = name in ("a hole before a bad tail", "a hole before a header alone")
    is_all = not has_bad_tail and name != "a hole and no ballot"
    count = 0
    for disk, what in interrupted(lambda: voting_log(*damages), heal):
        assert lost_records(disk) <= lost, what
        seen = open_to_the_end(disk)
        expected = RECORDS[:-1] if has_bad_tail else RECORDS
        assert raws(seen) == raws(expected), what
        identity = identity_of(disk)
        assert identity.may_vote == is_all, what
        assert (identity.set_aside == "") == is_all, what
        assert ballot_of(disk) == (Ballot(1, None) if name == "a hole and no ballot" else Ballot(3, "B")), what
        count += 1
    assert count > len(MODELS) * 5


def test_each_step_of_healing_makes_the_hole_smaller() -> None:
    """A large hole is written as several segments, and the first ones stay when the last was not swapped in."""
    damages = HOLES["two segments are missing"]
    sizes = set()
    for disk, _ in interrupted(lambda: voting_log(*damages), heal):
        sizes |= {sum(len(missing(hole)) for hole in look(disk).holes)}
    assert sizes == {11, 5, 0}


NEEDS_A_LEADER: dict[str, tuple[list[Damage], int]] = {
    "a bad last record": ([flip(11)], 11),
    "a bad end": ([flip(10), flip_header(2), flip(11)], 10),
    "a short last segment": ([put(LAST.name, bytes(LOG.file(LAST).data)[:-1])], 11),
    "the last segment is missing": ([remove(LAST.name)], 11),
    "the last two are missing": ([remove(SECOND.name, LAST.name)], 6),
    "the last two are garbage": ([put(SECOND.name, b"\x92" * 99), put(LAST.name, b"")], 6),
    "no segment": ([remove(*(path.name for path in SEGMENTS))], 0),
    "all segments are garbage": ([put(path.name, b"*3\r\n$3\r\nSET") for path in SEGMENTS], 0),
    "no ballot": ([remove("ballot")], 12),
    "a bad ballot": ([put("ballot", bytes(9000))], 12),
    "an old ballot": ([put("ballot", encode_ballot(Ballot(0, None)))], 12),
    "no mark": ([remove("mark")], 12),
    "a bad mark": ([put("mark", b"junk")], 12),
    "a mark of another log": ([put("mark", encode_mark(Mark(4, 1, 7)))], 12),
    "no identity": ([remove("identity")], 12),
    "a bad identity": ([put("identity", b"junk")], 12),
    "a torn tail and no mark": ([remove("mark"), put(LAST.name, bytes(LOG.file(LAST).data) + b"junk")], 12),
    "a torn tail and no ballot": (
        [put("mark", encode_mark(end_of(RECORDS[:11]))), flip(11), remove("ballot")],
        11,
    ),
    "nothing but segments": ([remove("identity", "ballot", "mark"), flip(11)], 11),
    "nothing but an identity": ([remove("ballot", "mark", *(path.name for path in SEGMENTS))], 0),
}


@pytest.mark.parametrize("name", NEEDS_A_LEADER)
def test_mending_what_needs_a_leader_is_interrupted(name: str) -> None:
    damages, good = NEEDS_A_LEADER[name]
    for disk, what in interrupted(lambda: voting_log(*damages), open_memory):
        seen: list[Record] = []
        recovered = open_memory(disk, seen=seen)
        assert raws(seen) == raws(RECORDS[:good]), what
        assert not recovered.identity.may_vote, what
        assert recovered.identity.set_aside, what
        assert not recovered.is_empty, what
        assert recovered.identity == identity_of(disk), what
        assert recovered.ballot == ballot_of(disk), what
        assert recovered.ballot.term >= (RECORDS[good - 1].term if good else 0), what
        assert mark_of(disk) == end_of(RECORDS[:good]), what
        recovered.log.close()
        assert open_memory(disk).findings == [], what


@pytest.mark.parametrize("name", NEEDS_A_LEADER)
def test_the_right_to_vote_goes_before_anything_is_mended(name: str) -> None:
    """**S** Else a crash in between leaves a directory that looks good, and votes."""
    disk = voting_log(*NEEDS_A_LEADER[name][0])
    open_memory(disk)
    changes = [call for call in disk.calls if call[0] in ("rename", "truncate", "unlink")]
    assert changes[0] == ("rename", "identity.tmp identity")
    after = disk.calls[disk.calls.index(changes[0]) + 1]
    assert after == ("fsync_dir", DIRECTORY.name)


def removals(disk: MemoryDisk) -> list[int]:
    """The calls that take something of the log away: segments moved, or cut."""
    return [
        number
        for number, (call, what) in enumerate(disk.calls)
        if call == "truncate" or (call == "rename" and ".tmp" not in what)
    ]


@pytest.mark.parametrize("name", [name for name in NEEDS_A_LEADER if "mark" not in name])
def test_the_mark_is_lowered_durably_before_anything_is_cut(name: str) -> None:
    """**S** What it says to be durable is there, at any moment."""
    disk = voting_log(*NEEDS_A_LEADER[name][0])
    open_memory(disk)
    if removals(disk) and name != "a torn tail and no ballot":
        lowered = disk.calls.index(("rename", "mark.tmp mark"))
        assert disk.calls[lowered + 1] == ("fsync_dir", DIRECTORY.name)
        assert lowered + 1 < removals(disk)[0]


@pytest.mark.parametrize("name", HOLES)
def test_the_mark_is_lowered_durably_before_anything_is_given_up(name: str) -> None:
    disk = voting_log(*HOLES[name])
    log = open_damaged(disk)
    log.give_up(GIVEN_UP)
    kept, lowered = (disk.calls.index(("rename", f"{note}.tmp {note}")) for note in ("identity", "mark"))
    assert kept < lowered < removals(disk)[0]


@pytest.mark.parametrize("name", HOLES)
def test_giving_up_is_interrupted(name: str) -> None:
    """Whatever happens in between, the node ends with what is before the hole, and without the right to vote."""
    damages = HOLES[name]
    before = look(voting_log(*damages)).holes[0].before
    expected = [record for record in RECORDS if record.last_seq <= before.seq]

    def give_up(disk: MemoryDisk) -> None:
        log = open_damaged(disk)
        if log.holes:
            cut = log.give_up(GIVEN_UP)
            assert log.identity == identity_of(disk)
            assert (cut.reason, cut.first_seq) == (GIVEN_UP, before.seq + 1)
            assert (log.holes, log.last_seq) == ([], before.seq)
        log.close()

    for disk, what in interrupted(lambda: voting_log(*damages), give_up):
        assert lost_records(disk) <= {record.last_seq for record in RECORDS[len(expected) :]}, what
        with suppress(DamageError):
            recovered = open_memory(disk.copy())
            assert not recovered.identity.may_vote, what
        give_up(disk)
        seen: list[Record] = []
        recovered = open_memory(disk, seen=seen)
        assert raws(seen) == raws(expected), what
        assert not recovered.identity.may_vote, what
        assert recovered.identity.set_aside, what
        assert mark_of(disk) == before, what


@pytest.mark.parametrize("name", HOLES)
def test_what_is_given_up_is_kept_aside(name: str) -> None:
    disk = voting_log(*HOLES[name])
    log = open_damaged(disk)
    hole = log.holes[0]
    kept_before = {seq for run in look(disk).picture.kept for seq in run.last_seqs if seq > hole.before.seq}
    copies = log.give_up(GIVEN_UP).copies
    data = b"".join(bytes(disk.file(path).data) for path in copies)
    for record in RECORDS:
        assert (record.last_seq not in kept_before) or record.raw in data


def test_a_log_that_is_given_up_can_be_gone_on_with() -> None:
    disk = voting_log(*HOLES["a segment in the middle is missing"])
    log = open_damaged(disk)
    log.give_up(GIVEN_UP)
    log.close()
    wal = open_memory(disk).log
    wal.append(RECORDS[6:])
    wal.close()
    seen: list[Record] = []
    open_memory(disk, seen=seen)
    assert raws(seen) == raws(RECORDS)
