"""Looking at a log from outside: what is good is read, what is not is named, and what only moves is neither."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from kvnode.log import LogError, LogOptions, Record, WriteAheadLog, cluster_id, open_log
from kvnode.log.files import RealFiles
from kvnode.log.healing.survey import survey
from kvnode.log.mark import Mark, encode_mark
from kvnode.log.record import SegmentHeader, decode_header, encode_header, frame
from kvnode.log.viewing.listing import SegmentFile, look_at, read_mark
from kvnode.log.viewing.reader import Fault, Found, Item, Reader, Replaced, find_last_seq
from tests.crash.log_maker import DIRECTORY, MEMBERS, chain, make_log, raws, segment_paths
from tests.crash.memory_disk import MemoryDisk

RECORDS = chain(12)


def fill(directory: Path, records: list[Record], segment_bytes: int = 400) -> WriteAheadLog:
    log = open_log(
        directory,
        cluster_id=cluster_id(MEMBERS),
        node_id="A",
        members=MEMBERS,
        options=LogOptions(segment_bytes=segment_bytes),
    ).log
    log.save_ballot(2, None)
    for record in records:
        log.append([record])
    return log


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    fill(tmp_path / "A", RECORDS).close()
    return tmp_path / "A"


def items(path: Path, from_seq: int | None = None, to_seq: int | None = None) -> list[Item]:
    return list(Reader(look_at(path), from_seq, to_seq))


def found(given: list[Item]) -> list[bytes]:
    return [item.record.raw for item in given if isinstance(item, Found)]


def faults(given: list[Item]) -> list[Fault]:
    return [item for item in given if isinstance(item, Fault)]


def segments(path: Path) -> list[SegmentFile]:
    return list(look_at(path).segments)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def places(given: list[Item]) -> dict[int, tuple[Path, int]]:
    """Where each record stands, by its first seq."""
    return {item.record.first_seq: (item.path, item.offset) for item in given if isinstance(item, Found)}


# A log in good order.


def test_a_live_log_is_read_without_a_touch(tmp_path: Path) -> None:
    log = fill(tmp_path / "A", RECORDS)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "A").rglob("*")}
    given = items(tmp_path / "A")
    assert found(given) == raws(RECORDS)
    assert len(given) == len(RECORDS)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "A").rglob("*")} == before
    log.close()


@pytest.mark.parametrize("from_seq", [None, 0, 1, 2, 9, 10, 24, 25])
@pytest.mark.parametrize("to_seq", [None, 1, 8, 9, 24, 99])
def test_a_range_of_entries(directory: Path, from_seq: int | None, to_seq: int | None) -> None:
    wanted = [
        record
        for record in RECORDS
        if record.last_seq >= (from_seq or 0) and (to_seq is None or record.first_seq <= to_seq)
    ]
    given = items(directory, from_seq, to_seq)
    assert found(given) == raws(wanted)
    assert faults(given) == []


def test_a_record_stands_where_the_reader_says(directory: Path) -> None:
    given = items(directory)
    for item in given:
        assert isinstance(item, Found)
        assert item.path.read_bytes()[item.offset :].startswith(item.record.raw)
    assert len({item.path for item in given if isinstance(item, Found)}) == len(segments(directory)) >= 3


def test_a_single_segment_and_what_was_cut_off_can_be_read(tmp_path: Path) -> None:
    log = fill(tmp_path / "A", RECORDS)
    second = segments(tmp_path / "A")[1]
    assert found(items(second.path))[0] == RECORDS[second.first_seq // 2].raw
    cut = log.cut(RECORDS[5].last_seq)
    log.close()
    assert cut is not None
    assert [raw for path in cut.copies for raw in found(items(path))] == raws(RECORDS[6:])


def test_a_log_that_grows_is_read_as_far_as_it_went_at_the_beginning(tmp_path: Path) -> None:
    log = fill(tmp_path / "A", RECORDS[:7])
    reader = Reader(look_at(tmp_path / "A"))
    for record in RECORDS[7:]:
        log.append([record])
    assert found(list(reader)) == raws(RECORDS[:7])
    log.close()


def test_a_record_larger_than_a_chunk(tmp_path: Path) -> None:
    records = chain(3, entries=1, value=bytes(9_000_000))
    fill(tmp_path / "A", records).close()
    assert found(items(tmp_path / "A")) == raws(records)


def test_bytes_to_read_and_bytes_read(directory: Path) -> None:
    read: list[int] = []
    reader = Reader(look_at(directory), 20)
    last = [segment for segment in segments(directory) if segment.first_seq <= 20][-1]
    ahead = sum(segment.size for segment in segments(directory) if segment.first_seq >= last.first_seq)
    assert reader.bytes_to_read == ahead
    list(reader.read(read.append))
    assert read == sorted(read)
    assert read[-1] == ahead


def test_the_last_seq_is_the_marks_or_that_of_the_last_segment(directory: Path) -> None:
    assert find_last_seq(look_at(directory)) == 24
    (directory / "mark").unlink()
    assert find_last_seq(look_at(directory)) == 24
    assert find_last_seq(look_at(segments(directory)[0].path)) == segments(directory)[1].first_seq - 1


# Damage: named, and passed by.


def test_a_flipped_byte_costs_one_record(directory: Path) -> None:
    path, offset = places(items(directory))[5]
    flip(path, offset + 30)
    given = items(directory)
    assert found(given) == raws(RECORDS[:2] + RECORDS[3:])
    assert given[2] == Fault(path, offset, RECORDS[2].size, "the checksum does not match", 5, 6)
    assert str(given[2]) == (f"{path} at offset {offset}: the checksum does not match; entries 5 to 6 can not be read")


def test_where_the_length_itself_is_bad_the_next_record_is_searched_for(directory: Path) -> None:
    path, offset = places(items(directory))[5]
    flip(path, offset + 8)
    given = items(directory)
    assert found(given) == raws(RECORDS[:2] + RECORDS[3:])
    (fault,) = faults(given)
    assert (fault.offset, fault.size, fault.first_seq, fault.last_seq) == (offset, RECORDS[2].size, 5, 6)


def test_the_bytes_of_a_record_in_a_value_are_no_record_of_the_log(tmp_path: Path) -> None:
    copy = chain(1, after=RECORDS[1], value=b"not this one")[0]
    records = [*RECORDS[:2], *chain(1, after=RECORDS[1], value=b"v" * 50 + copy.raw + b"v" * 50)]
    records += chain(3, after=records[-1])
    fill(tmp_path / "A", records, 4000).close()
    path, offset = places(items(tmp_path / "A"))[5]
    flip(path, offset + 40)
    assert found(items(tmp_path / "A")) == raws(records[:2] + records[3:])


def test_damage_outside_of_the_range_is_nobodys_concern(directory: Path) -> None:
    path, offset = places(items(directory))[5]
    flip(path, offset + 30)
    for from_seq, to_seq in [(7, None), (7, 9), (None, 4)]:
        assert faults(items(directory, from_seq, to_seq)) == []
    for from_seq, to_seq in [(6, None), (6, 6), (None, 5), (1, 24)]:
        assert len(faults(items(directory, from_seq, to_seq))) == 1


def test_a_missing_segment(directory: Path) -> None:
    first, second, third, *_ = segments(directory)
    second.path.unlink()
    given = items(directory)
    assert faults(given) == [
        Fault(third.path, 0, 0, "the records before this segment are gone", second.first_seq, third.first_seq - 1)
    ]
    kept = [record for record in RECORDS if not second.first_seq <= record.first_seq < third.first_seq]
    assert found(given) == raws(kept)
    first.path.unlink()
    assert [(fault.first_seq, fault.last_seq) for fault in faults(items(directory))] == [(1, third.first_seq - 1)]


def test_the_mark_tells_that_the_end_is_missing(directory: Path) -> None:
    *_, before, last = segments(directory)
    last.path.unlink()
    (fault,) = faults(items(directory))
    assert (fault.path, fault.offset, fault.size) == (before.path, before.size, 0)
    assert fault.reason == "the log ends here, though it was durable up to seq 24"
    assert (fault.first_seq, fault.last_seq, fault.is_torn) == (last.first_seq, 24, False)


def test_a_segment_that_ends_early(directory: Path) -> None:
    first, second, *_ = segments(directory)
    os.truncate(first.path, first.size - 1)
    (fault,) = faults(items(directory))
    assert (fault.path, fault.last_seq) == (first.path, second.first_seq - 1)
    assert fault.reason.startswith("the data ends within a record")
    assert not fault.is_torn


def test_a_bad_header_hides_no_record(directory: Path) -> None:
    _, second, *_ = segments(directory)
    flip(second.path, 20)
    given = items(directory)
    assert found(given) == raws(RECORDS)
    (fault,) = faults(given)
    assert (fault.path, fault.offset, fault.first_seq) == (second.path, 0, None)
    assert fault.reason == "the segment's header can not be read: the checksum does not match"
    assert found(items(directory, second.first_seq)) == raws(RECORDS[second.first_seq // 2 :])


@pytest.mark.parametrize("position", [0, 1, -1])
def test_a_segment_of_zeros(directory: Path, position: int) -> None:
    segment = segments(directory)[position]
    missing = {item.record.first_seq for item in items(segment.path) if isinstance(item, Found)}
    segment.path.write_bytes(bytes(segment.size))
    given = items(directory)
    assert found(given) == raws([record for record in RECORDS if record.first_seq not in missing])
    (fault,) = faults(given)
    assert (fault.path, fault.offset, fault.size, fault.is_torn) == (segment.path, 0, 0, False)
    assert (fault.first_seq, fault.last_seq) == (min(missing), max(missing) + 1)


def test_a_segment_of_another_node_and_one_under_a_wrong_name(directory: Path, tmp_path: Path) -> None:
    _, second, third, *_ = segments(directory)
    data = second.path.read_bytes()
    header = encode_header(SegmentHeader(cluster_id(MEMBERS), "B", second.first_seq, 0, 0))
    second.path.write_bytes(header + data[100:])
    given = faults(items(directory))
    assert [fault.reason for fault in given] == [
        "the segment belongs to node B",
        "the records before this segment are gone",
    ]
    assert (given[0].size, given[1].first_seq, given[1].last_seq) == (
        len(header + data[100:]),
        second.first_seq,
        third.first_seq - 1,
    )
    second.path.write_bytes(third.path.read_bytes())
    assert faults(items(directory))[0].reason == (
        f"the header says that the segment begins at seq {third.first_seq}, its name says {second.first_seq}"
    )


def test_a_header_that_continues_another_history(directory: Path) -> None:
    _, second, *_ = segments(directory)
    data = second.path.read_bytes()
    old, size = decode_header(data)
    header = encode_header(replace(old, prev_checksum=old.prev_checksum ^ 1))
    second.path.write_bytes(header + data[size:])
    reasons = [fault.reason for fault in faults(items(directory))]
    assert reasons[0] == "the segment does not continue the one before it"
    assert "continues a record with checksum" in reasons[1]
    assert found(items(directory)) == raws(RECORDS)


def test_a_single_file_with_a_bad_header_shows_its_records(directory: Path) -> None:
    _, second, third, *_ = segments(directory)
    flip(second.path, 20)
    given = items(second.path)
    assert found(given) == raws(RECORDS[second.first_seq // 2 : third.first_seq // 2])
    assert [(fault.offset, fault.first_seq) for fault in faults(given)] == [(0, None)]


def test_files_that_go_away_while_their_sizes_are_looked_up_are_no_error(tmp_path: Path) -> None:
    log = fill(tmp_path / "A", RECORDS)

    class Meddler(RealFiles):
        looks = 0

        def listdir(self, path: Path) -> list[str]:
            names = super().listdir(path)
            self.looks += 1
            if self.looks == 1:
                log.cut(4)
            return names

    listing = look_at(tmp_path / "A", Meddler())
    assert [segment.path for segment in listing.segments] == [segment.path for segment in segments(tmp_path / "A")]
    assert len(listing.segments) == 1
    log.close()


def test_a_segment_that_can_not_be_opened(directory: Path) -> None:
    _, second, third, *_ = segments(directory)

    class BadDisk(RealFiles):
        looks = 0

        def open_read(self, path: Path) -> int:
            self.looks += path == second.path
            if path == second.path and self.looks % 2:  # every other time it is asked for its size
                raise OSError(5, "Input/output error")
            return super().open_read(path)

    listing = look_at(directory)
    given = list(Reader(listing, files=BadDisk()))
    assert [fault.reason for fault in faults(given)] == [
        "the file can not be opened (Input/output error)",
        "the records before this segment are gone",
    ]
    assert (faults(given)[1].first_seq, faults(given)[1].last_seq) == (second.first_seq, third.first_seq - 1)


def test_a_later_record_in_an_earlier_segment_costs_nothing(directory: Path) -> None:
    first, *_ = segments(directory)
    first.path.write_bytes(first.path.read_bytes() + RECORDS[9].raw)
    given = items(directory)
    assert found(given) == raws(RECORDS)
    assert [(fault.offset, fault.size) for fault in faults(given)] == [(first.size, RECORDS[9].size)]


def test_where_it_is_not_known_how_much_is_missing_it_concerns_every_entry_after_it(directory: Path) -> None:
    (directory / "mark").unlink()
    path = segments(directory)[-1].path
    path.write_bytes(path.read_bytes() + frame(b"\x90")[0])
    for from_seq in (None, 99):
        (fault,) = faults(items(directory, from_seq))
        assert (fault.first_seq, fault.last_seq, fault.is_torn) == (25, None, False)
    assert faults(items(directory, to_seq=24)) == []


def test_a_good_record_in_the_wrong_place(directory: Path) -> None:
    path = segments(directory)[-1].path
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + RECORDS[0].raw)
    given = items(directory)
    assert found(given) == raws(RECORDS)
    assert faults(given) == [Fault(path, size, RECORDS[0].size, "the record begins at seq 1, 25 should follow")]


def test_a_record_of_another_history_is_framed_by_faults(tmp_path: Path) -> None:
    other = chain(1, after=RECORDS[1], term=2, value=b"w")[0]
    assert other.size == RECORDS[2].size
    fill(tmp_path / "A", RECORDS, 4000).close()
    path, offset = places(items(tmp_path / "A"))[5]
    data = path.read_bytes()
    path.write_bytes(data[:offset] + other.raw + data[offset + other.size :])
    given = items(tmp_path / "A")
    assert [type(item) for item in given[1:6]] == [Found, Found, Fault, Found, Found]
    assert "continues a record with checksum" in faults(given)[0].reason
    assert len(faults(given)) == 1 or faults(given)[1].offset == offset + other.size


def damage(disk: MemoryDisk, random: Random) -> None:
    """One more thing that is wrong."""
    path = random.choice(segment_paths(disk))
    data = bytes(disk.file(path).data)
    at = random.randrange(len(data) + 1)
    record = random.choice(RECORDS).raw
    match random.randrange(8):
        case 0:
            disk.put(path, data[:at] + bytes([random.randrange(256)]) + data[at + 1 :])
        case 1:
            disk.put(path, data[:at])
        case 2 if len(segment_paths(disk)) > 1:
            disk.remove(path)
        case 3:
            disk.put(path, data + random.choice([bytes(50), random.randbytes(30), record]))
        case 4:
            disk.put(path, bytes(disk.file(random.choice(segment_paths(disk))).data))
        case 5:
            disk.put(path, data[:at] + record + data[at:])
        case 6:
            disk.put(path, data[:at] + data[random.randrange(at, len(data) + 1) :])
        case _:
            disk.put(path, data[:at] + random.randbytes(random.randrange(60)) + data[at:])


@pytest.mark.parametrize("seeds", range(40))
def test_whatever_is_damaged_no_wrong_record_is_given_and_what_is_not_given_is_told(seeds: int) -> None:
    base = make_log(RECORDS)
    for seed in range(25 * seeds, 25 * seeds + 25):
        disk = base.copy()
        random = Random(seed)
        for _ in range(random.randrange(1, 7)):
            damage(disk, random)
        try:
            given = list(Reader(look_at(DIRECTORY, disk), files=disk))
        except LogError:
            continue
        seqs = [item.record.first_seq for item in given if isinstance(item, Found)]
        assert seqs == sorted(set(seqs)), f"seed {seed}: out of order"
        assert set(found(given)) <= set(raws(RECORDS)), f"seed {seed}: a wrong record"
        told = {
            seq
            for fault in faults(given)
            if fault.first_seq is not None
            for seq in range(fault.first_seq, (fault.last_seq or 24) + 1)
        }
        missing = {
            seq for record in RECORDS if record.raw not in found(given) for seq in (record.first_seq, record.last_seq)
        }
        assert missing == told & set(range(1, 25)), f"seed {seed}: lost and not told, or told and not lost"


@pytest.mark.parametrize("seed", range(60))
def test_where_nothing_contradicts_it_agrees_with_what_a_start_would_find(seed: int) -> None:
    """The survey reads all and then chooses, the reader chooses as it goes: for one piece that rots it is the same."""
    disk = make_log(RECORDS)
    random = Random(seed)
    path = random.choice(segment_paths(disk))
    data = bytes(disk.file(path).data)
    at = random.randrange(len(data))
    disk.put(path, data[:at] + random.randbytes(min(random.randrange(1, 80), len(data) - at)) + data[at:][80:])
    given = list(Reader(look_at(DIRECTORY, disk), files=disk))
    found_survey = survey(DIRECTORY, files=disk)
    kept = [seq for run in found_survey.picture.kept for seq in run.last_seqs]
    assert kept == [item.record.last_seq for item in given if isinstance(item, Found)]
    damaged = [fault for fault in faults(given) if not fault.is_torn]
    holes = [(hole.path, hole.offset) for hole in found_survey.holes]
    tail = found_survey.tail_damage
    assert holes + ([(tail.path, tail.offset)] if tail else []) == [(fault.path, fault.offset) for fault in damaged]


def test_a_page_that_the_disk_does_not_give(tmp_path: Path) -> None:
    records = chain(12, entries=1, value=bytes(2000))
    fill(tmp_path / "A", records, 100_000).close()
    path, offset = places(items(tmp_path / "A"))[6]

    class BadDisk(RealFiles):
        def pread(self, fd: int, count: int, at: int) -> bytes:
            if os.path.samestat(os.fstat(fd), path.stat()) and at <= offset < at + count:
                raise OSError(5, "Input/output error")
            return super().pread(fd, count, at)

    given = list(Reader(look_at(tmp_path / "A"), files=BadDisk()))
    (fault,) = faults(given)
    assert fault.reason == "the disk reports a read error (Input/output error)"
    bad_page = range(offset - offset % 4096, offset - offset % 4096 + 4096)
    kept = [item.record for item in given if isinstance(item, Found)]
    assert fault.first_seq == kept[fault.first_seq - 2].last_seq + 1
    assert len(kept) == 12 - (fault.last_seq - fault.first_seq + 1)
    assert all(at + 2000 < bad_page.start or at >= bad_page.stop for _, at in places(given).values())
    assert fault.last_seq - fault.first_seq < 4, "what stands on good pages is read"


# The end of a log that nobody knows to be durable.


@pytest.mark.parametrize("junk", [b"\x92", RECORDS[0].raw[:-1], bytes(100) + b"\1", b"\xffjunk"])
def test_an_unfinished_end_is_told_and_is_no_damage(directory: Path, junk: bytes) -> None:
    path = segments(directory)[-1].path
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + junk)
    given = items(directory)
    assert found(given) == raws(RECORDS)
    (fault,) = faults(given)
    assert (fault.path, fault.offset, fault.size, fault.is_torn) == (path, size, len(junk), True)
    assert fault.first_seq is None


@pytest.mark.parametrize("mark", [None, Mark(18, 1, 0)])
def test_below_the_mark_it_is_damage_and_without_a_mark_only_the_end_may_be_torn(
    directory: Path, mark: Mark | None
) -> None:
    path, offset = places(items(directory))[21]
    last = places(items(directory))[23]
    (directory / "mark").write_bytes(b"" if mark is None else encode_mark(mark))
    flip(path, offset + 30)
    (fault,) = faults(items(directory))
    assert fault.is_torn == (mark is not None), "above the mark, though a good record follows"
    flip(*last)
    assert faults(items(directory))[-1].is_torn


# What only moves is no damage.


class Meddling(RealFiles):
    """Real files, and something that happens to them before the n-th read."""

    def __init__(self, reads: int, deed: object) -> None:
        self.reads = reads
        self.deed = deed

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        self.reads -= 1
        if self.reads == 0:
            assert callable(self.deed)
            self.deed()
        return super().pread(fd, count, offset)


@pytest.mark.parametrize("reads", range(1, 16))
@pytest.mark.parametrize("kept", [0, 1, 4, 9])
@pytest.mark.parametrize("is_rewritten", [True, False])
def test_a_cut_at_any_moment_is_no_damage(tmp_path: Path, reads: int, kept: int, is_rewritten: bool) -> None:
    log = fill(tmp_path / "A", RECORDS)
    after = RECORDS[kept - 1] if kept else None
    instead = chain(12 - kept, term=2, after=after, value=b"longer than before")

    def cut() -> None:
        log.cut(after.last_seq if after else 0)
        for record in instead if is_rewritten else []:
            log.append([record])

    given = list(Reader(look_at(tmp_path / "A"), files=Meddling(reads, cut)))
    log.close()
    assert faults(given) == []
    log_now: list[bytes] = []
    for item in given:
        if isinstance(item, Found):
            log_now.append(item.record.raw)
        elif isinstance(item, Replaced):
            del log_now[item.after_seq // 2 :]
    old, new = raws(RECORDS), raws(RECORDS[:kept] + (instead if is_rewritten else []))
    assert log_now == new or log_now == old[: len(log_now)], "one history or the other, never a mixture"


def test_a_segment_that_is_mended_while_it_is_read_is_no_damage(directory: Path) -> None:
    path, offset = places(items(directory))[5]
    good = path.read_bytes()
    flip(path, offset + 30)

    def mend() -> None:
        path.with_name("mended.tmp").write_bytes(good)
        path.with_name("mended.tmp").rename(path)

    for reads in range(1, 5):  # before the file is opened for the second look
        given = list(Reader(look_at(directory), files=Meddling(reads, mend)))
        assert found(given) == raws(RECORDS)
        assert faults(given) == []
        flip(path, offset + 30)


def test_what_is_damaged_is_looked_at_twice_and_no_more(directory: Path) -> None:
    for first_seq in (3, 9, 15, 21):
        path, offset = places(items(directory))[first_seq]
        flip(path, offset + 30)
    counting = Meddling(0, None)
    given = list(Reader(look_at(directory), files=counting))
    assert len(faults(given)) == 4
    assert -counting.reads < 100


# Reading on.


def test_reading_on_gives_what_came_up_to_the_mark(tmp_path: Path) -> None:
    log = fill(tmp_path / "A", RECORDS[:3])
    reader = Reader(look_at(tmp_path / "A"))
    assert found(list(reader)) == raws(RECORDS[:3])
    for position in range(3, 12):
        log.append([RECORDS[position]])
        mark = read_mark(tmp_path / "A")
        assert mark is not None
        assert found(list(reader.read_on(mark))) == [RECORDS[position].raw]
        assert list(reader.read_on(mark)) == []
    log.close()


def test_reading_on_looks_at_no_earlier_segment(tmp_path: Path) -> None:
    log = fill(tmp_path / "A", RECORDS[:9])
    opened: list[Path] = []

    class Watched(RealFiles):
        def open_read(self, path: Path) -> int:
            opened.append(path)
            return super().open_read(path)

    reader = Reader(look_at(tmp_path / "A"), files=Watched())
    list(reader)
    last = segments(tmp_path / "A")[-1].path
    opened.clear()
    log.append([RECORDS[9]])
    assert len(list(reader.read_on(Mark(20, 1, RECORDS[9].checksum)))) == 1
    assert {path for path in opened if path.suffix == ".log"} == {last}
    log.close()


def test_reading_on_notices_a_cut_before_and_after_it_was_written_over(tmp_path: Path) -> None:
    log = fill(tmp_path / "A", RECORDS)
    reader = Reader(look_at(tmp_path / "A"))
    list(reader)
    log.cut(10)
    assert list(reader.read_on(Mark(10, 1, RECORDS[4].checksum))) == [Replaced(10)]
    instead = chain(9, term=2, after=RECORDS[4])
    for record in instead:
        log.append([record])
    assert found(list(reader.read_on(Mark(28, 2, instead[-1].checksum)))) == raws(instead)
    log.cut(12)
    again = chain(2, term=2, after=instead[0], value=b"w")
    log.append(again)
    given = list(reader.read_on(Mark(16, 2, again[-1].checksum)))
    assert given[0] == Replaced(12)
    assert found(given) == raws(again)
    log.cut(0)
    assert list(reader.read_on(Mark())) == [Replaced(0)]
    assert list(reader.read_on(Mark())) == []
    new = chain(3, term=2, value=b"new")
    log.append(new)
    assert found(list(reader.read_on(Mark(6, 2, new[-1].checksum)))) == raws(new)
    log.close()


def test_a_cut_further_back_than_the_reader_remembers_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvnode.log.viewing.places.PLACES_MAX", 4)
    log = fill(tmp_path / "A", RECORDS)
    reader = Reader(look_at(tmp_path / "A"))
    list(reader)
    log.cut(6)
    instead = chain(10, term=2, after=RECORDS[2])
    log.append(instead)
    given = list(reader.read_on(Mark(26, 2, instead[-1].checksum)))
    assert given[0] == Replaced(16, is_all=False)
    assert found(given) == raws([record for record in instead if record.first_seq > 16])
    log.close()


def test_a_large_record_is_found_in_a_file_whose_header_is_damaged(tmp_path: Path) -> None:
    fill(tmp_path / "A", chain(1, entries=1, value=os.urandom(2_000_000)), segment_bytes=4_000_000).close()
    damaged = tmp_path / "damaged"
    data = bytearray(segments(tmp_path / "A")[0].path.read_bytes())
    data[0] ^= 1
    damaged.write_bytes(data)
    assert [segment.first_seq for segment in segments(damaged)] == [1]


# What is no log.


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "it is empty"),
        (b"*3\r\n$3\r\nSET\r\n", "it is an append-only file (AOF) of Redis"),
        (b"REDIS0011\xfa", "it is a snapshot (RDB) of Redis"),
        (bytes(5000), "it begins with zeros only"),
        (b"\x92\xce" * 50, "no record begins here"),
        (os.urandom(100_000), "no record begins here"),
        (encode_mark(Mark()), "it is the file `mark` of a data directory; give the directory"),
    ],
)
def test_what_is_not_a_log_is_named(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(LogError) as error:
        look_at(path)
    assert str(error.value) == f"{path} is not a log of kvnode: {what}."


def test_directories_that_hold_no_log_are_named(directory: Path, tmp_path: Path) -> None:
    def reason(path: Path) -> str:
        with pytest.raises(LogError) as error:
            Reader(look_at(path))
        return str(error.value).removeprefix(f"{path} ")

    (tmp_path / "empty").mkdir()
    assert reason(tmp_path / "empty") == "is not a kvnode data directory: it is empty."
    assert reason(tmp_path) == (
        f"is not a kvnode data directory: there are data directories in it, give one of them: {directory}."
    )
    assert "nothing was cut off" in reason(directory / "discarded")
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "appendonlydir").mkdir()
    assert reason(tmp_path / "redis").endswith("it looks like a directory of Redis.")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "notes.txt").write_text("")
    assert reason(tmp_path / "home").endswith("there is no segment of a log in it.")
    for segment in segments(directory):
        segment.path.unlink()
    assert reason(directory).endswith("all segments of its log are missing.")
    (tmp_path / "zeros").mkdir()
    (tmp_path / "zeros" / f"{1:020d}.log").write_bytes(bytes(1000))
    assert "no segment says whose it is (00000000000000000001.log: it begins with zeros only)" in reason(
        tmp_path / "zeros"
    )


def test_what_can_not_be_read_at_all(tmp_path: Path, directory: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LogError, match="it is neither a file nor a directory"):
        look_at(tmp_path / "fifo")
    with pytest.raises(LogError, match="there is no such file or directory"):
        look_at(tmp_path / "nothing")
    with pytest.raises(LogError, match="File name too long"):
        look_at(tmp_path / ("x" * 5000))
    (tmp_path / "link").symlink_to(directory)
    assert found(items(tmp_path / "link")) == raws(RECORDS)
    segment = segments(directory)[1].path
    segment.unlink()
    segment.symlink_to(segments(directory)[0].path)
    with pytest.raises(LogError, match="it is no plain file"):
        look_at(directory)


def test_the_ten_lines_of_the_documentation_read_a_log(directory: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "LOG_FORMAT.md").read_text()
    program = text.split("```python\n")[1].split("```")[0]
    command = [sys.executable, "-c", program, *map(str, sorted(directory.glob("*.log")))]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines == [f"{seq} 1 SET b'key {seq}' b'v'" for seq in range(1, 25)]
