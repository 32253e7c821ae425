"""Power fails at every call of a script, in every model; whatever was acknowledged is there, and the node starts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest

from kvnode.log import Ballot, Record, WriteAheadLog
from tests.crash.log_maker import DIRECTORY, chain, open_memory, raws
from tests.crash.memory_disk import MODELS, MemoryDisk, PowerCut


@dataclass
class Promises:
    """What a start may find: at least `floor`, at most `ceiling` (both are prefixes of one log); one of `ballots`."""

    floor: list[Record] = field(default_factory=list)
    ceiling: list[Record] = field(default_factory=list)
    ballots: set[Ballot] = field(default_factory=lambda: {Ballot()})
    may_vote: set[bool] = field(default_factory=lambda: {False})

    def append(self, log: WriteAheadLog, records: list[Record]) -> None:
        self.ceiling = self.floor + records
        log.append(records)
        self.floor = self.ceiling

    def cut(self, log: WriteAheadLog, after_seq: int) -> None:
        self.floor = [record for record in self.floor if record.last_seq <= after_seq]
        log.cut(after_seq)
        self.ceiling = self.floor

    def ballot(self, log: WriteAheadLog, term: int, vote: str | None) -> None:
        self.ballots.add(Ballot(term, vote))
        log.save_ballot(term, vote)
        self.ballots = {Ballot(term, vote)}

    def vote(self, log: WriteAheadLog) -> None:
        self.may_vote = {False, True}
        log.save_identity(replace(log.identity, may_vote=True))
        self.may_vote = {True}


def script(disk: MemoryDisk, promises: Promises) -> None:
    """Segment rolls, cuts within and across segments, ballots, the right to vote, idle moments, one restart."""
    log = open_memory(disk).log
    promises.vote(log)
    promises.ballot(log, 1, None)
    first = chain(9)
    for record in first[:3]:
        promises.append(log, [record])
    log.idle()
    promises.append(log, first[3:6])
    promises.append(log, first[6:])
    promises.ballot(log, 2, "B")
    promises.cut(log, first[7].last_seq)
    second = chain(6, term=2, after=first[7])
    for record in second:
        promises.append(log, [record])
    promises.ballot(log, 3, "A")
    promises.cut(log, first[1].last_seq)
    log.close()
    log = open_memory(disk).log
    promises.ballot(log, 4, None)
    third = chain(5, term=4, after=first[1], value=bytes(700))
    promises.append(log, third[:1])
    promises.append(log, third[1:3])
    promises.append(log, third[3:])
    log.close()


def run_until(stop_at: int | None) -> tuple[MemoryDisk, Promises]:
    disk, promises = MemoryDisk(), Promises()
    disk.stop_at = stop_at
    with suppress(PowerCut):
        script(disk, promises)
    disk.stop_at = None
    return disk, promises


def check_start(disk: MemoryDisk, promises: Promises, what: str) -> None:
    seen: list[Record] = []
    recovered = open_memory(disk, seen=seen)
    found = raws(seen)
    assert found[: len(promises.floor)] == raws(promises.floor), what
    assert found == raws(promises.ceiling)[: len(found)], what
    assert recovered.ballot in promises.ballots, what
    assert recovered.identity.may_vote in promises.may_vote, what
    after = chain(2, term=5, after=seen[-1] if seen else None)
    recovered.log.save_ballot(5, "C")
    recovered.log.append(after)
    recovered.log.close()
    again: list[Record] = []
    assert open_memory(disk, seen=again).cut is None, what
    assert raws(again) == found + raws(after), what


CALLS = len(run_until(None)[0].calls)


def test_the_script_does_what_it_says() -> None:
    disk, promises = run_until(None)
    rolls = [what for name, what in disk.calls if name == "rename" and what.split()[0].endswith(".log.tmp")]
    assert len(rolls) >= 8
    assert len(promises.floor) == 7
    assert CALLS * len(MODELS) >= 800


@pytest.mark.parametrize("model", MODELS)
def test_every_crash_state_recovers(model: str) -> None:
    for stop_at in range(CALLS + 1):
        disk, promises = run_until(stop_at)
        check_start(disk.after_crash(model, stop_at), promises, f"stopped before call {stop_at}, model {model}")


@pytest.mark.parametrize("model", ["kept", "torn_512"])
def test_every_crash_of_the_recovery_recovers(model: str) -> None:
    for stop_at in range(0, CALLS + 1, 3):
        disk, promises = run_until(stop_at)
        found = disk.after_crash(model, stop_at)
        calls = 0
        while True:
            second = found.copy()
            second.stop_at = calls
            try:
                open_memory(second)
                break
            except PowerCut:
                what = f"stopped before call {stop_at}, model {model}; the recovery before its call {calls}"
                check_start(second.after_crash(MODELS[calls % len(MODELS)], calls), promises, what)
            calls += 1


def test_a_restart_that_changes_nothing_writes_nothing() -> None:
    disk, _ = run_until(None)
    stopped = disk.copy()
    before = stopped.contents()
    open_memory(stopped).log.close()
    assert stopped.contents() == before
    assert {name for name, _ in stopped.calls} <= {"fsync", "fsync_dir", "drop_cache"}


def test_a_stopped_disk_is_synced_before_it_is_read() -> None:
    """A failed fsync leaves pages in the cache that are not on the disk: they must be written or forgotten first."""
    disk, _ = run_until(None)
    stopped = disk.copy()
    calls_before_reading: list[tuple[str, str]] = []
    original = stopped.pread
    names: list[str] = []

    def pread(fd: int, count: int, offset: int) -> bytes:
        name = stopped._open[fd][0].name
        if name.endswith(".log") or name in ("mark", "ballot"):
            names.append(name)
            calls_before_reading[:] = calls_before_reading or stopped.calls
        return original(fd, count, offset)

    stopped.pread = pread  # type: ignore[method-assign]
    open_memory(stopped).log.close()
    files = {path.name for path in (DIRECTORY / n for n in stopped.listdir(DIRECTORY))} - {"lock", "discarded"}
    assert {what for name, what in calls_before_reading if name == "fsync"} == files
    assert {what for name, what in calls_before_reading if name == "drop_cache"} == files
    assert ("fsync_dir", DIRECTORY.name) in calls_before_reading
    assert {"mark", "ballot"} < set(names)
