"""A disk without room: nothing half-written stays, the same call can be made again, and the reserve is for ballots."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

import pytest

from kvnode.log import DiskError, LogOptions, NoSpaceError, Record, WriteAheadLog, cluster_id, open_log
from kvnode.log.mark import decode_mark
from tests.crash.log_maker import DIRECTORY, MEMBERS, chain, open_memory, raws, segment_paths
from tests.crash.memory_disk import MemoryDisk
from tests.unit.log.open_logs import filled, make, read_all

NEED_ROOM = ("create", "pwrite", "rename", "mkdir")
SYNCS = ("fsync", "fdatasync", "fsync_dir")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RECORDS = 20
"""In four segments: the second begins with records[6]."""


def cut_three_segments(log: WriteAheadLog, records: list[Record]) -> None:
    log.cut(records[1].last_seq)


Deed = Callable[[WriteAheadLog, list[Record]], object]
DEEDS: dict[str, Deed] = {
    "append": lambda log, records: log.append(chain(1, after=records[-1], value=b"")),
    "append that begins a segment": lambda log, records: log.append(chain(4, after=records[-1])),
    "ballot": lambda log, records: log.save_ballot(2, "B"),
    "identity": lambda log, records: log.save_identity(replace(log.identity, may_vote=True)),
    "cut within the last segment": lambda log, records: log.cut(records[-2].last_seq),
    "cut between segments": lambda log, records: log.cut(records[5].last_seq),
    "cut of three segments": cut_three_segments,
    "set aside": lambda log, records: log.set_aside(records[1].last_seq, "its records differ"),
    "heal": lambda log, records: log.heal(records[2].last_seq, records[8].last_seq, b"".join(raws(records[3:9]))),
    "heal a header": lambda log, records: log.heal(records[5].last_seq, records[5].last_seq, b""),
}


def calls_of(deed: str) -> list[tuple[str, str]]:
    disk, log, records = filled(RECORDS)
    DEEDS[deed](log, records)
    return list(disk.calls)


def places(names: tuple[str, ...]) -> list[tuple[str, int]]:
    return [(deed, n) for deed in DEEDS for n, (name, _) in enumerate(calls_of(deed)) if name in names]


BEFORE_DURABLE = [
    (deed, n)
    for deed, n in places(NEED_ROOM)
    if not (deed.startswith("append") and calls_of(deed)[n] == ("pwrite", "mark"))
]


def snapshot(disk: MemoryDisk) -> dict[str, bytes]:
    """All files but two: the mark may be too low, and what `set aside` did to the identity stays."""
    return {path: data for path, data in disk.contents().items() if not path.endswith(("/mark", "/identity"))}


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
@pytest.mark.parametrize(("deed", "n"), BEFORE_DURABLE)
def test_without_room_nothing_has_changed_and_the_same_call_can_be_made_again(deed: str, n: int, part: float) -> None:
    disk, log, records = filled(RECORDS)
    before, seq = snapshot(disk), log.last_seq
    begun = {f"/data/{path.name}" for path in segment_paths(disk)}
    for number in NO_ROOM:
        disk.calls.clear()
        disk.fail_at, disk.part_written = {n: OSError(number, "No room")}, part
        with pytest.raises(NoSpaceError, match=r"no room to write .* in /data.*: No room\. .*; writing then goes on"):
            DEEDS[deed](log, records)
        after = snapshot(disk)
        # A segment that was begun stays: a header alone.
        assert {path: data for path, data in after.items() if path in before} == before
        assert all(path.endswith(".log") and path not in begun for path in after.keys() - before.keys())
        assert (log.last_seq, read_all(log)) == (seq, raws(records))
        disk.fail_at = {}
        log.idle()
        assert decode_mark(disk.file(DIRECTORY / "mark").synced).seq == seq
        if set(after) != set(before):
            return  # it is not the same call any more
    DEEDS[deed](log, records)
    end, found = log.last_seq, read_all(log)
    log.close()
    seen: list[Record] = []
    assert open_memory(disk, seen=seen).cut is None
    assert (seen[-1].last_seq, raws(seen)) == (end, found)


@pytest.mark.parametrize(("deed", "n"), BEFORE_DURABLE)
def test_without_room_another_call_can_be_made_instead(deed: str, n: int) -> None:
    disk, log, records = filled(RECORDS)
    disk.fail_at, disk.part_written = {n: OSError(errno.ENOSPC, "No room")}, 0.5
    with pytest.raises(NoSpaceError):
        DEEDS[deed](log, records)
    log.save_ballot(3, "C")
    other = chain(3, term=3, after=records[-1], value=b"other")
    log.append(other)
    cut_at = other[0].last_seq
    log.cut(cut_at)
    log.close()
    seen: list[Record] = []
    assert open_memory(disk, seen=seen).cut is None
    assert raws(seen) == raws(records + other[:1])


@pytest.mark.parametrize(("deed", "n"), [place for place in places(NEED_ROOM) if place not in BEFORE_DURABLE])
def test_an_append_needs_no_room_for_the_mark(deed: str, n: int) -> None:
    """It is durable by then. The mark follows when there is room, at the latest before the next segment begins."""
    disk, log, records = filled(RECORDS)
    disk.fail_at = dict.fromkeys((n, n + 1), OSError(errno.ENOSPC, "No room"))
    DEEDS[deed](log, records)
    old = decode_mark(bytes(disk.file(DIRECTORY / "mark").data)).seq
    assert old < log.last_seq
    with pytest.raises(NoSpaceError, match="mark"):
        log.idle()
    crashed = disk.after_crash("kept")
    assert open_memory(crashed).last_seq == log.last_seq
    log.idle()
    assert decode_mark(disk.file(DIRECTORY / "mark").synced).seq == log.last_seq


def test_a_mark_that_had_no_room_is_written_before_the_next_segment_begins() -> None:
    disk, log = make()
    disk.fail_at = {2: OSError(errno.ENOSPC, "No room")}
    records = chain(2, value=bytes(200))
    log.append(records[:1])
    log.append(records[1:])
    begun = next(n for n, (name, _) in enumerate(disk.calls) if name == "create")
    assert disk.calls[begun - 2 : begun] == [("pwrite", "mark"), ("fdatasync", "mark")]
    assert decode_mark(disk.file(DIRECTORY / "mark").synced).seq == records[0].last_seq


@pytest.mark.parametrize(("deed", "n"), places(SYNCS))
@pytest.mark.parametrize("number", [*NO_ROOM, errno.EIO])
def test_whatever_an_fsync_says_is_final(deed: str, n: int, number: int) -> None:
    disk, log, records = filled(RECORDS)
    disk.fail_at = {n: OSError(number, "Broken")}
    with pytest.raises(DiskError, match=r"Could not .*: Broken\. .*this process must end") as first:
        DEEDS[deed](log, records)
    assert not isinstance(first.value, NoSpaceError)
    calls = list(disk.calls)
    again: list[Deed] = [*DEEDS.values(), lambda log, _: log.release_reserve(), lambda log, _: log.refill_reserve()]
    for other in again:
        with pytest.raises(DiskError, match="Broken") as later:
            other(log, records)
        assert not isinstance(later.value, NoSpaceError)
    log.close()
    assert disk.calls == calls
    seen: list[Record] = []
    open_memory(disk.after_crash("synced"), seen=seen)
    kept = 1 if "set aside" in deed else 2 if "cut" in deed else len(records)
    assert raws(seen)[:kept] == raws(records)[:kept]


@pytest.mark.parametrize(("deed", "n"), places((*NEED_ROOM, "truncate", "unlink")))
def test_every_other_error_is_final(deed: str, n: int) -> None:
    disk, log, records = filled(RECORDS)
    disk.fail_at = {n: OSError(errno.EIO, "Broken")}
    for _ in range(2):
        with pytest.raises(DiskError, match="Broken") as error:
            DEEDS[deed](log, records)
        assert not isinstance(error.value, NoSpaceError)


@pytest.mark.parametrize("undo", [1, 2])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_half_record_that_can_not_be_taken_back_is_final(undo: int, number: int) -> None:
    disk, log, records = filled(2)
    disk.fail_at = {0: OSError(errno.ENOSPC, "No room"), undo: OSError(number, "Broken")}
    disk.part_written = 0.5
    for _ in range(2):
        with pytest.raises(DiskError, match="Broken") as error:
            log.append(chain(2, after=records[-1]))
        assert not isinstance(error.value, NoSpaceError)
    assert disk.calls[1][0] == "truncate"
    assert disk.calls[2:] == [("fsync", segment_paths(disk)[0].name)][: undo - 1]


def test_a_cut_that_can_neither_be_finished_nor_taken_back_is_final() -> None:
    disk, log, records = filled(RECORDS)
    renames = [
        n for n, (name, what) in enumerate(calls_of("cut of three segments")) if "rename" in name and "tmp" not in what
    ]
    second = renames[1]
    disk.fail_at = {second: OSError(errno.ENOSPC, "No room"), second + 1: OSError(errno.ENOSPC, "No room")}
    for _ in range(2):
        with pytest.raises(DiskError, match="neither be finished nor be taken back") as error:
            cut_three_segments(log, records)
        assert not isinstance(error.value, NoSpaceError)
    seen: list[Record] = []
    open_memory(disk.after_crash("kept"), seen=seen)
    assert 2 <= len(seen) < len(records)


def test_a_cut_makes_its_directory_again() -> None:
    disk, log, records = filled(RECORDS)
    for names in (disk.cached, disk.synced):  # an operator may remove it at any time
        del names[str(DIRECTORY / "discarded")], names[str(DIRECTORY)]["discarded"]
    log.cut(records[1].last_seq)
    assert len(disk.listdir(DIRECTORY / "discarded")) == 4


# A disk that fills up, and the reserve.


def open_with_reserve(disk: MemoryDisk, reserve_bytes: int, seen: list[Record] | None = None) -> WriteAheadLog:
    options = LogOptions(segment_bytes=4000, reserve_bytes=reserve_bytes)
    return open_log(
        DIRECTORY,
        cluster_id=cluster_id(MEMBERS),
        node_id="A",
        members=MEMBERS,
        options=options,
        files=disk,
        on_record=None if seen is None else seen.append,
    ).log


def test_a_full_disk_with_a_reserve() -> None:
    disk = MemoryDisk()
    log = open_with_reserve(disk, 10_000)
    log.save_ballot(1, "A")
    assert log.refill_reserve()
    disk.room = disk.bytes_used + 30_000
    records: list[Record] = []
    for record in chain(1000, value=bytes(100)):
        try:
            log.append([record])
        except NoSpaceError:
            break
        records.append(record)
    assert 50 < len(records) < 1000
    with pytest.raises(NoSpaceError):
        log.save_ballot(2, None)
    assert log.ballot.term == 1
    assert log.release_reserve()
    assert not log.release_reserve()
    log.save_ballot(2, "B")
    small = chain(1, term=2, after=records[-1], value=bytes(1000))
    log.append(small)
    records += small
    assert not log.refill_reserve()
    assert not [name for name in disk.listdir(DIRECTORY) if name.startswith("reserve") or name.endswith(".tmp")]
    disk.room += 20_000
    assert log.refill_reserve()
    log.append(more := chain(20, term=2, after=records[-1]))
    records += more
    log.close()
    seen: list[Record] = []
    again = open_with_reserve(disk.after_crash("synced"), 10_000, seen)
    assert raws(seen) == raws(records)
    assert (again.ballot.term, again.ballot.vote) == (2, "B")


def test_the_reserve_is_written_and_can_not_be_compressed() -> None:
    import zlib

    disk = MemoryDisk()
    log = open_with_reserve(disk, 100_000)
    assert log.refill_reserve()
    data = disk.file(DIRECTORY / "reserve").synced
    assert len(data) == 100_000
    assert len(zlib.compress(data)) >= len(data)
    calls = len(disk.calls)
    assert log.refill_reserve()
    assert len(disk.calls) == calls, "it is there"


@pytest.mark.parametrize("size", [0, 99, 101])
def test_a_reserve_of_another_size_is_made_anew(size: int) -> None:
    disk = MemoryDisk()
    open_with_reserve(disk, 100).close()
    disk.put(DIRECTORY / "reserve", bytes(size))
    disk.put(DIRECTORY / "reserve.tmp", bytes(50))
    log = open_with_reserve(disk, 100)
    assert log.refill_reserve()
    assert len(disk.file(DIRECTORY / "reserve").synced) == 100
    log.close()
    calls = len(disk.calls)
    assert open_with_reserve(disk, 100).refill_reserve()
    assert {name for name, _ in disk.calls[calls:]} <= {"fsync", "fsync_dir", "drop_cache"}


def test_a_log_may_do_without_reserve() -> None:
    disk = MemoryDisk()
    log = open_with_reserve(disk, 0)
    assert log.refill_reserve()
    assert not log.release_reserve()
    assert "reserve" not in disk.listdir(DIRECTORY)


def test_the_removal_of_the_reserve_is_durable() -> None:
    disk = MemoryDisk()
    log = open_with_reserve(disk, 100)
    log.refill_reserve()
    disk.calls.clear()
    log.release_reserve()
    assert disk.calls == [("unlink", "reserve"), ("fsync_dir", "data")]
    disk.fail_at = {len(disk.calls) + 4: OSError(errno.ENOSPC, "No room")}
    with pytest.raises(DiskError):
        log.refill_reserve()


def test_nothing_is_left_of_an_append_that_began_a_segment() -> None:
    """The new segment is a header alone then, and the same append goes there."""
    disk, log = make()
    records = chain(5)
    for record in records[:4]:
        log.append([record])
    disk.room = disk.bytes_used + 200
    with pytest.raises(NoSpaceError):
        log.append(more := chain(1, after=records[3], value=bytes(300)))
    assert [disk.file(path).data[-1:] for path in segment_paths(disk)][-1]
    assert len(segment_paths(disk)) == 2
    crashed = open_memory(disk.after_crash("kept"))
    assert (crashed.last_seq, crashed.cut) == (records[3].last_seq, None)
    disk.room = None
    log.append(more)
    assert len(segment_paths(disk)) == 2
    assert read_all(log) == raws(records[:4] + more)
