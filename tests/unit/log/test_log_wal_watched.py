"""Every fsync is timed, whatever it is for; and the writes of the real disk port are whole or fail."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvnode.log import NoSpaceError
from kvnode.log.ballot import Ballot
from kvnode.log.files import REAL
from kvnode.log.identity import Identity, cluster_id
from kvnode.log.mark import Mark
from kvnode.log.segment import Segment
from kvnode.log.wal import LogOptions, WriteAheadLog
from kvnode.log.watched import SLOW_FSYNCS_MAX, Counters, WatchedFiles
from tests.cluster.harness import eventually
from tests.crash.log_maker import DIRECTORY, MEMBERS, chain, segment_paths
from tests.crash.memory_disk import MemoryDisk
from tests.unit.log.open_logs import make


class SlowDisk(MemoryDisk):
    """Each fsync takes `took_s` of the time that `now_s` shows."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.took_s = 0.0

    def _call(self, name: str, what: str) -> None:
        super()._call(name, what)
        if name in ("fsync", "fdatasync", "fsync_dir"):
            self.now_s += self.took_s


def slow_log(warn_ms: int = 200) -> tuple[SlowDisk, WriteAheadLog]:
    stopped, log = make()
    log.close()
    disk = SlowDisk()
    disk.cached, disk.synced = stopped.cached, stopped.synced
    [path] = segment_paths(disk)
    segment = Segment(path, 1, len(disk.file(path).data))
    log = WriteAheadLog(
        DIRECTORY,
        Identity(cluster_id(MEMBERS), "A", MEMBERS, may_vote=True),
        Ballot(1, None),
        Mark(),
        [segment],
        files=disk,
        options=LogOptions(segment_bytes=400, reserve_bytes=100, fsync_warn_ms=warn_ms),
        lock_fd=disk.lock(DIRECTORY / "lock"),
        clock=lambda: disk.now_s,
    )
    disk.calls.clear()
    return disk, log


def test_each_fsync_is_counted_and_timed() -> None:
    disk, log = slow_log()
    disk.took_s = 0.0375
    log.append(chain(1))
    assert (log.counters.fsyncs, log.counters.fsync_last_us, log.counters.fsync_max_us) == (1, 37_500, 37_500)
    disk.took_s = 0.01
    log.append(chain(2)[1:])
    assert (log.counters.fsyncs, log.counters.fsync_last_us, log.counters.fsync_max_us) == (2, 10_000, 37_500)
    assert not log.counters.slow_fsyncs
    for deed in (
        lambda: log.save_ballot(2, "B"),
        lambda: log.save_identity(replace(log.identity, may_vote=False)),
        log.idle,
        log.refill_reserve,
        log.release_reserve,
        lambda: log.append(chain(1, term=2, after=chain(2)[1], value=bytes(400))),
        lambda: log.heal(4, 4, b""),
        lambda: log.cut(2),
    ):
        deed()
        assert log.counters.fsyncs == len([name for name, _ in disk.calls if "sync" in name])


def test_slow_ones_are_kept_under_the_name_of_the_file() -> None:
    disk, log = slow_log(warn_ms=200)
    disk.took_s = 0.2
    log.append(chain(1))
    assert not log.counters.slow_fsyncs, "as long as that is not slow yet"
    disk.took_s = 1.2345
    first, second = "00000000000000000001.log", "00000000000000000003.log"
    directory = ("the directory data", 1234)
    expected = [
        (lambda: log.append(chain(2)[1:2]), [(first, 1234)]),
        (log.idle, [("mark", 1234)]),
        (lambda: log.save_ballot(2, "B"), [("ballot", 1234), directory]),
        (lambda: log.save_identity(log.identity), [("identity", 1234), directory]),
        (log.refill_reserve, [("reserve", 1234), directory]),
        (log.release_reserve, [directory]),
    ]
    for deed, slow in expected:
        deed()
        assert list(log.counters.slow_fsyncs) == slow
        log.counters.slow_fsyncs.clear()
    log.append(chain(1, term=2, after=chain(2)[1], value=bytes(400)))
    names = [what for what, _ in log.counters.slow_fsyncs]
    assert names == ["mark", "00000000000000000005.log", "the directory data", "00000000000000000005.log"]
    assert second not in names


def test_only_the_newest_slow_ones_are_kept() -> None:
    disk, log = slow_log()
    for count in range(SLOW_FSYNCS_MAX):
        disk.took_s = 1.0 + count
        log.save_ballot(2 + count, None)
    assert len(log.counters.slow_fsyncs) == SLOW_FSYNCS_MAX
    assert log.counters.slow_fsyncs[0][1] == 1000 * SLOW_FSYNCS_MAX // 2 + 1000
    assert log.counters.slow_fsyncs[-1] == ("the directory data", 1000 * SLOW_FSYNCS_MAX)


# The real port.


@pytest.fixture
def file_bytes_max() -> Iterator[int]:
    """No file of this process may grow beyond it: a write that reaches further is short, and the next one fails."""
    limit, hard = 10_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield limit
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_the_kernel_takes_in_part_is_finished_or_fails(tmp_path: Path, file_bytes_max: int) -> None:
    fd = REAL.create(tmp_path / "file")
    data = bytes(range(256)) * 100
    assert os.pwrite(fd, data, 0) == file_bytes_max, "this is what a short write looks like"
    with pytest.raises(OSError, match="File too large") as error:
        REAL.pwrite(fd, data, 0)
    assert error.value.errno == errno.EFBIG
    assert (tmp_path / "file").read_bytes() == data[:file_bytes_max]
    REAL.pwrite(fd, data[: file_bytes_max - 7], 7)
    assert (tmp_path / "file").read_bytes()[7:] == data[: file_bytes_max - 7]
    REAL.close(fd)


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = REAL.create(tmp_path / "file")
    real = os.pwrite
    sizes: list[int] = []

    def short(fd: int, data: bytes, offset: int) -> int:
        sizes.append(len(data))
        return real(fd, data[:3], offset)

    monkeypatch.setattr(os, "pwrite", short)
    REAL.pwrite(fd, b"0123456789", 5)
    assert (tmp_path / "file").read_bytes() == bytes(5) + b"0123456789"
    assert sizes == [10, 7, 4, 1]
    REAL.close(fd)


def test_a_limit_on_the_size_of_files_is_want_of_room(tmp_path: Path, file_bytes_max: int) -> None:
    files = WatchedFiles(REAL, Counters(), warn_ms=1000)
    fd = files.create(tmp_path / "mark.tmp")
    with pytest.raises(NoSpaceError, match=r"no room to write mark in .*: File too large\. Raise the limit on"):
        files.pwrite(fd, bytes(file_bytes_max + 1), 0)
    files.close(fd)


def is_cached(fd: int, offset: int) -> bool:
    try:
        os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    return True


def test_a_file_can_be_dropped_from_the_cache(tmp_path: Path) -> None:
    data = os.urandom(100_000)
    (tmp_path / "file").write_bytes(data)
    fd = REAL.open_write(tmp_path / "file")
    REAL.fsync(fd)
    try:
        assert is_cached(fd, 0)
        assert is_cached(fd, 99_999)
    except OSError:
        pytest.skip("this file system does not tell what is in the cache")

    def is_forgotten() -> bool:
        REAL.drop_cache(fd)
        return not is_cached(fd, 99_999)

    eventually(is_forgotten, "the pages are forgotten, but for a moment those that another processor has just used")
    assert REAL.pread(fd, len(data), 0) == data
    REAL.close(fd)
