"""Fixtures of real clusters. A failed test shows what its nodes have printed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.harness import Cluster

MakeCluster = Callable[..., Cluster]
CLUSTERS = pytest.StashKey[list[Cluster]]()


@pytest.fixture
def clusters(request: pytest.FixtureRequest) -> Iterator[list[Cluster]]:
    """What is put there ends with the test, and is shown when it fails."""
    found: list[Cluster] = []
    request.node.stash[CLUSTERS] = found
    yield found
    for cluster in found:
        cluster.close()


@pytest.fixture
def make_cluster(tmp_path: Path, clusters: list[Cluster]) -> MakeCluster:
    """`make_cluster(ids, options)`: a cluster that is not started. It ends with the test."""

    def make(ids: str = "ABC", options: dict[str, object] | None = None) -> Cluster:
        cluster = Cluster(tmp_path / f"cluster{len(clusters)}", ids, options)
        clusters.append(cluster)
        return cluster

    return make


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> Cluster:
    """Three new nodes with a leader, for a test that may do with them what it likes."""
    return started(make_cluster())


@pytest.fixture(scope="module")
def _module_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("shared") / "cluster")
    try:
        yield started(cluster)
    finally:
        cluster.close()


@pytest.fixture
def shared(_module_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three nodes that the tests of a module share, empty at the beginning of each; all must live at its end."""
    cluster = _module_cluster
    request.node.stash[CLUSTERS] = [cluster]
    pids = {id: cluster.pid(id) for id in cluster.ids}
    cluster.client(cluster.wait_for_leader()).flushall()
    yield cluster
    assert cluster.running == list(cluster.ids), "a node has ended"
    assert {id: cluster.pid(id) for id in cluster.ids} == pids


@pytest.fixture
def leader(shared: Cluster) -> str:
    return shared.wait_for_leader()


@pytest.fixture
def follower(shared: Cluster) -> str:
    return shared.followers()[0]


def started(cluster: Cluster) -> Cluster:
    cluster.start()
    cluster.wait_until_all_vote()
    cluster.wait_for_leader()
    return cluster


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for cluster in item.stash.get(CLUSTERS, []):
            report.sections += [(f"node {id} of {cluster.directory}", text) for id, text in cluster.logs().items()]
            report.sections += [(f"INFO raft of {id}", str(cluster.maybe_info(id))) for id in cluster.running]
