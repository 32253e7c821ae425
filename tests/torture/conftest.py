"""Fixtures of tortured clusters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.conftest import clusters, pytest_runtest_makereport, started
from tests.cluster.harness import Cluster
from tests.faults.conftest import library
from tests.faults.disks import QUICK
from tests.torture.cluster import TorturedCluster

__all__ = ["clusters", "library", "pytest_runtest_makereport"]

MakeTortured = Callable[..., TorturedCluster]


@pytest.fixture
def make_tortured(tmp_path: Path, library: Path, clusters: list[Cluster]) -> MakeTortured:
    """`make_tortured(ids, **options)`: a cluster that is not started, quick to elect. It ends with the test."""

    def make(ids: str = "ABC", **options: object) -> TorturedCluster:
        cluster = TorturedCluster(tmp_path / f"cluster{len(clusters)}", ids, QUICK | options, library)
        clusters.append(cluster)
        return cluster

    return make


@pytest.fixture
def cluster(make_tortured: MakeTortured) -> TorturedCluster:
    """Three new nodes with a leader, that reach each other through proxies."""
    cluster = make_tortured()
    started(cluster)
    return cluster
