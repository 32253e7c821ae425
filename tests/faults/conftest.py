"""Fixtures of clusters whose disks fail to order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import CLUSTERS, clusters, pytest_runtest_makereport, started
from tests.cluster.harness import Cluster
from tests.faults.disks import QUICK, FaultyCluster, build_shim
from tests.faults.small_disks import CanNotMount, SmallDisks

__all__ = ["clusters", "pytest_runtest_makereport"]

MakeFaulty = Callable[..., FaultyCluster]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shim.c, compiled."""
    try:
        return build_shim(tmp_path_factory.mktemp("shim"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def make_faulty(tmp_path: Path, library: Path, clusters: list[Cluster]) -> MakeFaulty:
    """`make_faulty(ids, **options)`: a cluster that is not started, quick to elect. It ends with the test."""

    def make(ids: str = "ABC", **options: object) -> FaultyCluster:
        cluster = FaultyCluster(tmp_path / f"cluster{len(clusters)}", ids, QUICK | options, library)
        clusters.append(cluster)
        return cluster

    return make


@pytest.fixture
def small_disks(tmp_path: Path, library: Path, request: pytest.FixtureRequest) -> Iterator[SmallDisks]:
    """Three new nodes with a leader, each on a small disk of its own: a tmpfs, or what the test's parameter says."""
    kind = getattr(request, "param", "tmpfs")
    try:
        cluster = SmallDisks(tmp_path / "cluster", "ABC", QUICK | {"segment_bytes": 65536}, library, kind)
    except CanNotMount as error:
        pytest.skip(f"small disks can not be mounted here: {error}")
    request.node.stash[CLUSTERS] = [cluster]
    try:
        started(cluster)
        yield cluster
    finally:
        cluster.close()
        cluster.unmount()


@pytest.fixture
def cluster(make_faulty: MakeFaulty) -> FaultyCluster:
    """Three new nodes with a leader. Their segments are small: they are sealed often."""
    cluster = make_faulty(segment_bytes=16384)
    started(cluster)
    return cluster


@pytest.fixture
def cluster_of_five(make_faulty: MakeFaulty) -> FaultyCluster:
    cluster = make_faulty("ABCDE", segment_bytes=16384)
    started(cluster)
    return cluster
