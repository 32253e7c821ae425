"""`python -m tests.matrix`: the table of rows, as Markdown."""

from __future__ import annotations

from tests.matrix.rows import ROWS

print("| row | fault | expected | held by |\n| --- | --- | --- | --- |")
for row in ROWS:
    held = [f"`tests/{test}`" for test in row.tests] + ([f"*Open:* {row.open}"] if row.open else [])
    print(f"| {row.id} | {row.fault} | {row.expected} | {'<br>'.join(held)} |")
