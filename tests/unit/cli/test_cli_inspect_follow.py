"""`kvnode inspect-log --follow` as a process of its own, beside a writer that appends, begins new segments and cuts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kvnode.log.record import encode
from tests.unit.cli.small_logs import FIRST, SHOWN, append, inspect, make, make_long, open_or_make
from tests.unit.cli.terminal import Terminal

# A test run that was started in the background ignores SIGINT, and so would what it starts.
PROGRAM = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from kvnode.cli import main; main()"
COMMAND = [sys.executable, "-c", PROGRAM, "inspect-log", "--follow"]
SECONDS_MAX = 20


@contextmanager
def following(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    """The next lines; they must come, or the test hangs until the whole suite is ended."""
    assert process.stdout is not None
    return [process.stdout.readline().rstrip("\n") for _ in range(count)]


def interrupt(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, stdout, stderr


def seqs(shown: Sequence[str]) -> list[str]:
    return [line.split()[0] for line in shown]


def test_what_is_appended_is_shown_across_new_segments_and_a_cut(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    append(log, ["NOOP"])
    with following(tmp_path / "A") as process:
        assert lines(process, 3)[-1] == f"       1    1  {SHOWN}  NOOP"
        append(log, ["SET", b"a", b"1"], ["DEL", b"a"])
        assert lines(process, 2) == [f"       2    1  {SHOWN}  SET      a 1", f"       3    1  {SHOWN}  DEL      a"]
        for number in range(12):
            append(log, ["SET", b"key %d" % number, b"v" * 1000])
        assert seqs(lines(process, 12)) == [str(seq) for seq in range(4, 16)]
        assert len(list((tmp_path / "A").glob("*.log"))) == 4
        log.cut(5)
        told = "# the log was cut after seq 5: entries shown above after it are no longer in it"
        assert lines(process, 1) == [told]
        append(log, ["SET", b"a", b"2"], term=2)
        assert lines(process, 1) == [f"       6    2  {SHOWN}  SET      a 2"]
        log.cut(3)
        append(log, ["SET", b"a", b"3"], ["SET", b"a", b"4"], ["SET", b"a", b"5"], ["SET", b"a", b"6"], term=3)
        assert lines(process, 5) == [
            "# the log was cut after seq 3: entries shown above after it are no longer in it",
            *(f"       {seq}    3  {SHOWN}  SET      a {seq - 1}" for seq in range(4, 8)),
        ]
        assert interrupt(process) == (0, "", "")
    log.close()


def test_only_what_was_asked_for_as_json(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    append(log, ["SET", b"a", b"1"], ["SET", b"b", b"1"])
    with following(tmp_path / "A", "--json", "--key", "a", "--verb", "set", "--term", "1-2") as process:
        assert [json.loads(line)["seq"] for line in lines(process, 1)] == [1]
        append(log, ["SET", b"b", b"2"], ["DEL", b"a"], ["SET", b"a", b"2"])
        assert [json.loads(line)["seq"] for line in lines(process, 1)] == [5]
        log.cut(2)
        assert [json.loads(line) for line in lines(process, 1)] == [{"replaced_after_seq": 2}]
        append(log, ["SET", b"a", b"3"], term=2)
        assert [json.loads(line)["seq"] for line in lines(process, 1)] == [3]
        assert interrupt(process) == (0, "", "")
    log.close()


def test_what_is_written_and_not_durable_is_not_shown(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    append(log, ["SET", b"a", b"1"])
    path = tmp_path / "A" / FIRST
    raw = encode(log.last_checksum, 2, 1, 0, 1, [["SET", b"a", b"not yet"]]).raw
    good = path.read_bytes()
    with following(tmp_path / "A", "--last", 1) as process:
        assert seqs(lines(process, 3)[2:]) == ["1"]
        path.write_bytes(good + raw)  # the mark does not speak of it, and it is written over
        append(log, ["SET", b"a", b"2"])
        assert lines(process, 1) == [f"       2    1  {SHOWN}  SET      a 2"]
        assert interrupt(process) == (0, "", "")
    log.close()


def test_records_can_be_followed_too(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    append(log, ["NOOP"])
    with following(tmp_path / "A", "--records") as process:
        assert lines(process, 3)[2].endswith("  valid")
        append(log, ["SET", b"a", b"1"])
        assert lines(process, 1)[0].split()[3] == "2"
        assert interrupt(process) == (0, "", "")
    log.close()


def test_it_ends_by_itself_where_it_was_told_to(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    append(log, ["NOOP"])
    with following(tmp_path / "A", "--to", 3) as process:
        assert seqs(lines(process, 3)[2:]) == ["1"]
        append(log, ["NOOP"], ["NOOP"], ["NOOP"])
        stdout, stderr = process.communicate(timeout=SECONDS_MAX)
        assert (seqs(stdout.splitlines()[:2]), stderr, process.returncode) == (["2", "3"], "", 0)
        assert stdout.splitlines()[2].startswith("# 3 entries in 2 records")
    log.close()


def test_it_ends_without_a_word_when_nobody_reads_any_more(tmp_path: Path) -> None:
    log = open_or_make(tmp_path / "A")
    append(log, ["NOOP"])
    with following(tmp_path / "A") as process:
        lines(process, 3)
        assert process.stdout is not None
        process.stdout.close()
        append(log, ["NOOP"])
        assert process.wait(SECONDS_MAX) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    log.close()


def test_damage_is_told_and_followed_past(tmp_path: Path) -> None:
    make_long(tmp_path / "A")
    data = bytearray((tmp_path / "A" / FIRST).read_bytes())
    data[2000] ^= 1
    (tmp_path / "A" / FIRST).write_bytes(data)
    with following(tmp_path / "A") as process:
        shown = lines(process, 14)[2:]
        assert shown[1].startswith("# damage: ")
        assert seqs(shown[:1] + shown[2:]) == ["1", *(str(seq) for seq in range(3, 13))]
        code, stdout, stderr = interrupt(process)
        assert (code, stdout) == (1, "")
        assert "damaged in 1 place" in stderr


def test_on_a_terminal_the_prompt_comes_on_a_line_of_its_own(tmp_path: Path) -> None:
    make(tmp_path / "A")
    terminal = Terminal()
    process = subprocess.Popen([*COMMAND, str(tmp_path / "A")], stdout=terminal.file, stderr=terminal.file)
    shown = ""
    while "UPD b 2" not in shown:
        shown += terminal.wait_for_text()
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS_MAX) == 0
    assert terminal.text() == "\n"
    terminal.close()


def test_what_can_not_be_followed_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "A")
    result = inspect(tmp_path / "A" / FIRST, "--follow")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "it is a single file; give the data directory" in result.stderr
    (tmp_path / "A" / "mark").unlink()
    result = inspect(tmp_path / "A", "--follow")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the file mark, which says what is durable, can not be read" in result.stderr
