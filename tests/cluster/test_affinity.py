"""The CPUs that the threads of real nodes may use, as the kernel tells them."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.conftest import MakeCluster, started
from tests.cluster.harness import Cluster, eventually
from tests.cluster.load import load

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two CPUs"
)


def bound_to(cluster: Cluster, id: str) -> list[int]:
    """The CPUs of the node's threads that may use one only."""
    bound = []
    for path in Path(f"/proc/{cluster.pid(id)}/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            cpus = os.sched_getaffinity(int(path.name))
            if len(cpus) == 1:
                bound.append(min(cpus))
    return bound


def test_loop_and_writer_stay_on_one_cpu_while_records_are_written(make_cluster: MakeCluster) -> None:
    cluster = started(make_cluster())
    leader = cluster.wait_for_leader()

    def is_free(id: str = leader) -> bool:
        return not bound_to(cluster, id)

    def is_staying() -> bool:
        bound = bound_to(cluster, leader)
        return len(bound) == 2 and bound[0] == bound[1]

    with load(cluster, "key", leader, clients=1):
        eventually(is_staying, "two threads of the leader stay on one CPU")
        eventually(is_free, "all its threads are free", poll_s=0.0005)
    for id in cluster.ids:
        eventually(partial(is_free, id), f"without records all threads of {id} are free")


def test_never_if_so_configured(make_cluster: MakeCluster) -> None:
    cluster = started(make_cluster("A", {"cpu_stay_ms": 0}))
    with load(cluster, "key", "A", clients=1) as writing:
        before = writing.count
        while writing.count < before + 300:
            assert not bound_to(cluster, "A")


def test_a_new_life_begins_free(make_cluster: MakeCluster) -> None:
    """The writer of a node that heals its log is another thread than the one that it has afterwards."""
    cluster = started(make_cluster(options={"segment_bytes": "4KiB", "cpu_stay_ms": 1_000}))
    client = cluster.client(cluster.wait_for_leader())
    for number in range(100):
        client.set(f"key{number}", "v" * 200)
    cluster.wait_until_equal()
    damaged = cluster.followers()[0]
    cluster.stop(damaged)
    segment = sorted(cluster.data(damaged).glob("*.log"))[1]
    segment.write_bytes(segment.read_bytes().replace(b"v" * 200, b"w" * 200))
    cluster.start(damaged)
    eventually(lambda: "opening the log anew" in cluster.log_text(damaged), "it heals its log")
    cluster.wait_until_equal()
    eventually(lambda: len(bound_to(cluster, damaged)) in (0, 2), "no thread but these two is bound")
