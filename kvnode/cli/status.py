"""`kvnode status`: every member is asked by itself, and what it says of itself is shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvnode.cli.ask import NoAnswer, ask_raft
from kvnode.cli.common import Refusal, cluster_option, config_option
from kvnode.config import ConfigError, load_members, parse_address

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 200
"""Columns take what they need: a number that is cut is worse than a line that the terminal wraps."""
COLUMNS = ("term", "last_seq", "durable_seq", "commit_seq", "applied_seq")


Target = tuple[str, str, int]
"""Id ("" where it is not known), host, port."""


@dataclass(frozen=True, slots=True)
class Status:
    """What one member answered: the fields of `INFO raft`, or why there are none."""

    id: str
    address: str
    fields: dict[str, str]
    problem: str = ""

    def number(self, name: str) -> int:
        """A field that is a number; -1 where it is missing or none."""
        text = self.fields.get(name, "")
        return int(text) if text.isascii() and text.isdigit() else -1


@click.command()
@cluster_option
@config_option
@click.option("--node", "nodes", metavar="HOST:PORT", multiple=True, help="Ask this node alone; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
@click.option("--timeout", type=click.FloatRange(0.01, 60), default=1.0, show_default=True, help="Seconds per node.")
def status(cluster: str | None, file: Path | None, nodes: tuple[str, ...], as_json: bool, timeout: float) -> None:
    """Show the members, who leads, and how far each is.

    Exit code 0 if there is a leader, 1 if there is none.
    """
    targets = _targets(cluster, file, nodes)
    with ThreadPoolExecutor(len(targets)) as pool:
        statuses = list(pool.map(lambda target: _status(target, timeout), targets))
    leader = find_leader(statuses)
    if as_json:
        click.echo(json.dumps(as_object(statuses, leader), indent=2))
    else:
        from rich.console import Console

        console = Console(width=WIDTH)
        console.print(table(statuses, leader))
        console.print(summary(statuses, leader), highlight=False, markup=False)
    sys.exit(0 if leader else 1)


def find_leader(statuses: Sequence[Status]) -> str | None:
    """The id of the leader, by the member with the highest term.

    A member that was asked and did not answer does not lead, whatever the others still believe.
    """
    alive = [member for member in statuses if not member.problem]
    if not alive:
        return None
    newest = max(alive, key=lambda member: (member.number("term"), member.fields["role"] == "leader"))
    leader = newest.id if newest.fields["role"] == "leader" else newest.fields.get("leader", "")
    asked = {member.id: member for member in statuses}
    if leader in asked and (asked[leader].problem or asked[leader].fields["role"] != "leader"):
        return None
    return leader or None


def lag(member: Status, statuses: Sequence[Status], leader: str | None) -> int | None:
    """How many entries a member's log is behind the leader's; None where it is not known."""
    last_seq = next((other.number("last_seq") for other in statuses if other.id == leader and not other.problem), -1)
    if member.problem or last_seq < 0 or member.number("last_seq") < 0:
        return None
    return max(0, last_seq - member.number("last_seq"))


def as_object(statuses: Sequence[Status], leader: str | None) -> dict[str, object]:
    """What --json prints: leader, and per member all fields of `INFO raft`, numbers as numbers."""
    members = []
    for member in statuses:
        item: dict[str, object] = {"id": member.id, "address": member.address, "alive": not member.problem}
        if member.problem:
            item["problem"] = member.problem
        # The checksum may consist of decimal digits alone and is no number for that.
        for name, value in member.fields.items():
            item[name] = member.number(name) if name != "log_checksum" and member.number(name) >= 0 else value
        item["lag"] = lag(member, statuses, leader)
        members.append(item)
    return {"leader": leader, "members": members}


def table(statuses: Sequence[Status], leader: str | None) -> Table:
    """One row per member."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("member", "address", "role"):
        result.add_column(name, no_wrap=True)
    for name in (*COLUMNS, "lag"):
        result.add_column(name.removesuffix("_seq"), justify="right", no_wrap=True)
    for member in statuses:
        if member.problem:
            result.add_row(Text(member.id), Text(member.address), Text("no answer", style="bold red"))
            continue
        role = Text(member.fields["role"], style="bold green" if member.id == leader else "")
        behind = lag(member, statuses, leader)
        numbers = [Text(member.fields.get(name, "-")) for name in COLUMNS]
        result.add_row(
            Text(member.id), Text(member.address), role, *numbers, Text("-" if behind is None else str(behind))
        )
    return result


def summary(statuses: Sequence[Status], leader: str | None) -> str:
    """The lines below the table."""
    alive = sum(not member.problem for member in statuses)
    who = f"{leader} leads" if leader else "There is no leader"
    first = f"{who}; {alive} of {len(statuses)} {'answer' if len(statuses) != 1 else 'answers'}."
    problems = [f"{member.id} at {member.address}: {member.problem}" for member in statuses if member.problem]
    return "\n".join([first, *problems])


def _targets(cluster: str | None, file: Path | None, nodes: Sequence[str]) -> list[Target]:
    """Whom to ask."""
    if nodes and cluster:
        raise Refusal("--node and --cluster exclude each other")
    targets: list[Target] = []
    for node in nodes:
        try:
            host, port = parse_address(node)
            targets.append(("", host, port))
        except ValueError as error:
            raise Refusal(f"--node: {node!r} {error}") from None
    if targets:
        return targets
    try:
        members = load_members({"cluster": cluster}, os.environ, file)
    except ConfigError as error:
        raise Refusal(f"bad configuration: {error}") from None
    return [(member.id, member.host, member.client_port) for member in members]


def _status(target: Target, timeout: float) -> Status:
    member_id, host, port = target
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        fields = ask_raft(host, port, timeout)
    except NoAnswer as error:
        return Status(member_id or "?", address, {}, str(error))
    if member_id and fields["node"] != member_id:
        return Status(member_id, address, {}, f"is {fields['node']}, not {member_id}")
    return Status(fields["node"], address, fields)
