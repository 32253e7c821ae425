"""The rows as a page of the documentation."""

from __future__ import annotations

from pathlib import Path

from tests.matrix.rows import ROWS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "FAULT_MATRIX.md"
HEAD = """# Fault matrix
What a cluster of real nodes goes through, fault by fault, and what has to come out. `make matrix` runs every row in
full, `make test` most of them in short. *Open* is what no test holds. How it all is tested: [TESTING.md](TESTING.md).

This page is written by `python -m tests.matrix > docs/FAULT_MATRIX.md`, and `make test` compares the two.

| row | fault | expected | held by |
| --- | --- | --- | --- |
"""


def render() -> str:
    """The page, in Markdown."""
    lines = []
    for row in ROWS:
        held = [f"`{test}`" for test in row.tests] + ([f"*Open:* {row.open}"] if row.open else [])
        lines.append(f"| {row.id} | {row.fault} | {row.expected} | {'<br>'.join(held)} |")
    return HEAD + "\n".join(lines) + "\n"
