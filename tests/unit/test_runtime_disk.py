"""The threads that wait for the disk: order, group commit, and what becomes of deeds while the disk is full."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from kvnode.log import DiskError, LogOptions, Record, WriteAheadLog, cluster_id, open_log
from kvnode.log.mark import decode_mark
from kvnode.node.deeds import AppendRecords, CutLog, Event, GrantRightToVote, ReadRecords, SaveBallot, SetAsideLog
from kvnode.runtime import disk
from kvnode.runtime.disk import GROUP_BYTES, Worker
from kvnode.runtime.slow_fsyncs import INTERVAL_MS, SlowFsyncs
from kvnode.runtime.writing import (
    IDLE_S,
    RESERVE_APPEND_BYTES_MAX,
    REST_S_MAX,
    RESTS,
    RETRY_S,
    Performable,
    Reading,
    Writing,
)
from tests.crash.log_maker import DIRECTORY, MEMBERS, chain, raws, segment_paths
from tests.crash.memory_disk import MemoryDisk

RESERVE_BYTES = 200_000
FULL = ("on_disk_full", None)
ROOM = ("on_disk_room", ())


class Rig:
    """A log on a disk in memory, and what is posted about it."""

    def __init__(self, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.disk = MemoryDisk()
        self.reserve_bytes = reserve_bytes
        self.log = self.open(self.disk)
        self.log.save_ballot(1, None)
        self.now_s = 100.0
        self.events: list[Event] = []
        self.writing = Writing(self.log, self.events.extend, lambda: self.now_s)
        self.writing.begin()

    def open(self, disk: MemoryDisk, seen: list[Record] | None = None) -> WriteAheadLog:
        return open_log(
            DIRECTORY,
            cluster_id=cluster_id(MEMBERS),
            node_id="A",
            members=MEMBERS,
            options=LogOptions(segment_bytes=100_000, reserve_bytes=self.reserve_bytes),
            files=disk,
            on_record=None if seen is None else seen.append,
        ).log

    def fill(self, left: int = 0) -> None:
        self.disk.room = self.disk.bytes_used + left

    def make_room(self) -> None:
        self.disk.room = None

    def perform(self, *deeds: Performable) -> list[Event]:
        """What is posted for these; the reasons of a full disk left out."""
        self.writing.perform(deeds)
        return self.taken()

    def pause(self) -> list[Event]:
        pause_s = self.writing.pause_s
        assert pause_s is not None
        self.now_s += pause_s
        self.writing.pause()
        return self.taken()

    def taken(self) -> list[Event]:
        taken = [(name, None if name == "on_disk_full" else what) for name, what in self.events]
        self.events.clear()
        return taken  # type: ignore[return-value]

    def records(self) -> list[bytes]:
        seen: list[Record] = []
        self.open(self.disk.after_crash("synced"), seen).close()
        return raws(seen)

    def has_reserve(self) -> bool:
        return "reserve" in self.disk.listdir(DIRECTORY)


def appends(records: list[Record]) -> list[Performable]:
    """One deed for each."""
    return [AppendRecords([record]) for record in records]


def appended(record: Record) -> Event:
    return "on_appended", (record.last_seq, record.term)


LARGE = bytes(RESERVE_APPEND_BYTES_MAX)


def test_the_reserve_is_made_at_the_beginning() -> None:
    rig = Rig()
    assert rig.has_reserve()
    assert rig.events == []


def test_a_disk_that_is_full_at_the_beginning() -> None:
    rig = Rig()
    rig.log.release_reserve()
    rig.fill()
    rig.writing.begin()
    assert rig.events == [("on_disk_full", ("There is no room for the reserve in the data directory.",))]
    rig.taken()
    assert rig.pause() == []
    rig.make_room()
    assert rig.pause() == [ROOM]


def test_what_has_no_room_is_kept_in_order_until_there_is() -> None:
    rig = Rig()
    records = chain(4, value=LARGE)
    assert rig.perform(*appends(records[:1])) == [appended(records[0])]
    rig.fill(100_000)
    assert rig.perform(*appends(records[1:3])) == [FULL]
    assert rig.perform(*appends(records[3:])) == []
    for _ in range(3):
        assert rig.pause() == []
    assert rig.records() == raws(records[:1])
    rig.make_room()
    assert rig.pause() == [appended(records[3]), ROOM], "made one append"
    assert rig.records() == raws(records)
    assert rig.has_reserve()
    rig.fill(100_000)
    more = chain(1, after=records[3], value=LARGE)
    assert rig.perform(*appends(more)) == [FULL], "it is said anew"


def test_the_node_is_told_why() -> None:
    rig = Rig()
    rig.fill()
    rig.writing.perform([AppendRecords(chain(1, value=LARGE))])
    [(name, (why,))] = rig.events
    assert name == "on_disk_full"
    assert why.startswith("There is no room to write 00000000000000000001.log in /data: No space left on device.")


def test_what_was_done_before_it_became_full_is_told() -> None:
    rig = Rig()
    records = chain(3, term=2)
    ballot = SaveBallot(2, "B")
    rig.disk.room = rig.disk.bytes_used + 1000 + len(rig.disk.file(DIRECTORY / "ballot").data)
    large = chain(1, term=2, after=records[-1], value=LARGE)
    assert rig.perform(ballot, *appends(records), *appends(large)) == [
        ("on_ballot_saved", (2, "B")),
        *map(appended, records),
        FULL,
    ]


def test_a_ballot_overtakes_what_is_kept_and_has_the_reserve() -> None:
    rig = Rig()
    [record] = chain(1, value=LARGE)
    rig.fill(100)
    assert rig.perform(*appends([record])) == [FULL]
    assert rig.has_reserve(), "a large append does not get it"
    assert rig.perform(SaveBallot(2, None)) == [("on_ballot_saved", (2, None))]
    assert not rig.has_reserve()
    assert rig.perform(SaveBallot(3, "C"), SaveBallot(4, "A")) == [
        ("on_ballot_saved", (3, "C")),
        ("on_ballot_saved", (4, "A")),
    ]
    assert rig.pause() == []
    assert rig.has_reserve(), "a ballot takes the room of the one before"
    assert rig.records() == []
    rig.make_room()
    assert rig.pause() == [appended(record), ROOM]


def test_small_appends_have_a_part_of_the_reserve() -> None:
    rig = Rig()
    rig.fill()
    records = chain(20, value=bytes(3000))
    done: list[Record] = []
    for record in records:
        events = rig.perform(AppendRecords([record]))
        if appended(record) not in events:
            break
        done.append(record)
    size = sum(record.size for record in done)
    assert size <= RESERVE_APPEND_BYTES_MAX < size + records[len(done)].size
    assert not rig.has_reserve()
    assert rig.disk.room is not None
    assert rig.disk.room - rig.disk.bytes_used > RESERVE_BYTES - RESERVE_APPEND_BYTES_MAX - 1000, "the rest is kept"
    assert rig.perform(SaveBallot(2, "B")) == [("on_ballot_saved", (2, "B"))]
    assert rig.pause() == []
    assert rig.records() == raws(done)
    rig.make_room()
    assert rig.pause() == [appended(records[len(done)]), ROOM]


def test_the_allowance_is_given_anew_with_the_reserve() -> None:
    rig = Rig()
    records = chain(6, entries=1, value=bytes(RESERVE_APPEND_BYTES_MAX // 4))
    for first in (0, 3):
        rig.fill(10)
        three = records[first : first + 3]
        assert rig.perform(*appends(three)) == [FULL, *map(appended, three)]
        rig.make_room()
        assert rig.pause() == [ROOM]
    assert rig.records() == raws(records)


def test_a_small_append_waits_for_what_is_before_it() -> None:
    rig = Rig()
    records = chain(1, value=LARGE)
    records += chain(1, after=records[0])
    rig.fill(50_000)
    assert rig.perform(*appends(records)) == [FULL]
    assert rig.records() == []
    rig.make_room()
    assert rig.pause() == [appended(records[1]), ROOM]


def test_large_deeds_do_not_take_the_room_of_the_reserve() -> None:
    rig = Rig()
    [record] = chain(1, value=LARGE)
    rig.fill()
    rig.perform(*appends([record]), SaveBallot(2, None))
    assert not rig.has_reserve()
    rig.disk.room = rig.disk.bytes_used + RESERVE_BYTES - 1000
    assert record.size < RESERVE_BYTES - 1000
    for _ in range(3):
        assert rig.pause() == []
    assert rig.records() == []


def test_other_deeds_wait_for_the_reserve_too() -> None:
    rig = Rig()
    records = chain(3)
    rig.perform(*appends(records))
    rig.fill()
    assert rig.perform(GrantRightToVote(), CutLog(records[1].last_seq), SaveBallot(2, None)) == [
        FULL,
        ("on_ballot_saved", (2, None)),
    ]
    assert not rig.log.identity.may_vote
    assert rig.records() == raws(records)
    rig.make_room()
    assert rig.pause() == [("on_right_granted", ()), ("on_cut", (records[1].last_seq,)), ROOM]
    assert rig.log.identity.may_vote
    assert rig.records() == raws(records[:2])


@pytest.mark.parametrize("kept", range(7))
def test_a_cut_takes_what_it_cuts_out_of_what_is_kept(kept: int) -> None:
    """Records 0 and 1 are written, the others wait; then all but the first `kept` are cut."""
    rig = Rig()
    records = chain(2)
    records += chain(4, after=records[-1], value=LARGE)
    rig.perform(*appends(records[:2]))
    rig.fill(10)
    rig.perform(*appends(records[2:4]), GrantRightToVote(), *appends(records[4:]))
    cut_at = records[kept - 1].last_seq if kept else 0
    later = chain(2, term=2, after=records[kept - 1] if kept else None)
    assert rig.perform(CutLog(cut_at), SaveBallot(2, "B"), *appends(later)) == [("on_ballot_saved", (2, "B"))]
    rig.make_room()
    events = rig.pause()
    expected: list[Event] = []
    if kept > 2:
        expected.append(appended(records[min(kept, 4) - 1]))
    expected.append(("on_right_granted", ()))
    if kept > 4:
        expected.append(appended(records[kept - 1]))
    assert events == [*expected, ("on_cut", (cut_at,)), appended(later[-1]), ROOM]
    assert rig.records() == raws(records[:kept] + later)


def test_a_log_that_is_set_aside_while_the_disk_is_full() -> None:
    rig = Rig()
    records = chain(2)
    records += chain(4, after=records[-1], value=LARGE)
    rig.perform(*appends(records[:2]))
    rig.fill(10)
    rig.perform(*appends(records[2:]))
    assert rig.perform(SetAsideLog(records[0].last_seq, "why")) == []
    assert not rig.log.identity.set_aside, "it needs room too"
    rig.make_room()
    assert rig.pause() == [("on_set_aside", (records[0].last_seq,)), ROOM]
    assert rig.records() == raws(records[:1])
    assert rig.log.identity.set_aside == "why"


def test_ballots_stay_in_order_and_before_the_records_of_their_term() -> None:
    rig = Rig(reserve_bytes=0)
    rig.fill()
    records = chain(1, term=3)
    assert rig.perform(SaveBallot(2, "B"), SaveBallot(3, None), *appends(records)) == [FULL]
    assert rig.pause() == []
    rig.make_room()
    assert rig.pause() == [("on_ballot_saved", (2, "B")), ("on_ballot_saved", (3, None)), appended(records[0]), ROOM]


def test_it_is_tried_again_every_now_and_then() -> None:
    rig = Rig()
    assert rig.writing.pause_s is None
    records = chain(3, value=LARGE)
    rig.fill(10)
    rig.perform(*appends(records[:1]))
    assert rig.writing.pause_s == RETRY_S
    rig.make_room()
    rig.now_s += RETRY_S * 0.75
    assert rig.perform(*appends(records[1:2])) == [], "not for each deed that comes"
    assert rig.writing.pause_s == pytest.approx(RETRY_S * 0.25)
    rig.now_s += RETRY_S * 0.25
    assert rig.perform(*appends(records[2:])) == [appended(records[2]), ROOM], "though deeds keep coming"
    assert rig.writing.pause_s == IDLE_S


def test_a_deed_that_fails_while_the_disk_is_full_is_final() -> None:
    rig = Rig()
    rig.fill(10)
    rig.perform(*appends(chain(1, value=LARGE)))
    rig.make_room()
    rig.disk.fail_at = {n: OSError(5, "Broken") for n in range(len(rig.disk.calls), len(rig.disk.calls) + 9)}
    with pytest.raises(DiskError, match="Broken"):
        rig.pause()


def test_an_idle_log_has_its_mark_synced_once() -> None:
    rig = Rig()
    records = chain(1)
    rig.perform(*appends(records))
    assert rig.writing.pause_s == IDLE_S
    assert rig.pause() == []
    assert decode_mark(rig.disk.file(DIRECTORY / "mark").synced).seq == records[0].last_seq
    assert rig.writing.pause_s is None


def test_the_mark_of_a_full_log_is_synced_too() -> None:
    rig = Rig()
    records = chain(1)
    large = chain(1, after=records[0], value=LARGE)
    rig.fill(1000)
    rig.perform(*appends(records), *appends(large))
    rig.pause()
    assert decode_mark(rig.disk.file(DIRECTORY / "mark").synced).seq == records[0].last_seq


def test_a_mark_without_room_is_tried_again() -> None:
    rig = Rig()
    records = chain(2)
    rig.perform(*appends(records[:1]))  # which also writes zeros for those to come
    calls = len(rig.disk.calls)
    rig.disk.fail_at = dict.fromkeys((calls + 2, calls + 3), OSError(28, "No space left on device"))
    assert rig.perform(*appends(records[1:])) == [appended(records[1])]
    assert rig.pause() == []
    assert rig.writing.pause_s == IDLE_S
    assert rig.pause() == []
    assert rig.writing.pause_s is None
    assert decode_mark(rig.disk.file(DIRECTORY / "mark").synced).seq == records[1].last_seq


@pytest.mark.parametrize("seed", range(40))
def test_whatever_comes_while_room_comes_and_goes(seed: int) -> None:
    """In the end the log is what it would be had there always been room, and nothing was told before it was so."""
    random = Random(seed)
    rig = Rig(reserve_bytes=random.choice((0, 30_000, RESERVE_BYTES)))
    model: list[Record] = []
    term, told = 1, 0
    asked: list[Event] = []
    logs: list[list[bytes]] = [[]]
    for step in range(80):
        kind = random.choice(("append", "append", "append", "cut", "ballot", "fill", "room", "pause", "pause"))
        if kind == "append":
            count, size = random.randint(1, 3), random.choice((1, 100, 20_000, 70_000))
            more = chain(count, term=term, after=model[-1] if model else None, value=random.randbytes(size))
            model += more
            rig.writing.perform(appends(more))
        elif kind == "cut":
            del model[random.randint(max(0, len(model) - 4), len(model)) :]
            rig.writing.perform([CutLog(model[-1].last_seq if model else 0)])
            asked.append(("on_cut", (model[-1].last_seq if model else 0,)))
        elif kind == "ballot":
            term += 1
            rig.writing.perform([SaveBallot(term, "A")])
            asked.append(("on_ballot_saved", (term, "A")))
        elif kind == "fill":
            rig.fill(random.choice((0, 3000, 50_000)))
        elif kind == "room":
            rig.make_room()
        elif rig.writing.pause_s is not None:
            rig.now_s += rig.writing.pause_s
            rig.writing.pause()
        on_disk = rig.log.last_seq
        for name, what in rig.events[told:]:
            if name == "on_appended":
                # Unless it was cut by a deed of the same retry, which tells of it.
                assert what[0] <= on_disk or any(event[0] == "on_cut" for event in rig.events[told:]), (seed, step)
            elif name == "on_ballot_saved":
                assert rig.log.ballot.term >= what[0], (seed, step)
        told = len(rig.events)
        logs.append(raws(model))
        found = rig.records()
        if [name for name, _ in rig.events if name.startswith("on_disk")][-1:] != ["on_disk_full"]:
            assert found == logs[-1], (seed, step)
            del logs[:-1]
        assert any(found == log[: len(found)] for log in logs), f"seed {seed}, step {step}: nobody asked for this log"
    rig.make_room()
    rig.now_s += RETRY_S
    rig.writing.perform([])
    assert rig.records() == raws(model), seed
    assert rig.log.ballot.term == term
    assert of("on_ballot_saved", rig.events) == of("on_ballot_saved", asked), "in order, none left out"
    cuts = [(e[1][0], a[1][0]) for e, a in zip(of("on_cut", rig.events), of("on_cut", asked), strict=True)]
    assert all(told <= asked for told, asked in cuts), "a later cut may have been made at once"
    states = [name for name, _ in rig.events if name.startswith("on_disk")]
    assert states == ["on_disk_full", "on_disk_room"] * (len(states) // 2), "in turn"


def of(name: str, events: list[Event]) -> list[Event]:
    return [event for event in events if event[0] == name]


# The thread.


@dataclass
class Blocking:
    """A deed that waits."""

    begun: threading.Event
    may_end: threading.Event

    def perform(self, log: Any) -> Event:
        self.begun.set()
        assert self.may_end.wait(10)
        return "on_blocked", ()


class Posted:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.failures: list[BaseException] = []
        self._changed = threading.Condition()

    def post_all(self, events: list[Event]) -> None:
        with self._changed:
            self.events += events
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self.failures.append(error)
            self._changed.notify_all()

    def wait_for(self, name: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(event[0] == name for event in self.events) or self.failures, 10)


def test_appends_that_waited_for_the_disk_are_written_at_once() -> None:
    rig, posted = Rig(), Posted()
    worker = Worker("writer", Writing(rig.log, posted.post_all), posted.fail)
    block = Blocking(threading.Event(), threading.Event())
    worker.put(block)
    assert block.begun.wait(10)
    records = chain(9)
    for deed in (*appends(records[:4]), SaveBallot(2, None), *appends(records[4:])):
        worker.put(deed)
    rig.disk.calls.clear()
    block.may_end.set()
    worker.stop()
    assert posted.events == [
        ("on_blocked", ()),
        appended(records[3]),
        ("on_ballot_saved", (2, None)),
        appended(records[8]),
    ]
    assert rig.disk.calls.count(("fdatasync", segment_paths(rig.disk)[0].name)) == 2
    assert posted.failures == []


def test_only_so_much_is_written_at_once() -> None:
    rig, posted = Rig(), Posted()
    worker = Worker("writer", Writing(rig.log, posted.post_all), posted.fail)
    block = Blocking(threading.Event(), threading.Event())
    worker.put(block)
    assert block.begun.wait(10)
    records = chain(5, value=b"v" * (GROUP_BYTES // 5))  # two values each: three of them are more than a group
    for deed in appends(records):
        worker.put(deed)
    block.may_end.set()
    worker.stop()
    assert posted.events == [("on_blocked", ()), appended(records[2]), appended(records[4])]
    assert posted.failures == []


def test_the_writer_rests_after_what_nobody_waits_for() -> None:
    rig = Rig()
    took_s = 0.002
    clock = iter(number * took_s for number in range(100))
    writing = Writing(rig.log, rig.events.extend, lambda: next(clock))
    first, second, third, fourth = chain(4)
    missed = AppendRecords([first], is_missed=True)
    missed.add([second], is_missed=True)
    writing.perform([missed])
    assert writing.rest_s == pytest.approx(RESTS * took_s)
    mixed = AppendRecords([third], is_missed=True)
    mixed.add([fourth], is_missed=False)
    writing.perform([mixed])
    assert writing.rest_s == 0, "somebody waits for the fourth"
    writing.perform([SaveBallot(3, None)])
    assert writing.rest_s == 0


def test_a_slow_disk_has_no_long_rests() -> None:
    rig = Rig()
    clock = iter((0.0, 60.0))
    writing = Writing(rig.log, rig.events.extend, lambda: next(clock))
    writing.perform([AppendRecords(chain(1), is_missed=True)])
    assert writing.rest_s == REST_S_MAX


def test_the_thread_rests_as_long_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, posted = Rig(), Posted()
    rests: list[float] = []
    monkeypatch.setattr(disk.time, "sleep", rests.append)
    clock = iter((0.0, 60.0))
    worker = Worker("writer", Writing(rig.log, posted.post_all, lambda: next(clock)), posted.fail)
    missed, new = chain(2)
    worker.put(AppendRecords([missed], is_missed=True))
    posted.wait_for("on_appended")
    worker.put(AppendRecords([new]))
    worker.stop()
    assert posted.events == [appended(missed), appended(new)]
    assert rests == [REST_S_MAX]


def test_stopping_while_the_disk_is_full_drops_what_has_no_room() -> None:
    rig, posted = Rig(), Posted()
    worker = Worker("writer", Writing(rig.log, posted.post_all), posted.fail)
    written = chain(2)
    large = chain(1, after=written[-1], value=LARGE)
    rig.fill(1000)
    worker.put(AppendRecords(written))
    posted.wait_for("on_appended")
    worker.put(AppendRecords(large))
    posted.wait_for("on_disk_full")
    worker.put(SaveBallot(2, "B"))
    worker.stop()
    rig.log.close()
    assert posted.failures == []
    assert posted.events[-1] == ("on_ballot_saved", (2, "B"))
    assert appended(large[0]) not in posted.events
    assert rig.records() == raws(written)


def test_the_thread_tries_again_by_itself() -> None:
    rig, posted = Rig(), Posted()
    worker = Worker("writer", Writing(rig.log, posted.post_all), posted.fail)
    large = chain(1, value=LARGE)
    rig.fill(1000)
    worker.put(AppendRecords(large))
    posted.wait_for("on_disk_full")
    rig.make_room()
    posted.wait_for("on_disk_room")
    worker.stop()
    assert [name for name, _ in posted.events] == ["on_disk_full", "on_appended", "on_disk_room"]


def test_a_failure_ends_the_thread_and_nothing_more_is_told() -> None:
    rig, posted = Rig(), Posted()
    rig.disk.fail_at = {len(rig.disk.calls) + 1: OSError(5, "Broken")}
    worker = Worker("writer", Writing(rig.log, posted.post_all), posted.fail)
    for deed in (*appends(chain(1)), SaveBallot(2, None)):
        worker.put(deed)
    worker.stop()
    [failure] = posted.failures
    assert isinstance(failure, DiskError)
    assert posted.events == []


def test_the_reader_leaves_the_mark_to_the_writer() -> None:
    rig, posted = Rig(), Posted()
    records = chain(3)
    rig.log.append(records)
    rig.disk.calls.clear()
    reader = Worker("reader", Reading(rig.log, posted.post_all), posted.fail)
    reader.put(ReadRecords("B", 7, 0, records[-1].last_seq, sum(record.size for record in records)))
    posted.wait_for("on_read")
    reader.stop()
    assert posted.events == [("on_read", ("B", 7, b"".join(raws(records))))]
    assert Reading(rig.log, posted.post_all).pause_s is None, "it waits for the next question, and for nothing else"
    assert rig.disk.calls == []


# Slow fsyncs.


def test_one_sentence_with_the_number_and_what_was_synced() -> None:
    slow: deque[tuple[str, int]] = deque()
    telling = SlowFsyncs(slow, 500)
    assert telling.maybe_tell(0.0) is None
    slow.append(("mark", 1234))
    assert telling.maybe_tell(1.0) == (
        "slow disk: an fsync of mark took 1,234 ms, and every write waits for one; see what else keeps this disk busy, "
        "or put the data directory on a faster one",
        1234,
    )
    assert telling.maybe_tell(2.0) is None


def test_not_more_than_one_in_a_second_and_the_others_are_counted() -> None:
    slow: deque[tuple[str, int]] = deque([("mark", 700)])
    telling = SlowFsyncs(slow, 500)
    assert telling.maybe_tell(5000.0) is not None
    slow += [("ballot", 800), ("00000000000000000001.log", 2900), ("mark", 900)]
    assert telling.maybe_tell(5000.0 + INTERVAL_MS - 1) is None
    told = telling.maybe_tell(5000.0 + INTERVAL_MS)
    assert told is not None
    assert told[1] == 2900
    assert told[0].startswith(
        "slow disk: an fsync of 00000000000000000001.log took 2,900 ms (2 more took over 500 ms), and every write"
    )
    assert not slow
