"""Real logs, shown by `kvnode inspect-log`: whole, in part, live, torn and damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from kvnode.cli import main
from kvnode.log import LogOptions, WriteAheadLog, cluster_id, open_log
from kvnode.log.record import encode

TIME = 1_700_000_000_123
MEMBERS = ("A", "B", "C")


def open_or_make(directory: Path) -> WriteAheadLog:
    log = open_log(
        directory,
        cluster_id=cluster_id(MEMBERS),
        node_id="A",
        members=MEMBERS,
        options=LogOptions(segment_bytes=4096),
    ).log
    log.save_ballot(2, None)
    return log


def append(log: WriteAheadLog, *entries: list[Any], term: int = 1) -> None:
    log.append([encode(log.last_checksum, log.last_seq + 1, term, TIME, log.last_seq, entries)])


def make(directory: Path) -> Path:
    """Five entries in three records."""
    log = open_or_make(directory)
    append(log, ["NOOP"])
    append(log, ["SET", b"a", b"1"], ["SET", b"b", b"\xff"], ["DEL", b"a"])
    append(log, ["TX", [["SET", b"x", b"1"], ["UPD", b"b", b"2"]]], term=2)
    log.close()
    return directory


def tree(directory: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.rglob("*") if path.is_file()}


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["inspect-log", *map(str, arguments)])


def entries(result: Result) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines()[2:] if not line.startswith("#")]


def test_one_line_per_entry_between_a_header_and_a_count(tmp_path: Path) -> None:
    before = tree(make(tmp_path / "A"))
    result = inspect(tmp_path / "A")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"# {tmp_path}/A: node A of cluster {cluster_id(MEMBERS)}, 1 segment from seq 1 on, ")
    assert lines[1].split() == ["seq", "term", "time", "verb", "key", "value"]
    assert entries(result) == [
        ["1", "1", "2023-11-14T22:13:20.123Z", "NOOP"],
        ["2", "1", "2023-11-14T22:13:20.123Z", "SET", "a", "1"],
        ["3", "1", "2023-11-14T22:13:20.123Z", "SET", "b", "\\xff"],
        ["4", "1", "2023-11-14T22:13:20.123Z", "DEL", "a"],
        ["5", "2", "2023-11-14T22:13:20.123Z", "TX", "SET", "x", "1;", "UPD", "b", "2"],
    ]
    assert lines[-1].startswith("# 5 entries in 3 records, ")
    assert (result.exit_code, result.stderr) == (0, "")
    assert tree(tmp_path / "A") == before


def test_a_range_is_cut_within_records(tmp_path: Path) -> None:
    make(tmp_path / "A")
    assert [row[0] for row in entries(inspect(tmp_path / "A", "--from", 3, "--to", 4))] == ["3", "4"]
    assert [row[0] for row in entries(inspect(tmp_path / "A", "--from", 4))] == ["4", "5"]
    assert [row[0] for row in entries(inspect(tmp_path / "A", "--to", 1))] == ["1"]
    assert entries(inspect(tmp_path / "A", "--from", 99)) == []
    assert inspect(tmp_path / "A", "--from", 4, "--to", 3).exit_code == 2
    assert inspect(tmp_path / "A", "--from", 0).exit_code == 2


def test_json_is_one_object_per_entry_and_nothing_else(tmp_path: Path) -> None:
    result = inspect(make(tmp_path / "A"), "--json", "--from", 3)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(item["seq"], item["term"], item["verb"]) for item in found] == [(3, 1, "SET"), (4, 1, "DEL"), (5, 2, "TX")]
    assert found[0]["value"] == {"base64": "/w=="}
    assert found[2]["effects"][1] == {"verb": "UPD", "key": "b", "value": "2"}


def test_a_log_that_is_open_can_be_looked_at_and_goes_on(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    append(log, ["SET", b"a", b"1"])
    assert len(entries(inspect(tmp_path / "A"))) == 1
    append(log, ["SET", b"a", b"2"])
    assert len(entries(inspect(tmp_path / "A"))) == 2
    log.close()


def test_an_empty_log_and_one_of_several_segments(tmp_path: Path) -> None:
    open_or_make(tmp_path / "A").close()
    assert "# 0 entries in 0 records, 0 bytes" in inspect(tmp_path / "A").stdout
    log = open_or_make(tmp_path / "A")
    for number in range(20):
        append(log, ["SET", b"key", b"v" * 1000], ["SET", b"n", b"%d" % number])
    log.close()
    result = inspect(tmp_path / "A")
    assert "segments from seq 1 on" in result.stdout
    assert [row[0] for row in entries(result)] == [str(seq) for seq in range(1, 41)]


def test_an_unfinished_record_at_the_end_is_told_and_left_out(tmp_path: Path) -> None:
    segment = next(make(tmp_path / "A").glob("*.log"))
    segment.write_bytes(segment.read_bytes()[:-3])
    result = inspect(tmp_path / "A")
    assert [row[0] for row in entries(result)] == ["1", "2", "3", "4"]
    assert f"# {segment}: " in result.stdout
    assert result.exit_code == 0
    result = inspect(tmp_path / "A", "--json")
    assert len(result.stdout.splitlines()) == 4
    assert "are not a record" in result.stderr


def test_damage_shows_what_stands_before_it_and_exits_with_1(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    for _ in range(12):
        append(log, ["SET", b"key", b"v" * 1000])
    log.close()
    first, *_, last = sorted((tmp_path / "A").glob("*.log"))
    assert first != last
    data = bytearray(first.read_bytes())
    data[2000] ^= 1
    first.write_bytes(data)
    result = inspect(tmp_path / "A")
    assert result.exit_code == 1
    assert [row[0] for row in entries(result)] == ["1"]
    assert str(first) in result.stderr


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    for path in (tmp_path, tmp_path / "none", tmp_path / "file"):
        result = inspect(path)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert str(path) in result.stderr
