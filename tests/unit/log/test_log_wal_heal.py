"""Damage in a log that is open: it is found by reading again, and written anew; and the right to vote is taken away."""

from __future__ import annotations

import errno
import threading
from contextlib import suppress
from pathlib import Path

import msgpack
import pytest

from kvnode.invariant import InvariantError
from kvnode.log import DiskError, DoesNotFit, LogOptions, Record, cluster_id, open_log
from kvnode.log.files import CHUNK_BYTES, PAGE_BYTES
from kvnode.log.record import HEADER_BYTES, SegmentHeader, encode_header, frame
from tests.crash.log_maker import DIRECTORY, MEMBERS, chain, open_memory, raws, segment_paths
from tests.crash.memory_disk import MODELS, MemoryDisk, PowerCut
from tests.unit.log.open_logs import filled, read_all

COUNT = 20
STARTS = (0, 6, 11, 16)
"""Which of the records begin a segment."""


def expected(records: list[Record]) -> list[tuple[int, int]]:
    return [(record.last_seq, record.checksum) for record in records]


def joined(records: list[Record]) -> bytes:
    return b"".join(raws(records))


def place_of(disk: MemoryDisk, record: Record) -> tuple[Path, int]:
    for path in segment_paths(disk):
        offset = bytes(disk.file(path).data).find(record.raw)
        if offset >= 0:
            return path, offset
    raise AssertionError(f"{record} is not on the disk")


def flip(disk: MemoryDisk, record: Record, at: int = 20) -> None:
    path, offset = place_of(disk, record)
    disk.file(path).data[offset + at % record.size] ^= 0xFF


def segments_of(disk: MemoryDisk) -> dict[str, bytes]:
    return {path.name: bytes(disk.file(path).data) for path in segment_paths(disk)}


def seq_before(records: list[Record], position: int) -> int:
    return records[position - 1].last_seq if position else 0


# Scrub.


def test_a_good_log_is_good_from_anywhere_to_anywhere() -> None:
    disk, log, records = filled(COUNT)
    for first in range(COUNT):
        for last in range(first, COUNT + 1):
            bad, size = log.scrub(seq_before(records, first), expected(records[first:last]))
            assert bad == []
            assert size >= sum(record.size for record in records[first:last])
    assert not [call for call in disk.calls if call[0] != "drop_cache"], "it writes nothing"


def test_the_disk_is_asked_not_the_cache() -> None:
    disk, log, records = filled(COUNT)
    log.scrub(0, expected(records[:8]))
    assert disk.calls == [("drop_cache", path.name) for path in segment_paths(disk)[:2]]


@pytest.mark.parametrize("position", range(COUNT))
@pytest.mark.parametrize("at", [0, 3, 7, 12, -1])
def test_a_flipped_byte_is_found(position: int, at: int) -> None:
    disk, log, records = filled(COUNT)
    flip(disk, records[position], at)
    [(after_seq, last_seq, reason)], _ = log.scrub(0, expected(records))
    assert (after_seq, last_seq) == (seq_before(records, position), records[position].last_seq)
    assert reason


def test_bad_records_that_follow_each_other_are_one_range_within_a_segment() -> None:
    disk, log, records = filled(COUNT)
    for position in (1, 2, 3, 5, 6, 9):
        flip(disk, records[position])
    bad, _ = log.scrub(0, expected(records))
    seqs = [record.last_seq for record in records]
    assert [each[:2] for each in bad] == [
        (seqs[0], seqs[3]),
        (seqs[4], seqs[5]),
        (seqs[5], seqs[6]),
        (seqs[8], seqs[9]),
    ]


def test_a_record_that_verifies_but_is_another_one_is_found() -> None:
    disk, log, records = filled(COUNT)
    path, offset = place_of(disk, records[7])
    other = chain(1, after=records[6], value=b"w")[0]
    assert other.size == records[7].size
    disk.file(path).data[offset : offset + other.size] = other.raw
    [(after_seq, last_seq, reason)], _ = log.scrub(0, expected(records))
    assert (after_seq, last_seq, reason) == (records[6].last_seq, records[7].last_seq, "another record is in its place")


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("at", [0, 5, 30, 60])
def test_a_bad_header_is_found_where_a_segment_begins(start: int, at: int) -> None:
    disk, log, records = filled(COUNT)
    path, _ = place_of(disk, records[start])
    disk.file(path).data[at] ^= 0xFF
    seq = seq_before(records, start)
    [(after_seq, last_seq, reason)], _ = log.scrub(0, expected(records))
    assert (after_seq, last_seq) == (seq, seq)
    assert reason.startswith("the segment's header can not be read")
    assert log.scrub(records[start].last_seq, expected(records[start + 1 :]))[0] == [], "not looked at from later on"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (SegmentHeader("0" * 32, "A", 13, 0, 1), "another cluster"),
        (SegmentHeader(cluster_id(MEMBERS), "B", 13, 0, 1), "node B"),
        (SegmentHeader(cluster_id(MEMBERS), "A", 12, 0, 1), "begins at seq 12"),
        (SegmentHeader(cluster_id(MEMBERS), "A", 13, 7, 1), "the segment's header is another one"),
        (SegmentHeader(cluster_id(MEMBERS), "A", 13, 0xFFFFFFFF, 1), "does not continue the segment before"),
    ],
)
def test_a_header_of_another_segment_is_found(header: SegmentHeader, reason: str) -> None:
    disk, log, records = filled(COUNT)
    path, start = place_of(disk, records[6])
    encoded = encode_header(header)
    disk.file(path).data[: len(encoded)] = encoded
    if len(encoded) != start:
        disk.file(path).data[len(encoded) : start] = b""
        disk.file(path).data.extend(bytes(start - len(encoded)))
    bad, _ = log.scrub(0, expected(records))
    assert bad[0][:2] == (12, 12)
    assert reason in bad[0][2]


def test_what_can_not_be_read_is_bad() -> None:
    disk, log, records = filled(COUNT)
    path, offset = place_of(disk, records[8])
    disk.file(path).unreadable.add(offset + 3)
    [found], _ = log.scrub(0, expected(records))
    assert found == (records[7].last_seq, records[8].last_seq, "the disk reports a read error (Input/output error)")
    disk.file(path).unreadable.add(2)
    bad, _ = log.scrub(0, expected(records))
    assert [each[:2] for each in bad] == [(12, 12), (records[7].last_seq, records[8].last_seq)]


def test_a_missing_or_short_file_is_bad() -> None:
    disk, log, records = filled(COUNT)
    second, third = segment_paths(disk)[1:3]
    disk.remove(second)
    del disk.file(third).data[-1:]
    bad, _ = log.scrub(0, expected(records))
    gone = "the file can not be opened (No such file or directory)"
    assert bad[:2] == [(12, 12, gone), (12, 22, gone)]
    assert [each[:2] for each in bad[2:]] == [(30, 32)]
    assert "ends within a record" in bad[2][2]


def test_a_lack_of_descriptors_is_no_damage() -> None:
    disk, log, records = filled(COUNT)

    def open_read(path: Path) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    disk.open_read = open_read  # type: ignore[method-assign]
    with pytest.raises(DiskError, match="Too many open files"):
        log.scrub(0, expected(records))


def test_what_was_cut_is_not_bad() -> None:
    disk, log, records = filled(COUNT)
    everything = expected(records)
    log.cut(records[8].last_seq)
    assert log.scrub(0, everything)[0] == []
    assert log.scrub(records[9].last_seq, everything[10:]) == ([], 0)
    flip(disk, records[4])
    assert [each[:2] for each in log.scrub(0, everything)[0]] == [(8, 10)]
    log.append(chain(2, entries=3, after=records[8]))
    assert [each[:2] for each in log.scrub(0, everything)[0]] == [(8, 10)]


def test_what_is_not_expected_yet_is_not_looked_at() -> None:
    _, log, records = filled(COUNT)
    more = chain(3, after=records[-1])
    assert log.scrub(0, expected(records + more))[0] == []
    assert log.scrub(records[-1].last_seq, expected(more)) == ([], 0)
    assert log.scrub(3, expected(records)) == ([], 0), "no record ends there"
    assert log.scrub(0, []) == ([], 0)


def test_large_records_are_read_piece_by_piece(tmp_path: Path) -> None:
    log = open_log(tmp_path / "A", cluster_id=cluster_id(("A",)), node_id="A", members=("A",)).log
    log.save_ballot(1, None)
    records = chain(7, entries=1, value=bytes(CHUNK_BYTES // 3))
    records += chain(1, entries=1, after=records[-1], value=bytes(CHUNK_BYTES + 17))
    records += chain(3, after=records[-1])
    log.append(records)
    [path] = (tmp_path / "A").glob("0*.log")
    data = path.read_bytes()
    for record in (records[2], records[7], records[9]):
        with path.open("r+b") as file:
            file.seek(data.find(record.raw) + 50)
            file.write(b"!")
    bad, size = log.scrub(0, expected(records))
    assert size == len(data)
    assert [each[:2] for each in bad] == [(r.first_seq - 1, r.last_seq) for r in (records[2], records[7], records[9])]
    for record in (records[2], records[7], records[9]):
        log.heal(record.first_seq - 1, record.last_seq, record.raw)
    assert path.read_bytes() == data
    assert log.scrub(0, expected(records)) == ([], len(data))
    log.close()


# Heal.


@pytest.mark.parametrize("first", range(COUNT))
def test_any_run_of_records_can_be_healed(first: int) -> None:
    for last in range(first, COUNT):
        disk, log, records = filled(COUNT)
        before = segments_of(disk)
        for record in records[first : last + 1]:
            flip(disk, record)
        log.heal(seq_before(records, first), records[last].last_seq, joined(records[first : last + 1]))
        assert segments_of(disk) == before
        assert log.scrub(0, expected(records))[0] == []
        assert read_all(log) == raws(records)
        more = chain(1, after=records[-1])
        log.append(more)
        assert len(segment_paths(disk)) == len(before), "it goes into the file that was written anew"
        log.close()
        seen: list[Record] = []
        assert open_memory(disk.after_crash("synced"), seen=seen).cut is None
        assert raws(seen) == raws(records + more)


@pytest.mark.parametrize("start", STARTS)
def test_a_header_can_be_healed(start: int) -> None:
    disk, log, records = filled(COUNT)
    before = segments_of(disk)
    path, end = place_of(disk, records[start])
    disk.file(path).data[:end] = bytes(end)
    seq = seq_before(records, start)
    log.heal(seq, seq, b"")
    assert segments_of(disk) == before
    assert read_all(log) == raws(records)


def test_a_missing_segment_is_made_again() -> None:
    disk, log, records = filled(COUNT)
    before = segments_of(disk)
    for path in segment_paths(disk):
        disk.remove(path)
    while bad := log.scrub(0, expected(records))[0]:
        after_seq, last_seq, _ = bad[0]
        log.heal(after_seq, last_seq, joined([r for r in records if after_seq < r.first_seq <= last_seq]))
    assert segments_of(disk) == before


@pytest.mark.parametrize("missing", [1, 100, 250])
def test_a_file_that_became_shorter_has_its_size_again(missing: int) -> None:
    disk, log, records = filled(COUNT)
    before = segments_of(disk)
    third = segment_paths(disk)[2]
    del disk.file(third).data[-missing:]
    log.heal(22, 24, records[11].raw)
    assert len(disk.file(third).data) == len(before[third.name])
    [(after_seq, last_seq, _)] = log.scrub(22, expected(records[11:]))[0]
    assert last_seq == 32
    log.heal(after_seq, last_seq, joined([r for r in records if after_seq < r.first_seq <= last_seq]))
    assert segments_of(disk) == before


def test_a_header_that_had_another_size_is_left_alone() -> None:
    """A later version may have written more into it; everything behind it would be in another place."""
    disk, log, records = filled(COUNT)
    log.close()
    path, start = place_of(disk, records[11])
    data = disk.file(path).synced
    fields = msgpack.unpackb(data[HEADER_BYTES:start])
    disk.put(path, frame(msgpack.packb([*fields, "more"]))[0] + data[start:])
    log = open_memory(disk).log
    with pytest.raises(DoesNotFit, match="the header of the segment had"):
        log.heal(22, 22, b"")
    assert read_all(log) == raws(records)


def test_what_else_is_bad_in_the_segment_stays_for_later() -> None:
    """A failing page takes with it the records that reach into it, and no other."""
    disk = MemoryDisk()
    log = open_memory(disk, segment_bytes=200_000).log
    log.save_ballot(1, None)
    records = chain(30, entries=1, value=bytes(3000))
    log.append(records)
    before = segments_of(disk)
    path, offset = place_of(disk, records[10])
    page = range(offset - offset % PAGE_BYTES, offset - offset % PAGE_BYTES + PAGE_BYTES)
    disk.file(path).unreadable.update(page)
    lost = [r for r in records if page.start - r.size < place_of(disk, r)[1] < page.stop]
    assert len(lost) in (2, 3)
    hole = (lost[0].first_seq - 1, lost[-1].last_seq)
    flip(disk, records[4])
    flip(disk, records[20])
    assert [each[:2] for each in log.scrub(0, expected(records))[0]] == [(4, 5), hole, (20, 21)]
    log.heal(4, 5, records[4].raw)
    assert disk.file(path).unreadable == set(), "it is another file now"
    assert [each[:2] for each in log.scrub(0, expected(records))[0]] == [hole, (20, 21)]
    log.heal(20, 21, records[20].raw)
    log.heal(*hole, joined(lost))
    assert segments_of(disk) == before


def test_a_fresh_copy_is_verified_before_it_takes_the_name() -> None:
    disk, log, records = filled(COUNT)
    log.heal(12, 14, records[6].raw)
    name = segment_paths(disk)[1].name
    assert disk.calls == [
        ("create", f"{name}.tmp"),
        ("pwrite", f"{name}.tmp"),
        ("fsync", f"{name}.tmp"),
        ("drop_cache", f"{name}.tmp"),
        ("rename", f"{name}.tmp {name}"),
        ("fsync_dir", DIRECTORY.name),
    ]


def test_a_fresh_copy_that_reads_back_otherwise_does_not_take_the_name() -> None:
    disk, log, records = filled(COUNT)
    before = segments_of(disk)
    original = disk.drop_cache

    def drop_cache(fd: int) -> None:
        original(fd)
        disk._open[fd][1].data[33] ^= 1

    disk.drop_cache = drop_cache  # type: ignore[method-assign]
    with pytest.raises(DiskError, match="not what can be read there"):
        log.heal(12, 14, records[6].raw)
    assert segments_of(disk) == before
    with pytest.raises(DiskError):
        log.append(chain(1, after=records[-1]))


def misfits(records: list[Record]) -> dict[str, tuple[int, int, bytes, str]]:
    other = chain(COUNT, value=b"w")
    longer = chain(1, after=records[6], value=b"vv")
    flipped = bytearray(joined(records[7:9]))
    flipped[-1] ^= 1
    return {
        "what was before": (14, 16, other[7].raw, "before"),
        "a lower term after": (14, 16, chain(1, term=2, after=records[6])[0].raw, "after"),
        "what comes after": (14, 16, chain(1, after=records[6], value=b"w")[0].raw, "after"),
        "what comes after, in the next segment": (20, 22, chain(1, after=records[9], value=b"w")[0].raw, "after"),
        "the log's end": (38, 40, chain(1, after=records[18], value=b"w")[0].raw, "after"),
        "sizes": (14, 16, longer[0].raw, "within"),
        "checksums": (14, 18, bytes(flipped), "within"),
        "chain": (14, 18, records[7].raw + other[8].raw, "within"),
        "too little": (14, 18, records[7].raw, "within"),
        "too much": (14, 16, joined(records[7:9]), "within"),
        "other seqs": (14, 16, records[8].raw, "within"),
        "nothing": (14, 16, b"", "within"),
        "past the end": (40, 42, chain(1, after=records[-1])[0].raw, "within"),
        "within a record": (15, 16, records[7].raw, "within"),
        "two records as one": (14, 18, chain(1, entries=4, after=records[6])[0].raw, "within"),
        "no segment begins": (14, 14, b"", "within"),
    }


@pytest.mark.parametrize("what", misfits(chain(COUNT)))
def test_what_does_not_fit_is_not_written(what: str) -> None:
    disk, log, records = filled(COUNT)
    after_seq, to_seq, data, side = misfits(records)[what]
    flip(disk, records[7])
    before = segments_of(disk)
    with pytest.raises(DoesNotFit) as misfit:
        log.heal(after_seq, to_seq, data)
    assert misfit.value.side == side
    assert (segments_of(disk), disk.calls) == (before, [])
    log.heal(14, 16, records[7].raw)
    assert read_all(log) == raws(records), "it is not final"


def test_a_header_needs_the_record_before_it() -> None:
    disk, log, records = filled(COUNT)
    flip(disk, records[5])
    with pytest.raises(DoesNotFit) as misfit:
        log.heal(12, 12, b"")
    assert misfit.value.side == "before"


def test_what_belongs_to_cut_records_is_not_written() -> None:
    """Others of the same sizes have come in their place meanwhile."""
    _, log, records = filled(COUNT)
    log.save_ballot(2, None)
    log.cut(records[9].last_seq)
    later = chain(10, term=2, after=records[9])
    for record in later:
        log.append([record])
    for first in range(8, COUNT):
        for last in range(max(first, 10), COUNT):
            with pytest.raises(DoesNotFit):
                log.heal(seq_before(records, first), records[last].last_seq, joined(records[first : last + 1]))
    assert read_all(log) == raws(records[:10] + later)


def test_two_neighbours_that_are_bad_can_be_healed_one_by_one() -> None:
    for order in ((7, 8, 9), (9, 8, 7), (8, 9, 7)):
        disk, log, records = filled(COUNT)
        for position in order:
            flip(disk, records[position])
        for position in order:
            log.heal(records[position - 1].last_seq, records[position].last_seq, records[position].raw)
        assert read_all(log) == raws(records)


@pytest.mark.parametrize("model", MODELS)
def test_a_crash_while_healing_leaves_the_old_or_the_new_file(model: str) -> None:
    calls = 0
    found: set[bool] = set()
    while True:
        disk, log, records = filled(COUNT)
        log.idle()
        path, offset = place_of(disk, records[12])
        good = segments_of(disk)
        damaged = bytearray(good[path.name])
        damaged[offset + 30] ^= 0xFF
        disk.put(path, bytes(damaged))
        disk.calls.clear()
        disk.stop_at = calls
        stopped = True
        with suppress(PowerCut):
            log.heal(24, 26, records[12].raw)
            stopped = False
        after = disk.after_crash(model, calls)
        content = bytes(after.file(path).data)
        assert content in (bytes(damaged), good[path.name])
        found.add(content == good[path.name])
        others = {name: data for name, data in segments_of(after).items() if name != path.name}
        assert others == {name: data for name, data in good.items() if name != path.name}
        if not stopped:
            assert content == good[path.name]
            seen: list[Record] = []
            open_memory(after, seen=seen)
            assert raws(seen) == raws(records)
            break
        calls += 1
    assert found == {False, True}


# While others read and write.


class PausedDisk(MemoryDisk):
    """The `at`-th read of a file in the thread `reader` waits, once its file is open, for the writer's deed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = threading.Event()
        self.deed_is_done = threading.Event()

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        if threading.current_thread().name == "reader" and not self.is_open.is_set():
            self.is_open.set()
            assert self.deed_is_done.wait(10)
        return super().pread(fd, count, offset)


@pytest.mark.parametrize("deed", ["cut", "heal", "cut and append"])
def test_a_scrub_that_the_writer_overtakes_is_done_again(deed: str) -> None:
    disk = PausedDisk()
    log = open_memory(disk, segment_bytes=10_000).log
    log.save_ballot(1, None)
    records = chain(6)
    log.append(records)
    flip(disk, records[4])
    results: list[object] = []
    reader = threading.Thread(target=lambda: results.append(log.scrub(0, expected(records))[0]), name="reader")
    reader.start()
    assert disk.is_open.wait(10)
    if deed == "heal":
        log.heal(8, 10, records[4].raw)
    else:
        log.cut(records[2].last_seq)
    if deed == "cut and append":
        log.append(chain(3, entries=3, after=records[2]))
    disk.deed_is_done.set()
    reader.join()
    assert results == [[]]


def test_scrubbing_and_reading_while_the_log_grows_and_is_cut_and_healed(tmp_path: Path) -> None:
    """Nobody finds anything bad in a good log, whatever the writer does meanwhile."""
    members = ("A",)
    options = LogOptions(segment_bytes=3000)
    log = open_log(tmp_path / "A", cluster_id=cluster_id(members), node_id="A", members=members, options=options).log
    log.save_ballot(1, None)
    settled = chain(60)
    log.append(settled[:30])
    log.append(settled[30:])
    faults: list[object] = []
    stop = threading.Event()
    rounds = 0

    def scrub() -> None:
        nonlocal rounds
        try:
            while not stop.is_set() or not rounds:
                bad, size = log.scrub(0, expected(settled))
                data, _ = log.read(settled[40].last_seq, 500)
                rounds += 1
                if bad or not size or data[: settled[41].size] != settled[41].raw:
                    faults.append((bad, size, data))
        except BaseException as fault:
            faults.append(fault)

    reader = threading.Thread(target=scrub)
    reader.start()
    for term in range(2, 12):
        log.save_ballot(term, None)
        more = chain(8, term=term, after=settled[-1], value=bytes(300))
        log.append(more[:4])
        log.append(more[4:])
        log.heal(settled[term].last_seq, settled[term + 3].last_seq, joined(settled[term + 1 : term + 4]))
        log.heal(settled[50].last_seq, more[1].last_seq, joined(settled[51:] + more[:2]))
        log.cut(settled[-1].last_seq)
    stop.set()
    reader.join()
    log.close()
    assert faults == []
    assert rounds


# Set aside.


def test_a_log_that_is_set_aside_gives_up_its_vote_before_anything_is_cut() -> None:
    disk, log, records = filled(COUNT)
    log.save_identity(log.identity)
    disk.calls.clear()
    cut = log.set_aside(records[7].last_seq, "its records differ from those of B and C")
    assert cut is not None
    assert cut.reason == "its records differ from those of B and C"
    assert cut.first_seq == records[8].first_seq
    names = [what for _, what in disk.calls]
    assert names[:4] == ["identity.tmp", "identity.tmp", "identity.tmp", "identity.tmp identity"]
    assert disk.calls[4] == ("fsync_dir", DIRECTORY.name)
    log.close()
    seen: list[Record] = []
    found = open_memory(disk.after_crash("synced"), seen=seen)
    assert (found.identity.may_vote, found.identity.set_aside) == (False, "its records differ from those of B and C")
    assert raws(seen) == raws(records[:8])


def test_a_log_without_anything_to_cut_is_set_aside_too() -> None:
    _, log, records = filled(COUNT)
    assert log.set_aside(records[-1].last_seq, "why") is None
    assert log.identity.set_aside == "why"
    with pytest.raises(InvariantError):
        log.set_aside(records[-1].last_seq + 2, "why")
