"""Every script here leads to what stands in it. With REWRITE_SCENARIOS=1 what it leads to is written; then read it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.scenarios.runner import run_file

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCRIPTS = sorted(HERE.rglob("*.txt"))
NAMED = re.findall(r"`([\w/]+\.(?:txt|py))(?:::(\w+))?`", (HERE / "README.md").read_text())
"""What the README names: (file, test in it or nothing)."""


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    is_rewriting = bool(os.environ.get("REWRITE_SCENARIOS"))
    expected, happened = run_file(path, rewrite=is_rewriting)
    assert is_rewriting or happened.splitlines() == expected.splitlines()


def test_each_script_says_what_it_is_about() -> None:
    assert [path.name for path in SCRIPTS if not path.read_text().startswith("# ")] == []


def test_each_script_stands_in_the_readme() -> None:
    named = {HERE / name for name, _ in NAMED}
    assert [str(path.relative_to(HERE)) for path in SCRIPTS if path not in named] == []


def test_what_the_readme_names_is_there() -> None:
    assert len(NAMED) > len(SCRIPTS)
    for name, test in NAMED:
        path = HERE / name if (HERE / name).exists() else ROOT / name
        assert path.is_file(), name
        assert not test or f"def {test}(" in path.read_text(), f"{name}::{test}"
