"""Two logs compared by `kvnode inspect-log --diff`: as text, as JSON, and by exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvnode.log.viewing.listing import look_at
from kvnode.log.viewing.reader import Found, Reader
from tests.unit.cli.small_logs import CLUSTER, FIRST, SHOWN, append, flip, inspect, make, open_or_make, tree

HEADING = (
    "   segment                     offset      size             seq  term                      time    commit "
    "entries  checksum  state"
)


def found(directory: Path) -> list[Found]:
    return [item for item in Reader(look_at(directory)) if isinstance(item, Found)]


def titles(directory: Path) -> list[str]:
    sizes = [(directory / name / FIRST).stat().st_size for name in "AB"]
    return [
        f"{name}  {directory}/{name}: node {name} of cluster {CLUSTER}, 1 segment from seq 1 on, {size} bytes"
        for name, size in zip("AB", sizes, strict=True)
    ]


def test_two_logs_that_part(tmp_path: Path) -> None:
    make(tmp_path / "A")
    make(tmp_path / "B", "B")
    log = open_or_make(tmp_path / "A")
    append(log, ["SET", b"k", b"1"], ["SET", b"k", b"2"], term=3)
    log.close()
    log = open_or_make(tmp_path / "B", node_id="B")
    append(log, ["SET", b"k", b"1"], ["DEL", b"k"], ["NOOP"], term=3)
    log.close()
    before = tree(tmp_path)
    result = inspect("--diff", tmp_path / "A", tmp_path / "B")
    (one, other) = (found(tmp_path / name)[3] for name in "AB")
    common = found(tmp_path / "A")[2].record.checksum
    size = sum((tmp_path / name / FIRST).stat().st_size for name in "AB")
    assert result.stdout.splitlines() == [
        *titles(tmp_path),
        f"equal up to seq 5 (checksum {common:08x}); they part at seq 6:",
        HEADING,
        f"A  {FIRST} {one.offset:>9} {one.record.size:>9}             6-7     3  {SHOWN}         5       2  "
        f"{one.record.checksum:08x}  valid",
        f"B  {FIRST} {other.offset:>9} {other.record.size:>9}             6-8     3  {SHOWN}         5       3  "
        f"{other.record.checksum:08x}  valid",
        "the first entry that differs:",
        f"A         7    3  {SHOWN}  SET      k 2",
        f"B         7    3  {SHOWN}  DEL      k",
        f"# {size} of {size} bytes were read",
    ]
    assert (result.exit_code, result.stderr) == (1, "")
    assert tree(tmp_path) == before
    assert inspect(tmp_path / "A", "--diff", tmp_path / "B").stdout == result.stdout


def test_the_same_as_json(tmp_path: Path) -> None:
    make(tmp_path / "A")
    make(tmp_path / "B", "B")
    log = open_or_make(tmp_path / "A")
    append(log, ["SET", b"k", b"1"], term=3)
    log.close()
    result = inspect("--diff", tmp_path / "A", tmp_path / "B", "--json")
    shown = json.loads(result.stdout)
    assert (shown["result"], shown["equal_seq"], result.exit_code) == ("b is a prefix", 5, 0)
    assert shown["equal_checksum"] == f"{found(tmp_path / 'B')[-1].record.checksum:08x}"
    assert (shown["a"]["node"], shown["a"]["data"], shown["a"]["cluster"]) == ("A", str(tmp_path / "A"), CLUSTER)
    assert (shown["a"]["record"]["first_seq"], shown["a"]["record"]["segment"]) == (6, FIRST)
    assert shown["a"]["entry"] == {"seq": 6, "term": 3, "time_ms": 1_700_000_000_123, "verb": "SET"} | {
        "key": "k",
        "value": "1",
    }
    assert (shown["b"]["record"], shown["b"]["entry"]) == (None, None)
    assert shown["bytes_read"] == shown["bytes_total"]
    log = open_or_make(tmp_path / "B", node_id="B")
    append(log, ["SET", b"k", b"2"], term=3)
    log.close()
    shown = json.loads(inspect("--diff", tmp_path / "A", tmp_path / "B", "--json").stdout)
    assert (shown["result"], shown["b"]["entry"]["value"]) == ("parted", "2")


@pytest.mark.parametrize(
    ("first", "text"),
    [
        ("A", "equal up to seq 5 (checksum {}); A ends there, it is the beginning of B, which goes on:"),
        ("B", "equal up to seq 5 (checksum {}); B ends there, it is the beginning of A, which goes on:"),
    ],
)
def test_one_is_the_beginning_of_the_other(tmp_path: Path, first: str, text: str) -> None:
    make(tmp_path / "A")
    make(tmp_path / "B", "B")
    longer = "B" if first == "A" else "A"
    log = open_or_make(tmp_path / longer, node_id=longer)
    append(log, ["NOOP"], term=3)
    log.close()
    result = inspect("--diff", tmp_path / "A", tmp_path / "B")
    lines = result.stdout.splitlines()
    assert lines[2] == text.format(f"{found(tmp_path / first)[-1].record.checksum:08x}")
    assert lines[4].startswith(f"{longer}  {FIRST}")
    assert len(lines) == 6
    assert result.exit_code == 0


def test_equal_logs(tmp_path: Path) -> None:
    make(tmp_path / "A")
    make(tmp_path / "B", "B")
    result = inspect("--diff", tmp_path / "A", tmp_path / "B")
    checksum = found(tmp_path / "A")[-1].record.checksum
    assert result.stdout.splitlines()[2] == (
        f"equal up to seq 5 (checksum {checksum:08x}); both end there: they are equal"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(inspect("--diff", tmp_path / "A", tmp_path / "A", "--json").stdout)["result"] == "equal"


def test_records_of_the_same_entries(tmp_path: Path) -> None:
    for name, term in [("A", 1), ("B", 2)]:
        log = open_or_make(tmp_path / name, node_id=name)
        append(log, ["NOOP"], term=term)
        log.close()
    lines = inspect("--diff", tmp_path / "A", tmp_path / "B").stdout.splitlines()
    assert lines[2] == "nothing is equal; they part at seq 1:"
    assert lines[6:9] == [
        "their entries are the same; the first of them:",
        f"A         1    1  {SHOWN}  NOOP",
        f"B         1    2  {SHOWN}  NOOP",
    ]


def test_a_record_that_is_the_beginning_of_the_other(tmp_path: Path) -> None:
    for name, count in [("A", 1), ("B", 2)]:
        log = open_or_make(tmp_path / name, node_id=name)
        append(log, *[["NOOP"]] * count)
        log.close()
    lines = inspect("--diff", tmp_path / "A", tmp_path / "B").stdout.splitlines()
    assert lines[7:9] == ["A  the record ends at seq 1", f"B         2    1  {SHOWN}  NOOP"]
    shown = json.loads(inspect("--diff", tmp_path / "A", tmp_path / "B", "--json").stdout)
    assert (shown["a"]["entry"], shown["b"]["entry"]["seq"]) == (None, 2)


def test_damage_before_they_part_is_exit_code_2(tmp_path: Path) -> None:
    make(tmp_path / "A")
    make(tmp_path / "B", "B")
    flip(tmp_path / "B" / FIRST, 120)
    result = inspect("--diff", tmp_path / "A", tmp_path / "B")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"kvnode: can not compare the logs, there is damage in {tmp_path}/B/{FIRST} at offset 96: "
        "the checksum does not match; entries 2 to 4 can not be read. They are equal up to seq 1.\n"
    )
