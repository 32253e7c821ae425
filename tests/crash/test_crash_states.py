"""Power fails at every call of a script, in every model; whatever was acknowledged is there, and the node starts.

The same for an fsync that fails, at every call, and for every call that finds no room.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from kvnode.log import (
    Ballot,
    DiskError,
    Identity,
    LogError,
    LogOptions,
    NoSpaceError,
    Record,
    Recovered,
    WriteAheadLog,
    cluster_id,
    open_log,
)
from tests.crash.log_maker import DIRECTORY, MEMBERS, chain, raws
from tests.crash.memory_disk import MODELS, MemoryDisk, PowerCut

OPTIONS = LogOptions(segment_bytes=400, reserve_bytes=5000)
SYNCS = ("fsync", "fdatasync", "fsync_dir")
NEED_ROOM = ("create", "pwrite", "rename", "mkdir")


class FullDisk(MemoryDisk):
    """`moves_left`: after so many, `discarded` has no room for another segment."""

    moves_left = 1 << 30

    def rename(self, source: Path, target: Path) -> None:
        if source.parent != target.parent == DIRECTORY / "discarded":
            self.moves_left -= 1
            if self.moves_left < 0:
                raise OSError(errno.ENOSPC, "No space left on device", str(target))
        super().rename(source, target)


def open_on(disk: MemoryDisk, seen: list[Record] | None = None) -> Recovered:
    return open_log(
        DIRECTORY,
        cluster_id=cluster_id(MEMBERS),
        node_id="A",
        members=MEMBERS,
        options=OPTIONS,
        files=disk,
        on_record=None if seen is None else seen.append,
    )


@dataclass
class Promises:
    """What a start may find: at least `floor`, at most `ceiling` (both are prefixes of one log); one of `ballots`; one
    of `identities`, as (may vote, why it is set aside)."""

    disk: FullDisk
    floor: list[Record] = field(default_factory=list)
    ceiling: list[Record] = field(default_factory=list)
    ballots: set[Ballot] = field(default_factory=lambda: {Ballot()})
    identities: set[tuple[bool, str]] = field(default_factory=lambda: {(False, "")})
    log: WriteAheadLog | None = None
    is_patient: bool = False
    """What finds no room is made again, once."""

    def open(self) -> WriteAheadLog:
        self.log = open_on(self.disk).log
        return self.log

    def make(self, deed: Callable[[], object]) -> None:
        try:
            deed()
        except NoSpaceError:
            if not self.is_patient:
                raise
            deed()

    def append(self, log: WriteAheadLog, records: list[Record]) -> None:
        self.ceiling = self.floor + records
        self.make(lambda: log.append(records))
        self.floor = self.ceiling

    def cut(self, log: WriteAheadLog, after_seq: int) -> None:
        self.floor = [record for record in self.floor if record.last_seq <= after_seq]
        self.make(lambda: log.cut(after_seq))
        self.ceiling = self.floor

    def heal(self, log: WriteAheadLog, first: int, last: int) -> None:
        """Records that are as good as ever: after a crash there must be no sign of it."""
        records = self.floor[first:last]
        after_seq = records[0].first_seq - 1
        self.make(lambda: log.heal(after_seq, records[-1].last_seq, b"".join(raws(records))))

    def ballot(self, log: WriteAheadLog, term: int, vote: str | None) -> None:
        self.ballots.add(Ballot(term, vote))
        self.make(lambda: log.save_ballot(term, vote))
        self.ballots = {Ballot(term, vote)}

    def identity(self, log: WriteAheadLog, identity: Identity) -> None:
        self.identities.add((identity.may_vote, identity.set_aside))
        self.make(lambda: log.save_identity(identity))
        self.identities = {(identity.may_vote, identity.set_aside)}

    def set_aside(self, log: WriteAheadLog, after_seq: int, reason: str) -> None:
        self.identities.add((False, reason))
        self.floor = [record for record in self.floor if record.last_seq <= after_seq]
        self.make(lambda: log.set_aside(after_seq, reason))
        self.identities, self.ceiling = {(False, reason)}, self.floor

    def keep_reserve(self, log: WriteAheadLog) -> None:
        assert log.refill_reserve() or (self.is_patient and log.refill_reserve())

    def append_in_vain(self, log: WriteAheadLog, records: list[Record], room: int) -> None:
        """The disk takes only `room` bytes of them; then ballots need the reserve."""
        self.disk.room = self.disk.bytes_used + room
        self.ceiling = self.floor + records
        with suppress(NoSpaceError):
            log.append(records)
            raise AssertionError(f"{records} should have found no room")
        self.ceiling = self.floor
        self.make(log.release_reserve)
        self.ballot(log, log.ballot.term + 1, "B")
        self.disk.room = None
        self.keep_reserve(log)

    def cut_in_vain(self, log: WriteAheadLog, after_seq: int, moves: int) -> None:
        """Only so many segments can be moved away, then they have to be moved back."""
        self.disk.moves_left = moves
        floor = self.floor
        self.floor = [record for record in self.floor if record.last_seq <= after_seq]
        with suppress(NoSpaceError):
            log.cut(after_seq)
            raise AssertionError("a cut should have found no room")
        self.floor = floor
        self.disk.moves_left = 1 << 30


def script(promises: Promises) -> None:
    """Segment rolls, cuts within and across segments, ballots, the right to vote, idle moments, records and headers
    that are written anew, a full disk, one restart, and in the end the right to vote is taken away."""
    log = promises.open()
    promises.keep_reserve(log)
    promises.identity(log, replace(log.identity, may_vote=True))
    promises.ballot(log, 1, None)
    first = chain(9)
    for record in first[:3]:
        promises.append(log, [record])
    log.idle()
    promises.append(log, first[3:6])
    promises.append(log, first[6:])
    promises.heal(log, 2, 8)
    promises.ballot(log, 2, "B")
    promises.cut(log, first[7].last_seq)
    second = chain(6, term=2, after=first[7])
    for record in second:
        promises.append(log, [record])
    promises.append_in_vain(log, chain(3, term=2, after=second[-1]), room=150)
    promises.append(log, chain(2, term=2, after=second[-1], value=bytes(100)))
    promises.cut_in_vain(log, first[1].last_seq, moves=2)
    promises.ballot(log, 4, "A")
    promises.cut(log, first[1].last_seq)
    log.close()
    log = promises.open()
    promises.ballot(log, 5, None)
    third = chain(5, term=5, after=first[1], value=bytes(700))
    promises.append(log, third[:1])
    promises.append(log, third[1:3])
    promises.append_in_vain(log, third[3:], room=10)
    promises.append(log, third[3:])
    promises.make(lambda: log.heal(third[2].last_seq, third[2].last_seq, b""))
    promises.heal(log, 5, 7)
    promises.set_aside(log, third[0].last_seq, "its records differ")
    promises.append(log, chain(2, term=5, after=third[0]))
    promises.identity(log, replace(log.identity, may_vote=True, set_aside=""))
    log.close()


def run(
    stop_at: int | None = None, fail_at: dict[int, OSError] | None = None, *, is_patient: bool = False
) -> tuple[FullDisk, Promises]:
    disk = FullDisk()
    promises = Promises(disk, is_patient=is_patient)
    disk.stop_at, disk.fail_at = stop_at, fail_at or {}
    with suppress(PowerCut):
        script(promises)
    disk.stop_at, disk.fail_at = None, {}
    return disk, promises


def check_start(disk: MemoryDisk, promises: Promises, what: str) -> None:
    seen: list[Record] = []
    recovered = open_on(disk, seen)
    found = raws(seen)
    assert found[: len(promises.floor)] == raws(promises.floor), what
    assert found == raws(promises.ceiling)[: len(found)], what
    assert recovered.ballot in promises.ballots, what
    assert (recovered.identity.may_vote, recovered.identity.set_aside) in promises.identities, what
    assert not [name for name in disk.contents() if name.endswith(".tmp")], what
    log = recovered.log
    expected = [(record.last_seq, record.checksum) for record in seen]
    assert log.scrub(0, expected)[0] == [], what
    assert log.refill_reserve(), what
    after = chain(2, term=9, after=seen[-1] if seen else None)
    log.save_ballot(9, "C")
    log.append(after)
    interrupted = disk.after_crash("synced")
    log.close()
    for later in (interrupted, disk.after_crash("synced")):
        again: list[Record] = []
        assert open_on(later, again).cut is None, what
        assert raws(again) == found + raws(after), what


CALLS = list(run()[0].calls)


def test_the_script_does_what_it_says() -> None:
    _, promises = run()
    assert len(promises.floor) == 5
    renames = [what.split() for name, what in CALLS if name == "rename"]
    rolls = [new for old, new in renames if old == f"{new}.tmp" and new.endswith(".log")]
    assert len(rolls) >= 8
    assert len([new for _, new in renames if new == "ballot"]) >= 6
    assert len([new for _, new in renames if new == "reserve"]) >= 3
    assert len([new for _, new in renames if new == "identity"]) >= 4
    assert len([what for name, what in CALLS if name == "truncate"]) >= 4
    assert len([what for name, what in CALLS if name == "unlink"]) >= 3


@pytest.mark.parametrize("model", MODELS)
def test_every_crash_state_recovers(model: str) -> None:
    states = 0
    for stop_at in range(len(CALLS) + 1):
        disk, promises = run(stop_at)
        check_start(disk.after_crash(model, stop_at), promises, f"stopped before call {stop_at}, model {model}")
        states += 1
    assert states * len(MODELS) >= 1900


@pytest.mark.parametrize("model", ["kept", "torn_512"])
def test_every_crash_of_the_recovery_recovers(model: str) -> None:
    for stop_at in range(0, len(CALLS) + 1, 5):
        disk, promises = run(stop_at)
        found = disk.after_crash(model, stop_at)
        calls = 0
        while True:
            second = found.copy()
            second.stop_at = calls
            try:
                open_on(second)
                break
            except PowerCut:
                what = f"stopped before call {stop_at}, model {model}; the recovery before its call {calls}"
                check_start(second.after_crash(MODELS[calls % len(MODELS)], calls), promises, what)
            calls += 1


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_after_an_fsync_that_failed_nothing_is_acknowledged_and_the_next_start_is_a_good_one(number: int) -> None:
    """Whichever it is, of which file or directory."""
    tried = latched = 0
    for n, (name, what) in enumerate(CALLS):
        if name not in SYNCS:
            continue
        disk = FullDisk()
        promises = Promises(disk)
        disk.fail_at = {n: OSError(number, "Broken")}
        with pytest.raises(LogError, match="Broken") as failure:
            script(promises)
        where = f"{name} of {what}, call {n}"
        assert not isinstance(failure.value, NoSpaceError), where
        if promises.log is not None and " failed " in repr(promises.log):  # not one that was being opened or closed
            assert isinstance(failure.value, DiskError), where
            check_latched(disk, promises.log, where)
            latched += 1
        for model in MODELS:
            check_start(disk.after_crash(model, n), promises, f"{where}, model {model}")
        tried += 1
    assert tried >= 100
    assert latched >= 80


def check_latched(disk: MemoryDisk, log: WriteAheadLog, where: str) -> None:
    calls = list(disk.calls)
    disk.fail_at = {}
    for deed in (
        lambda: log.append(chain(1)),
        lambda: log.cut(0),
        lambda: log.save_ballot(99, None),
        lambda: log.save_identity(log.identity),
        lambda: log.set_aside(0, "why"),
        lambda: log.heal(0, 0, b""),
        log.release_reserve,
        log.refill_reserve,
    ):
        with pytest.raises(DiskError, match="Broken"):
            deed()
    log.close()
    assert disk.calls == calls, where


@pytest.mark.parametrize("part", [0.0, 0.6])
def test_whatever_finds_no_room_can_be_made_again(part: float) -> None:
    tried = 0
    for n, (name, what) in enumerate(CALLS):
        if name not in NEED_ROOM or n < OPENED:
            continue
        disk = FullDisk()
        promises = Promises(disk, is_patient=True)
        disk.fail_at, disk.part_written = {n: OSError(errno.ENOSPC, "No room")}, part
        if n in MOVED_BACK:
            with pytest.raises(DiskError, match="neither be finished nor be taken back"):
                script(promises)
            continue
        script(promises)
        check_start(disk.after_crash("synced"), promises, f"no room for {name} of {what}, call {n}")
        tried += 1
    assert tried >= 100


MOVED_BACK = [n for n, (name, what) in enumerate(CALLS) if name == "rename" and ".tmp" not in what][2:4]
"""The only calls of the script that must find room, for they take back what had been begun."""
OPENED = next(n for n, (_, what) in enumerate(CALLS) if what == "reserve.tmp")
"""The first call of the script that is not of the opening of a new directory."""


def test_a_restart_that_changes_nothing_writes_nothing() -> None:
    disk, _ = run()
    stopped = disk.copy()
    before = stopped.contents()
    open_on(stopped).log.close()
    assert stopped.contents() == before
    assert {name for name, _ in stopped.calls} <= {"fsync", "fsync_dir", "drop_cache"}


def test_a_stopped_disk_is_synced_before_it_is_read() -> None:
    """A failed fsync leaves pages in the cache that are not on the disk: they must be written or forgotten first."""
    disk, _ = run()
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
    open_on(stopped).log.close()
    files = set(stopped.listdir(DIRECTORY)) - {"lock", "discarded"}
    assert {"identity", "mark", "ballot"} < files
    assert {what for name, what in calls_before_reading if name == "fsync"} == files
    assert {what for name, what in calls_before_reading if name == "drop_cache"} == files
    assert ("fsync_dir", DIRECTORY.name) in calls_before_reading
    assert {"mark", "ballot"} < set(names)
