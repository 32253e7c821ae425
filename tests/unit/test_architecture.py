"""Who may know whom, read from the import statements; and that tables and README name what there is.

An import that only the type checker sees counts too: it is knowledge all the same.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import click
import pytest

import kvnode
from kvclient.cli import main as kvclient_main
from kvnode.cli import main as kvnode_main
from kvnode.node.node import Node
from kvnode.node.session_commands import SessionCommands
from kvnode.reply import CommandError
from kvnode.store import command_docs
from kvnode.store.command import Command, Kind
from kvnode.store.table import COMMANDS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"

# An import must point to a lower rank, or stay within its own package. Equal ranks know nothing of each other.
RANKS = {
    "__main__": 5,
    "cli": 4,
    "runtime": 3,
    "node": 2,
    "net": 1,
    "raft": 1,
    "log": 1,
    "store": 1,
    "config": 1,
    "invariant": 0,
    "packing": 0,
    "record_head": 0,
    "reply": 0,
    "__init__": 0,
}
ASYNC_AND_SOCKETS = {"asyncio", "uvloop", "socket", "socketserver", "selectors", "select", "ssl"}
THREADS_AND_CLOCKS = {"threading", "_thread", "concurrent", "multiprocessing", "subprocess", "signal", "time"}
# The disk is the log's affair: its writer is a thread, and an fsync is timed.
FORBIDDEN = {
    "node": ASYNC_AND_SOCKETS | THREADS_AND_CLOCKS,
    "net": ASYNC_AND_SOCKETS | THREADS_AND_CLOCKS,
    "raft": ASYNC_AND_SOCKETS | THREADS_AND_CLOCKS,
    "store": ASYNC_AND_SOCKETS | THREADS_AND_CLOCKS,
    "log": ASYNC_AND_SOCKETS,
}


def imports(source: str) -> Iterator[str]:
    """The full name of everything that is imported anywhere in `source`."""
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, "imports are absolute here"
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)
        elif isinstance(statement, ast.Call):
            name = ast.unparse(statement.func)
            assert not name.endswith(("__import__", "import_module")), "an import that can not be read"


def part_of(name: str) -> str:
    """The part of kvnode that a dotted name belongs to; what is none of its modules is in kvnode/__init__.py."""
    second = name.split(".")[1] if "." in name else "__init__"
    return second if second in RANKS else "__init__"


def violations(part: str, source: str) -> list[str]:
    """The imports that a module of this part of kvnode must not have."""
    bad = []
    for name in imports(source):
        package = name.split(".")[0]
        is_upward = package == "kvnode" and part_of(name) != part and RANKS[part_of(name)] >= RANKS[part]
        is_random = part in FORBIDDEN and package == "random" and name != "random.Random"
        if is_upward or is_random or package == "kvclient" or package in FORBIDDEN.get(part, ()):
            bad.append(name)
    return bad


MODULES = sorted((ROOT / "kvnode").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_downward(path: Path) -> None:
    part = path.relative_to(ROOT / "kvnode").parts[0].removesuffix(".py")
    assert part in RANKS, "a new part of kvnode needs a rank"
    assert violations(part, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", sorted((ROOT / "kvclient").rglob("*.py")), ids=lambda path: path.name)
def test_kvclient_knows_nothing_of_kvnode(path: Path) -> None:
    assert [name for name in imports(path.read_text(encoding="utf-8")) if name.split(".")[0] == "kvnode"] == []


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("raft", "from kvnode.log.record import Record"),
        ("raft", "if TYPE_CHECKING:\n    from kvnode.node.node import Node"),
        ("raft", "from kvnode import log"),
        ("raft", "def f():\n    import kvnode.store"),
        ("raft", "from random import random"),
        ("net", "import asyncio.streams"),
        ("log", "from socket import create_connection"),
        ("store", "from kvnode.config import Config"),
        ("node", "from time import monotonic"),
        ("node", "from kvnode.runtime.loop import Runtime"),
        ("invariant", "from kvnode.reply import Reply"),
        ("cli", "from kvclient import KVClient"),
    ],
)
def test_a_forbidden_import_is_noticed(part: str, line: str) -> None:
    assert len(violations(part, line)) == 1


# The command table


def rows(commands: tuple[Command, ...] = COMMANDS) -> Iterator[Command]:
    for command in commands:
        yield command
        yield from rows(command.subcommands)


def is_documentation(row: Command) -> bool:
    return row.name.startswith("COMMAND") or row.name.endswith("|HELP")


def needs_subcommand(row: Command) -> bool:
    return bool(row.subcommands) and row.arity < -1


def test_the_node_handles_the_session_commands_of_the_table_and_no_others() -> None:
    handlers = SessionCommands(cast(Node, None)).handlers
    session_rows = {row.name for row in rows() if row.kind is Kind.SESSION and not needs_subcommand(row)}
    documentation = {row.name for row in rows() if is_documentation(row)}
    assert set(handlers) | documentation | {"WAIT"} == session_rows  # WAIT is the leader's
    assert not set(handlers) & documentation


@pytest.mark.parametrize("row", [row for row in rows() if is_documentation(row)], ids=lambda row: row.name)
def test_rows_about_the_table_are_answered_from_it(row: Command) -> None:
    reply = command_docs.answer(row, [part.encode() for part in row.name.split("|")])
    assert reply
    assert not isinstance(reply, CommandError)


def test_what_is_no_session_command_is_evaluated_by_the_store() -> None:
    for row in rows():
        assert (row.evaluate is None) == (row.kind is Kind.SESSION), row.name


# README and docs


def typed_lines() -> list[str]:
    """What README tells to type: in its blocks of code, the lines that begin with a prompt or with make."""
    blocks = re.findall(r"^```.*?\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.startswith(("$ ", "make "))]


def calls_of(program: str) -> list[list[str]]:
    """The words after `program` wherever it is called, up to the end of the call."""
    pattern = re.compile(rf"(?:^|[\s/]){program} ([^|;#&>]*)")
    return [match[1].split() for line in typed_lines() for match in pattern.finditer(line)]


@pytest.mark.parametrize(("program", "group"), [("kvnode", kvnode_main), ("kvclient", kvclient_main)])
def test_commands_in_the_readme_exist(program: str, group: click.Group) -> None:
    calls = calls_of(program)
    assert calls
    for words in calls:
        known = {option for parameter in group.params for option in parameter.opts}
        position = next((n for n, word in enumerate(words) if word in group.commands), None)
        assert position is not None or words[0] in known, f"{program} {' '.join(words)}"
        if position is not None:
            command = group.commands[words[position]]
            known |= {option for parameter in command.params for option in parameter.opts}
        unknown = [word for word in words if word.startswith("--") and word.split("=")[0] not in known]
        assert not unknown, f"{program} {' '.join(words)}"


def test_make_targets_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {words[0] for words in calls_of("make")}
    assert {"run", "test"} <= named
    assert named <= targets


def test_the_readme_lists_the_commands_of_the_table() -> None:
    section = README.read_text(encoding="utf-8").partition("## Commands\n")[2].partition("\n## ")[0]
    rows_of_table = [line for line in section.splitlines() if line.startswith("|")]
    listed = re.findall(r"`([A-Z]+)`", "\n".join(rows_of_table))
    assert sorted(listed) == [command.name for command in COMMANDS]


@pytest.mark.parametrize("path", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_relative_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert [link for link in targets if "://" not in link and not (path.parent / link).exists()] == []


def test_what_the_architecture_page_names_is_there() -> None:
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    places = re.findall(r"`([a-z_/]+\.py)`(?: `(\w+)`)?", text)
    assert places
    for name, function in places:
        patterns = (name, f"kvnode/{name}", f"kvnode/*/{name}", f"kvclient/{name}")
        paths = [path for pattern in patterns for path in ROOT.glob(pattern)]
        assert paths, name
        assert any(f"def {function}" in path.read_text(encoding="utf-8") for path in paths), f"{name} {function}"


def test_what_inherits_from_compiled_classes_is_compiled() -> None:
    """mypyc's classes refuse to be inherited from by interpreted ones, and only when one of these is made."""
    compiled = compiled_modules()
    assert "kvnode.node.node" in compiled
    for found in pkgutil.walk_packages(kvnode.__path__, "kvnode."):
        if found.name in compiled or found.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(found.name)).items():
            if isinstance(value, type) and value.__module__ == found.name:
                bases = {base.__module__ for base in value.__mro__[1:]}
                assert not bases & compiled, f"{found.name}.{name}"


def compiled_modules() -> set[str]:
    """What setup.py says."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    table = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "COMPILED"
    )
    paths = {f"{package}/{name}" for package, names in table.items() for name in names.split()}
    assert all((ROOT / f"{path}.py").is_file() for path in paths)
    return {path.replace("/", ".") for path in paths}
