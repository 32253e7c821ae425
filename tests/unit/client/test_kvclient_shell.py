"""The interactive shell, its keys through a pipe in place of a keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_node import FakeNode, bulk, fake_node, unused_address
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from kvclient.client import KVClient
from kvclient.output import Form, Output
from kvclient.shell import Shell
from kvclient.typed import TypedParser

ENTER, TAB, CTRL_C, CTRL_D, UP = "\r", "\t", "\x03", "\x04", "\x1b[A"
DOCS = (
    b"%1\r\n" + bulk(b"get") + b"%2\r\n" + bulk(b"summary") + bulk(b"Get a value") + bulk(b"arguments")
    + b"*1\r\n%1\r\n" + bulk(b"name") + bulk(b"key")
)  # fmt: skip

Type = Callable[[str], str]


def answer(command: list[bytes]) -> bytes:
    match command[0].upper():
        case b"INFO":
            return bulk(b"# Server\r\nkvnode_version:1.2\r\n")
        case b"COMMAND":
            return DOCS
        case b"GET":
            return bulk(b"value of " + command[1])
        case _:
            return b"-ERR unknown command\r\n"


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "kvclient" / "history"


def type_into(address: str, keys: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the shell prints while the keys are typed, prompts left out."""
    with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
        keyboard.send_text(keys)
        with KVClient(address, parser=TypedParser) as client:
            assert Shell(client, Output(Form.PRETTY, has_colour=True)).run() == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("history")
class TestShell:
    def test_commands_and_errors(self, capsys: pytest.CaptureFixture[str]) -> None:
        with fake_node(answer) as node:
            printed = type_into(node.address, f'get a{ENTER}bad{ENTER}get "a{ENTER}{ENTER}\0{ENTER}{CTRL_D}', capsys)
        assert printed == [
            f"\x1b[2mkvnode 1.2 at {node.address}. Type `help` for the commands, Ctrl-D to leave.\x1b[0m",
            '"value of a"',
            "\x1b[31m(error) ERR unknown command\x1b[0m",
            '\x1b[31ma quote is not closed: "a\x1b[0m',
        ]

    @pytest.mark.parametrize("leave", [f"exit{ENTER}", f"QUIT{ENTER}", CTRL_D])
    def test_leaving(self, leave: str, capsys: pytest.CaptureFixture[str]) -> None:
        with fake_node(answer) as node:
            assert len(type_into(node.address, leave, capsys)) == 1

    def test_ctrl_c_cancels_the_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        with fake_node(answer) as node:
            assert type_into(node.address, f"bad{CTRL_C}get b{ENTER}{CTRL_D}", capsys)[1:] == ['"value of b"']

    def test_a_paste_of_several_lines(self, capsys: pytest.CaptureFixture[str]) -> None:
        paste = '\x1b[200~get a\nget "b\nc"\n\x1b[201~'
        with fake_node(answer) as node:
            printed = type_into(node.address, f"{paste}{ENTER}{CTRL_D}", capsys)[1:]
            assert [command for command in node.received if command[0] == b"get"] == [
                [b"get", b"a"],
                [b"get", b"b\nc"],
            ]
        assert printed == [
            "\x1b[2m> get a\x1b[0m",
            '"value of a"',
            '\x1b[2m> get "b\\nc"\x1b[0m',
            '"value of b\\nc"',
        ]

    def test_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        with fake_node(answer) as node:
            printed = type_into(node.address, f"help{ENTER}help get{ENTER}help x{ENTER}{CTRL_D}", capsys)[1:]
        assert "  GET    Get a value" in printed
        assert printed[-3:] == ["  GET key", "  summary: Get a value", "\x1b[31mno help for 'x'\x1b[0m"]

    def test_no_node(self, capsys: pytest.CaptureFixture[str]) -> None:
        with unused_address() as nobody:
            printed = type_into(nobody, f"get a{ENTER}{CTRL_D}", capsys)
        assert printed == [
            f"\x1b[31mno node took the command: {nobody}: connection refused\x1b[0m",
            f"\x1b[31m(error) no node took the command: {nobody}: connection refused\x1b[0m",
        ]

    def test_a_change_of_node_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        """And that settings of the connection were lost with it, where there were any."""
        for settings, told in (("", ""), (f"readonly{ENTER}", "; what was set for the connection before is not")):
            with (
                fake_node(lambda command: b"" if command[0] == b"get" else answer(command)) as a,
                fake_node(answer) as b,
            ):
                printed = type_into(f"{a.address},{b.address}", f"{settings}get a{ENTER}{CTRL_D}", capsys)
            assert printed[-2:] == ['"value of a"', f"\x1b[2mnow at {b.address}{told}\x1b[0m"]


def test_the_history_is_kept_and_private(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node: FakeNode
    with fake_node(answer) as node:
        type_into(node.address, f"get a{ENTER}{CTRL_D}", capsys)
        assert type_into(node.address, f"{UP}{ENTER}{CTRL_D}", capsys)[1:] == ['"value of a"']
    assert "+get a" in history.read_text()
    assert (history.stat().st_mode & 0o777, history.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_history_that_can_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kvclient").write_text("a file where the directory should be")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with fake_node(answer) as node:
        assert type_into(node.address, f"get a{ENTER}{CTRL_D}", capsys)[1:] == ['"value of a"']
