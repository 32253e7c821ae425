"""The two scenarios of the system that this one replaces."""

from __future__ import annotations

import pytest
import redis

from tests.cluster.harness import Cluster


def seen(cluster: Cluster, key: str) -> dict[str, bytes | None]:
    """What each running node answers."""
    return {id: cluster.client(id).get(key) for id in cluster.running}


def everywhere(cluster: Cluster, value: bytes | None) -> dict[str, bytes | None]:
    return dict.fromkeys(cluster.running, value)


@pytest.mark.parametrize("node", ["A", "B", "C"])
def test_basic(shared: Cluster, node: str) -> None:
    client = shared.client(node)
    assert client.set("testKey", "testValue") is True
    assert seen(shared, "testKey") == everywhere(shared, b"testValue")
    assert client.execute_command("UPD", "testKey", "newValue") == b"OK"
    assert seen(shared, "testKey") == everywhere(shared, b"newValue")
    assert client.delete("testKey") == 1
    assert seen(shared, "testKey") == everywhere(shared, None)
    assert client.delete("testKey") == 0
    with pytest.raises(redis.ResponseError, match="no such key"):
        client.execute_command("UPD", "testKey", "newValue")
    assert seen(shared, "testKey") == everywhere(shared, None)


@pytest.mark.parametrize("stopped", ["leader", "follower"])
def test_recovery(cluster: Cluster, stopped: str) -> None:
    leader = cluster.wait_for_leader()
    node = leader if stopped == "leader" else cluster.followers()[0]
    cluster.client(node).mset({f"before{number}": number for number in range(100)})
    cluster.wait_until_equal()
    assert cluster.stop(node) == 0
    cluster.wait_for_leader()
    first, second = cluster.running
    for number in range(100):
        assert cluster.client(first).set(f"while{number}", number)
    cluster.client(second).execute_command("UPD", "before1", "updated")
    assert cluster.client(second).delete("before2") == 1
    missed = cluster.info(first)["last_seq"]
    cluster.start(node)
    digest = cluster.wait_until_equal()
    assert cluster.info(node)["applied_seq"] >= missed
    assert seen(cluster, "before1") == everywhere(cluster, b"updated")
    assert seen(cluster, "before2") == everywhere(cluster, None)
    assert seen(cluster, "while99") == everywhere(cluster, b"99")
    assert cluster.digest(node) == digest
    assert cluster.client(node).dbsize() == 199
