"""Opening a directory: what is made, what is refused without a touch, what is mended."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from kvnode.log import (
    Ballot,
    DamageError,
    ForeignLogError,
    LockedError,
    LogError,
    LogOptions,
    Record,
    cluster_id,
    open_log,
)
from kvnode.log.ballot import COPY_OFFSET, encode_ballot
from kvnode.log.identity import encode_identity
from kvnode.log.mark import Mark, decode_mark, encode_mark
from kvnode.log.record import SegmentHeader, decode_header, encode, encode_header, frame
from kvnode.log.recovery import Recovered
from kvnode.log.segment import segment_name
from tests.crash.damage_maker import ballot_of, heal, identity_of, mark_of
from tests.crash.log_maker import DIRECTORY, MEMBERS, chain, make_log, open_memory, raws, segment_paths
from tests.crash.memory_disk import MemoryDisk

MARK = DIRECTORY / "mark"
BALLOT = DIRECTORY / "ballot"


def open_real(directory: Path, **changed: Any) -> Recovered:
    arguments: dict[str, Any] = {"cluster_id": cluster_id(MEMBERS), "node_id": "A", "members": MEMBERS, **changed}
    return open_log(directory, options=LogOptions(segment_bytes=500), **arguments)


def tree(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a directory, with times."""
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [directory, *directory.rglob("*")]
    }


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A directory of node A with a log of three segments."""
    directory = tmp_path / "A"
    log = open_real(directory).log
    log.save_ballot(1, "A")
    for record in chain(15):
        log.append([record])
    log.close()
    return directory


def test_a_new_directory(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "data" / "A"
    recovered = open_real(directory)
    assert recovered.is_new
    assert recovered.is_empty
    assert not recovered.identity.may_vote
    assert (recovered.last_seq, recovered.last_term, recovered.last_checksum, recovered.commit_seq) == (0, 0, 0, 0)
    assert recovered.ballot == Ballot(0, None)
    recovered.log.close()
    again = open_real(directory)
    assert (again.is_new, again.is_empty, again.identity) == (False, True, recovered.identity)
    again.log.save_ballot(1, None)
    again.log.close()
    third = open_real(directory)
    assert (third.is_new, third.is_empty) == (False, False)
    third.log.close()
    for path in [directory, *directory.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_what_was_read(stopped: Path) -> None:
    seen: list[Any] = []
    progress: list[tuple[int, int]] = []
    recovered = open_real(stopped, on_record=seen.append, progress=lambda *at: progress.append(at))
    records = chain(15)
    assert [record.raw for record in seen] == [record.raw for record in records]
    assert list(recovered.last_seqs) == [record.last_seq for record in records]
    assert list(recovered.checksums) == [record.checksum for record in records]
    assert list(recovered.sizes) == [record.size for record in records]
    assert recovered.terms == [(1, 1)]
    last = records[-1]
    assert (recovered.last_seq, recovered.last_term, recovered.last_checksum) == (last.last_seq, 1, last.checksum)
    assert (recovered.commit_seq, recovered.time_ms) == (last.commit_seq, last.time_ms)
    assert (recovered.entries, recovered.bytes) == (30, sum(record.size for record in records))
    assert not recovered.is_new
    assert not recovered.is_empty
    assert progress[-1][0] <= progress[-1][1] == sum(path.stat().st_size for path in stopped.glob("*.log"))
    recovered.log.close()


def test_the_commit_seq_is_the_highest_that_a_record_speaks_of() -> None:
    first = encode(0, 1, 1, 50, 0, [["NOOP"]] * 9)
    second = encode(first.checksum, 10, 1, 40, 7, [["NOOP"]])
    third = encode(second.checksum, 11, 2, 45, 5, [["NOOP"]])
    recovered = open_memory(make_log([first, second, third]))
    assert (recovered.commit_seq, recovered.last_seq, recovered.time_ms) == (7, 11, 50)
    assert recovered.terms == [(1, 1), (11, 2)]


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"node_id": "B"}, ForeignLogError, "belongs to node A"),
        ({"members": ("A", "B")}, ForeignLogError, "cluster of A, B, C"),
        ({"members": ("A", "B", "C", "D")}, ForeignLogError, "A, B, C, D"),
        ({"cluster_id": cluster_id(MEMBERS, "other")}, ForeignLogError, "another cluster"),
    ],
)
def test_a_foreign_directory_is_not_touched(
    stopped: Path, changed: dict[str, Any], error: type[LogError], words: str
) -> None:
    (stopped / "lock").unlink()
    before = tree(stopped)
    with pytest.raises(error, match=words):
        open_real(stopped, **changed)
    assert tree(stopped) == before


def test_a_second_process_touches_nothing(stopped: Path) -> None:
    first = open_real(stopped)
    before = tree(stopped)
    with pytest.raises(LockedError, match=f"process id {os.getpid()}"):
        open_real(stopped)
    assert tree(stopped) == before
    first.log.close()
    open_real(stopped).log.close()


def test_a_refused_start_frees_the_lock(stopped: Path) -> None:
    first = stopped / segment_name(1)
    first.rename(stopped / "elsewhere")
    with pytest.raises(DamageError):
        open_real(stopped)
    (stopped / "elsewhere").rename(first)
    open_real(stopped).log.close()


def test_a_directory_of_other_things_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_bytes(b"*1\r\n")
    before = tree(tmp_path)
    with pytest.raises(ForeignLogError, match=r"appendonly\.aof"):
        open_real(tmp_path)
    assert tree(tmp_path) == before


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "A").write_bytes(b"")
    with pytest.raises(LogError, match="not a directory"):
        open_real(tmp_path / "A")
    with pytest.raises(LogError, match=r"can not be used: .*Not a directory"):
        open_real(tmp_path / "A" / "B")


@pytest.mark.parametrize("name", ["identity", "ballot", "mark", "lock", "discarded", "00000000000000000001.log"])
def test_links_in_the_directory_are_refused(stopped: Path, name: str, tmp_path: Path) -> None:
    (stopped / name).rename(tmp_path / "elsewhere")
    (stopped / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LogError, match="symbolic link"):
        open_real(stopped)


@pytest.mark.parametrize("name", ["identity", "ballot", "mark", "reserve", "00000000000000000001.log"])
@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_something_else_in_place_of_a_file_is_refused(stopped: Path, name: str, kind: str) -> None:
    (stopped / name).unlink(missing_ok=True)
    if kind == "directory":
        (stopped / name).mkdir()
    else:
        os.mkfifo(stopped / name)
    before = tree(stopped)
    with pytest.raises(LogError, match=f"{name} is not a file"):
        open_real(stopped)
    assert tree(stopped) == before


def test_a_file_in_place_of_the_discarded_ones_is_refused(stopped: Path) -> None:
    (stopped / "discarded").rmdir()
    (stopped / "discarded").write_bytes(b"")
    with pytest.raises(LogError, match="discarded is not a directory"):
        open_real(stopped)


def make_bad(disk: MemoryDisk, path: Path, how: str) -> None:
    data = bytes(disk.file(path).data)
    if how == "missing":
        disk.remove(path)
    elif how == "unreadable":
        disk.file(path).unreadable = set(range(len(data)))
    else:
        disk.put(path, {"empty": b"", "zeros": bytes(len(data)), "flipped": bytes(b ^ 0x10 for b in data)}[how])


HOWS = ["missing", "empty", "zeros", "flipped", "unreadable"]


def check_set_aside(disk: MemoryDisk, records: list[Record], words: str) -> Recovered:
    """The node is set aside, all `records` are there, and the next start finds nothing wrong."""
    seen: list[Record] = []
    recovered = open_memory(disk, seen=seen)
    assert raws(seen) == raws(records)
    assert recovered.identity == identity_of(disk)
    assert not recovered.identity.may_vote
    assert words in recovered.identity.set_aside
    assert (recovered.is_new, recovered.is_empty) == (False, False)
    assert any(words in finding for finding in recovered.findings)
    recovered.log.close()
    again = open_memory(disk.copy())
    assert (again.findings, again.identity, again.last_seq) == ([], recovered.identity, recovered.last_seq)
    return recovered


@pytest.mark.parametrize("may_vote", [True, False])
@pytest.mark.parametrize("name", ["identity", "ballot", "mark"])
@pytest.mark.parametrize("how", HOWS)
def test_a_bad_note_takes_the_right_to_vote(name: str, how: str, may_vote: bool) -> None:
    """**S** It is not known what this node has promised, or whether it still has it."""
    records = chain(5, term=3)
    disk = make_log(records)
    disk.put(DIRECTORY / "identity", encode_identity(replace(identity_of(disk), may_vote=may_vote)))
    disk.put(BALLOT, encode_ballot(Ballot(5, "B")))
    make_bad(disk, DIRECTORY / name, how)
    recovered = check_set_aside(disk, records, name)
    last = records[-1]
    assert mark_of(disk) == Mark(last.last_seq, last.term, last.checksum)
    assert ballot_of(disk) == recovered.ballot == (Ballot(3, None) if name == "ballot" else Ballot(5, "B"))


@pytest.mark.parametrize("name", ["ballot", "mark", "00000000000000000001.log"])
def test_an_empty_log_with_a_file_missing_is_not_a_new_one(name: str) -> None:
    """**S** Every file is there before `identity` is: an identity alone is what a wiped disk looks like."""
    disk = MemoryDisk()
    open_memory(disk).log.close()
    disk.remove(DIRECTORY / name)
    check_set_aside(disk, [], "missing")


def test_an_identity_alone() -> None:
    disk = make_log(chain(9))
    for name in disk.listdir(DIRECTORY):
        if name not in ("identity", "discarded"):
            disk.remove(DIRECTORY / name)
    recovered = check_set_aside(disk, [], "all segments of the log are missing")
    assert recovered.ballot == Ballot()
    log = open_memory(disk).log
    log.save_ballot(1, None)
    log.append(chain(3))


@pytest.mark.parametrize("kept", ["ballot", "mark", "discarded"])
def test_without_identity_and_segments_nothing_says_whose_it_is(kept: str) -> None:
    disk = make_log(chain(9))
    for name in disk.listdir(DIRECTORY):
        if name not in (kept, "discarded"):
            disk.remove(DIRECTORY / name)
    if kept == "discarded":
        disk.put(DIRECTORY / "discarded" / "00000000000000000001.log", b"")
    before = disk.contents()
    with pytest.raises(DamageError, match=r"identity is missing.*no header of a segment"):
        open_memory(disk)
    assert disk.contents() == before


@pytest.mark.parametrize("how", HOWS)
def test_without_identity_the_segments_must_be_those_of_this_node(how: str) -> None:
    disk = make_log(chain(9))
    make_bad(disk, DIRECTORY / "identity", how)
    before = disk.contents()
    for changed in ({"node_id": "B"}, {"cluster_id": "other"}):
        whose: dict[str, Any] = {"cluster_id": cluster_id(MEMBERS), "node_id": "A", "members": MEMBERS, **changed}
        with pytest.raises(ForeignLogError, match="belongs to"):
            open_log(DIRECTORY, files=disk, **whose)
    assert disk.contents() == before


def test_without_identity_segments_of_two_nodes_are_refused() -> None:
    disk = make_log(chain(9))
    disk.remove(DIRECTORY / "identity")
    path = segment_paths(disk)[1]
    header, start = decode_header(bytes(disk.file(path).data))
    foreign = SegmentHeader(header.cluster_id, "B", header.first_seq, header.prev_checksum, header.prev_term)
    disk.put(path, encode_header(foreign) + bytes(disk.file(path).data)[start:])
    with pytest.raises(ForeignLogError, match="belongs to node B"):
        open_memory(disk)


def test_a_late_segment_alone_is_a_hole() -> None:
    """The rest can be had from others; then the rest of the damage is judged."""
    records = chain(9)
    disk = make_log(records)
    for name in disk.listdir(DIRECTORY):
        if name not in (segment_paths(disk)[-1].name, "discarded"):
            disk.remove(DIRECTORY / name)
    before = disk.contents()
    with pytest.raises(DamageError) as caught:
        open_memory(disk)
    assert len(caught.value.holes) == 1
    assert disk.contents() == before
    heal(disk, records)
    check_set_aside(disk, records, "ballot")


@pytest.mark.parametrize(
    ("name", "note"),
    [("identity", "kvnode identity"), ("ballot", "kvnode ballot"), ("mark", "kvnode mark")],
)
def test_a_note_of_a_later_format_is_refused(name: str, note: str) -> None:
    disk = make_log(chain(3))
    later = frame(msgpack.packb([note, 2, "something new"]))[0]
    disk.put(DIRECTORY / name, later.ljust(COPY_OFFSET, b"\0") + later)
    before = disk.contents()
    with pytest.raises(ForeignLogError, match="later"):
        open_memory(disk)
    assert disk.contents() == before


def test_a_ballot_older_than_the_log() -> None:
    records = chain(3, term=4)
    disk = make_log(records)
    disk.put(BALLOT, encode_ballot(Ballot(3, "B")))
    recovered = check_set_aside(disk, records, "ballot is older")
    assert recovered.ballot == ballot_of(disk) == Ballot(4, None)


def test_the_new_ballot_is_not_older_than_what_was_durable() -> None:
    """The tail is gone, but the mark knows its term."""
    early = chain(6, term=2)
    late = chain(1, term=7, after=early[-1])
    disk = make_log([*early, *late])
    disk.remove(BALLOT)
    path = segment_paths(disk)[-1]
    data = bytes(disk.file(path).data)
    disk.put(path, data[: data.index(late[0].raw)])
    recovered = check_set_aside(disk, early, "ballot")
    assert recovered.ballot == Ballot(7, None)


def test_why_a_node_was_set_aside_first_stays_until_it_may_vote_again() -> None:
    disk = make_log(chain(3))
    disk.remove(BALLOT)
    first = open_memory(disk)
    first.log.close()
    disk.remove(MARK)
    second = open_memory(disk)
    assert second.identity.set_aside == first.identity.set_aside
    assert any("mark" in finding for finding in second.findings)
    second.log.save_identity(replace(second.identity, may_vote=True, set_aside=""))
    second.log.close()
    assert open_memory(disk).identity == replace(second.identity, may_vote=True, set_aside="")


@pytest.mark.parametrize("how", HOWS)
def test_a_cluster_of_one_mends_its_ballot_alone(how: str) -> None:
    """Nobody else can have had its vote."""
    disk = MemoryDisk()
    records = chain(5, term=3)
    log = open_alone(disk).log
    log.save_identity(replace(log.identity, may_vote=True))
    log.save_ballot(3, "A")
    log.append(records)
    log.close()
    make_bad(disk, BALLOT, how)
    recovered = open_alone(disk)
    assert recovered.ballot == ballot_of(disk) == Ballot(3, None)
    assert (recovered.identity.may_vote, recovered.identity.set_aside) == (True, "")
    assert [word in recovered.findings[-1] for word in ("ballot", "anew", "term 3")] == [True] * 3
    recovered.log.close()
    assert open_alone(disk).findings == []


@pytest.mark.parametrize("what", ["identity", "mark", "hole", "tail", "segments"])
def test_a_cluster_of_one_refuses_all_other_damage(what: str) -> None:
    disk = MemoryDisk()
    log = open_alone(disk).log
    log.save_ballot(1, "A")
    for record in chain(12):
        log.append([record])
    log.close()
    paths = segment_paths(disk)
    removed = {"hole": paths[1:2], "tail": paths[-1:], "segments": paths}.get(what, [DIRECTORY / what])
    for path in [*removed, *(paths if what == "identity" else [])]:
        disk.remove(path)
    before = disk.contents()
    with pytest.raises(DamageError, match="Nothing was changed") as caught:
        open_alone(disk)
    assert disk.contents() == before
    assert caught.value.holes == ()
    assert "set aside" not in str(caught.value)


def open_alone(disk: MemoryDisk) -> Recovered:
    return open_log(
        DIRECTORY,
        cluster_id=cluster_id(["A"]),
        node_id="A",
        members=["A"],
        options=LogOptions(segment_bytes=400),
        files=disk,
    )


@pytest.mark.parametrize("offset", [0, COPY_OFFSET])
def test_one_bad_copy_of_the_ballot_is_mended(offset: int) -> None:
    disk = make_log(chain(3))
    whole = bytes(disk.file(BALLOT).data)
    disk.put(BALLOT, whole[:offset] + b"\0\0\0" + whole[offset + 3 :])
    recovered = open_memory(disk)
    assert recovered.ballot == Ballot(1, None)
    assert disk.file(BALLOT).synced == whole


def test_the_mark_is_raised_to_what_was_verified() -> None:
    records = chain(6)
    disk = make_log(records, synced=2)
    open_memory(disk)
    last = records[-1]
    assert decode_mark(disk.file(MARK).synced) == Mark(last.last_seq, last.term, last.checksum)


@pytest.mark.parametrize("mark", [Mark(4, 1, 12345), Mark(5, 1, chain(3)[-1].checksum)])
def test_a_mark_of_another_log(mark: Mark) -> None:
    records = chain(6)
    disk = make_log(records)
    disk.put(MARK, encode_mark(mark))
    check_set_aside(disk, records, "mark speaks of another record")
    assert mark_of(disk) == Mark(12, 1, records[-1].checksum)


def test_left_over_temporary_files_are_removed_and_strange_ones_are_not() -> None:
    disk = make_log(chain(3))
    for name in ("ballot.tmp", "identity.tmp", "00000000000000000099.log.tmp", "notes.txt", "mine.tmp"):
        disk.put(DIRECTORY / name, b"x")
    open_memory(disk)
    names = disk.listdir(DIRECTORY)
    assert "notes.txt" in names
    assert "mine.tmp" in names
    assert [name for name in names if name.endswith(".tmp")] == ["mine.tmp"]


def test_a_segment_of_a_later_format_is_refused() -> None:
    disk = make_log(chain(3))
    path = segment_paths(disk)[0]
    data = bytes(disk.file(path).data)
    header, start = decode_header(data)
    later = type(header)(header.cluster_id, header.node_id, 1, 0, 0, version=2)
    disk.put(path, encode_header(later) + data[start:])
    with pytest.raises(ForeignLogError, match="format version 2"):
        open_memory(disk)


@pytest.mark.parametrize(("cluster", "node"), [("other", "A"), (cluster_id(MEMBERS), "B")])
def test_a_log_of_nothing_but_segments_of_another_node_is_refused(cluster: str, node: str) -> None:
    disk = make_log(chain(12))
    for path in segment_paths(disk):
        data = bytes(disk.file(path).data)
        header, start = decode_header(data)
        foreign = SegmentHeader(cluster, node, header.first_seq, header.prev_checksum, header.prev_term)
        disk.put(path, encode_header(foreign) + data[start:])
    before = disk.contents()
    with pytest.raises(ForeignLogError, match="belongs to"):
        open_memory(disk)
    assert disk.contents() == before


def test_a_read_error_that_does_not_come_back_is_no_damage() -> None:
    """Whatever the disk gave the second time, the first reading can not be taken back."""

    class Moody(MemoryDisk):
        errors = 2  # the second time it is read page by page

        def pread(self, fd: int, count: int, offset: int) -> bytes:
            if self._open[fd][0] == segment_paths(self)[1] and self.errors:
                self.errors -= 1
                raise OSError(errno.EIO, "Input/output error")
            return super().pread(fd, count, offset)

    disk = Moody()
    made = make_log(chain(12))
    disk.cached, disk.synced = made.cached, made.synced
    before = disk.contents()
    with pytest.raises(LogError, match="could when it was read again"):
        open_memory(disk)
    assert disk.contents() == before
    assert open_memory(disk).last_seq == 24


def test_an_error_of_the_consumer_is_passed_on_and_the_lock_freed(stopped: Path) -> None:
    def fail(record: object) -> None:
        raise RuntimeError("consumer")

    with pytest.raises(RuntimeError, match="consumer"):
        open_real(stopped, on_record=fail)
    open_real(stopped).log.close()


def test_a_directory_that_another_node_made_meanwhile_is_refused() -> None:
    """Looking comes before locking, so that a refusal touches nothing; whoever was quicker must still be noticed."""

    class Contended(MemoryDisk):
        def lock(self, path: Path) -> int:
            other = MemoryDisk()
            open_log(DIRECTORY, cluster_id=cluster_id(MEMBERS), node_id="B", members=MEMBERS, files=other).log.close()
            made = other.copy()
            self.cached, self.synced = made.cached, made.synced
            return super().lock(path)

    with pytest.raises(ForeignLogError, match="belongs to node B"):
        open_memory(Contended())


def test_a_torn_tail_is_cut_durably_after_its_copy_is_durable() -> None:
    disk = make_log(chain(3))
    path = segment_paths(disk)[-1]
    disk.put(path, bytes(disk.file(path).data) + b"junk")
    cut = open_memory(disk).cut
    assert cut is not None
    truncated = disk.calls.index(("truncate", path.name))
    assert disk.calls[truncated + 1] == ("fsync", path.name)
    assert ("fsync", cut.copy.name + ".tmp") in disk.calls[:truncated]
    assert disk.file(cut.copy).synced.endswith(b"junk")


def test_a_full_disk_with_a_reserve_has_room_to_mend_what_it_left() -> None:
    records = chain(9)
    disk = make_log(records, synced=8)
    path = segment_paths(disk)[-1]
    data = bytes(disk.file(path).data)
    disk.put(path, data[:-1])
    disk.put(DIRECTORY / "reserve", bytes(5000))
    disk.room = disk.bytes_used
    recovered = open_memory(disk)
    assert recovered.last_seq == records[7].last_seq
    assert recovered.cut is not None
    assert recovered.findings == [str(recovered.cut)]
    assert "reserve" not in disk.listdir(DIRECTORY)


def test_a_full_disk_without_a_reserve_is_refused() -> None:
    disk = make_log(chain(9), synced=8)
    path = segment_paths(disk)[-1]
    disk.put(path, bytes(disk.file(path).data)[:-1])
    if "reserve" in disk.listdir(DIRECTORY):
        disk.remove(DIRECTORY / "reserve")
    disk.room = disk.bytes_used
    before = disk.contents()
    with pytest.raises(LogError, match="No space left"):
        open_memory(disk)
    assert disk.contents() == before
