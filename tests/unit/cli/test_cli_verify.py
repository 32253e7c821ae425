"""`kvnode verify` on a small log: in order, damaged in every way, live, and on what is no log at all. Exact output."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvnode.cli import main, surroundings
from kvnode.cli.examine import examine
from kvnode.cli.verdict import CUTS, HEALS, REFUSES, REJOINS, STARTS
from kvnode.log import DamageError, LogError, Recovered, cluster_id, open_log
from kvnode.log.damage import FAILURE
from kvnode.log.healing.damaged import DamagedLog
from kvnode.log.record import encode
from tests.cluster.harness import program
from tests.unit.cli.damaged_logs import (
    CLUSTER,
    MEMBERS,
    OPTIONS,
    add,
    cut_end,
    flip,
    lower_mark,
    make,
    open_one,
    records,
    segment,
)
from tests.unit.cli.small_logs import tree
from tests.unit.cli.terminal import run_on_terminal

IN_ORDER = f"""\
OK       identity   node A of A, B, C, cluster {CLUSTER}
OK       vote       this node may vote
OK       ballot     term 2, vote for B; both copies are good
OK       mark       durable up to seq 80; the log covers it
OK       lock       nobody has it open
OK       files      nothing strange
OK       segments   5 files, 4,207 bytes; names, headers and owners are right
OK       records    80 entries in 40 records can be read
OK       chain      every record continues the one before it
OK       tail       the log ends with a whole record, at seq 80 of term 1
OK       discarded  empty

`kvnode start` would start this node.
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log in order, for all tests of this module: they copy it."""
    return make(tmp_path_factory.mktemp("good") / "A")


@pytest.fixture
def data(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "A"))


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def what_is_wrong(result: Result) -> str:
    """The output without the checks that are OK."""
    return "".join(line for line in result.stdout.splitlines(keepends=True) if not line.startswith("OK "))


def test_a_log_in_order(data: Path) -> None:
    before = tree(data)
    result = verify(data)
    assert result.stdout == IN_ORDER
    assert (result.exit_code, result.stderr) == (0, "")
    assert tree(data) == before


def test_an_empty_log(tmp_path: Path) -> None:
    open_one(tmp_path / "A").close()
    assert what_is_wrong(verify(tmp_path / "A")) == (
        "WARNING  vote       not given yet: all members have to be new, or a leader brings this node up to date\n"
        "\n`kvnode start` would start this node.\n"
    )


# What can happen to it


def spoil_a_record(data: Path) -> None:
    flip(segment(data, 19), 300)


def spoil_two_places(data: Path) -> None:
    flip(segment(data, 19), 300)
    segment(data, 55).unlink()


def lose_the_first_segment(data: Path) -> None:
    segment(data, 1).unlink()


def spoil_a_header(data: Path) -> None:
    flip(segment(data, 37), 20)


def insert_bytes(data: Path) -> None:
    add(segment(data, 19), b"\1" * 7)


def replace_by_another_history(data: Path) -> None:
    """A record that verifies, in the place of another."""
    path = segment(data, 19)
    before, old = records()[10:12]
    other = encode(before.checksum, old.first_seq, old.term, old.time_ms + 1, old.commit_seq, old.entries)
    path.write_bytes(path.read_bytes().replace(old.raw, other.raw))


def take_a_segment_of_another_cluster(data: Path) -> None:
    other = make(data.parent / "other", ("A", "B", "Z"))
    shutil.copy(segment(other, 37), segment(data, 37))
    shutil.rmtree(other)


def cut_into_the_last_record(data: Path) -> None:
    cut_end(segment(data, 73), 5)


def lose_the_last_segment(data: Path) -> None:
    segment(data, 73).unlink()


def lose_all_segments(data: Path) -> None:
    for path in data.glob("*.log"):
        path.unlink()


def tear_the_tail(data: Path) -> None:
    lower_mark(data, 76)
    cut_end(segment(data, 73), 5)


def leave_garbage(data: Path) -> None:
    add(segment(data, 73), b"garbage")


def tear_before_a_segment(data: Path) -> None:
    lower_mark(data, 70)
    cut_end(segment(data, 55), 5)


def spoil_the_mark(data: Path) -> None:
    flip(data / "mark", 20)


def lose_the_mark(data: Path) -> None:
    (data / "mark").unlink()


def spoil_a_ballot(data: Path) -> None:
    flip(data / "ballot", 20)


def spoil_both_ballots(data: Path) -> None:
    flip(data / "ballot", 20)
    flip(data / "ballot", 4096 + 20)


def spoil_ballot_and_record(data: Path) -> None:
    spoil_both_ballots(data)
    spoil_a_record(data)


def spoil_the_identity(data: Path) -> None:
    flip(data / "identity", 20)


def lose_identity_and_mark(data: Path) -> None:
    (data / "identity").unlink()
    (data / "mark").unlink()


def put_strange_things_in(data: Path) -> None:
    (data / "notes.txt").write_text("hello")
    (data / "mark.tmp").write_bytes(b"")
    (data / ".hidden").write_text("")
    (data / "ballot").chmod(0o640)


def turn_into_zeros(data: Path) -> None:
    for path in data.iterdir():
        if path.is_file() and path.name != "lock":
            path.write_bytes(b"\0" * path.stat().st_size)


def give_to_another_node(data: Path) -> None:
    other = make(data.parent / "other", node="B")
    shutil.copy(other / "identity", data / "identity")
    shutil.rmtree(other)


UNTIL = "without the right to vote until a leader has brought it up to date, because of"

BAD = {
    spoil_a_record: """\
FAILURE  records    78 entries in 39 records can be read; not right at 1 place
          readable  1-22, 25-80
          damaged   23-24  00000000000000000019.log at offset 261: the checksum does not match

`kvnode start` would set this node aside, fetch entries 23-24 from the other members, and then start it.
""",
    spoil_two_places: """\
FAILURE  segments   4 files, 3,267 bytes; not right at 1 place
          00000000000000000073.log: the segment before it is missing
FAILURE  records    60 entries in 30 records can be read; not right at 2 places
          readable  1-22, 25-54, 73-80
          damaged   23-24  00000000000000000019.log at offset 261: the checksum does not match
          missing   55-72  00000000000000000073.log: the segment before it is missing

`kvnode start` would set this node aside, fetch entries 23-24, 55-72 from the other members, and then start it.
""",
    lose_the_first_segment: """\
FAILURE  segments   4 files, 3,275 bytes; not right at 1 place
          00000000000000000019.log: the segment before it is missing
FAILURE  records    62 entries in 31 records can be read; not right at 1 place
          readable  19-80
          missing   1-18  00000000000000000019.log: the segment before it is missing

`kvnode start` would set this node aside, fetch entries 1-18 from the other members, and then start it.
""",
    spoil_a_header: """\
FAILURE  segments   5 files, 4,207 bytes; not right at 1 place
          00000000000000000037.log: the segment's header can not be read: the checksum does not match

`kvnode start` would set this node aside, write what is bad in its log anew, where no entry is missing, and then \
start it.
""",
    insert_bytes: """\
FAILURE  records    80 entries in 40 records can be read; not right at 1 place
          readable  1-36, 37-80
          damaged   no entry  00000000000000000019.log at offset 940: no record begins here

`kvnode start` would set this node aside, write what is bad in its log anew, where no entry is missing, and then \
start it.
""",
    replace_by_another_history: """\
FAILURE  records    74 entries in 37 records can be read; not right at 1 place
          readable  1-18, 25-80
          damaged   19-24  00000000000000000019.log: the records that stand here do not lead to those after them
FAILURE  chain      broken at 1 place
          00000000000000000019.log: the records that stand here do not lead to those after them

`kvnode start` would set this node aside, fetch entries 19-24 from the other members, and then start it.
""",
    take_a_segment_of_another_cluster: f"""\
FAILURE  segments   5 files, 4,207 bytes; not right at 1 place
          00000000000000000037.log: the segment belongs to another cluster (id {cluster_id(("A", "B", "Z"))})
FAILURE  records    62 entries in 31 records can be read; not right at 1 place
          readable  1-36, 55-80
          damaged   37-54  00000000000000000037.log: the segment belongs to another cluster \
(id {cluster_id(("A", "B", "Z"))})

`kvnode start` would set this node aside, fetch entries 37-54 from the other members, and then start it.
""",
    cut_into_the_last_record: f"""\
FAILURE  mark       durable up to seq 80, but the log can be read up to seq 78 only
FAILURE  records    78 entries in 39 records can be read; not right at 1 place
          readable  1-78
          damaged   79-80  00000000000000000073.log at offset 358: the data ends within a record of 97 bytes
FAILURE  tail       what was durable at the end of the log can not be read
          00000000000000000073.log at offset 358: the data ends within a record of 97 bytes

`kvnode start` would start this node {UNTIL} the end of its log.
""",
    lose_the_last_segment: f"""\
FAILURE  mark       durable up to seq 80, but the log can be read up to seq 72 only
FAILURE  records    72 entries in 36 records can be read; not right at 1 place
          readable  1-72
          missing   73-80  00000000000000000055.log at offset 940: the log ends here, though it was durable up to seq 80
FAILURE  tail       what was durable at the end of the log can not be read
          00000000000000000055.log at offset 940: the log ends here, though it was durable up to seq 80

`kvnode start` would start this node {UNTIL} the end of its log.
""",
    lose_all_segments: f"""\
FAILURE  mark       durable up to seq 80, but the log can be read up to seq 0 only
FAILURE  segments   0 files, 0 bytes; not right at 1 place
          all segments of the log are missing
FAILURE  records    0 entries in 0 records can be read; not right at 1 place
          missing   1-  all segments of the log are missing
FAILURE  tail       what was durable at the end of the log can not be read
          all segments of the log are missing

`kvnode start` would start this node {UNTIL} the end of its log.
""",
    tear_the_tail: """\
WARNING  tail       a torn write of 92 bytes, never known durable
          00000000000000000073.log at offset 358: the log ends within a record

`kvnode start` would cut off a torn tail of 92 bytes, keep a copy in discarded/, and start this node.
""",
    leave_garbage: """\
WARNING  tail       a torn write of 7 bytes, never known durable
          00000000000000000073.log at offset 455: the log ends with garbage

`kvnode start` would cut off a torn tail of 7 bytes, keep a copy in discarded/, and start this node.
""",
    tear_before_a_segment: """\
WARNING  tail       a torn write of 547 bytes, never known durable
          00000000000000000055.log at offset 843: the log ends within a record

`kvnode start` would cut off a torn tail of 547 bytes, keep a copy in discarded/, and start this node.
""",
    spoil_the_mark: f"""\
FAILURE  mark       can not be read: the checksum does not match

`kvnode start` would start this node {UNTIL} its mark.
""",
    lose_the_mark: f"""\
FAILURE  mark       can not be read: the file is missing

`kvnode start` would start this node {UNTIL} its mark.
""",
    spoil_a_ballot: """\
WARNING  ballot     one of its two copies can not be read

`kvnode start` would start this node.
""",
    spoil_both_ballots: f"""\
FAILURE  ballot     neither copy of the ballot can be read (the checksum does not match)

`kvnode start` would start this node {UNTIL} its ballot.
""",
    spoil_ballot_and_record: f"""\
FAILURE  ballot     neither copy of the ballot can be read (the checksum does not match)
FAILURE  records    78 entries in 39 records can be read; not right at 1 place
          readable  1-22, 25-80
          damaged   23-24  00000000000000000019.log at offset 261: the checksum does not match

`kvnode start` would set this node aside, fetch entries 23-24 from the other members, and then start it {UNTIL} \
its ballot.
""",
    spoil_the_identity: f"""\
FAILURE  identity   can not be read: the checksum does not match; its segments belong to node A
WARNING  vote       not known without the identity

`kvnode start` would start this node {UNTIL} its identity.
""",
    lose_identity_and_mark: f"""\
FAILURE  identity   can not be read: the file is missing; its segments belong to node A
WARNING  vote       not known without the identity
FAILURE  mark       can not be read: the file is missing

`kvnode start` would start this node {UNTIL} its identity and its mark.
""",
    put_strange_things_in: """\
WARNING  files      'notes.txt' is none of kvnode's files; ballot has mode 0640, so others can touch it; mark.tmp was \
left behind, a start removes it

`kvnode start` would start this node.
""",
    turn_into_zeros: """\
FAILURE  identity   can not be read: no record begins here
WARNING  vote       not known without the identity
FAILURE  ballot     neither copy of the ballot can be read (no record begins here)
FAILURE  mark       can not be read: no record begins here
WARNING  files      nothing but zeros stands in 00000000000000000001.log, 00000000000000000019.log, \
00000000000000000037.log, 00000000000000000055.log, 00000000000000000073.log, ballot, identity, mark
FAILURE  segments   5 files, 0 bytes; not right at 1 place
          00000000000000000001.log: the segment's header can not be read: the data ends within a record's header
FAILURE  records    0 entries in 0 records can be read; not right at 1 place
          damaged   1-  00000000000000000001.log: the segment's header can not be read: the data ends within \
a record's header
FAILURE  tail       what was durable at the end of the log can not be read
          00000000000000000001.log: the segment's header can not be read: the data ends within a record's header

`kvnode start` would refuse this directory: its identity can not be read, and nothing else says whose it is.
""",
    give_to_another_node: """\
FAILURE  mark       durable up to seq 80, but the log can be read up to seq 0 only
FAILURE  segments   5 files, 4,207 bytes; not right at 1 place
          00000000000000000001.log: the segment belongs to node A
FAILURE  records    0 entries in 0 records can be read; not right at 1 place
          damaged   1-80  00000000000000000001.log: the segment belongs to node A
FAILURE  tail       what was durable at the end of the log can not be read
          00000000000000000001.log: the segment belongs to node A

`kvnode start` would refuse this directory: it is node B's, and its log is of another node or another cluster (A).
""",
}


@pytest.mark.parametrize(("damage", "text"), list(BAD.items()), ids=lambda item: getattr(item, "__name__", ""))
def test_what_is_wrong_is_named(damage: Callable[[Path], None], text: str, data: Path) -> None:
    damage(data)
    before = tree(data)
    result = verify(data)
    assert what_is_wrong(result) == text
    assert (result.exit_code, result.stderr) == (1 if FAILURE in text else 0, "")
    assert tree(data) == before


def test_the_right_to_vote_was_taken_away(data: Path) -> None:
    log = open_one(data)
    log.set_aside(78, "The records were not those of the others.")
    log.close()
    kept = sum(path.stat().st_size for path in (data / "discarded").iterdir())
    result = verify(data)
    assert what_is_wrong(result) == (
        "WARNING  vote       taken away until a leader has brought this node up to date: "
        "The records were not those of the others.\n"
        "\n`kvnode start` would start this node.\n"
    )
    assert f"OK       discarded  1 file, {kept} bytes, cut off the log; nothing reads them\n" in result.stdout
    assert result.exit_code == 0


def test_a_cluster_of_one_has_nobody_to_heal_it(tmp_path: Path) -> None:
    alone = make(tmp_path / "A", ("A",))
    flip(alone / "ballot", 20)
    flip(alone / "ballot", 4096 + 20)
    last = "`kvnode start` would make the ballot anew, as nobody else can have had its vote, and start this node.\n"
    assert verify(alone).stdout.endswith(last)
    flip(segment(alone, 19), 300)
    last = "`kvnode start` would refuse this directory: no other member can heal it. Restore it from a copy.\n"
    assert verify(alone).stdout.endswith(last)


def test_a_directory_whose_making_was_interrupted(data: Path) -> None:
    for path in data.iterdir():
        if path.is_file():
            path.unlink()
    (data / "mark.tmp").write_bytes(b"")
    result = verify(data)
    last = "`kvnode start` would make this directory anew, as nothing was ever recorded in it.\n"
    assert what_is_wrong(result).endswith("\n\n" + last)
    assert FAILURE not in result.stdout
    assert result.exit_code == 0


def test_many_places_are_counted_and_all_of_them_in_json(tmp_path: Path) -> None:
    log = open_one(tmp_path / "A")
    log.save_ballot(1, None)
    for record in records(400):
        log.append([record])
    log.close()
    for number, path in enumerate(sorted((tmp_path / "A").glob("*.log"))):
        if number:
            flip(path, 300)
    holes = len(sorted((tmp_path / "A").glob("*.log"))) - 1
    text = verify(tmp_path / "A").stdout
    assert text.count("the checksum does not match") == 40
    assert f" and {holes - 40} more places\n" in text
    assert f", and {holes - 10} more from the other members" in text
    assert verify("--json", tmp_path / "A").stdout.count('"status": "damaged"') == holes


def test_a_path_that_is_no_text(data: Path) -> None:
    place = data.with_name(os.fsdecode(b"\xff"))
    data.rename(place)
    done = subprocess.run([*program("kvnode"), "verify", place], capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode()) == (0, IN_ORDER)
    segment(place, 1).write_bytes(b"")
    done = subprocess.run([*program("kvnode"), "verify", place], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    done = subprocess.run([*program("kvnode"), "verify", place / "mark"], capture_output=True, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)


def test_json_is_one_object_with_all_that_the_lines_say(data: Path) -> None:
    spoil_a_record(data)
    result = verify("--json", data)
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    checks = {check.pop("check"): check for check in found.pop("checks")}
    assert list(checks) == [line[9:19].strip() for line in IN_ORDER.splitlines()[:11]]
    place = {"path": str(segment(data, 19)), "offset": 261, "reason": "the checksum does not match"}
    readable = {"status": "readable", "path": None, "offset": None, "reason": ""}
    assert checks["records"] == {
        "status": "FAILURE",
        "summary": "78 entries in 39 records can be read; not right at 1 place",
        "findings": [],
        "ranges": [
            {**readable, "first_seq": 1, "last_seq": 22},
            {**readable, "first_seq": 25, "last_seq": 80},
            {"status": "damaged", "first_seq": 23, "last_seq": 24, **place},
        ],
    }
    assert found == {
        "directory": str(data),
        "status": "FAILURE",
        "node": "A",
        "cluster_id": CLUSTER,
        "members": ["A", "B", "C"],
        "may_vote": True,
        "set_aside": "",
        "process_id": None,
        "term": 2,
        "vote": "B",
        "mark_seq": 80,
        "last_seq": 80,
        "last_term": 1,
        "last_checksum": f"{records()[-1].checksum:08x}",
        "commit_seq": 78,
        "start": {
            "outcome": "heals",
            "text": "`kvnode start` would set this node aside, fetch entries 23-24 from the other members, and then "
            "start it.",
        },
    }


# What it says of a start comes true


def what_start_does(data: Path) -> str:
    """Of this very directory, which is changed by it. A node with holes heals them: that far it is taken here."""
    try:
        opened = open_log(data, cluster_id=CLUSTER, node_id="A", members=MEMBERS, options=OPTIONS)
    except DamageError as error:
        if not error.holes:
            return REFUSES
        DamagedLog.open(data, cluster_id=CLUSTER, node_id="A", members=MEMBERS, options=OPTIONS).close()
        return HEALS
    except LogError:
        return REFUSES
    opened.log.close()
    return _outcome_of(opened)


def _outcome_of(opened: Recovered) -> str:
    if opened.identity.set_aside:
        return REJOINS
    return STARTS if opened.cut is None else CUTS


@pytest.mark.parametrize("damage", list(BAD), ids=lambda damage: damage.__name__)
def test_a_start_does_what_was_said(damage: Callable[[Path], None], data: Path) -> None:
    damage(data)
    said = examine(data).start.outcome
    assert what_start_does(data) == said


def test_a_start_does_what_was_said_whatever_byte_is_bad(good: Path, tmp_path: Path) -> None:
    """A flipped byte here and there in every file; tests/crash has all of them."""
    data = tmp_path / "A"
    names = [path.name for path in good.iterdir() if path.is_file() and path.name != "lock"]
    outcomes = set()
    for name in names:
        size = (good / name).stat().st_size
        for offset in range(0, size, 97) if name.endswith(".log") else [*range(0, min(size, 80), 7), size - 1]:
            shutil.copytree(good, data)
            flip(data / name, offset)
            said = examine(data).start.outcome
            assert what_start_does(data) == said, f"{name} at {offset}"
            outcomes.add(said)
            shutil.rmtree(data)
    assert outcomes == {STARTS, HEALS, REJOINS}


def test_a_start_does_what_was_said_wherever_the_log_ends(good: Path, tmp_path: Path) -> None:
    data = tmp_path / "A"
    outcomes = set()
    for marked in (72, 78, 80):
        for count in (97, *range(1, 455, 31)):
            shutil.copytree(good, data)
            lower_mark(data, marked)
            cut_end(segment(data, 73), count)
            said = examine(data).start.outcome
            assert what_start_does(data) == said, f"{count} bytes less, mark at {marked}"
            outcomes.add(said)
            shutil.rmtree(data)
    assert outcomes == {STARTS, CUTS, REJOINS}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_another_user(data: Path) -> None:
    os.chown(data / "mark", 4711, 4711)
    os.chown(segment(data, 1), 4711, 4711)
    assert what_is_wrong(verify(data)).startswith(
        "WARNING  files      another user than the directory's owns 00000000000000000001.log, mark\n"
    )


# A directory that is open


@contextmanager
def busy(directory: Path) -> Iterator[None]:
    """A node that does all that can happen to files, as fast as it can, while the block runs."""
    log = open_one(directory)
    ends = threading.Event()
    faults: list[BaseException] = []

    def run() -> None:
        try:
            term = log.ballot.term
            while not ends.is_set():
                term += 1
                log.save_ballot(term, None)
                first_seq = log.last_seq
                for _ in range(30):
                    entries = [["SET", b"key", b"v" * 90]]
                    log.append([encode(log.last_checksum, log.last_seq + 1, term, 1, log.last_seq, entries)])
                log.cut(first_seq + 10)
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
        log.close()
    assert not faults, faults


@pytest.mark.parametrize("is_told", [True, False], ids=["told by the system", "not told"])
def test_a_live_directory_is_never_called_damaged(is_told: bool, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_told:
        monkeypatch.setattr(surroundings, "LOCKS", data / "none")
    with busy(data):
        for _ in range(60):
            verdict = examine(data)
            assert verdict.status != FAILURE, verdict.checks
            assert verdict.facts.around.holder == (os.getpid() if is_told else None)


def test_who_has_it_open_is_told_and_what_is_being_written_is_no_fault(data: Path) -> None:
    log = open_one(data)
    add(segment(data, 73), records(1, records()[-1])[0].raw[:50])
    result = verify(data)
    log.close()
    assert f"OK       lock       process {os.getpid()} has it open\n" in result.stdout
    assert "OK       tail       a record is being written, 50 bytes so far\n" in result.stdout
    assert result.stdout.endswith("\nThe node runs. The next `kvnode start` would start this node.\n")
    assert result.exit_code == 0
    assert "a torn write of 50 bytes" in verify(data).stdout


def test_damage_in_a_live_directory_is_found_all_the_same(data: Path) -> None:
    log = open_one(data)
    spoil_a_record(data)
    result = verify(data)
    log.close()
    assert "damaged   23-24  00000000000000000019.log at offset 261: the checksum does not match\n" in result.stdout
    assert result.exit_code == 1


# What is no data directory


def refusal(path: Path) -> str:
    result = verify(path)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    return result.stderr.removeprefix("kvnode: ").rstrip("\n")


def test_files_that_are_no_directory(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    text = f"{file} is not a kvnode data directory: "
    for content, what in (
        (b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n", "it is an append-only file (AOF) of Redis."),
        (b"REDIS0010\xfa\tredis-ver", "it is a snapshot (RDB) of Redis."),
        (b"\x8f\x1c" * 5000, "it is a file that kvnode does not know."),
        (b"\0" * 5000, "it begins with zeros only."),
        (b"", "it is empty."),
    ):
        file.write_bytes(content)
        assert refusal(file) == text + what
    assert refusal(tmp_path / "none") == f"can not read {tmp_path / 'none'}: there is no such directory."
    one = segment(data, 19)
    rest = f"not a data directory: give {data}. `kvnode inspect-log` reads a single segment."
    assert refusal(one) == f"{one} is one segment of the log of node A, {rest}"
    flip(one, 20)
    assert refusal(one) == f"{one} is one segment of the log, {rest}"


def test_directories_of_something_else(data: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    assert refusal(place) == f"{place} is empty: there is nothing to look at, and a node would begin anew in it."
    (place / "appendonly.aof.1.incr.aof").write_bytes(b"*1")
    what = "it looks like a directory of Redis (it holds 'appendonly.aof.1.incr.aof')."
    assert refusal(place) == f"{place} is not a kvnode data directory: {what}"
    (place / "appendonly.aof.1.incr.aof").rename(place / "zeros")
    what = "there is no segment of a log in it (it holds 'zeros')."
    assert refusal(place) == f"{place} is not a kvnode data directory: {what}"
    assert str(data) in refusal(tmp_path)
    what = f"holds what was cut off a log, and nothing reads it. The data directory is {data}."
    assert refusal(data / "discarded") == f"{data / 'discarded'} {what}"


def test_pipes_and_links_are_not_waited_for(data: Path) -> None:
    path = segment(data, 19)
    path.rename(data / "elsewhere")
    path.symlink_to(data / "elsewhere")
    assert refusal(data) == f"{path} is a symbolic link; kvnode does not follow links in a data directory."
    path.unlink()
    os.mkfifo(path)
    assert refusal(data) == f"{path} is not a file. Nothing was touched: move it away."


# On a terminal


def test_the_status_has_a_colour_on_a_terminal(data: Path) -> None:
    spoil_a_record(data)
    leave_garbage(data)
    code, text = run_on_terminal([*program("kvnode"), "verify", str(data)])
    assert code == 1
    assert "\x1b[32mOK      \x1b[0m identity" in text
    assert "\x1b[33mWARNING \x1b[0m tail" in text
    assert "\x1b[31mFAILURE \x1b[0m records" in text
