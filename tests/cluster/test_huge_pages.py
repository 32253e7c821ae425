"""The memory of real nodes, as the kernel tells it."""

from __future__ import annotations

import pytest

from kvnode.runtime.huge_pages import PIECE, can_use_huge_pages
from tests.cluster.conftest import MakeCluster
from tests.cluster.harness import Cluster, eventually, huge_bytes

pytestmark = pytest.mark.skipif(not can_use_huge_pages(), reason="needs Linux 6.1 or newer, with huge pages allowed")
KEYS = 50_000


def fill(cluster: Cluster, prefix: str) -> int:
    """The bytes of what is written."""
    pipe = cluster.client(cluster.wait_for_leader()).pipeline(transaction=False)
    for number in range(KEYS):
        pipe.set(f"{prefix}{number}", f"{number:0100}")
    pipe.execute()
    return KEYS * 100


def test_memory_is_in_huge_pages_as_it_grows(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.start("A", "B")
    cluster.start("C", huge_pages=0)
    for id in "AB":
        eventually(lambda id=id: huge_bytes(cluster.pid(id)), f"{id} is in huge pages")
    for prefix in ("first", "second"):
        before = {id: huge_bytes(cluster.pid(id)) for id in "AB"}
        size = fill(cluster, prefix)
        for id, held in before.items():
            wanted = held + size
            eventually(lambda id=id, n=wanted: huge_bytes(cluster.pid(id)) >= n, f"{id} has these keys there, too")
    assert huge_bytes(cluster.pid("C")) < PIECE, "C was told not to"
    cluster.wait_until_equal()
    assert cluster.client("A").get("first49999") == f"{49_999:0100}".encode()
    for id in cluster.ids:
        assert cluster.stop(id) == 0
