"""The table of `kvclient status`: one line per node, from INFO raft."""

from __future__ import annotations

from collections.abc import Sequence

from kvclient.client import NodeStatus
from kvclient.output import Form, Output

_COLUMNS = ("node", "role", "leader", "term", "last_seq", "durable_seq", "commit_seq", "applied_seq")


def leads(status: NodeStatus) -> bool:
    return status.fields is not None and status.fields.get("role") == "leader"


def rows(statuses: Sequence[NodeStatus]) -> list[list[str]]:
    """Headings and cells, all as text."""
    table = [["address", *_COLUMNS]]
    for status in statuses:
        if status.fields is None:
            table.append([status.node, _short(status)])
        else:
            table.append([status.node, *(str(status.fields.get(column, "-")) for column in _COLUMNS)])
    return table


def _short(status: NodeStatus) -> str:
    return (status.error or "").rpartition(f"{status.node}: ")[2]


def show(statuses: Sequence[NodeStatus], output: Output) -> None:
    """Print them: aligned for people, parted by tabs for programs, or as JSON."""
    if output.form is Form.JSON:
        output.reply([{"address": s.node, "error": s.error, **(s.fields or {})} for s in statuses])
        return
    table = rows(statuses)
    if output.form is Form.RAW:
        output.reply(["\t".join(row) for row in table])
        return
    widths = [max(len(row[n]) for row in table if n < len(row) and len(row) > 2) for n in range(len(table[0]))]
    widths[0] = max(len(row[0]) for row in table)
    for row, status in zip(table, [None, *statuses], strict=True):
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)).rstrip()
        if status is not None and status.fields is None:
            output.error(line)
        else:
            output.text([line])
