"""Every script of this directory leads to what stands in it. REWRITE_SCENARIOS=1 writes what it leads to; then read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scenarios.runner import run_file

SCRIPTS = sorted(Path(__file__).parent.rglob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    expected, happened = run_file(path, rewrite=bool(os.environ.get("REWRITE_SCENARIOS")))
    assert happened.splitlines() == expected.splitlines() or os.environ.get("REWRITE_SCENARIOS")
