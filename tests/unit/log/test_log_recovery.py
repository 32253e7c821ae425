"""Opening a directory: what is made, what is refused without a touch, what is mended."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from kvnode.log import Ballot, DamageError, ForeignLogError, LockedError, LogError, LogOptions, cluster_id, open_log
from kvnode.log.ballot import COPY_OFFSET, encode_ballot
from kvnode.log.mark import Mark, decode_mark, encode_mark
from kvnode.log.record import SegmentHeader, decode_header, encode, encode_header
from kvnode.log.recovery import Recovered
from tests.crash.log_maker import DIRECTORY, MEMBERS, chain, make_log, open_memory, segment_paths
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
    ballot = (stopped / "ballot").read_bytes()
    (stopped / "ballot").unlink()
    with pytest.raises(DamageError):
        open_real(stopped)
    (stopped / "ballot").write_bytes(ballot)
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


@pytest.mark.parametrize("name", ["identity", "ballot", "mark"])
@pytest.mark.parametrize("how", ["missing", "empty", "zeros", "flipped"])
def test_a_bad_note_is_damage_and_nothing_is_touched(name: str, how: str) -> None:
    disk = make_log(chain(5))
    path = DIRECTORY / name
    data = bytes(disk.file(path).data)
    if how == "missing":
        disk.remove(path)
    else:
        disk.put(path, {"empty": b"", "zeros": bytes(len(data)), "flipped": bytes(b ^ 0x10 for b in data)}[how])
    before = disk.contents()
    with pytest.raises(DamageError, match=name):
        open_memory(disk)
    assert disk.contents() == before


@pytest.mark.parametrize("name", ["ballot", "mark", "00000000000000000001.log"])
def test_an_empty_log_with_a_file_missing_is_damage_too(name: str) -> None:
    """Every file is there before `identity` is: an identity alone is what a wiped disk looks like."""
    disk = MemoryDisk()
    open_memory(disk).log.close()
    disk.remove(DIRECTORY / name)
    with pytest.raises(DamageError, match="missing"):
        open_memory(disk)


@pytest.mark.parametrize("kept", ["ballot", "mark", "log", "late segment", "discarded"])
def test_without_identity_nothing_recorded_may_be_there(kept: str) -> None:
    disk = make_log(chain(9))
    names = {
        "ballot": ["ballot"],
        "mark": ["mark"],
        "log": [segment_paths(disk)[0].name],
        "late segment": [segment_paths(disk)[-1].name],
        "discarded": [],
    }[kept]
    for name in disk.listdir(DIRECTORY):
        if name not in (*names, "discarded"):
            disk.remove(DIRECTORY / name)
    if kept == "discarded":
        disk.put(DIRECTORY / "discarded" / "00000000000000000001.log", b"")
    with pytest.raises(DamageError, match="identity is missing"):
        open_memory(disk)


def test_a_ballot_older_than_the_log_is_damage() -> None:
    disk = make_log(chain(3, term=4))
    disk.put(BALLOT, encode_ballot(Ballot(3, "B")))
    with pytest.raises(DamageError, match="ballot is older"):
        open_memory(disk)


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


def test_a_mark_of_another_log_is_damage() -> None:
    disk = make_log(chain(6))
    disk.put(MARK, encode_mark(Mark(4, 1, 12345)))
    with pytest.raises(DamageError, match="mark speaks of another record"):
        open_memory(disk)
    disk.put(MARK, encode_mark(Mark(5, 1, chain(3)[-1].checksum)))
    with pytest.raises(DamageError, match="mark speaks of another record"):
        open_memory(disk)


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
def test_a_segment_of_another_node_is_damage(cluster: str, node: str) -> None:
    disk = make_log(chain(2))
    path = segment_paths(disk)[0]
    start = len(encode_header(SegmentHeader(cluster_id(MEMBERS), "A", 1, 0, 0)))
    records = bytes(disk.file(path).data)[start:]
    disk.put(path, encode_header(SegmentHeader(cluster, node, 1, 0, 0)) + records)
    with pytest.raises(DamageError, match="belongs to"):
        open_memory(disk)


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
