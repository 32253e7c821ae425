"""The entries of real logs, shown by `kvnode inspect-log`: whole, chosen, live, unfinished and damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvnode.log.record import encode
from tests.cluster.harness import program
from tests.unit.cli.small_logs import (
    CLUSTER,
    FIRST,
    SHOWN,
    append,
    entries,
    first_words,
    flip,
    inspect,
    make,
    make_long,
    open_or_make,
    tree,
)
from tests.unit.cli.terminal import run_on_terminal

COMMAND = [*program("kvnode"), "inspect-log"]


def test_one_line_per_entry_between_a_header_and_a_count(tmp_path: Path) -> None:
    before = tree(make(tmp_path / "A"))
    result = inspect(tmp_path / "A")
    size = (tmp_path / "A" / FIRST).stat().st_size
    assert result.stdout == (
        f"# {tmp_path}/A: node A of cluster {CLUSTER}, 1 segment from seq 1 on, {size} bytes\n"
        "     seq term  time                      verb     key value\n"
        f"       1    1  {SHOWN}  NOOP\n"
        f"       2    1  {SHOWN}  SET      a 1\n"
        f"       3    1  {SHOWN}  SET      b \\xff\n"
        f"       4    1  {SHOWN}  DEL      a\n"
        f"       5    2  {SHOWN}  TX       SET x 1; UPD b 2\n"
        "# 5 entries in 3 records, 152 bytes\n"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert tree(tmp_path / "A") == before


def test_a_range_is_cut_within_records(tmp_path: Path) -> None:
    make(tmp_path / "A")
    assert first_words(inspect(tmp_path / "A", "--from", 3, "--to", 4)) == ["3", "4"]
    assert first_words(inspect(tmp_path / "A", "--from", 4)) == ["4", "5"]
    assert first_words(inspect(tmp_path / "A", "--to", 1)) == ["1"]
    assert first_words(inspect(tmp_path / "A", "--last", 2)) == ["4", "5"]
    assert first_words(inspect(tmp_path / "A", "--last", 4, "--to", 3)) == ["2", "3"]
    assert first_words(inspect(tmp_path / "A", "--last", 99)) == ["1", "2", "3", "4", "5"]
    assert entries(inspect(tmp_path / "A", "--from", 99)) == []


def test_the_history_of_a_key_holds_what_touched_it_also_in_a_transaction(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    append(log, ["SET", b"k", b"1"], ["SET", b"kk", b"k"], ["APPEND", b"k", b"2"], ["SET", b"v", b"k"])
    append(log, ["TX", [["SET", b"x", b"1"], ["UPD", b"k", b"3"], ["DEL", b"y"]]], ["TX", [["SET", b"x", b"k"]]])
    append(log, ["DEL", b"k"], term=2)
    append(log, ["FLUSHALL"], ["NOOP"], term=3)
    log.close()
    result = inspect(tmp_path / "A", "--key", "k")
    assert result.stdout.splitlines()[2:] == [
        f"       1    1  {SHOWN}  SET      k 1",
        f"       3    1  {SHOWN}  APPEND   k 2",
        f"       5    1  {SHOWN}  TX 1/3   UPD k 3",
        f"       7    2  {SHOWN}  DEL      k",
        f"       8    3  {SHOWN}  FLUSHALL",
        "# 5 of 9 entries match, in 4 records, 243 bytes",
    ]
    found = [json.loads(line) for line in inspect(tmp_path / "A", "--key", "k", "--json").stdout.splitlines()]
    assert [item["seq"] for item in found] == [1, 3, 5, 7, 8]
    assert len(found[2]["effects"]) == 3, "in JSON an entry is always whole"
    assert first_words(inspect(tmp_path / "A", "--key", "k", "--verb", "del", "--verb", "Upd")) == ["5", "7"]
    assert first_words(inspect(tmp_path / "A", "--key", "k", "--verb", "tx")) == ["5"]
    assert first_words(inspect(tmp_path / "A", "--key", "k", "--from", 5, "--term", "1-2")) == ["5", "7"]
    assert first_words(inspect(tmp_path / "A", "--key", "nobody")) == ["8"]


def test_a_key_is_written_as_it_is_shown(tmp_path: Path) -> None:
    key = "grün ".encode() + b"\\ \n\x00\xff"
    log = open_or_make(tmp_path / "A")
    append(log, ["SET", key, b""], ["SET", b"other", b""])
    log.close()
    written = "grün \\\\ \\n\\x00\\xff"
    assert f"SET      {written}\n" in inspect(tmp_path / "A").stdout
    assert first_words(inspect(tmp_path / "A", "--key", written)) == ["1"]
    done = subprocess.run(
        [*COMMAND, str(tmp_path / "A"), "--key", key.replace(b"\\", b"\\\\").replace(b"\x00", b"\\x00")],
        capture_output=True,
        check=True,
    )
    assert b"# 1 of 2 entries matches" in done.stdout, "bytes that are no UTF-8 may be given as they are"


def test_verbs_and_terms(tmp_path: Path) -> None:
    make(tmp_path / "A")
    assert first_words(inspect(tmp_path / "A", "--verb", "set")) == ["2", "3", "5"]
    assert first_words(inspect(tmp_path / "A", "--verb", "upd", "--verb", "noop")) == ["1", "5"]
    assert first_words(inspect(tmp_path / "A", "--verb", "TX")) == ["5"]
    assert first_words(inspect(tmp_path / "A", "--term", 2)) == ["5"]
    assert first_words(inspect(tmp_path / "A", "--term", "1-2", "--to", 2)) == ["1", "2"]
    assert (
        inspect(tmp_path / "A", "--term", 7).stdout.splitlines()[-1]
        == "# 0 of 5 entries match, in 3 records, 152 bytes"
    )


def test_json_is_one_object_per_entry_and_nothing_else(tmp_path: Path) -> None:
    result = inspect(make(tmp_path / "A"), "--json", "--from", 3)
    assert result.stdout == (
        '{"seq": 3, "term": 1, "time_ms": 1700000000123, "verb": "SET", "key": "b", "value": {"base64": "/w=="}}\n'
        '{"seq": 4, "term": 1, "time_ms": 1700000000123, "verb": "DEL", "key": "a"}\n'
        '{"seq": 5, "term": 2, "time_ms": 1700000000123, "verb": "TX", "effects": '
        '[{"verb": "SET", "key": "x", "value": "1"}, {"verb": "UPD", "key": "b", "value": "2"}]}\n'
    )


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
    result = inspect(make_long(tmp_path / "B"))
    assert "4 segments from seq 1 on" in result.stdout
    assert first_words(result) == [str(seq) for seq in range(1, 13)]


def test_what_was_cut_off_can_be_looked_at(tmp_path: Path) -> None:
    make_long(tmp_path / "A")
    log = open_or_make(tmp_path / "A")
    cut = log.cut(2)
    log.close()
    assert cut is not None
    shown = [first_words(inspect(path)) for path in cut.copies]
    assert [seq for seqs in shown for seq in seqs] == [str(seq) for seq in range(3, 13)]


def test_a_record_that_is_just_being_written_is_no_damage(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    append(log, ["SET", b"a", b"1"])
    path = tmp_path / "A" / FIRST
    size = len(path.read_bytes().rstrip(b"\0"))
    raw = encode(log.last_checksum, 2, 1, 0, 1, [["SET", b"a", b"2"]]).raw
    with path.open("r+b") as file:
        file.seek(size)
        file.write(raw[:-1])
    result = inspect(tmp_path / "A")
    assert first_words(result) == ["1"]
    told = f"unfinished: {path} at offset {size}: the data ends within a record of {len(raw)} bytes"
    assert result.stdout.splitlines()[-2] == f"# {told} ({len(raw) - 1} bytes that are not known to be durable)"
    assert (result.exit_code, result.stderr) == (0, "")
    result = inspect(tmp_path / "A", "--json")
    assert (len(result.stdout.splitlines()), result.exit_code) == (1, 0)
    assert result.stderr.startswith(f"kvnode: {told}")
    log.close()


def test_damage_is_told_in_its_place_and_what_comes_after_it_is_shown(tmp_path: Path) -> None:
    path = make_long(tmp_path / "A") / FIRST
    flip(path, 2000)
    result = inspect(tmp_path / "A")
    offset = path.read_bytes().find(b"\x92\xce", 80 + 1000)
    line = f"{path} at offset {offset}: the checksum does not match; entry 2 can not be read"
    assert result.stdout.splitlines()[3] == f"# damage: {line}"
    assert first_words(result) == ["1", *(str(seq) for seq in range(3, 13))]
    assert result.exit_code == 1
    assert result.stderr == "kvnode: the log is damaged in 1 place; `kvnode verify` says what follows from that\n"
    result = inspect(tmp_path / "A", "--json")
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 11)
    assert result.stderr.startswith(f"kvnode: damage: {line}\n")
    assert inspect(tmp_path / "A", "--from", 3).exit_code == 0, "it was not looked at"


def test_a_log_that_is_shorter_than_its_mark_says_is_damaged(tmp_path: Path) -> None:
    path = make(tmp_path / "A") / FIRST
    os.truncate(path, path.stat().st_size - 3)
    result = inspect(tmp_path / "A")
    assert (result.exit_code, first_words(result)) == (1, ["1", "2", "3", "4"])
    assert "the data ends within a record of 58 bytes; entry 5 can not be read" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", 4, "--to", 3), "--from 4 is above --to 3"),
        (("--verb", "get"), "--verb: the log knows no verb GET; it knows SET, UPD, APPEND, DEL, FLUSHALL, NOOP, TX"),
        (("--term", "x"), "--term x: give a term, or two with a - between them"),
        (("--term", "3-2"), "--term 3-2: give a term, or two with a - between them"),
        (("--key", "a\\q"), "--key: \\q is no escape; a backslash itself is written as \\\\"),
        (("--key", "\\U00110000"), "--key: \\U00110000 is no character"),
        (("--last", 2, "--from", 1), "--last and --from exclude each other"),
        (("--segments", "--records"), "--segments and --records exclude each other"),
        (("--segments", "--key", ""), "--segments and --key exclude each other"),
        (("--diff", "--follow"), "--diff and --follow exclude each other"),
        (("--diff",), "--diff compares two logs: give both"),
        (("B",), "give one DATA; two are for --diff"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    result = inspect(make(tmp_path / "A"), *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"kvnode: {message}\n")


def test_what_is_no_log_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    (tmp_path / "aof").write_bytes(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
    (tmp_path / "noise").write_bytes(os.urandom(50_000))
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zeros").mkdir()
    (tmp_path / "zeros" / FIRST).write_bytes(bytes(5000))
    for name in ("", "none", "file", "aof", "noise", "fifo", "zeros"):
        for view in ((), ("--records",), ("--segments",), ("--json",), ("--follow",), ("--diff", tmp_path / name)):
            result = inspect(tmp_path / name, *view)
            assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), (name, view)
            assert str(tmp_path / name) in result.stderr
    assert "an append-only file (AOF) of Redis" in inspect(tmp_path / "aof").stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    make(tmp_path / "A").chmod(0)
    result = inspect(tmp_path / "A")
    (tmp_path / "A").chmod(0o700)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "Permission denied" in result.stderr


def test_lines_are_whole_in_a_pipe_and_cut_on_a_terminal(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    append(log, ["SET", b"key", b"v" * 200])
    log.close()
    code, text = run_on_terminal([*COMMAND, str(tmp_path / "A")], columns=60)
    lines = text.splitlines()
    assert code == 0
    assert lines[0].startswith("# "), "what begins with # is never cut"
    assert lines[2] == f"       1    1  {SHOWN}  SET      key vvvvv…"
    assert lines[3] == "# 1 entry in 1 record, 239 bytes"
    done = subprocess.run([*COMMAND, str(tmp_path / "A")], capture_output=True, text=True, check=True)
    assert "key " + "v" * 200 + "\n" in done.stdout


def test_a_reader_that_has_seen_enough_ends_it_without_a_word(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A", 10**7)
    append(log, *[["SET", b"key %d" % number, b"v" * 100] for number in range(5000)])
    log.close()
    shell = subprocess.run(
        ["bash", "-o", "pipefail", "-c", 'exec 3>&2; "$@" | head -n 3', "-", *COMMAND, str(tmp_path / "A")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shell.returncode, shell.stdout.count("\n"), shell.stderr) == (0, 3, "")


def test_a_full_disk_under_the_output_is_told(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, str(make(tmp_path / "A"))], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (
        1,
        "kvnode: can not write to standard output: No space left on device\n",
    )


def test_memory_is_bounded_by_a_piece_of_the_log(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A", 64 * 1024 * 1024)
    for _ in range(100):
        append(log, *[["SET", b"key", bytes(64 * 1024)] for _ in range(16)])
    log.close()
    assert sum(path.stat().st_size for path in (tmp_path / "A").glob("*.log")) > 100_000_000
    # The peak of the program itself: getrusage would count what the test had when it started it.
    program = (
        "import sys; from kvnode.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)"
    )
    for view in (["--key", "other"], ["--segments"]):
        command = [sys.executable, "-c", program, "inspect-log", str(tmp_path / "A"), *view]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert int(done.stderr.split()[-1]) < 80_000, f"KiB of memory for {view}"
