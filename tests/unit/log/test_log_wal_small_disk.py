"""A log on a real file system of 2 MiB that fills up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvnode.log import LogOptions, NoSpaceError, Record, Recovered, WriteAheadLog, cluster_id, open_log
from kvnode.log.record import encode
from tests.crash.log_maker import MEMBERS, raws

DISK_BYTES = 2 * 1024 * 1024
RESERVE_BYTES = 256 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this root may not mount")
    try:
        yield place
    finally:
        # Lazily: a test that fails leaves its log open.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def open_on(place: Path, seen: list[Record] | None = None) -> Recovered:
    return open_log(
        place / "A",
        cluster_id=cluster_id(MEMBERS),
        node_id="A",
        members=MEMBERS,
        options=LogOptions(segment_bytes=300_000, reserve_bytes=RESERVE_BYTES),
        on_record=None if seen is None else seen.append,
    )


def sizes(place: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (place / "A").iterdir() if path.name != "lock"}


def fill_with_ballast(place: Path) -> Path:
    """To the last byte, so that not even a ballot fits."""
    ballast = place / "ballast"
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    ballast.write_bytes(bytes(free))
    assert os.statvfs(place).f_bavail == 0
    return ballast


class Filling:
    """Appends `batch` records at a time until there is no room; the acknowledged ones are in `records`."""

    def __init__(self, place: Path, value_bytes: int) -> None:
        self.place = place
        self.value_bytes = value_bytes
        self.records: list[Record] = []

    def fill_up(self, log: WriteAheadLog, batch: int = 10) -> int:
        """The number of appends."""
        appends = 0
        while True:
            more: list[Record] = []
            for _ in range(batch):
                seq, checksum = log.last_seq + 1 + len(more), more[-1].checksum if more else log.last_checksum
                value = os.urandom(self.value_bytes)
                more.append(encode(checksum, seq, log.ballot.term, 1, seq - 1, [["SET", b"key", value]]))
            before = sizes(self.place)
            try:
                log.append(more)
            except NoSpaceError:
                after = sizes(self.place)
                assert {name: after[name] for name in before} == before, "no half record stays"
                assert set(after) - set(before) <= {f"{log.last_seq + 1:020d}.log"}, "a segment that is a header alone"
                return appends
            self.records += more
            appends += 1


@pytest.mark.parametrize("value_bytes", [100, 5_000, 70_000])
def test_a_disk_that_fills_up(small_disk: Path, value_bytes: int) -> None:
    log = open_on(small_disk).log
    log.save_ballot(1, "A")
    assert log.refill_reserve()
    filling = Filling(small_disk, value_bytes)
    assert filling.fill_up(log) > 0
    ballast = fill_with_ballast(small_disk)
    for term in (2, 3):
        with pytest.raises(NoSpaceError, match="ballot"):
            log.save_ballot(term, None)
        assert log.release_reserve()
        log.save_ballot(term, "B")
        assert log.refill_reserve(), "a ballot takes the room of the one before"
    ballast.unlink()
    filling.fill_up(log, batch=1)
    fill_with_ballast(small_disk)
    assert log.release_reserve()
    assert filling.fill_up(log, batch=1) > 0
    assert not log.refill_reserve()
    assert not list((small_disk / "A").glob("reserve*"))
    ballast.unlink()
    filling.fill_up(log)
    acknowledged = list(filling.records)
    subprocess.run(["mount", "-o", f"remount,size={2 * DISK_BYTES}", str(small_disk)], check=True)
    assert log.refill_reserve()
    assert filling.fill_up(log) > 0
    assert len(filling.records) > len(acknowledged)
    log.close()
    seen: list[Record] = []
    again = open_on(small_disk, seen)
    assert again.cut is None
    assert raws(seen) == raws(filling.records)
    assert (again.ballot.term, again.ballot.vote) == (3, "B")
    again.log.close()


def test_a_cut_without_room_for_its_copy(small_disk: Path) -> None:
    log = open_on(small_disk).log
    log.save_ballot(1, "A")
    record = encode(0, 1, 1, 1, 0, [["SET", b"key", os.urandom(1000)]])
    large = encode(record.checksum, 2, 1, 1, 1, [["SET", b"key", os.urandom(250_000)]])
    log.append([record, large])
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "other").write_bytes(bytes(free - 100_000))
    before = sizes(small_disk)
    for _ in range(3):
        with pytest.raises(NoSpaceError):
            log.cut(1)
        assert sizes(small_disk) == before
        assert list((small_disk / "A" / "discarded").iterdir()) == []
        assert log.read(1, 1) == (large.raw, 2)
    (small_disk / "other").unlink()
    assert log.cut(1) is not None
    log.close()
    seen: list[Record] = []
    open_on(small_disk, seen).log.close()
    assert raws(seen) == [record.raw]
