"""The rows of disks that have no run elsewhere: see rows.py.

What a node finds at its start, damaged, strange or endless: test_directories.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.cluster.conftest import started
from tests.cluster.harness import eventually
from tests.faults import damage
from tests.faults.conftest import small_disks
from tests.faults.disks import EXIT_DISK_FAILED, EXIT_REFUSED, QUICK, FaultyCluster, check_one_sentence
from tests.faults.small_disks import SmallDisks
from tests.matrix.conftest import MakeCluster
from tests.matrix.rounds import (
    IS_FULL,
    NOISE_MS,
    PATIENT,
    SLOWER,
    USUAL,
    others_than,
    p99,
    scaled,
    under_traffic,
    wait_for_leader_among,
)

__all__ = ["small_disks"]


def test_d01_unsynced_data_is_lost(make_cluster: MakeCluster) -> None:
    """The power fails at one node, at two, at all, under load, and what was not synced is gone."""
    cluster, rng = make_cluster("d01", **QUICK), Random("d01")
    with under_traffic(cluster, "d01", pause_ms=5) as traffic:
        for _ in range(scaled(1, 30)):
            for count in (1, 2, 3):
                traffic.wait_for(rng.randrange(20, 100))
                dark = rng.sample(cluster.ids, count)
                cluster.cut_power(*dark)
                if count == 1:
                    traffic.wait_for(20)
                cluster.start(*dark)


def test_d05_flipped_bytes_at_a_minority(make_cluster: MakeCluster) -> None:
    """Anywhere in the log of a stopped node, the leader or another one; the others serve, and it comes back healed."""
    cluster, rng = make_cluster("d05", segment_bytes=16384, **QUICK), Random("d05")
    with under_traffic(cluster, "d05") as traffic:
        traffic.wait_for(500)
        for number in range(scaled(5, 64)):
            leader = wait_for_leader_among(cluster, cluster.ids)
            id = leader if number % 3 == 2 else others_than(cluster, leader)[number % 2]
            cluster.kill(id)
            for _ in range(rng.choice((1, 1, 3, 20))):
                path = rng.choice(damage.segments(cluster.data(id)))
                damage.flip(path, rng.randrange(path.stat().st_size))
            traffic.wait_for(20)
            cluster.start(id)
            cluster.wait_until_all_vote()


def test_d08_misplaced_and_old_chunks(make_cluster: MakeCluster) -> None:
    """A record at another one's place, a block at another one's, a file as it was some time ago."""
    cluster, rng = make_cluster("d08", segment_bytes=8192, **QUICK), Random("d08")
    with under_traffic(cluster, "d08") as traffic:
        traffic.wait_for(600)
        id = cluster.followers()[0]
        directory = cluster.data(id)
        for kind in ("record", "block", "old segment", "old end"):
            traffic.wait_for(100)
            cluster.kill(id)
            while (places := list(damage.places(directory)))[-1].path != damage.segments(directory)[-1]:
                cluster.start(id)  # it had just begun another segment, and there is nothing in that
                traffic.wait_for(100)
                cluster.kill(id)
            first, *_, last = segments = damage.segments(directory)
            assert len(segments) > 2
            if kind == "record":
                source, target = rng.sample(places[:100], 2)
                _overwrite(target.path, target.offset, source.record.raw)
            elif kind == "block":
                source_at, target_at = rng.sample(range(0, first.stat().st_size - 1024, 1024), 2)
                _overwrite(first, target_at, first.read_bytes()[source_at : source_at + 1024])
            else:  # what is appended to only was once as long as up to any record
                path = segments[1] if kind == "old segment" else last
                offsets = [place.offset for place in places if place.path == path]
                os.truncate(path, offsets[len(offsets) // 2])
            said_before = len(cluster.log_text(id))
            cluster.start(id)
            cluster.wait_until_all_vote()
            assert "damage in the" in cluster.log_text(id)[said_before:], kind


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


HALVES = (1, 10, 11, 40, -1) if not IS_FULL else (*range(1, 70), -1, -2)


def test_d11_part_of_a_write_then_an_error(make_cluster: MakeCluster) -> None:
    """The node ends; at its next start no half record is left. A write that is merely short is finished."""
    cluster = make_cluster("d11", **QUICK)
    with under_traffic(cluster, "d11") as traffic:
        for number, size in enumerate(HALVES):
            leader = wait_for_leader_among(cluster, cluster.ids)
            id = leader if number % 2 else others_than(cluster, leader)[0]
            cluster.break_disk(id, f"pwrite .log$ short={abs(size)}")
            traffic.wait_for(10)
            said_before = len(cluster.log_text(id))
            cluster.break_disk(id, f"pwrite .log$ n=3 short={size} | pwrite .log$ from=4 EIO")
            assert cluster.wait_for_exit(id) == EXIT_DISK_FAILED
            check_one_sentence(cluster, id, cluster.log_text(id)[said_before:], "Input/output error")
            cluster.mend_disk(id)
            traffic.wait_for(10)
            cluster.start(id)


@contextmanager
def slow_fsyncs(cluster: FaultyCluster, id: str, ms: int) -> Iterator[None]:
    cluster.break_disk(id, f"sync .log delay_ms={ms}")
    eventually(lambda: cluster.faults(id), "an fsync begins")
    yield
    cluster.mend_disk(id)


DELAYS_MS = (50, 1000) if not IS_FULL else (50, 1000, 10_000)


def test_d14_slow_fsync_of_the_leader(make_cluster: MakeCluster) -> None:
    """It makes way where an fsync takes longer than an election, and not before."""
    cluster = make_cluster("d14.leader", **USUAL)
    with under_traffic(cluster, "d14.leader") as traffic:
        traffic.wait_for(100)
        for ms in DELAYS_MS:
            slow = cluster.wait_for_leader()
            with slow_fsyncs(cluster, slow, ms):
                if ms == 50:
                    traffic.wait_for(100)
                    assert cluster.wait_for_leader() == slow
                else:
                    wait_for_leader_among(cluster, others_than(cluster, slow))
                    traffic.wait_for(100)
                    assert cluster.info(slow)["role"] != "leader"


@pytest.mark.alone
def test_d14_slow_fsync_of_a_follower(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("d14.follower", **PATIENT)
    with under_traffic(cluster, "d14.follower") as traffic:
        traffic.wait_for(100)
        slow = cluster.followers()[0]
        others = others_than(cluster, slow)
        before_s = time.monotonic()
        traffic.wait_for(200)
        until_s = time.monotonic()
        before = p99(traffic.latencies_ms(others, before_s, until_s))
        for ms in DELAYS_MS:
            with slow_fsyncs(cluster, slow, ms):
                slow_s = time.monotonic()
                traffic.wait_for(200)
                until_s = time.monotonic()
            during = p99(traffic.latencies_ms(others, slow_s, until_s))
            assert during < SLOWER * max(before, NOISE_MS), f"p99 {before:.0f} ms, with {ms} ms {during:.0f} ms"
    assert all(cluster.info(id)["term"] == 1 for id in cluster.ids)


@pytest.mark.parametrize("small_disks", ["ext4"], indirect=True)
def test_d21_the_file_system_becomes_read_only(small_disks: SmallDisks) -> None:
    """As ext4 does on an error of the disk below: the node says so and ends. First the leader, then a follower."""
    cluster = small_disks
    with under_traffic(cluster, "d21.read_only") as traffic:
        for number in range(2):
            leader = wait_for_leader_among(cluster, cluster.ids)
            id = others_than(cluster, leader)[0] if number else leader
            traffic.wait_for(50)
            said_before = len(cluster.log_text(id))
            cluster.fail(id)
            assert cluster.wait_for_exit(id) == EXIT_DISK_FAILED
            said = cluster.log_text(id)[said_before:]
            assert any(reason in said for reason in ("Input/output error", "Read-only file system")), said
            traffic.wait_for(50)
            code, said = cluster.refused_start(id)
            assert (code, "Traceback" in said) == (EXIT_REFUSED, False), said
            assert "Read-only file system" in said
            cluster.exchange(id)
            cluster.start(id)


def test_d21_too_many_clients_for_the_descriptors(make_cluster: MakeCluster) -> None:
    """Who comes too late is refused; the log, which needs descriptors too, gets them, and all others go on."""
    cluster = make_cluster("d21", is_started=False, segment_bytes=16384)
    cluster.prefixes = {id: ["prlimit", "--nofile=150:150"] for id in cluster.ids}
    started(cluster)
    before = {id: len(damage.segments(cluster.data(id))) for id in cluster.ids}
    with under_traffic(cluster, "d21.descriptors") as traffic:
        traffic.wait_for(50)
        crowd = [cluster.connect(id) for _ in range(100) for id in cluster.ids]
        try:
            traffic.wait_for(500)
            assert any(connection.ask(b"PING\r\n").startswith(b"-ERR max number of clients") for connection in crowd)
        finally:
            for connection in crowd:
                connection.close()
        assert all(len(damage.segments(cluster.data(id))) > before[id] for id in cluster.ids)
