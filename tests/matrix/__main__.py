"""`python -m tests.matrix`: the table of rows, as Markdown."""

from __future__ import annotations

from tests.matrix.table import render

print(render(), end="")
