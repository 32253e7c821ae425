"""Reading past damage: what is good is found, what only looks so is not, and neither takes long."""

from __future__ import annotations

import random
from pathlib import Path

import msgpack
import pytest

from kvnode.log import ForeignLogError, LogError, LogOptions, Record, cluster_id, open_log
from kvnode.log import record as record_module
from kvnode.log.files import REAL
from kvnode.log.healing.runs import read_runs
from kvnode.log.healing.survey import Survey, survey
from kvnode.log.record import SegmentHeader, encode, encode_header, frame
from kvnode.log.segment import segment_name
from kvnode.log.window import WASTE_BYTES_MIN, WASTE_FACTOR
from tests.crash.damage_maker import LOG, RECORDS, SEGMENTS, WHOSE, damaged_log, end_of, heal, look, segments_of
from tests.crash.log_maker import DIRECTORY, MEMBERS, chain, make_log, open_memory, raws, segment_paths
from tests.crash.memory_disk import MemoryDisk

FIRST, SECOND, LAST = SEGMENTS
HEADER = encode_header(SegmentHeader(cluster_id(MEMBERS), "A", 1, 0, 0))


def one_segment(*parts: bytes | Record, synced: int = 12, records: list[Record] = RECORDS) -> MemoryDisk:
    """A log of one segment: its header, and then these."""
    disk = make_log(records, segment_bytes=1 << 20, synced=synced)
    disk.put(FIRST, HEADER + b"".join(part if isinstance(part, bytes) else part.raw for part in parts))
    return disk


def good(found: Survey) -> list[int]:
    """The numbers of the records in RECORDS that were found."""
    seqs = [seq for run in found.picture.kept for seq in run.last_seqs]
    return [number for number, record in enumerate(RECORDS) if record.last_seq in seqs]


def spans(found: Survey) -> list[tuple[int, int]]:
    return [(hole.first_seq, hole.last_seq) for hole in found.holes]


def check_heals(disk: MemoryDisk, records: list[Record] = RECORDS) -> None:
    heal(disk, records)
    seen: list[Record] = []
    assert open_memory(disk, seen=seen).findings == []
    assert raws(seen) == raws(records)


R = RECORDS
BAD = b"\x92\xce" + bytes(5)


@pytest.mark.parametrize(
    ("parts", "found", "holes"),
    [
        # A record of later seqs, copied to where another should be: what surrounds it does not continue it.
        ([*R[:4], R[8], *R[5:]], [*range(4), *range(5, 12)], [(9, 10)]),
        ([*R[:4], R[9], R[10], *R[6:]], [*range(4), *range(6, 12)], [(9, 12)]),
        ([R[7], *R[1:]], [*range(1, 12)], [(1, 2)]),
        # A record of earlier seqs.
        ([*R[:4], R[1], *R[5:]], [*range(4), *range(5, 12)], [(9, 10)]),
        # The same records twice: nothing is missing, and the second ones have to go.
        ([*R[:4], R[3], *R[4:]], [*range(12)], [(9, 8)]),
        ([*R[:6], *R[2:]], [*range(12)], [(13, 12)]),
        ([*R[:6], *R[2:6], *R[6:]], [*range(12)], [(13, 12)]),
        # Two places with damage, one good record between them.
        ([R[0], BAD, R[2], BAD, *R[4:]], [0, 2, *range(4, 12)], [(3, 4), (7, 8)]),
        # Every second record is bad.
        ([part for r in R[::2] for part in (r, BAD)], [*range(0, 12, 2)], [(n, n + 1) for n in range(3, 23, 4)]),
        # Two neighbours exchanged: the longer run of what does not fit together is believed.
        ([*R[:3], R[4], R[3], *R[5:]], [*range(3), 4, *range(5, 12)], [(7, 8), (11, 10)]),
    ],
)
def test_records_in_wrong_places(parts: list[bytes | Record], found: list[int], holes: list[tuple[int, int]]) -> None:
    disk = one_segment(*parts)
    seen = look(disk)
    assert good(seen) == found
    assert spans(seen) == holes
    if seen.tail_damage is None:
        check_heals(disk)


def test_a_record_inside_of_a_value_is_not_taken_for_one() -> None:
    """A stored value may be a piece of a log, even of this one."""
    inner = b"".join(raws(chain(6, after=R[3], value=b"inner")))
    outer = chain(1, after=R[3], value=inner)
    records = [*R[:4], *outer, *chain(3, after=outer[0])]
    data = bytearray(b"".join(raws(records)))
    at = data.index(inner)
    data[at - 3] ^= 1  # of the outer record, before the inner ones
    disk = one_segment(bytes(data), records=records, synced=8)
    (hole,) = look(disk).holes
    assert (hole.before, hole.next_seq) == (end_of(records[:4]), records[5].first_seq)
    check_heals(disk, records)


def test_a_length_that_leads_too_far_hides_nothing() -> None:
    """It leads to a good record, but not to the one that continues this one."""
    disk = damaged_log()
    second = bytearray(disk.file(SECOND).data)
    at = second.index(R[7].raw)
    assert R[7].size == R[8].size
    second[at + 7 : at + 11] = (R[7].size + R[8].size - 11).to_bytes(4)
    disk.put(SECOND, bytes(second))
    assert spans(look(disk)) == [(15, 16)]
    check_heals(disk)


def test_old_records_that_a_lost_write_left_behind() -> None:
    """They continue what was before them; what was written after the lost write does not continue them. It can not be
    told where they begin, so what stands before them in their segment is fetched anew."""
    new = [*R[:4], *chain(3, term=2, after=R[3]), *chain(9, term=2, after=chain(3, term=2, after=R[3])[-1])]
    disk = make_log(new)
    path = segment_paths(disk)[0]
    data = bytes(disk.file(path).data)
    stale = chain(1, term=1, after=R[3])[0]
    assert stale.size == new[4].size
    disk.put(path, data.replace(new[4].raw, stale.raw))
    (hole,) = look(disk).holes
    assert (hole.before.seq, hole.next_seq) == (0, new[5].first_seq)
    check_heals(disk, new)


def test_old_records_at_the_end_need_a_leader() -> None:
    """Nothing stands behind them that could tell."""
    new = [*R[:4], *chain(2, term=2, after=R[3])]
    disk = one_segment(*R[:5], new[5], records=new, synced=6)
    found = look(disk)
    assert (found.holes, found.last_seq) == ([], R[4].last_seq)
    assert found.tail_damage is not None


def test_a_record_of_a_lower_term_is_in_the_wrong_place() -> None:
    late = chain(4, term=3, after=R[3])
    records = [*R[:4], *late]
    lower = encode(late[0].checksum, late[1].first_seq, 2, 0, 0, [["NOOP"]] * 2)
    disk = one_segment(*R[:4], late[0], lower, *late[2:], records=records, synced=8)
    assert spans(look(disk)) == [(late[1].first_seq, late[1].last_seq)]
    check_heals(disk, records)


@pytest.mark.parametrize("start", [100, 200, 350])
@pytest.mark.parametrize("size", [1, 60, 300])
def test_a_zeroed_region(start: int, size: int) -> None:
    disk = make_log(RECORDS, segment_bytes=1 << 20)
    data = bytes(disk.file(FIRST).data)
    disk.put(FIRST, data[:start] + bytes(size) + data[start + size :])
    places = {number: data.index(record.raw) for number, record in enumerate(RECORDS)}
    expected = [n for n in range(12) if places[n] + RECORDS[n].size <= start or places[n] >= start + size]
    assert good(look(disk)) == expected
    check_heals(disk)


def test_a_stray_segment_file_with_entries_that_are_there_already() -> None:
    disk = damaged_log()
    stray = SegmentHeader(cluster_id(MEMBERS), "A", 5, R[1].checksum, 1)
    disk.put(DIRECTORY / segment_name(5), encode_header(stray) + R[2].raw)
    found = look(disk)
    assert good(found) == [*range(12)]
    assert spans(found) == [(13, 12)]
    assert "holds the same entries" in found.holes[0].reason
    check_heals(disk)
    assert segments_of(disk) == segments_of(LOG)
    assert bytes(disk.file(DIRECTORY / "discarded" / segment_name(5)).data).endswith(R[2].raw)


def test_a_stray_segment_file_within_a_hole() -> None:
    disk = damaged_log()
    disk.remove(SECOND)
    disk.put(DIRECTORY / segment_name(18), b"something")
    assert spans(look(disk)) == [(13, 22)]
    check_heals(disk)
    assert segments_of(disk) == segments_of(LOG)


def test_the_header_of_the_last_segment_says_what_is_missing_before_it() -> None:
    """It was fsynced after them: they were durable, and what others have can be checked against it."""
    disk = damaged_log()
    last = bytes(disk.file(LAST).data)
    disk.put(LAST, last[: last.index(R[11].raw)])
    disk.put(SECOND, bytes(disk.file(SECOND).data)[:-1])
    found = look(disk)
    (hole,) = found.holes
    assert (hole.before, hole.next_seq, hole.next_prev_checksum) == (end_of(R[:10]), 23, R[10].checksum)
    assert found.last_seq == 22
    assert heal(disk) == 1
    assert open_memory(disk).last_seq == 22


def test_the_header_of_a_segment_without_good_records_does_not_split_a_hole() -> None:
    """What follows it says what is missing; one hole is asked for, and filled, at once."""
    disk = damaged_log()
    second = bytes(disk.file(SECOND).data)
    disk.put(SECOND, second[: second.index(R[6].raw)] + bytes(300))
    disk.put(FIRST, bytes(disk.file(FIRST).data)[:-1])
    assert spans(look(disk)) == [(11, 22)]
    check_heals(disk)


def test_a_record_of_another_segment_is_in_the_wrong_place() -> None:
    """Also where it stands right behind a good one, and has later seqs."""
    disk = damaged_log()
    first, second = bytes(disk.file(FIRST).data), bytes(disk.file(SECOND).data)
    disk.put(FIRST, first.replace(R[4].raw, R[8].raw))
    at = second.index(R[7].raw)
    disk.put(SECOND, bytes(at) + second[at:])
    assert spans(look(disk)) == [(9, 10), (13, 14)]
    check_heals(disk)
    assert segments_of(disk) == segments_of(LOG)


@pytest.mark.parametrize(("checksum", "term"), [(R[5].checksum, 0), (R[5].checksum, 2), (77, 1)])
def test_a_header_that_says_something_wrong_of_the_record_before_it(checksum: int, term: int) -> None:
    disk = damaged_log()
    second = bytes(disk.file(SECOND).data)
    wrong = SegmentHeader(cluster_id(MEMBERS), "A", 13, checksum, term)
    disk.put(SECOND, encode_header(wrong) + second[second.index(R[6].raw) :])
    (hole,) = look(disk).holes
    assert (hole.first_seq, hole.last_seq, hole.path, hole.offset) == (13, 12, SECOND, 0)
    check_heals(disk)
    assert segments_of(disk) == segments_of(LOG)


def test_places_that_the_disk_does_not_give() -> None:
    records = chain(40, value=b"v" * 2000)
    disk = make_log(records, segment_bytes=1 << 20)
    data = bytes(disk.file(FIRST).data)
    bad_pages = {0, 5, 6, 11}
    disk.file(FIRST).unreadable = {page * 4096 + 17 for page in bad_pages}
    expected = {
        record.last_seq
        for record in records
        if not {data.index(record.raw) // 4096, (data.index(record.raw) + record.size - 1) // 4096} & bad_pages
        and not any(data.index(record.raw) < page * 4096 < data.index(record.raw) + record.size for page in bad_pages)
    }
    found = look(disk)
    assert {seq for run in found.picture.kept for seq in run.last_seqs} == expected
    assert all("read error (Input/output error)" in hole.reason for hole in found.holes)
    check_heals(disk, records)


def test_a_record_of_zeros_is_not_believed_where_the_disk_gives_nothing() -> None:
    """What can not be read is not zeros, even where it was."""
    records = chain(3, value=bytes(9000))
    disk = make_log(records, segment_bytes=1 << 20)
    disk.file(FIRST).unreadable = {14000}
    found = look(disk)
    assert good_seqs(found) == [records[1].last_seq, records[2].last_seq]


def good_seqs(found: Survey) -> list[int]:
    return [seq for run in found.picture.kept for seq in run.last_seqs]


def test_a_directory_is_believed_when_nobody_says_whose_it_is() -> None:
    disk = damaged_log()
    found = survey(DIRECTORY, files=disk)
    assert (found.identity, found.ballot, found.mark) != (None, None, None)
    assert (found.holes, found.findings) == ([], [])
    for name in ("identity", "ballot", "mark"):
        disk.remove(DIRECTORY / name)
    found = survey(DIRECTORY, files=disk)
    assert (found.identity, found.ballot, found.mark) == (None, None, None)
    assert (good(found), found.holes) == ([*range(12)], [])
    assert [finding.check for finding in found.findings] == ["mark", "identity", "ballot"]
    with pytest.raises(ForeignLogError):
        survey(DIRECTORY, files=LOG.copy(), **{**WHOSE, "node_id": "B"})  # type: ignore[arg-type]


def test_findings_name_checks_and_entries() -> None:
    disk = damaged_log(11)
    disk.remove(FIRST)
    disk.put(LAST, bytes(disk.file(LAST).data) + b"junk")
    ballot = bytes(disk.file(DIRECTORY / "ballot").data)
    disk.put(DIRECTORY / "ballot", b"x" + ballot[1:])
    found = [(f.check, f.severity, f.first_seq, f.last_seq) for f in look(disk).findings]
    assert found == [
        ("ballot", "WARNING", None, None),
        ("segments", "FAILURE", 1, 12),
        ("tail", "WARNING", 25, None),
    ]


def test_what_is_no_directory_of_ours(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="not a directory"):
        survey(tmp_path / "nothing")
    found = survey(tmp_path)
    assert found.tail_damage is not None
    assert "all segments" in str(found.tail_damage)


def test_a_header_of_a_later_format_is_refused() -> None:
    disk = damaged_log()
    later = frame(msgpack.packb(["kvnode log", 2, cluster_id(MEMBERS), "A", 13, 0, 0]))[0]
    disk.put(SECOND, later)
    with pytest.raises(ForeignLogError, match="format version 2"):
        look(disk)


def test_progress() -> None:
    told: list[tuple[int, int]] = []
    disk = damaged_log()
    disk.put(SECOND, b"x" * 300)
    survey(DIRECTORY, files=disk, progress=lambda *at: told.append(at))
    total = sum(len(disk.file(path).data) for path in SEGMENTS)
    assert told[-1] == (total, total)
    assert told == sorted(told)


SIZE = 8 * 1024 * 1024


def lying(random_bytes: random.Random, size: int) -> bytes:
    """Beginnings of records that could stand there and announce as much as there is, and are none."""
    parts = []
    left = size
    while left > 0:
        part = bytearray(encode(1, 20, 3, 4, 1, [["NOOP"]]).raw)
        part[2:6] = random_bytes.randbytes(4)
        part[7:11] = max(left - 11, 1).to_bytes(4)
        parts.append(bytes(part))
        left -= len(part)
    return b"".join(parts)


GARBAGE = {
    "random": lambda: random.Random(1).randbytes(SIZE),
    "zeros": lambda: bytes(SIZE),
    "beginnings of frames": lambda: b"\x92\xce" * (SIZE // 2),
    "headers of frames": lambda: b"\x92\xce\1\2\3\4\xc6\0\x7f\0\0" * (SIZE // 11),
    "lies": lambda: lying(random.Random(1), SIZE),
}


class Counting(MemoryDisk):
    bytes_read = 0

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        data = super().pread(fd, count, offset)
        self.bytes_read += len(data)
        return data


@pytest.mark.parametrize("content", GARBAGE)
def test_garbage_is_not_read_and_checked_again_and_again(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece of it may look like the beginning of a record as long as the rest of the file."""
    checked = 0
    checksum = record_module._crc32c

    def counting(data: bytes) -> int:
        nonlocal checked
        checked += len(data)
        return checksum(data)

    monkeypatch.setattr(record_module, "_crc32c", counting)
    disk = Counting()
    made = damaged_log()
    disk.cached, disk.synced = made.cached, made.synced
    disk.put(SECOND, bytes(disk.file(SECOND).data)[:150] + GARBAGE[content]())
    disk.bytes_read = 0
    assert spans(survey(DIRECTORY, files=disk)) == [(15, 22)]
    assert disk.bytes_read + checked < 2 * max(WASTE_FACTOR * SIZE, WASTE_BYTES_MIN)


def test_a_record_is_found_behind_a_lot_of_garbage() -> None:
    disk = damaged_log()
    data = bytes(disk.file(SECOND).data)
    at = data.index(R[8].raw)
    disk.put(SECOND, data[: at - 5] + random.Random(2).randbytes(SIZE) + data[at:])
    assert good(look(disk)) == [n for n in range(12) if n != 7]


def test_a_large_record_is_not_copied_more_often_than_needed(tmp_path: Path) -> None:
    """Real files: records larger than a window, one of them damaged, the others found."""
    log = open_log(
        tmp_path / "A",
        cluster_id=cluster_id(MEMBERS),
        node_id="A",
        members=MEMBERS,
        options=LogOptions(segment_bytes=1 << 30),
    ).log
    log.save_ballot(1, None)
    records = chain(4, entries=1, value=random.Random(3).randbytes(9_000_000))
    for record in records:
        log.append([record])
    log.close()
    path = tmp_path / "A" / segment_name(1)
    with path.open("r+b") as file:
        file.seek(13_000_000)
        file.write(b"rot")
    found = survey(tmp_path / "A")
    assert good_seqs(found) == [1, 3, 4]
    assert spans(found) == [(2, 2)]


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / segment_name(1)
    path.write_bytes(HEADER + b"".join(raws(RECORDS)))

    class Shrinking(type(REAL)):  # type: ignore[misc]
        def size(self, fd: int) -> int:
            return int(super().size(fd)) + 100

    found = read_runs(Shrinking(), path, 1, 1 << 62, (cluster_id(MEMBERS), "A"))
    assert found.end == path.stat().st_size
    assert [run.last_seq for run in found.runs] == [RECORDS[-1].last_seq]
