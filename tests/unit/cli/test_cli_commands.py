"""The command line as a whole: help for all of it, and one clear line with exit code 2 for what can not begin."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kvnode import __version__
from kvnode.cli import main
from kvnode.cli.common import describe_default
from kvnode.config import KEYS

DOCUMENT = Path(__file__).parents[3] / "docs" / "OPERATIONS.md"


def commands(command: click.Command, path: str = "kvnode") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), list(commands(main)))
def test_every_command_and_option_has_help_and_is_documented(path: str, command: click.Command) -> None:
    assert command.help
    assert path in DOCUMENT.read_text("utf-8")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.opts}"
            assert parameter.help.rstrip().endswith((".", "]")), f"{path} {parameter.opts}"


@pytest.mark.parametrize("name", list(KEYS))
def test_every_key_is_an_option_and_stands_in_the_document_with_its_default(name: str) -> None:
    assert f"--{name.replace('_', '-')}" in CliRunner().invoke(main, ["start", "--help"]).output
    row = next(line for line in DOCUMENT.read_text("utf-8").splitlines() if line.startswith(f"| `{name}`"))
    assert KEYS[name].metadata["summary"] in row
    assert row.split("|")[2].strip() == describe_default(name, KEYS[name].default)


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"kvnode {__version__}\n"


@pytest.mark.parametrize("command", ["start", "cluster", "status"])
def test_a_bad_configuration_is_one_line_and_exit_code_2(command: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [command, "--cluster", "A=h,A=h:1", "--config", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert result.stderr.startswith("kvnode: bad configuration: can not read the config file")
    assert "member A: 'h' has no port" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_data_directory_that_can_not_be_made_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["cluster", "--data", str(tmp_path / "file")])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "file" in result.stderr


def test_the_way_to_start_imports_no_library_of_the_other_commands() -> None:
    code = "import kvnode.cli, sys; print(sorted({'rich', 'redis', 'msgpack', 'uvloop'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("before", ["", "import rich; "])
def test_a_node_imports_no_library_of_the_other_commands_and_leaves_them_as_they_were(before: str) -> None:
    code = (
        f"{before}import kvnode.runtime.serve, sys; print(sorted({{'rich.console', 'redis'}} & set(sys.modules)));"
        "import rich.console; print(rich.console.Console.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nConsole\n"
