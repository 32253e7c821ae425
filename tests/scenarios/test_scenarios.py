"""Every script here leads to what stands in it. With REWRITE_SCENARIOS=1 what it leads to is written; then read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scenarios.runner import run_file

SCRIPTS = sorted(Path(__file__).parent.rglob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    is_rewriting = bool(os.environ.get("REWRITE_SCENARIOS"))
    expected, happened = run_file(path, rewrite=is_rewriting)
    assert is_rewriting or happened.splitlines() == expected.splitlines()


def test_each_script_says_what_it_is_about() -> None:
    assert [path.name for path in SCRIPTS if not path.read_text().startswith("# ")] == []
