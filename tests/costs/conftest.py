"""Nodes whose calls are noted: the same as those whose disks fail."""

from __future__ import annotations

from tests.faults.conftest import clusters, library, make_faulty, pytest_runtest_makereport

__all__ = ["clusters", "library", "make_faulty", "pytest_runtest_makereport"]
