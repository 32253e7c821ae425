"""Every row of the fault matrix stands in the table, and every test that it names exists."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.cluster.harness import ROOT
from tests.matrix.rows import ROWS
from tests.matrix.table import PAGE, render

COUNTS = {"N": 14, "P": 13, "D": 22, "C": 5}
COLLECT_S = 120


def collect(*names: str) -> set[str]:
    """What pytest finds under these names, without parameters, below tests/."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *names],
        capture_output=True,
        text=True,
        timeout=COLLECT_S,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = (line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line)
    names_found = {name.removeprefix("tests/") for name in found}
    assert names_found
    return names_found


def test_every_row_is_there() -> None:
    assert [row.id for row in ROWS] == [f"{kind}{n}" for kind, count in COUNTS.items() for n in range(1, count + 1)]
    for row in ROWS:
        assert row.tests or row.open, row.id


def test_every_named_test_is_there() -> None:
    named = {test for row in ROWS for test in row.tests}
    assert collect(*(f"tests/{test}" for test in sorted(named))) == named


def test_every_run_stands_in_its_row() -> None:
    rows = {row.id: row for row in ROWS}
    numbered = re.compile(r"(?:test|\d\d)_([npdc])(\d\d)(?=_)")
    runs = [name for name in collect("tests/matrix") if "test_rows.py" not in name]
    for name in runs:
        found = numbered.findall(name.partition("::")[2])
        assert found, name
        assert all(name in rows[f"{kind.upper()}{int(number)}"].tests for kind, number in found), name


def test_the_page_says_what_the_rows_say() -> None:
    assert PAGE.read_text() == render()
