"""The shell: a prompt on a terminal, or the commands of a pipe, line by line.

On a terminal a broken line, an error or Ctrl-C never ends it; Ctrl-D, `exit` and `quit` do. In a pipe every command
gets its reply on standard output, errors too, and the exit status is that of the last one: 1 for an error.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from redis.exceptions import ResponseError

from kvclient import command_table, words
from kvclient.client import KVClient
from kvclient.errors import KVError, NotApplied
from kvclient.output import Output
from kvclient.requests import READS
from kvclient.typed import TypedParser

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

# A reply that took longer than this is followed by its time, as in redis-cli: a failover shows as a slow reply.
SLOW_REPLY_S = 0.5
LEAVE = frozenset({"EXIT", "QUIT"})


def run_shell(nodes: Sequence[str] | None = None, output: Output | None = None) -> int:
    """Run the shell on standard input and output. Returns the exit status."""
    client = KVClient(nodes, parser=TypedParser)
    with client:
        if sys.stdin.isatty() and sys.stdout.isatty():
            return Shell(client, output or Output.chosen()).run()
        return run_pipe(client, output or Output.chosen())


def run_pipe(client: KVClient, output: Output) -> int:
    """Carry out each line of standard input. Returns the status of the last command."""
    status = 0
    for line in sys.stdin.buffer:
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        try:
            commands = words.split(text)
        except words.QuoteError as error:
            output.reply(ResponseError(f"ERR {error}"))
            status = 1
            continue
        for command in commands:
            if command[0].upper() in (b"EXIT", b"QUIT"):
                return status
            reply = execute(client, command)
            output.reply(reply)
            status = 1 if isinstance(reply, ResponseError) else 0
        output.flush()
    return status


def execute(client: KVClient, command: Sequence[bytes]) -> Any:
    """The reply of a command; whatever went wrong, as the error reply that says so."""
    try:
        return client.command(*command)
    except KVError as error:
        return ResponseError(error.text)


class Shell:
    """The interactive shell."""

    def __init__(self, client: KVClient, output: Output) -> None:
        self._client = client
        self._output = output
        self._table: command_table.Table = {}
        self._is_connected = False
        self._has_set_something = False

    def run(self) -> int:
        self._greet()
        session = self._session()
        while True:
            try:
                text = session.prompt([("class:prompt", self._prompt())])
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            if not self._carry_out(text):
                return 0

    def _session(self) -> PromptSession[str]:
        # Imported here: the one-shot commands and pipes do without, and start faster.
        from prompt_toolkit import PromptSession
        from prompt_toolkit.styles import Style

        from kvclient.completion import CommandCompleter, HintProcessor

        return PromptSession(
            history=_history(),
            completer=CommandCompleter(lambda: self._table),
            complete_while_typing=True,
            input_processors=[HintProcessor(lambda: self._table, lambda: len(self._prompt()))],
            style=Style.from_dict({"hint": "ansibrightblack", "prompt": "bold"}),
            enable_open_in_editor=True,
            reserve_space_for_menu=6,
        )

    def _prompt(self) -> str:
        return f"{self._client.node if self._is_connected else 'not connected'}> "

    def _greet(self) -> None:
        try:
            fields = self._client.info("server")
        except KVError as error:
            self._output.error(f"{error.text}")
            return
        self._is_connected = True
        self._load_table()
        version = fields.get("kvnode_version")
        name = f"kvnode {version}" if version else f"redis {fields.get('redis_version', '')}"
        self._output.note(f"{name} at {self._client.node}. Type `help` for the commands, Ctrl-D to leave.")

    def _load_table(self) -> None:
        try:
            self._table = command_table.parse(self._client.command("COMMAND", "DOCS"))
        except KVError:
            self._table = {}

    def _carry_out(self, text: str) -> bool:
        """Carry out what was typed or pasted, one or more lines. False: leave."""
        lines = words.lines(text)
        for line in lines:
            if len(lines) > 1:
                self._output.note(f"> {line}")
            try:
                command = next(iter(words.split(line)), None)
            except words.QuoteError as error:
                self._output.error(str(error))
                continue
            if command is None:
                continue
            name = command[0].decode("utf-8", "replace").upper()
            if name in LEAVE:
                return False
            try:
                self._one(name, command)
            except KeyboardInterrupt:
                is_read = name.encode() in READS
                self._output.error("interrupted" if is_read else "interrupted: the command may have been applied")
                return True
        return True

    def _one(self, name: str, command: list[bytes]) -> None:
        if name in ("HELP", "?"):
            self._help([word.decode("utf-8", "replace") for word in command[1:]])
        elif name == "CLEAR":
            click.clear()
        else:
            self._send(command)

    def _send(self, command: list[bytes]) -> None:
        node, began = self._client.node, time.monotonic()
        try:
            reply = self._client.command(*command)
            self._is_connected = True
        except KVError as error:
            reply = ResponseError(error.text)
            self._is_connected = not (isinstance(error, NotApplied) and not error.code)
        seconds = time.monotonic() - began
        self._output.reply(reply)
        if seconds >= SLOW_REPLY_S:
            self._output.note(f"({seconds:.2f}s)")
        if self._client.node != node:
            lost = "; what was set for the connection before is not" if self._has_set_something else ""
            self._output.note(f"now at {self._client.node}{lost}")
            self._has_set_something = False
        if command[0].upper() in (b"CLIENT", b"HELLO", b"READONLY"):
            self._has_set_something = True
        if self._is_connected and not self._table:
            self._load_table()

    def _help(self, topics: list[str]) -> None:
        from kvclient.completion import OWN_COMMANDS

        table = OWN_COMMANDS | self._table
        if not topics:
            self._output.text(command_table.overview(table))
            self._output.note("`help <command>` explains one. Tab completes; Ctrl-R searches the history.")
            return
        command, count = command_table.find(table, topics)
        if command is None or count < len(topics):
            self._output.error(f"no help for {' '.join(topics)!r}")
        else:
            self._output.text(command_table.describe(command))


def history_path(environment: Mapping[str, str]) -> Path:
    """$XDG_STATE_HOME/kvclient/history, by default below ~/.local/state."""
    home = environment.get("XDG_STATE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path("~/.local/state").expanduser()
    return base / "kvclient" / "history"


def _history() -> Any:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = history_path(os.environ)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError as error:
        click.echo(f"the history is not kept: {path}: {error.strerror}", err=True)
        return InMemoryHistory()
    return FileHistory(str(path))
