"""The log open for writing: what each deed does to the disk, in which order, and what it refuses."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from kvnode.invariant import InvariantError
from kvnode.log import DiskError, ForeignLogError, LogOptions, Record, cluster_id, open_log
from kvnode.log.mark import decode_mark
from kvnode.log.record import split
from tests.crash.log_maker import DIRECTORY, MEMBERS, chain, open_memory, raws, segment_paths
from tests.crash.memory_disk import MemoryDisk
from tests.unit.log.open_logs import filled, make, read_all

MARK = DIRECTORY / "mark"


def test_an_append_is_one_write_and_one_sync_then_the_mark() -> None:
    disk, log = make(segment_bytes=10_000)
    records = chain(10)
    log.append(records)
    name = segment_paths(disk)[0].name
    assert disk.calls == [("pwrite", name), ("pwrite", name), ("fdatasync", name), ("pwrite", "mark")], "and room"
    assert decode_mark(bytes(disk.file(MARK).data)).seq == log.last_seq == records[-1].last_seq
    assert (log.counters.appends, log.counters.records) == (1, 10)
    assert log.counters.bytes_written == sum(record.size for record in records)
    log.append([])
    assert len(disk.calls) == 4
    log.append(chain(1, after=records[-1]))
    assert disk.calls[4:] == [("pwrite", name), ("fdatasync", name), ("pwrite", "mark")]


def test_small_records_are_written_where_zeros_have_been_written_before() -> None:
    disk, log = make(segment_bytes=8000, lay_out_bytes=2000)
    (path,) = segment_paths(disk)
    records = chain(40)
    for record in records:
        calls = len(disk.calls)
        size = len(disk.file(path).data)
        end = len(bytes(disk.file(path).data).rstrip(b"\0"))
        log.append([record])
        names = [name for name, what in disk.calls[calls:] if what == path.name]
        grew = len(disk.file(path).data) - size
        is_new = end + record.size > size
        assert (names, grew) == ((["pwrite", "pwrite", "fdatasync"], grew) if is_new else (["pwrite", "fdatasync"], 0))
    assert bytes(disk.file(path).data).rstrip(b"\0").endswith(b"".join(raws(records)))
    assert read_all(log) == raws(records)
    large = chain(1, after=records[-1], value=bytes(500))
    before = len(bytes(disk.file(path).data).rstrip(b"\0"))
    log.append(large)
    assert len(disk.file(path).data) <= before + 2000 + large[0].size, "large records are not written twice"


@pytest.mark.parametrize("ending", ["close", "cut", "segment"])
def test_room_that_is_not_needed_any_more_is_given_back(ending: str) -> None:
    disk, log = make(segment_bytes=8000, lay_out_bytes=2000)
    (path,) = segment_paths(disk)
    header = len(disk.file(path).data)
    records = chain(3)
    for record in records:
        log.append([record])
    assert len(disk.file(path).data) > header + sum(record.size for record in records)
    if ending == "close":
        log.close()
    elif ending == "cut":
        log.cut(records[1].last_seq)
        records = records[:2]
    else:
        log.append(chain(1, after=records[-1], value=bytes(9000)))
    assert bytes(disk.file(path).data)[header:] == b"".join(raws(records))
    assert disk.file(path).synced == bytes(disk.file(path).data)


def test_without_room_for_zeros_records_are_written_all_the_same() -> None:
    disk, log = make(segment_bytes=8000, lay_out_bytes=2000)
    records = chain(20)
    disk.room = disk.bytes_used + sum(record.size for record in records) + 100
    for record in records:
        log.append([record])
    assert read_all(log) == raws(records)
    assert log.counters.appends == len(records)


def test_a_full_segment_is_sealed_with_the_mark_before_the_next_one_appears() -> None:
    disk, log = make()
    records = chain(12)
    for record in records:
        log.append([record])
    second = segment_paths(disk)[1].name
    roll = disk.calls.index(("create", f"{second}.tmp"))
    assert disk.calls[roll - 1 : roll + 5] == [
        ("fdatasync", "mark"),
        ("create", f"{second}.tmp"),
        ("pwrite", f"{second}.tmp"),
        ("fsync", f"{second}.tmp"),
        ("rename", f"{second}.tmp {second}"),
        ("fsync_dir", DIRECTORY.name),
    ]
    assert len(segment_paths(disk)) >= 3
    assert read_all(log) == raws(records)


def test_a_batch_larger_than_a_segment_is_written_whole() -> None:
    disk, log = make()
    records = chain(3, value=bytes(500))
    log.append(records)
    log.append(chain(1, after=records[-1]))
    assert len(segment_paths(disk)) == 2
    assert len(read_all(log)) == 4


def test_idle_syncs_the_mark_once() -> None:
    disk, log = make()
    log.append(chain(1))
    disk.calls.clear()
    log.idle()
    log.idle()
    assert disk.calls == [("fdatasync", "mark")]
    assert decode_mark(disk.file(MARK).synced).seq == log.last_seq


@pytest.mark.parametrize("bytes_max", [0, 1, 150, 200, 1 << 20])
def test_read_gives_whole_records(bytes_max: int) -> None:
    _, log, records = filled()
    assert read_all(log, 0, bytes_max) == raws(records)
    for count, record in enumerate(records):
        data, last_seq = log.read(record.last_seq, bytes_max)
        if last_seq > record.last_seq:
            assert len(data) <= max(bytes_max, records[count + 1].size)
        assert read_all(log, record.last_seq, bytes_max) == raws(records[count + 1 :])


def test_read_after_what_is_no_end_of_a_record_gives_nothing() -> None:
    _, log, records = filled()
    for seq in (1, 3, records[-1].last_seq, records[-1].last_seq + 1, 10**9):
        assert log.read(seq, 1000) == (b"", seq)


@pytest.mark.parametrize("count", range(12))
def test_cut_anywhere_then_append_then_reopen(count: int) -> None:
    disk, log, records = filled()
    end = records[count - 1].last_seq if count else 0
    cut = log.cut(end)
    assert cut is not None
    assert cut.first_seq == end + 1
    assert (log.last_seq, log.last_checksum) == (end, records[count - 1].checksum if count else 0)
    assert read_all(log) == raws(records[:count])
    kept_aside = b"".join(bytes(disk.file(path).data) for path in cut.copies)
    assert all(record.raw in kept_aside for record in records[count:])
    log.save_ballot(2, None)
    later = chain(5, term=2, after=records[count - 1] if count else None, value=b"w")
    for record in later:
        log.append([record])
    assert read_all(log) == raws(records[:count] + later)
    log.close()
    seen: list[Record] = []
    assert open_memory(disk, seen=seen).cut is None
    assert raws(seen) == raws(records[:count] + later)


COPY = "00000000000000000007.log"
COPYING = (f"{COPY}.tmp", f"{COPY}.tmp {COPY}", "discarded")


def test_the_mark_is_lowered_durably_before_anything_is_cut() -> None:
    disk, log, records = filled()
    log.cut(records[2].last_seq)
    first_change = next(i for i, (_, what) in enumerate(disk.calls) if what not in COPYING)
    lowered = disk.calls.index(("pwrite", "mark"))
    assert disk.calls[lowered + 1] == ("fdatasync", "mark")
    moved = [what for name, what in disk.calls if name == "rename" and "tmp" not in what]
    assert moved == sorted(moved, reverse=True), "back to front"
    truncated = disk.calls.index(("truncate", segment_paths(disk)[0].name))
    assert disk.calls[truncated + 1][0] == "fsync"
    assert all(disk.calls.index(("rename", what)) < truncated for what in moved)
    assert first_change == lowered, "what needs room comes first"


def test_a_cut_of_nothing_does_nothing() -> None:
    disk, log, records = filled()
    assert log.cut(records[-1].last_seq) is None
    assert disk.calls == []


def test_the_same_cut_twice_keeps_both_copies() -> None:
    disk, log, records = filled(2)
    log.cut(records[0].last_seq)
    log.append([records[1]])
    log.cut(records[0].last_seq)
    assert disk.listdir(DIRECTORY / "discarded") == ["00000000000000000003.1.log", "00000000000000000003.log"]


@pytest.mark.parametrize("seq", [1, 7, 25, 1000])
def test_a_cut_within_a_record_or_past_the_end_is_a_bug(seq: int) -> None:
    disk, log, _ = filled()
    with pytest.raises(InvariantError):
        log.cut(seq)
    assert disk.calls == []


def test_what_does_not_continue_the_log_is_not_written() -> None:
    disk, log, records = filled(3)
    for wrong in (records[2], chain(5)[4], chain(4, value=b"w")[3]):
        with pytest.raises(InvariantError, match="append"):
            log.append([wrong])
    with pytest.raises(InvariantError, match="append"):
        log.append([chain(1, after=records[2])[0], records[0]])
    assert disk.calls == []


def test_a_term_must_be_in_the_ballot_before_its_records_are_in_the_log() -> None:
    disk, log, records = filled(1)
    later = chain(1, term=2, after=records[0])
    with pytest.raises(InvariantError, match="ballot"):
        log.append(later)
    assert disk.calls == []
    log.save_ballot(2, "B")
    log.append(later)


def test_a_record_above_the_cap_is_not_written() -> None:
    disk = MemoryDisk()
    open_memory(disk).log.close()
    log = open_log(
        DIRECTORY,
        cluster_id=cluster_id(MEMBERS),
        node_id="A",
        members=MEMBERS,
        options=LogOptions(record_bytes_max=100),
        files=disk,
    ).log
    log.save_ballot(1, None)
    with pytest.raises(InvariantError, match="bytes"):
        log.append(chain(1, value=bytes(100)))


def test_a_ballot_is_synced_renamed_and_its_directory_synced() -> None:
    disk, log = make()
    log.save_ballot(2, "C")
    assert disk.calls == [
        ("create", "ballot.tmp"),
        ("pwrite", "ballot.tmp"),
        ("fsync", "ballot.tmp"),
        ("rename", "ballot.tmp ballot"),
        ("fsync_dir", DIRECTORY.name),
    ]
    log.close()
    assert open_memory(disk).ballot == log.ballot


@pytest.mark.parametrize(("term", "vote"), [(4, None), (5, "B"), (5, None)])
def test_a_ballot_never_goes_back(term: int, vote: str | None) -> None:
    _, log = make()
    log.save_ballot(5, None)
    log.save_ballot(5, "A")
    log.save_ballot(5, "A")
    with pytest.raises(InvariantError):
        log.save_ballot(term, vote)
    assert log.ballot.vote == "A"


def test_the_right_to_vote_is_stored() -> None:
    disk, log = make()
    log.save_identity(replace(log.identity, may_vote=True))
    with pytest.raises(ForeignLogError):
        log.save_identity(replace(log.identity, members=("A",)))
    log.close()
    assert open_memory(disk).identity.may_vote


@pytest.mark.parametrize(("call", "number"), [(0, 5), (1, 5), (1, 28), (2, 5)])
def test_after_a_failed_write_or_sync_nothing_is_tried_again(call: int, number: int) -> None:
    disk, log, records = filled(2)
    disk.fail_at = {call: OSError(number, "Broken")}
    more = chain(3, after=records[1])
    with pytest.raises(DiskError, match=r"append.*Broken"):
        log.append(more)
    calls = list(disk.calls)
    for attempt in (lambda: log.append(more), lambda: log.save_ballot(9, None), lambda: log.cut(0)):
        with pytest.raises(DiskError, match="Broken"):
            attempt()
    log.close()
    assert disk.calls == calls
    assert "closed" in repr(log)
    seen: list[Record] = []
    open_memory(disk.after_crash("synced"), seen=seen)
    assert raws(seen)[:2] == raws(records)


@pytest.mark.parametrize("call", [0, 1, 2])
def test_a_failed_sync_or_cut_while_closing_is_told_and_nothing_is_lost(call: int) -> None:
    """Of the mark, or of the zeros that are left: cut off, and synced."""
    disk, log = make(segment_bytes=100_000)
    records = chain(2)
    log.append(records)
    disk.calls.clear()
    disk.fail_at = {call: OSError(5, "Broken")}
    with pytest.raises(DiskError, match="Broken"):
        log.close()
    assert len(disk.calls) == call + 1
    assert "closed" in repr(log)
    for model in ("kept", "synced"):
        seen: list[Record] = []
        open_memory(disk.after_crash(model), seen=seen)
        assert raws(seen) == raws(records)


def test_a_failed_append_is_not_readable() -> None:
    disk, log, records = filled(2)
    disk.fail_at = {1: OSError(5, "Broken")}
    with pytest.raises(DiskError):
        log.append(chain(1, after=records[1]))
    assert read_all(log) == raws(records)
    assert log.last_seq == records[1].last_seq


def test_closed_is_closed() -> None:
    disk, log, records = filled(2)
    log.close()
    log.close()
    with pytest.raises(InvariantError, match="closed"):
        log.append(chain(1, after=records[1]))
    assert open_memory(disk).last_seq == records[1].last_seq


def test_reading_while_the_log_grows_and_is_cut(tmp_path: Path) -> None:
    """Readers in another thread get runs of whole, valid records, whatever the writer does meanwhile."""
    members = ("A",)
    log = open_log(
        tmp_path / "A",
        cluster_id=cluster_id(members),
        node_id="A",
        members=members,
        options=LogOptions(segment_bytes=3000),
    ).log
    faults: list[BaseException] = []
    stop = threading.Event()
    pieces = 0

    def read() -> None:
        nonlocal pieces
        after_seq = 0
        try:
            while not stop.is_set() or not pieces:
                data, last_seq = log.read(after_seq, 1000)
                records = split(data)
                pieces += len(records)
                assert not records or (records[0].first_seq, records[-1].last_seq) == (after_seq + 1, last_seq)
                after_seq = last_seq if records else 0
        except BaseException as fault:
            faults.append(fault)

    reader = threading.Thread(target=read)
    reader.start()
    last: Record | None = None
    for term in range(1, 30):
        log.save_ballot(term, None)
        more = chain(12, term=term, after=last, value=b"%d" % term * (term % 7))
        for at in range(0, 12, 2):
            log.append(more[at : at + 2])
        last = more[4]
        log.cut(last.last_seq)
    stop.set()
    reader.join()
    log.close()
    assert faults == []
    assert pieces


class SlowDisk(MemoryDisk):
    """A reader's pread waits until a cut has truncated its file; the cut goes on when the reader is done."""

    def __init__(self) -> None:
        super().__init__()
        self.is_armed = False
        self.has_truncated = threading.Event()
        self.reader_is_done = threading.Event()

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        if self.is_armed and threading.current_thread().name == "reader":
            assert self.has_truncated.wait(10)
        return super().pread(fd, count, offset)

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size)
        self.has_truncated.set()
        assert self.reader_is_done.wait(10)


def test_a_read_that_a_cut_overtakes_is_done_again() -> None:
    disk = SlowDisk()
    log = open_memory(disk, segment_bytes=10_000).log
    log.save_ballot(1, None)
    records = chain(6)
    log.append(records)
    results: list[object] = []

    def read() -> None:
        try:
            results.append(log.read(0, 1 << 20))
        except DiskError as error:
            results.append(error)
        disk.reader_is_done.set()

    original = disk.open_read

    def open_read(path: Path) -> int:
        if threading.current_thread() is reader:
            disk.is_armed = True
            opened.set()
        return original(path)

    opened = threading.Event()
    disk.open_read = open_read  # type: ignore[method-assign]
    reader = threading.Thread(target=read, name="reader")
    reader.start()
    assert opened.wait(10)
    log.cut(records[2].last_seq)
    reader.join()
    assert results == [(b"".join(raws(records[:3])), records[2].last_seq)]
