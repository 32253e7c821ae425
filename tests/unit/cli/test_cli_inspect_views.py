"""Records and segments of a log, as `kvnode inspect-log` lists them: good ones and broken ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from kvnode.log.record import encode
from kvnode.log.viewing.listing import look_at
from kvnode.log.viewing.reader import Fault, Found, Item, Reader, Replaced
from tests.unit.cli.small_logs import (
    CLUSTER,
    FIRST,
    SHOWN,
    append,
    flip,
    inspect,
    make,
    make_long,
    open_or_make,
    tree,
)

RECORDS_HEADING = (
    "segment                     offset      size             seq  term                      time    commit entries  "
    "checksum  state"
)
SEGMENTS_HEADING = (
    "segment                                seq   records    entries       bytes   terms            first time"
    "             last time         state"
)


def rows(text: str) -> list[list[str]]:
    """The words of each row of a table."""
    return [line.split() for line in text.splitlines()[2:] if not line.startswith("#")]


def checksums(path: Path) -> list[str]:
    return [f"{item.record.checksum:08x}" for item in Reader(look_at(path)) if isinstance(item, Found)]


def test_one_line_per_record(tmp_path: Path) -> None:
    before = tree(make(tmp_path / "A"))
    result = inspect(tmp_path / "A", "--records")
    first, second, third = checksums(tmp_path / "A")
    assert result.stdout.splitlines()[1:] == [
        RECORDS_HEADING,
        f"{FIRST}        63        33               1     1  {SHOWN}         0       1  {first}  valid",
        f"{FIRST}        96        61             2-4     1  {SHOWN}         1       3  {second}  valid",
        f"{FIRST}       157        58               5     2  {SHOWN}         4       1  {third}  valid",
        "# 3 records, 5 entries, 152 bytes",
    ]
    assert (result.exit_code, result.stderr) == (0, "")
    assert tree(tmp_path / "A") == before


def test_records_as_json(tmp_path: Path) -> None:
    result = inspect(make(tmp_path / "A"), "--records", "--json", "--from", 2, "--to", 2)
    first, second, _ = checksums(tmp_path / "A")
    assert json.loads(result.stdout) == {
        "segment": FIRST,
        "offset": 96,
        "size": 61,
        "first_seq": 2,
        "last_seq": 4,
        "term": 1,
        "time_ms": 1_700_000_000_123,
        "commit_seq": 1,
        "entries": 3,
        "checksum": second,
        "prev_checksum": first,
        "valid": True,
    }


def test_the_records_that_hold_what_was_asked_for(tmp_path: Path) -> None:
    make(tmp_path / "A")
    result = inspect(tmp_path / "A", "--records", "--key", "b")
    assert [row[3] for row in rows(result.stdout)] == ["2-4", "5"]
    assert result.stdout.splitlines()[-1] == "# 2 of 3 records, 4 entries, 119 bytes"
    assert [row[3] for row in rows(inspect(tmp_path / "A", "--records", "--term", 2).stdout)] == ["5"]


def test_the_list_of_records_goes_on_after_damage(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    for number in range(6):
        append(log, ["SET", b"k", b"%d" % number])
    log.close()
    path = tmp_path / "A" / FIRST
    offsets = [item.offset for item in Reader(look_at(path)) if isinstance(item, Found)]
    flip(path, offsets[1] + 20)
    flip(path, offsets[4] + 7)
    result = inspect(tmp_path / "A", "--records")
    lines = result.stdout.splitlines()[2:]
    assert [line.split()[3] for line in lines[:6]] == ["1", "2", "3", "4", "5", "6"]
    size = offsets[2] - offsets[1]
    dashes = f"{'-':>5} {'-':>25} {'-':>9} {'-':>7} {'-':>9}"
    assert lines[1] == f"{FIRST} {offsets[1]:>9} {size:>9} {2:>15} {dashes}  damaged: the checksum does not match"
    assert lines[4].endswith("damaged: the record's length field says 4278190111")
    assert [line.endswith("  valid") for line in lines[:6]] == [True, False, True, True, False, True]
    assert lines[6] == f"# 4 records, 4 entries, {4 * size - 4} bytes"
    assert result.exit_code == 1
    assert "damaged in 2 places" in result.stderr
    objects = [json.loads(line) for line in inspect(tmp_path / "A", "--records", "--json").stdout.splitlines()]
    assert [item["valid"] for item in objects] == [True, False, True, True, False, True]
    assert objects[1] == {
        "segment": FIRST,
        "offset": offsets[1],
        "size": size,
        "first_seq": 2,
        "last_seq": 2,
        "valid": False,
        "state": "damaged",
        "reason": "the checksum does not match",
    }


def test_what_is_missing_has_a_line_of_its_own(tmp_path: Path) -> None:
    make_long(tmp_path / "A")
    second = look_at(tmp_path / "A").segments[1]
    third = look_at(tmp_path / "A").segments[2]
    second.path.unlink()
    result = inspect(tmp_path / "A", "--records")
    (row,) = [row for row in rows(result.stdout) if "valid" not in row]
    assert row[:4] == [third.path.name, "0", "0", f"{second.first_seq}-{third.first_seq - 1}"]
    assert " ".join(row[9:]) == "missing: the records before this segment are gone"
    assert result.exit_code == 1
    segments = inspect(tmp_path / "A", "--segments")
    assert [" ".join(row[9:]) for row in rows(segments.stdout)] == ["valid", "follows a gap", "valid"]
    look_at(tmp_path / "A").segments[-1].path.unlink()
    segments = inspect(tmp_path / "A", "--segments")
    assert [" ".join(row[9:]) for row in rows(segments.stdout)] == ["valid", "damaged"]
    assert segments.stdout.splitlines()[-1].endswith("entries 10 to 12 can not be read")


def test_an_unfinished_record_is_a_line_and_no_damage(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    append(log, ["SET", b"a", b"1"])
    path = tmp_path / "A" / FIRST
    with path.open("r+b") as file:
        file.seek(len(path.read_bytes().rstrip(b"\0")))
        file.write(encode(log.last_checksum, 2, 1, 0, 1, [["NOOP"]]).raw[:7])
    result = inspect(tmp_path / "A", "--records")
    log.close()
    assert result.stdout.splitlines()[-2].endswith("  unfinished: the data ends within a record's header")
    assert (result.exit_code, result.stderr) == (0, "")
    assert inspect(tmp_path / "A", "--segments").exit_code == 0


def test_one_line_per_segment(tmp_path: Path) -> None:
    make_long(tmp_path / "A", 10)
    log = open_or_make(tmp_path / "A")
    append(log, ["NOOP"], ["DEL", b"k"], term=3)
    log.close()
    sizes = [segment.size for segment in look_at(tmp_path / "A").segments]
    names = [segment.path.name for segment in look_at(tmp_path / "A").segments]
    when = "2023-11-14T22:13:20Z"
    result = inspect(tmp_path / "A", "--segments")
    assert result.stdout.splitlines()[1:] == [
        SEGMENTS_HEADING,
        f"{names[0]}               1-3         3          3 {sizes[0]:>11}       1  {when}  {when}  sealed valid",
        f"{names[1]}               4-6         3          3 {sizes[1]:>11}       1  {when}  {when}  sealed valid",
        f"{names[2]}               7-9         3          3 {sizes[2]:>11}       1  {when}  {when}  sealed valid",
        f"{names[3]}             10-12         2          3 {sizes[3]:>11}     1-3  {when}  {when}  open   valid",
        f"# 4 segments, 11 records, 12 entries, {sum(sizes):,} bytes",
    ]
    assert (result.exit_code, result.stderr) == (0, "")
    assert [row[0] for row in rows(inspect(tmp_path / "A", "--segments", "--from", 5, "--to", 7).stdout)] == names[1:3]
    assert [row[0] for row in rows(inspect(tmp_path / "A", "--segments", "--last", 1).stdout)] == names[3:]


def test_segments_as_json_and_an_empty_one(tmp_path: Path) -> None:
    open_or_make(tmp_path / "A").close()
    (row,) = rows(inspect(tmp_path / "A", "--segments").stdout)
    assert row == [FIRST, "-", "0", "0", "63", "-", "-", "-", "open", "valid"]
    found = json.loads(inspect(tmp_path / "A", "--segments", "--json").stdout)
    assert found == {
        "segment": FIRST,
        "first_seq": 1,
        "last_seq": None,
        "records": 0,
        "entries": 0,
        "bytes": 63,
        "first_term": None,
        "last_term": None,
        "first_time_ms": None,
        "last_time_ms": None,
        "sealed": False,
        "valid": True,
        "faults": [],
    }


def test_a_damaged_segment_says_so_and_how_below_the_table(tmp_path: Path) -> None:
    make_long(tmp_path / "A")
    first, second, *_, last = [segment.path for segment in look_at(tmp_path / "A").segments]
    flip(second, 20)
    flip(second, 2000)
    os.truncate(last, 50)
    result = inspect(tmp_path / "A", "--segments")
    assert {row[0]: row[-1] for row in rows(result.stdout)}[first.name] == "valid"
    assert {row[0]: row[-1] for row in rows(result.stdout)}[second.name] == "damaged"
    told = result.stdout.splitlines()[-3:]
    assert told[0].startswith(f"# damage: {second} at offset 0: the segment's header can not be read")
    assert told[1].startswith(f"# damage: {second} at offset 1")
    assert told[2].startswith(f"# damage: {last} at offset 0: the segment's header can not be read")
    assert result.exit_code == 1
    objects = [json.loads(line) for line in inspect(tmp_path / "A", "--segments", "--json").stdout.splitlines()]
    assert [(item["valid"], len(item["faults"])) for item in objects] == [(True, 0), (False, 2), (True, 0), (False, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_all_views_agree_with_the_reader(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    make_long(tmp_path / "A", random.randrange(1, 20))
    for segment in look_at(tmp_path / "A").segments:
        if random.random() < 0.4:
            flip(segment.path, random.randrange(segment.size))
    items = list(Reader(look_at(tmp_path / "A")))
    good = [item for item in items if isinstance(item, Found)]
    bad = [item for item in items if isinstance(item, Fault)]
    code = 1 if any(not fault.is_torn for fault in bad) else 0
    records = inspect(tmp_path / "A", "--records", "--json")
    shown = [json.loads(line) for line in records.stdout.splitlines()]
    assert [(item["segment"], item["offset"]) for item in shown] == [
        (item.path.name, item.offset) for item in items if isinstance(item, Found | Fault)
    ]
    segments = inspect(tmp_path / "A", "--segments", "--json")
    listed = [json.loads(line) for line in segments.stdout.splitlines()]
    assert sum(item["records"] for item in listed) == len(good)
    assert sum(len(item["faults"]) for item in listed) == len(bad)
    assert {item["segment"] for item in listed if item["valid"]} == {
        segment.path.name for segment in look_at(tmp_path / "A").segments
    } - {fault.path.name for fault in bad if not fault.is_torn}
    seqs = [json.loads(line)["seq"] for line in inspect(tmp_path / "A", "--json").stdout.splitlines()]
    assert seqs == [item.record.first_seq for item in good]
    assert [result.exit_code for result in (records, segments, inspect(tmp_path / "A"))] == [code, code, code]


def test_segments_that_change_while_they_are_read_are_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Reader):
        reads = 0

        def read(self, progress: Callable[[int], None] | None = None) -> Iterator[Item]:
            Cut.reads += 1
            given = list(super().read(progress))
            yield from [*given, Replaced(1)] if Cut.reads == 1 else given

    monkeypatch.setattr("kvnode.log.viewing.reader.Reader", Cut)
    result = inspect(make(tmp_path / "A"), "--segments")
    assert (result.exit_code, rows(result.stdout)[0][2:4], Cut.reads) == (0, ["3", "5"], 2)
    assert result.stdout.count(FIRST) == 1


def test_a_discarded_file_is_neither_sealed_nor_open(tmp_path: Path) -> None:
    make(tmp_path / "A")
    log = open_or_make(tmp_path / "A")
    cut = log.cut(1)
    log.close()
    assert cut is not None
    result = inspect(cut.copy, "--segments")
    assert rows(result.stdout)[0][-2:] == [SHOWN[:19] + "Z", "valid"]
    assert f"# {cut.copy}: node A of cluster {CLUSTER}, 1 segment from seq 2 on" in result.stdout
