"""Looking at a log from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kvnode.log import DamageError, LogError, LogOptions, Record, WriteAheadLog, cluster_id, open_log
from kvnode.log.reader import scan, segments
from tests.crash.log_maker import MEMBERS, chain, raws

RECORDS = chain(12)


def fill(directory: Path, records: list[Record], segment_bytes: int = 400) -> WriteAheadLog:
    log = open_log(
        directory,
        cluster_id=cluster_id(MEMBERS),
        node_id="A",
        members=MEMBERS,
        options=LogOptions(segment_bytes=segment_bytes),
    ).log
    log.save_ballot(1, None)
    for record in records:
        log.append([record])
    return log


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    fill(tmp_path / "A", RECORDS).close()
    return tmp_path / "A"


def test_a_live_log_is_read_without_a_touch(tmp_path: Path) -> None:
    log = fill(tmp_path / "A", RECORDS)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "A").rglob("*")}
    found = scan(tmp_path / "A")
    assert raws(list(found)) == raws(RECORDS)
    assert found.tail is None
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "A").rglob("*")} == before
    log.close()


@pytest.mark.parametrize("from_seq", [None, 0, 1, 2, 9, 10, 24, 25])
@pytest.mark.parametrize("to_seq", [None, 0, 1, 8, 9, 24, 99])
def test_a_range_of_entries(directory: Path, from_seq: int | None, to_seq: int | None) -> None:
    wanted = [
        record
        for record in RECORDS
        if record.last_seq >= (from_seq or 0) and (to_seq is None or record.first_seq <= to_seq)
    ]
    assert raws(list(scan(directory, from_seq, to_seq))) == raws(wanted)


def test_segments(directory: Path) -> None:
    found = segments(directory)
    assert len(found) >= 3
    assert [segment.path.name for segment in found] == [f"{s.header.first_seq:020d}.log" for s in found]
    assert all(segment.size == segment.path.stat().st_size > segment.start for segment in found)
    assert raws(list(scan(found[1].path, None, None)))[0] == RECORDS[found[1].header.first_seq // 2].raw


@pytest.mark.parametrize("junk", [b"\x92", RECORDS[0].raw[:-1], bytes(100), b"\xffjunk"])
def test_an_unfinished_tail_ends_the_scan_and_is_told(directory: Path, junk: bytes) -> None:
    path = segments(directory)[-1].path
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + junk)
    found = scan(directory)
    assert raws(list(found)) == raws(RECORDS)
    assert found.tail is not None
    assert (found.tail.path, found.tail.offset, found.tail.size) == (path, size, len(junk))
    assert str(size) in str(found.tail)


def test_damage_in_an_earlier_segment_is_an_error(directory: Path) -> None:
    path = segments(directory)[0].path
    path.write_bytes(path.read_bytes()[:-1])
    seen: list[Record] = []
    with pytest.raises(DamageError, match="ends within a record"):
        seen.extend(scan(directory))
    assert raws(seen) == raws(RECORDS[: len(seen)])


def test_a_missing_segment_is_an_error(directory: Path) -> None:
    segments(directory)[1].path.unlink()
    with pytest.raises(DamageError, match="missing"):
        list(scan(directory))


def test_a_valid_record_in_the_wrong_place_is_an_error(directory: Path) -> None:
    path = segments(directory)[-1].path
    path.write_bytes(path.read_bytes() + RECORDS[0].raw)
    with pytest.raises(DamageError, match="should follow"):
        list(scan(directory))


def test_a_scan_of_a_growing_log_ends_where_the_log_ended_when_it_began(tmp_path: Path) -> None:
    log = fill(tmp_path / "A", RECORDS[:7])
    found = scan(tmp_path / "A")
    for record in RECORDS[7:]:
        log.append([record])
    assert raws(list(found)) == raws(RECORDS[:7])
    assert found.tail is None
    log.close()


def test_what_was_cut_off_can_be_read(tmp_path: Path) -> None:
    log = fill(tmp_path / "A", RECORDS)
    cut = log.cut(RECORDS[5].last_seq)
    log.close()
    assert cut is not None
    assert [record.raw for path in cut.copies for record in scan(path)] == raws(RECORDS[6:])


@pytest.mark.parametrize("data", [b"", b"*3\r\n$3\r\nSET\r\n", bytes(5000), b"\x92\xce" * 50])
def test_what_is_not_a_log(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "appendonly.aof"
    path.write_bytes(data)
    with pytest.raises(LogError, match="not a log of kvnode"):
        segments(path)
    with pytest.raises(LogError, match="not a kvnode data directory"):
        segments(tmp_path)
    with pytest.raises(LogError, match="No such file"):
        segments(tmp_path / "nothing")


def test_the_ten_lines_of_the_documentation_read_a_log(directory: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "LOG_FORMAT.md").read_text()
    program = text.split("```python\n")[1].split("```")[0]
    command = [sys.executable, "-c", program, *map(str, sorted(directory.glob("*.log")))]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines == [f"{seq} 1 SET b'key {seq}' b'v'" for seq in range(1, 25)]


def test_a_record_larger_than_a_chunk(tmp_path: Path) -> None:
    records = chain(3, entries=1, value=bytes(9_000_000))
    fill(tmp_path / "A", records).close()
    assert raws(list(scan(tmp_path / "A"))) == raws(records)
