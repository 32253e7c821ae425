"""The rows of clocks: the wall clock jumps, runs fast or slow; the monotonic clock of each node begins elsewhere.

No keys expire yet. So of C1, C3 and C5 it is log time that is looked at, by which they are to expire: it never goes
back, and where a clock has been set back it goes on at the pace of time.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.cluster.conftest import started
from tests.cluster.harness import START_S, eventually
from tests.faults import damage
from tests.faults.disks import FaultyCluster
from tests.matrix.conftest import MakeCluster
from tests.matrix.rounds import (
    PATIENT,
    USUAL,
    Traffic,
    lasts,
    others_than,
    scaled,
    stopped,
    under_traffic,
    wait_for_leader_among,
)

HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS
BUSY_MS = 1_200
"""How far apart a write and our look at the clock may be on a busy machine."""


def set_clock(cluster: FaultyCluster, id: str, what: str) -> None:
    """`what`: offset_ms=N, rate=R (tests/faults/shim.c)."""
    cluster.break_disk(id, f"clock wall {what}")


class Times:
    """Writes, and when they were made; afterwards, what log time they have."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._made: dict[bytes, tuple[float, float]] = {}

    def write(self, name: str, id: str) -> None:
        key = f"{self._traffic.row}.time.{name}".encode()

        def is_written() -> bool:
            with self._traffic.asker(id) as asker:
                return asker.is_ready and asker.ask("SET", key, b"x") == b"OK"

        eventually(is_written, "a write is taken")
        self._made[key] = (time.time() * 1000, time.monotonic() * 1000)

    def read(self) -> dict[str, tuple[float, float, int]]:
        """(wall clock, monotonic clock, log time) of each write, by name; of all records, log time never goes back."""
        cluster = self._traffic.cluster
        records = [place.record for place in damage.places(cluster.data(cluster.ids[0]))]
        times = [record.time_ms for record in records]
        assert times == sorted(times), "log time goes back"
        log_ms = {entry[1]: record.time_ms for record in records for entry in record.entries if entry[0] == "SET"}
        prefix = f"{self._traffic.row}.time."
        return {key.decode().removeprefix(prefix): (*made, log_ms[key]) for key, made in self._made.items()}


def check_pace(times: dict[str, tuple[float, float, int]], first: str, second: str, rate: float = 1.0) -> None:
    """So much log time has passed between two writes as time has, by the monotonic clock."""
    passed_ms = times[second][1] - times[first][1]
    log_ms = times[second][2] - times[first][2]
    assert abs(log_ms - rate * passed_ms) < BUSY_MS, f"{first} to {second}: {log_ms:,} ms in {passed_ms:,.0f} ms"


def test_c01_wall_clock_jumps(make_cluster: MakeCluster) -> None:
    """By an hour, by ten years, every 100 ms, at a follower and then at the leader: nobody calls an election, and log
    time never goes back."""
    cluster, rng = make_cluster("c01", **PATIENT), Random("c01")
    jumps_ms = (-10 * YEAR_MS, -HOUR_MS, 0, HOUR_MS, 10 * YEAR_MS)
    with under_traffic(cluster, "c01") as traffic:
        for id in (cluster.followers()[0], cluster.wait_for_leader()):
            until_s = time.monotonic() + scaled(2, 60)
            while time.monotonic() < until_s:
                set_clock(cluster, id, f"offset_ms={rng.choice(jumps_ms)}")
                lasts(0.1)
            set_clock(cluster, id, "offset_ms=0")
            traffic.wait_for(50)
        assert all(cluster.info(each)["term"] == 1 for each in cluster.ids)
    times = Times(traffic)
    assert times.read() == {}


def test_c02_monotonic_clocks_begin_elsewhere(make_cluster: MakeCluster) -> None:
    """As after a boot of each machine; also of a node that is started again, and of whoever leads."""
    cluster = make_cluster("c02", is_started=False, **USUAL)
    with time_namespaces({"A": 0, "B": 86_400, "C": 1_000 * 86_400, "again": 3}) as enter:
        cluster.prefixes = {id: enter[id] for id in cluster.ids}
        for id in cluster.ids:
            del cluster.environments[id]["LD_PRELOAD"]  # its thread would be in nsenter, which then can not enter
        started(cluster)
        namespaces = {Path(f"/proc/{cluster.pid(id)}/ns/time").readlink() for id in cluster.ids}
        assert len(namespaces) == 3
        with under_traffic(cluster, "c02") as traffic:
            times = Times(traffic)
            times.write("before", "A")
            for _ in range(scaled(2, 20)):
                traffic.wait_for(50)
                leader = wait_for_leader_among(cluster, cluster.ids)
                cluster.kill(leader)
                traffic.wait_for(50)
                cluster.prefixes[leader] = enter["again"]
                cluster.start(leader)
            times.write("after", "A")
        check_pace(times.read(), "before", "after")


@contextmanager
def time_namespaces(offsets_s: dict[str, int]) -> Iterator[dict[str, list[str]]]:
    """What has to stand before a command that is to run on a monotonic clock with such an offset."""
    missing = [tool for tool in ("unshare", "nsenter") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"time namespaces need {', '.join(missing)}")
    holders: list[subprocess.Popen[bytes]] = []
    enter: dict[str, list[str]] = {}
    try:
        for name, offset_s in offsets_s.items():
            command = ["unshare", "--time", "--monotonic", str(offset_s), "--fork", "cat"]
            holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            holders.append(holder)
            assert holder.stdin is not None
            assert holder.stdout is not None
            holder.stdin.write(b"ready\n")
            holder.stdin.flush()
            if holder.stdout.readline() != b"ready\n":
                assert holder.stderr is not None
                pytest.skip(f"no time namespaces here: {holder.stderr.read().decode().strip()}")
            enter[name] = ["nsenter", f"--time=/proc/{holder.pid}/ns/time_for_children"]
        yield enter
    finally:
        for holder in holders:
            holder.communicate(timeout=START_S)  # with its input it ends


def test_c03_leaders_wall_clock_is_set_back(make_cluster: MakeCluster) -> None:
    """By an hour: log time goes on at the pace of time, there and at the next leader. What is an hour fast stays so."""
    cluster = make_cluster("c03", **USUAL)
    with under_traffic(cluster, "c03") as traffic:
        times = Times(traffic)
        leader = cluster.wait_for_leader()
        other = others_than(cluster, leader)[0]
        for name, offset_ms in (("right", 0), ("back", -HOUR_MS), ("fast", HOUR_MS), ("back again", -HOUR_MS)):
            set_clock(cluster, leader, f"offset_ms={offset_ms}")
            times.write(f"{name}, first", other)
            lasts(0.5)
            times.write(f"{name}, last", other)
        traffic.wait_for(20)
        assert cluster.wait_for_leader() == leader
        assert cluster.stop(leader) == 0
        times.write("another leader", other)
        cluster.start(leader)
    found = times.read()
    for name in ("right", "back", "fast", "back again"):
        check_pace(found, f"{name}, first", f"{name}, last")
    check_pace(found, "right, last", "back, first")
    check_pace(found, "fast, last", "back again, first")
    check_pace(found, "back again, last", "another leader")
    assert found["fast, first"][2] - found["back, last"][2] > HOUR_MS - BUSY_MS, "a fast clock is believed"


def test_c04_wall_clock_of_another_rate(make_cluster: MakeCluster) -> None:
    """At the leader and at a follower: no election. A slow clock is not followed, a fast one is."""
    cluster = make_cluster("c04", **PATIENT)
    with under_traffic(cluster, "c04") as traffic:
        times = Times(traffic)
        leader, other, right = cluster.wait_for_leader(), *cluster.followers()
        for name, rate in (("slow", 0.5), ("fast", 2.0)):
            for id in (leader, other):
                set_clock(cluster, id, f"rate={rate}")
            times.write(f"{name}, first", right)
            lasts(scaled(3, 30))
            times.write(f"{name}, last", right)
        assert all(cluster.info(id)["term"] == 1 for id in cluster.ids)
    found = times.read()
    check_pace(found, "slow, first", "slow, last", 1.0)
    check_pace(found, "fast, first", "fast, last", 2.0)


def test_c05_stopped_leader(make_cluster: MakeCluster) -> None:
    """For longer than an election takes: log time has gone on without it, and does not go back when it leads again."""
    cluster = make_cluster("c05", **USUAL)
    with under_traffic(cluster, "c05") as traffic:
        times = Times(traffic)
        leader = cluster.wait_for_leader()
        others = others_than(cluster, leader)
        times.write("before", others[0])
        with stopped(traffic, leader):
            wait_for_leader_among(cluster, others)
            lasts(scaled(1, 10))
            times.write("meanwhile", others[0])
        times.write("after", leader)
        for _ in range(3):  # until it leads again, if it does
            now = cluster.wait_for_leader()
            if now == leader:
                break
            cluster.stop(now)
            cluster.start(now)
        times.write("at last", leader)
    found = times.read()
    for first, second in (("before", "meanwhile"), ("meanwhile", "after"), ("after", "at last")):
        check_pace(found, first, second)
