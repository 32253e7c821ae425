"""Clusters for the rows of the fault matrix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.conftest import clusters, pytest_runtest_makereport, started
from tests.cluster.harness import Cluster
from tests.faults.conftest import MakeFaulty, library, make_faulty
from tests.faults.disks import FaultyCluster
from tests.matrix.rounds import options_for
from tests.torture.cluster import TorturedCluster

__all__ = ["clusters", "library", "make_faulty", "pytest_runtest_makereport"]

MakeCluster = Callable[..., FaultyCluster]
MakeNetwork = Callable[..., TorturedCluster]


@pytest.fixture
def make_cluster(make_faulty: MakeFaulty) -> MakeCluster:
    """`make_cluster(row, ids, **options)`: new nodes with a leader. Their disks and clocks fail to order."""

    def make(row: str, ids: str = "ABC", *, is_started: bool = True, **options: object) -> FaultyCluster:
        cluster = make_faulty(ids, **options_for(row) | options)
        if is_started:
            started(cluster)
        return cluster

    return make


@pytest.fixture
def make_network(tmp_path: Path, library: Path, clusters: list[Cluster]) -> MakeNetwork:
    """`make_network(row, ids, **options)`: the same, and they reach each other through proxies."""

    def make(row: str, ids: str = "ABC", **options: object) -> TorturedCluster:
        cluster = TorturedCluster(tmp_path / row, ids, options_for(row) | options, library)
        clusters.append(cluster)
        started(cluster)
        return cluster

    return make
