"""Real clusters, and the load generator."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.load import LoadError, build
from tests.cluster.conftest import cluster, clusters, make_cluster, pytest_runtest_makereport

__all__ = ["cluster", "clusters", "make_cluster", "pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The load generator, compiled."""
    try:
        return build(tmp_path_factory.mktemp("load"))
    except LoadError as error:
        pytest.skip(str(error))
