"""What must not end a healthy node, and what must not end one that failed as if it had been told to stop."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from kvnode.config import Config, Member
from kvnode.log.damage import Hole
from kvnode.log.errors import DiskError
from kvnode.log.mark import Mark
from kvnode.node.set_aside import SetAside
from kvnode.runtime.connections import ClientConnection
from kvnode.runtime.loop import Runtime
from tests.unit.node.test_node_comparing import forged
from tests.unit.node.test_node_scrubbing import PAUSE_MS, VALUE, events, fill, forget, rot, scrubbed


def test_a_log_that_can_not_be_opened_for_a_moment_does_not_end_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files say nothing of the records: these are read later."""
    cluster = scrubbed()
    fill(cluster)
    log = cluster.hosts["B"].log
    works = log.scrub

    def fails(*_: object) -> Any:
        raise DiskError("Can not read 00000000000000000001.log: Too many open files.")

    monkeypatch.setattr(log, "scrub", fails)
    cluster.run(5 * PAUSE_MS)
    assert cluster["B"].scrubbing.passes == 0
    assert events(cluster, "B").count("the log can not be read again now") == 1
    rot(cluster, "B", 7)
    monkeypatch.setattr(log, "scrub", works)
    cluster.run(3 * PAUSE_MS)
    assert cluster["B"].scrubbing.healed == 1
    assert cluster["B"].scrubbing.passes >= 1


serve = importlib.import_module("kvnode.runtime.serve")


class Opening:
    """A life that is being opened, and is never done."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()

    async def __call__(self, *_: object) -> Any:
        self.has_begun.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("error", [DiskError("fsync failed"), RuntimeError("a defect")])
def test_what_ends_a_node_between_two_lives_is_no_clean_stop(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    async def live() -> None:
        opening = Opening()
        monkeypatch.setattr(serve, "open_machine", opening)
        runtime = Runtime(cast(Any, None), asyncio.get_running_loop(), None)
        living = asyncio.ensure_future(serve._live(cast(Any, None), runtime, None))
        await opening.has_begun.wait()
        runtime.fail(error)
        await asyncio.wait_for(living, 5)

    with pytest.raises(type(error), match=str(error)):
        asyncio.run(live())


class Between:
    """A runtime whose node is another one than a connection's, or none."""

    def __init__(self, node: object) -> None:
        self.node = node
        self.clients: dict[int, ClientConnection] = {}
        self.posted: list[str] = []

    def next_id(self) -> int:
        return 1

    def post(self, handler: str, *_: object) -> None:
        self.posted.append(handler)


class Transport:
    def get_extra_info(self, _: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass


@pytest.mark.parametrize("later", [None, "another node"])
def test_a_connection_of_an_earlier_life_tells_nothing_to_a_later_one(later: str | None) -> None:
    """A client that leaves its replies unread may be there long after its node is not. A member that is set aside knows
    no clients: it must not hear of it."""
    runtime = Between("a node")
    connection = ClientConnection(cast(Any, runtime))
    connection.connection_made(cast(Any, Transport()))
    connection.pause_writing()
    assert runtime.posted == ["on_client", "on_client_backed_up"]
    runtime.node = later
    connection.resume_writing()
    connection.data_received(b"PING\r\n")
    assert connection.eof_received()
    connection.connection_lost(None)
    assert runtime.posted == ["on_client", "on_client_backed_up"]
    assert not runtime.clients


def test_a_member_that_is_set_aside_knows_all_that_can_be_told_to_it() -> None:
    """What is posted to whatever machine runs: links, and the writer's word on room."""
    for handler in ("on_dialed", "on_accepted", "on_link_bytes", "on_link_closed", "on_disk_full", "on_disk_room"):
        assert callable(getattr(SetAside, handler))


def test_damage_that_nobody_can_heal_now_does_not_hold_up_what_can_be_healed_or_found() -> None:
    cluster = scrubbed()
    fill(cluster)
    cluster.run(100)
    cluster.crash("C")
    rot(cluster, "A", 5)
    rot(cluster, "B", 5)
    rot(cluster, "B", 9)
    forget(cluster, "A")
    forget(cluster, "B")
    cluster.run(6 * PAUSE_MS)
    log = cluster.hosts["B"].log
    assert [record.last_seq in log.rotten for record in log.records if record.last_seq in (5, 9)] == [True, False]
    later = rot(cluster, "B", 20)
    cluster.run(6 * PAUSE_MS)
    assert later.last_seq not in log.rotten
    cluster.start("C")
    cluster.run(6 * PAUSE_MS)
    assert not log.rotten
    assert not cluster.hosts["A"].log.rotten


def test_a_full_disk_is_told_of_once_while_a_hole_is_fetched_again_and_again() -> None:
    """A draft that found no room is gone: its next piece does not fit, and looks like room."""
    hole = Hole(Mark(), 40, 4711, 1, Path("00000000000000000001.log"), 100, "the checksum does not match")
    config = Config("A", Path("data"), tuple(Member(id, "host", 3000, "host", 13000) for id in "ABC"))
    aside = SetAside(config, "cluster", (hole,), random=Random(1), now_ms=0.0)
    notes: list[str] = []
    begun = 0
    ask = aside._fetching.ask

    def count(*arguments: Any, **more: Any) -> None:
        nonlocal begun
        begun += 1
        ask(*arguments, **more)

    aside._fetching.ask = count  # type: ignore[method-assign]
    now_ms = 0.0
    for _ in range(100):
        now_ms += 100
        full = ("on_disk_full", ("There is no room.",))
        events: list[Any] = [full, ("on_does_not_fit", ("seq 20 should follow", (hole,))), ("on_disk_room", ())]
        notes += [event for _, event, _ in aside.turn(now_ms, 0.0, events if now_ms % 2500 == 100 else []).notes]
    assert [event for event in notes if "disk" in event] == ["the disk is full: healing goes on when there is room"]
    assert 1 < begun <= 6
    notes += [event for _, event, _ in aside.turn(now_ms, 0.0, [("on_hole_healed", (True, ()))]).notes]
    assert notes[-2:] == ["the disk has room again", "healed: the log is whole again"]


def test_damage_in_records_that_are_cut_is_forgotten() -> None:
    """**S** What stands there now is another record: it must not be made anew from what was, nor looked for."""
    cluster = scrubbed()
    fill(cluster)
    cluster.run(100)
    cluster.cut_off("A")
    client = cluster.client("A")
    for number in range(3):
        client.send(f"SET lost{number} {number}")
        cluster.run(5)
    log = cluster.hosts["A"].log
    lost = log.records[-1]
    before = lost.first_seq - 1
    log.rotten.add(lost.last_seq)
    forget(cluster, "A")
    cluster.run(4 * PAUSE_MS)
    scrubbing = cluster["A"].scrubbing
    assert [(bad.after_seq, bad.last_seq) for bad in scrubbing._bad] == [(before, lost.last_seq)]
    log.rotten.clear()
    cluster.heal()
    cluster.run(4 * PAUSE_MS)
    assert lost.checksum not in {record.checksum for record in log.records}, "it was cut"
    assert scrubbing.damaged_entries == 0
    assert scrubbing.healed == 0
    assert "damage in the log that can not be healed now" not in events(cluster, "A")


def test_a_member_with_another_history_that_verifies_does_not_heal() -> None:
    """**S** It chains in itself from there on, so only what this node remembers tells that it is another one."""
    cluster = scrubbed()
    fill(cluster)
    cluster.run(100)
    damaged = rot(cluster, "B", 9)
    forget(cluster, "B")
    cluster.cut_off("B-C")
    log = cluster.hosts["A"].log
    log.records = forged(log.records, damaged.last_seq, VALUE)
    cluster.run(3 * PAUSE_MS)
    assert cluster.hosts["B"].log.rotten == {damaged.last_seq}
    assert cluster["B"].scrubbing.found == 1
    assert cluster["B"].scrubbing.healed == 0


def test_what_was_read_of_a_log_that_is_another_one_by_now_says_nothing() -> None:
    cluster = scrubbed()
    fill(cluster)
    cluster.run(100)
    scrubbing = cluster["B"].scrubbing
    bad = [(8, 9, "another record is in its place")]
    scrubbing.on_scrubbed(8, [(9, cluster["B"].raft.index.checksum_at(9) ^ 1)], bad, 0)
    assert scrubbing.found == 0
    scrubbing.on_scrubbed(8, [(9, cluster["B"].raft.index.checksum_at(9))], bad, 0)
    assert scrubbing.found == 1


def test_who_leads_tells_so_only_when_it_has_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before that it may lack what is committed."""
    cluster = scrubbed()
    fill(cluster, 3)
    node = cluster["A"]
    told: list[bool] = []
    monkeypatch.setattr(node.scrubbing._giving, "give", lambda _, message: told.append(message.leads))
    node.scrubbing._give(0, 1, b"", "ends")
    monkeypatch.setattr(type(node.raft.leading), "has_committed", False)
    node.scrubbing._give(0, 1, b"", "ends")
    assert told == [True, False]
