"""Clusters of one, two and five, and logs of more than one segment."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.cluster.conftest import started
from tests.cluster.harness import Cluster, eventually
from tests.cluster.load import load

MakeCluster = Callable[..., Cluster]


def test_one_member(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("A")
    began = time.monotonic()
    started(cluster)
    assert time.monotonic() - began < 5
    with load(cluster, "key", clients=4) as writers:
        writers.wait_for(300)
        cluster.kill("A")
        told = writers.stop()
    cluster.start()
    cluster.wait_for_leader()
    client = cluster.client("A")
    told.check(client)
    assert client.wait(1, 100) == 0
    assert client.incr("counter") == 1
    assert client.get("counter") == b"1"
    assert cluster.stop("A") == 0


def test_two_members(make_cluster: MakeCluster) -> None:
    cluster = started(make_cluster("AB", {"request_timeout_ms": 1500}))
    client = cluster.client(cluster.wait_for_leader())
    assert client.set("key", "value")
    assert client.wait(1, 3000) == 1
    cluster.wait_until_equal()
    gone = cluster.followers()[0]
    cluster.kill(gone)
    with load(cluster, "alone", *cluster.running, clients=4) as writers:
        eventually(lambda: cluster.info(cluster.running[0])["role"] != "leader", "one of two is no majority")
        told = writers.stop()
    assert not told.acknowledged
    cluster.start(gone)
    cluster.wait_for_leader()
    told.check(cluster.client(gone))
    cluster.wait_until_equal()


def test_five_members(make_cluster: MakeCluster) -> None:
    cluster = started(make_cluster("ABCDE"))
    leader = cluster.wait_for_leader()
    with load(cluster, "key", *cluster.followers()[:2], clients=2) as writers:
        writers.wait_for(200)
        cluster.kill(leader, cluster.followers()[-1])
        writers.wait_for(200)
        told = writers.stop()
    assert len(cluster.running) == 3
    cluster.start()
    cluster.wait_for_leader()
    cluster.wait_until_equal()
    for id in cluster.ids:
        client = cluster.client(id)
        client.readonly()
        told.check(client)
    assert cluster.client(cluster.wait_for_leader(), single_connection_client=True).wait(4, 3000) == 4


@pytest.mark.parametrize("killed", ["leader", "follower"])
def test_many_segments(make_cluster: MakeCluster, killed: str) -> None:
    """A node that was away for several segments is sent exactly those."""
    cluster = started(make_cluster(options={"segment_bytes": "64KiB"}))
    node = cluster.wait_for_leader() if killed == "leader" else cluster.followers()[0]
    with load(cluster, "key", pipeline=16, value_bytes=500) as writers:
        writers.wait_for(500)
        cluster.kill(node)
        writers.wait_for(2000)
        told = writers.stop()
    assert len(list(cluster.data(cluster.running[0]).rglob("*.log"))) > 10
    cluster.start(node)
    cluster.wait_until_equal()
    info = cluster.info(node)
    assert 1500 < info["catch_up_entries_received"] < info["last_seq"] - 300
    client = cluster.client(node)
    client.readonly()
    told.check(client)
    cluster.kill(*cluster.ids)
    cluster.start()
    cluster.wait_for_leader()
    told.check(cluster.client(node))
