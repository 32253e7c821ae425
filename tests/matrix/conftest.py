"""Clusters for the rows of the fault matrix."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cluster.conftest import pytest_runtest_makereport, started
from tests.faults.conftest import MakeFaulty, library, make_faulty
from tests.faults.disks import FaultyCluster
from tests.matrix.rounds import options_for

__all__ = ["library", "make_faulty", "pytest_runtest_makereport"]

MakeCluster = Callable[..., FaultyCluster]


@pytest.fixture
def make_cluster(make_faulty: MakeFaulty) -> MakeCluster:
    """`make_cluster(row, ids, **options)`: new nodes with a leader. Their disks and clocks fail to order."""

    def make(row: str, ids: str = "ABC", *, is_started: bool = True, **options: object) -> FaultyCluster:
        cluster = make_faulty(ids, **options_for(row) | options)
        if is_started:
            started(cluster)
        return cluster

    return make
