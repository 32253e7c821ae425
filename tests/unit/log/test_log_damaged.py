"""A log with holes: what is taken to fill them, what is refused, what it gives to others meanwhile."""

from __future__ import annotations

import errno
import random
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from kvnode.log import (
    DamagedLog,
    DamageError,
    DiskError,
    DoesNotFit,
    ForeignLogError,
    LockedError,
    LogError,
    LogOptions,
    NoSpaceError,
    Record,
    cluster_id,
    open_log,
)
from kvnode.log.record import encode
from kvnode.log.segment import segment_name
from tests.crash.damage_maker import (
    LOG,
    RECORDS,
    SEGMENTS,
    WHOSE,
    damaged_log,
    fill,
    heal,
    identity_of,
    look,
    missing,
    open_damaged,
    segments_of,
)
from tests.crash.log_maker import DIRECTORY, MEMBERS, chain, make_log, open_memory, raws
from tests.crash.memory_disk import MODELS, MemoryDisk

FIRST, SECOND, LAST = SEGMENTS


def flip(disk: MemoryDisk, number: int) -> None:
    """Damage in the middle of a record."""
    for path in SEGMENTS:
        data = bytes(disk.file(path).data)
        if RECORDS[number].raw in data:
            at = data.index(RECORDS[number].raw) + 30
            disk.put(path, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def holed(*numbers: int) -> MemoryDisk:
    disk = damaged_log()
    for number in numbers:
        flip(disk, number)
    return disk


def without_temporary(disk: MemoryDisk) -> dict[str, bytes]:
    return {path: data for path, data in disk.contents().items() if not path.endswith(".tmp")}


def test_what_it_says_of_itself() -> None:
    disk = holed(2, 8)
    log = open_damaged(disk)
    assert log.identity == identity_of(disk)
    assert [(hole.first_seq, hole.last_seq) for hole in log.holes] == [(5, 6), (17, 18)]
    assert (log.last_seq, log.commit_seq) == (24, 22)
    assert repr(log) == "damaged log of A last=24 holes=2"
    fill(log)
    assert [(hole.first_seq, hole.last_seq) for hole in log.holes] == [(17, 18)]
    fill(log)
    assert log.holes == []
    log.close()
    log.close()
    assert segments_of(disk) == segments_of(LOG)


def test_a_log_without_holes() -> None:
    log = open_damaged(damaged_log())
    assert (log.holes, log.last_seq) == ([], 24)


def test_opening_is_refused_as_it_is_for_a_good_log(tmp_path: Path) -> None:
    whose = {"cluster_id": cluster_id(MEMBERS), "members": MEMBERS}
    with pytest.raises(LogError, match="not a directory"):
        DamagedLog.open(tmp_path / "A", node_id="A", **whose)  # type: ignore[arg-type]
    with pytest.raises(LogError, match="nothing was recorded"):
        DamagedLog.open(tmp_path, node_id="A", **whose)  # type: ignore[arg-type]
    good = open_log(tmp_path / "A", node_id="A", **whose).log  # type: ignore[arg-type]
    with pytest.raises(LockedError):
        DamagedLog.open(tmp_path / "A", node_id="A", **whose)  # type: ignore[arg-type]
    good.close()
    with pytest.raises(ForeignLogError):
        DamagedLog.open(tmp_path / "A", node_id="B", **whose)  # type: ignore[arg-type]
    first = DamagedLog.open(tmp_path / "A", node_id="A", **whose)  # type: ignore[arg-type]
    with pytest.raises(LockedError):
        open_log(tmp_path / "A", node_id="A", **whose)  # type: ignore[arg-type]
    first.close()
    open_log(tmp_path / "A", node_id="A", **whose).log.close()  # type: ignore[arg-type]


def test_everything_is_synced_and_read_afresh_before_it_is_believed() -> None:
    disk = holed(2)
    open_damaged(disk)
    synced = {what for name, what in disk.calls if name == "fsync"}
    dropped = {what for name, what in disk.calls if name == "drop_cache"}
    assert synced == dropped
    assert {path.name for path in SEGMENTS} < synced


def test_left_over_temporary_files_go() -> None:
    disk = holed(2)
    disk.put(DIRECTORY / (FIRST.name + ".tmp"), b"half")
    open_damaged(disk)
    assert not any(name.endswith(".tmp") for name in disk.listdir(DIRECTORY))


@pytest.mark.parametrize("missing_name", ["identity", "mark", "ballot"])
def test_other_damage_is_left_for_the_next_start(missing_name: str) -> None:
    disk = holed(2)
    disk.remove(DIRECTORY / missing_name)
    heal(disk)
    assert missing_name not in disk.listdir(DIRECTORY)
    with pytest.raises(DamageError):  # it can be opened, so it is damage no more
        open_memory(holed(2))
    assert missing_name in open_memory(disk).identity.set_aside


# What is taken, and what is not


def offers() -> dict[str, tuple[list[bytes], str]]:
    """For the hole of the records 2 and 3: pieces that are offered, and the side on which the last does not fit."""
    wanted = RECORDS[2:4]
    other = chain(2, after=RECORDS[1], value=b"other")
    long = chain(1, entries=5, after=RECORDS[1])
    two_terms = [wanted[0], encode(wanted[0].checksum, wanted[1].first_seq, 9, 0, 0, [["NOOP"]] * 2)]
    flipped = bytearray(wanted[1].raw)
    flipped[30] ^= 1
    return {
        "of another history": (raws(other), "after"),
        "not the next one": ([wanted[1].raw], "before"),
        "one from before": ([RECORDS[1].raw], "before"),
        "that does not chain": ([chain(1, after=RECORDS[5])[0].raw], "before"),
        "that does not chain to the first": ([wanted[0].raw, RECORDS[5].raw], "within"),
        "that do not chain in one piece": ([wanted[0].raw + RECORDS[5].raw], "within"),
        "that is longer than the hole": ([long[0].raw], "after"),
        "of a later term than what follows": (raws(two_terms), "after"),
        "that does not verify": ([wanted[0].raw, bytes(flipped)], "within"),
        "that is cut short": ([wanted[0].raw, wanted[1].raw[:-1]], "within"),
        "that is no record": ([b"junk"], "within"),
    }


OFFERS = offers()


@pytest.mark.parametrize("name", OFFERS)
def test_what_does_not_fit_changes_nothing(name: str) -> None:
    """**S** Only what chains on both sides is what was lost."""
    pieces, side = OFFERS[name]
    disk = holed(2, 3)
    log = open_damaged(disk)
    (hole,) = log.holes
    before = disk.contents()
    for piece in pieces[:-1]:
        assert not log.heal(piece)
    with pytest.raises(DoesNotFit) as caught:
        log.heal(pieces[-1])
    assert caught.value.side == side
    assert log.holes == [hole]
    assert disk.contents() == before
    assert log.heal(b"".join(raws(RECORDS[2:4])))
    assert segments_of(disk) == segments_of(LOG)


def test_the_last_record_must_be_what_the_log_goes_on_from() -> None:
    """Its seqs, its size and its predecessor alone do not make it the one that is missing."""
    disk = holed(11 - 1)
    log = open_damaged(disk)
    other = chain(1, after=RECORDS[9], value=b"w")[0]
    assert other.size == RECORDS[10].size
    with pytest.raises(DoesNotFit) as caught:
        log.heal(other.raw)
    assert caught.value.side == "after"


def test_a_record_may_not_reach_over_the_beginning_of_a_segment() -> None:
    """Not even the right one: in a segment with the wrong name it would be out of place."""
    disk = damaged_log()
    disk.put(DIRECTORY / segment_name(14), b"\0" + bytes(disk.file(SECOND).data)[1:])
    disk.remove(SECOND)
    log = open_damaged(disk)
    (hole,) = log.holes
    assert (hole.first_seq, hole.last_seq) == (13, 14)
    before = disk.contents()
    with pytest.raises(DoesNotFit, match="where a segment begins") as caught:
        fill(log)
    assert caught.value.side == "after"
    assert disk.contents() == before


def test_what_comes_after_the_hole_is_not_looked_at() -> None:
    disk = holed(2)
    log = open_damaged(disk)
    assert log.heal(b"".join(raws(RECORDS[2:])))
    assert segments_of(disk) == segments_of(LOG)


def test_records_come_in_pieces_of_any_size() -> None:
    for cuts in range(1 << 4):
        disk = damaged_log()
        disk.remove(SECOND)
        log = open_damaged(disk)
        pieces: list[list[Record]] = [[]]
        for number, record in enumerate(missing(log.holes[0])):
            pieces[-1].append(record)
            if cuts >> number & 1:
                pieces.append([])
        done = [log.heal(b"".join(raws(piece))) for piece in pieces if piece]
        assert done == [False] * (len(done) - 1) + [True]
        assert segments_of(disk) == segments_of(LOG)
        assert not log.holes


def test_a_hole_is_begun_again_by_its_first_record() -> None:
    """What another member gave before led astray, though it fitted."""
    disk = damaged_log()
    disk.remove(FIRST)
    log = open_damaged(disk)
    astray = chain(3, value=b"another history")
    for records in (RECORDS[:3], astray[:2], astray, RECORDS[:1], RECORDS[:5]):
        for record in records:
            assert not log.heal(record.raw)
    assert log.heal(RECORDS[5].raw)
    assert segments_of(disk) == segments_of(LOG)


def test_a_hole_is_begun_again_after_a_new_start() -> None:
    disk = damaged_log()
    disk.remove(FIRST)
    log = open_damaged(disk)
    assert not log.heal(RECORDS[0].raw)
    log.close()
    assert without_temporary(disk) == disk.contents()
    heal(disk)
    assert segments_of(disk) == segments_of(LOG)


@pytest.mark.parametrize("segment_bytes", [1, 150, 400, 1 << 20])
def test_a_large_hole_becomes_segments_of_the_usual_size(segment_bytes: int) -> None:
    disk = damaged_log()
    disk.remove(FIRST)
    disk.remove(SECOND)
    log = open_damaged(disk, segment_bytes)
    fill(log)
    log.close()
    sizes = [len(data) for data in segments_of(disk).values()][:-1]
    assert all(size <= max(segment_bytes, 130) for size in sizes)
    assert len(sizes) == {1: 11, 150: 11, 400: 2, 1 << 20: 1}[segment_bytes]
    seen: list[Record] = []
    assert open_memory(disk, seen=seen).findings == []
    assert raws(seen) == raws(RECORDS)


def test_two_nodes_with_damage_in_different_places_heal_from_each_other() -> None:
    a, b = open_damaged(holed(1, 8)), open_damaged(holed(2, 3, 7))
    for log, other in ((a, b), (b, a), (a, b), (b, a), (a, b), (b, a)):
        while log.holes:
            at, checksum = log.holes[0].before.seq, log.holes[0].before.checksum
            while True:
                data, at = other.read(at, checksum, 1)
                if not data or log.heal(data):
                    break
                checksum = other.checksum_at(at) or 0
            if not data:
                break
    assert (a.holes, b.holes) == ([], [])


@pytest.mark.parametrize("name", ["a record", "two segments"])
@pytest.mark.parametrize("model", MODELS)
def test_what_was_closed_is_durable(name: str, model: str) -> None:
    """**S** The vote comes back with it."""
    disk = holed(2)
    if name == "two segments":
        disk.put(FIRST, b"garbage")
        disk.remove(SECOND)
    log = open_damaged(disk)
    fill(log)
    after = disk.after_crash(model)
    assert segments_of(after) == segments_of(LOG)
    seen: list[Record] = []
    assert open_memory(after, seen=seen).findings == []
    assert raws(seen) == raws(RECORDS)


def test_what_was_written_is_read_back_from_the_disk_before_it_takes_the_name() -> None:
    disk = holed(2)
    log = open_damaged(disk)
    begun = len(disk.calls)
    fill(log)
    temporary = FIRST.name + ".tmp"
    steps = [call for call in disk.calls[begun:] if call[0] != "pwrite"]
    assert steps == [
        ("create", temporary),
        ("fsync", temporary),
        ("drop_cache", temporary),
        ("rename", f"{temporary} {FIRST.name}"),
        ("fsync_dir", DIRECTORY.name),
    ]


# What it gives to others


def test_reading_good_records() -> None:
    log = open_damaged(holed(2, 6))
    expected = {0: RECORDS[:2], 1: RECORDS[1:2], 3: RECORDS[3:6], 5: RECORDS[5:6], 7: RECORDS[7:11], 11: RECORDS[11:]}
    for number, wanted in expected.items():
        after = RECORDS[number - 1] if number else None
        seq, checksum = (after.last_seq, after.checksum) if after else (0, 0)
        assert log.read(seq, checksum, 1 << 20) == (b"".join(raws(wanted)), wanted[-1].last_seq)
        assert log.read(seq, checksum, 1) == (wanted[0].raw, wanted[0].last_seq)
        assert log.read(seq, checksum + 1, 1) == (b"", seq)
    for number in (2, 6, 12):  # bad ones follow, or none
        after = RECORDS[number - 1]
        assert log.read(after.last_seq, after.checksum, 1 << 20) == (b"", after.last_seq)
    assert log.read(1, 0, 100) == (b"", 1)  # no record ends there
    assert log.read(99, 0, 100) == (b"", 99)


def test_a_record_behind_a_hole_follows_the_lost_one_that_others_have() -> None:
    log = open_damaged(holed(2))
    assert log.read(RECORDS[2].last_seq, RECORDS[2].checksum, 1)[0] == RECORDS[3].raw
    assert log.read(RECORDS[2].last_seq, RECORDS[2].checksum ^ 1, 1)[0] == b""


def test_checksums_of_good_records() -> None:
    log = open_damaged(holed(2, 6))
    assert log.checksum_at(0) == 0
    for number, record in enumerate(RECORDS):
        assert log.checksum_at(record.last_seq) == (None if number in (2, 6) else record.checksum)
        assert log.checksum_at(record.first_seq) is None
    assert log.checksum_at(99) is None


def test_what_has_been_healed_is_given_too() -> None:
    log = open_damaged(holed(2))
    fill(log)
    assert log.read(0, 0, 1 << 20)[0] == b"".join(raws(RECORDS[:6]))
    assert log.checksum_at(RECORDS[2].last_seq) == RECORDS[2].checksum


def test_what_went_bad_meanwhile_is_not_given() -> None:
    disk = holed(2)
    log = open_damaged(disk)
    disk.file(FIRST).unreadable = {70}
    assert log.read(0, 0, 1) == (b"", 0)
    disk.remove(SECOND)
    assert log.read(RECORDS[7].last_seq, RECORDS[7].checksum, 1) == (b"", RECORDS[7].last_seq)


def test_what_is_read_while_a_file_is_swapped_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The offsets that were looked up are those of the old file."""
    disk = damaged_log()
    data = bytes(disk.file(FIRST).data)
    at = data.index(RECORDS[1].raw)
    disk.put(FIRST, data[:at] + b"junk" + data[at + RECORDS[1].size :])
    log = open_damaged(disk)
    read_piece = log._read_piece

    def swap_first(*place: Any) -> bytes:
        if log.holes:
            fill(log)
        return read_piece(*place)

    monkeypatch.setattr(log, "_read_piece", swap_first)
    assert log.read(RECORDS[2].last_seq, RECORDS[2].checksum, 1)[0] == RECORDS[3].raw


def test_reading_while_it_is_healed(tmp_path: Path) -> None:
    """Real files: a reader in another thread gets nothing but whole good records."""
    directory = tmp_path / "A"
    options = LogOptions(segment_bytes=20_000)
    log = open_log(directory, options=options, **WHOSE).log  # type: ignore[arg-type]
    log.save_ballot(1, None)
    records = chain(300, value=b"v" * 200)
    for record in records:
        log.append([record])
    log.close()
    for path in sorted(directory.glob("*.log")):
        data = bytearray(path.read_bytes())
        for at in range(500, len(data), 3000):
            data[at] ^= 1
        path.write_bytes(data)
    damaged = DamagedLog.open(directory, options=options, **WHOSE)  # type: ignore[arg-type]
    assert len(damaged.holes) > 20
    by_start = {record.first_seq: record for record in records}
    wrong: list[str] = []
    is_over = threading.Event()

    def read() -> None:
        chance = random.Random(1)
        while not is_over.is_set():
            record = chance.choice(records)
            data, last_seq = damaged.read(record.first_seq - 1, record.prev_checksum, 5000)
            expected = b""
            at = record.first_seq
            while at <= last_seq:
                expected += by_start[at].raw
                at = by_start[at].last_seq + 1
            if data != expected:
                wrong.append(f"after {record.first_seq - 1}")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    while damaged.holes:
        fill(damaged, records)
    is_over.set()
    for reader in readers:
        reader.join()
    damaged.close()
    assert wrong == []
    seen: list[Record] = []
    open_log(directory, options=options, on_record=seen.append, **WHOSE).log.close()  # type: ignore[arg-type]
    assert raws(seen) == raws(records)


# Disks that fail


def test_without_room_nothing_changes_and_it_can_be_tried_again() -> None:
    for room in range(0, 900, 7):
        disk = damaged_log()
        disk.remove(FIRST)
        disk.remove(SECOND)
        log = open_damaged(disk)
        before = disk.contents()
        disk.room = disk.bytes_used + room
        try:
            fill(log)
        except NoSpaceError:
            assert disk.contents() == before, f"room for {room} bytes"
            disk.room = None
            fill(log)
        assert segments_of(disk) == segments_of(LOG), f"room for {room} bytes"
        assert log.holes == []


def test_without_room_in_the_middle_of_the_swap() -> None:
    def prepare() -> tuple[MemoryDisk, DamagedLog]:
        disk = damaged_log()
        for path in (FIRST, SECOND):
            disk.put(path, b"garbage")
        return disk, open_damaged(disk)

    disk, log = prepare()
    begun = len(disk.calls)
    fill(log)
    renames = [number for number, call in enumerate(disk.calls) if number >= begun and call[0] == "rename"]
    assert len(renames) == 4
    for number in renames:
        disk, log = prepare()
        disk.fail_at = {number: OSError(errno.ENOSPC, "No space left on device")}
        with pytest.raises(NoSpaceError):
            fill(log)
        while log.holes:
            fill(log)
        log.close()
        assert segments_of(disk) == segments_of(LOG)


@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS])
def test_every_other_failure_is_final(error: int) -> None:
    disk = holed(2)
    log = open_damaged(disk)
    begun = len(disk.calls)
    fill(log)
    calls = len(disk.calls)
    for number in range(begun, calls):
        disk = holed(2)
        log = open_damaged(disk)
        disk.fail_at = {number: OSError(error, "the disk says no")}
        with pytest.raises(DiskError, match="the disk says no"):
            fill(log)
        with pytest.raises(DiskError, match="the disk says no"):
            log.heal(RECORDS[2].raw)
        with pytest.raises(DiskError, match="the disk says no"):
            log.give_up("never committed")
        log.close()
        disk.fail_at = {}
        if look(disk).holes:
            heal(disk)
        assert segments_of(disk) == segments_of(LOG)


def test_what_can_not_be_read_back_is_not_swapped_in() -> None:
    class Forgetful(MemoryDisk):
        def pread(self, fd: int, count: int, offset: int) -> bytes:
            data = super().pread(fd, count, offset)
            return bytes(len(data)) if self._open[fd][0].suffix == ".tmp" else data

    disk = Forgetful()
    made = holed(2)
    disk.cached, disk.synced = made.cached, made.synced
    before = segments_of(disk)
    log = open_damaged(disk)
    with pytest.raises(DiskError, match="is not what can be read there"):
        fill(log)
    assert segments_of(disk) == before


def test_what_can_not_be_read_of_the_rest_stays_bad() -> None:
    """A segment that is written anew takes its other damage along; nothing bad becomes good by that."""
    records = chain(40, value=b"v" * 2000)
    disk = make_log(records, segment_bytes=1 << 20)
    path = DIRECTORY / segment_name(1)
    data = bytes(disk.file(path).data)
    at = data.index(records[2].raw) + 100
    disk.put(path, data[:at] + b"\0" + data[at + 1 :])
    disk.file(path).unreadable = {data.index(records[20].raw) + 500}
    log = open_damaged(disk, 1 << 20)
    holes = [(hole.first_seq, hole.last_seq) for hole in log.holes]
    fill(log, records)
    assert [(hole.first_seq, hole.last_seq) for hole in log.holes] == holes[1:]
    log.close()
    assert not disk.file(path).unreadable
    heal(disk, records)
    seen: list[Record] = []
    open_memory(disk, seen=seen)
    assert raws(seen) == raws(records)


# Giving up


def test_giving_up() -> None:
    disk = holed(2, 8)
    log = open_damaged(disk)
    assert not log.heal(b"")
    cut = log.give_up("B leads and does not have it")
    assert (cut.first_seq, cut.path) == (5, FIRST)
    assert (log.holes, log.last_seq, log.identity) == ([], 4, identity_of(disk))
    assert (log.identity.may_vote, log.identity.set_aside) == (False, "B leads and does not have it")
    assert log.read(0, 0, 1 << 20)[0] == b"".join(raws(RECORDS[:2]))
    assert not any(name.endswith(".tmp") for name in disk.listdir(DIRECTORY))
    log.close()
    recovered = open_memory(disk)
    assert (recovered.last_seq, recovered.findings) == (4, [])


def test_giving_up_without_an_identity_stores_one() -> None:
    disk = holed(2)
    disk.remove(DIRECTORY / "identity")
    log = open_damaged(disk)
    log.give_up("never committed")
    assert identity_of(disk) == log.identity
    assert not log.identity.may_vote


def test_memory_is_bounded_while_a_large_segment_is_filled(tmp_path: Path) -> None:
    """A segment of 24 MiB arrives in pieces of 1 MiB."""
    directory = tmp_path / "A"
    options = LogOptions(segment_bytes=24 << 20)
    log = open_log(directory, options=options, **WHOSE).log  # type: ignore[arg-type]
    log.save_ballot(1, None)
    records = chain(60, value=random.Random(5).randbytes(250_000))
    log.append(records[:30])
    log.append(records[30:])
    log.close()
    first, *rest = sorted(directory.glob("*.log"))
    assert first.stat().st_size > 12 << 20
    kept = first.read_bytes()
    first.unlink()
    damaged = DamagedLog.open(directory, options=options, **WHOSE)  # type: ignore[arg-type]
    (hole,) = damaged.holes
    tracemalloc.start()
    for record in missing(hole, records):
        damaged.heal(record.raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert damaged.holes == []
    assert first.read_bytes() == kept
    assert rest
    assert peak < 16 << 20
