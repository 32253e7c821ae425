"""The command table: every command there is, and how to find the row for a request.

Parsing, dispatch, COMMAND DOCS, the shell's completion and the documentation all go by these rows.
"""

from __future__ import annotations

from typing import Final

from kvnode.reply import CommandError
from kvnode.store.arguments import printable
from kvnode.store.command import Command
from kvnode.store.data_commands import DATA_COMMANDS
from kvnode.store.session_commands import SESSION_COMMANDS

COMMANDS: Final[tuple[Command, ...]] = tuple(sorted(DATA_COMMANDS + SESSION_COMMANDS, key=lambda command: command.name))
CONTAINERS: Final = {command.name: command for command in COMMANDS if command.subcommands}


def _by_spelling(commands: tuple[Command, ...]) -> dict[bytes, Command]:
    """Each command under the two ways in which clients spell it; anything else is found by way of `upper`."""
    rows = {command.name.rpartition("|")[2].encode(): command for command in commands}
    return {name.lower(): command for name, command in rows.items()} | rows


_COMMANDS: Final = _by_spelling(COMMANDS)
_SUBCOMMANDS: Final = {name: _by_spelling(command.subcommands) for name, command in CONTAINERS.items()}
_NAME_BYTES_MAX: Final = 64  # longer than any name: nothing to spell in upper case


def find(name: bytes) -> Command | None:
    """The row of the command `name` in any mixture of cases, or None."""
    return _find(_COMMANDS, name)


def find_full(name: bytes) -> Command | None:
    """The row of `name`, which may be that of a subcommand: `client|setname`."""
    first, bar, second = name.partition(b"|")
    command = find(first)
    return _find(_SUBCOMMANDS.get(command.name, {}), second) if command and bar else command


def _find(rows: dict[bytes, Command], name: bytes) -> Command | None:
    command = rows.get(name)
    if command is None and len(name) <= _NAME_BYTES_MAX:
        command = rows.get(name.upper())
    return command


# What clients send most: called without a detour by way of their rows.
GET: Final = find(b"GET")
SET: Final = find(b"SET")


def resolve(args: list[bytes]) -> Command:
    """The row for a whole request, that of the subcommand for a container; `args` is not empty.

    Raises CommandError, in the words of Redis, for an unknown command or subcommand and a wrong number of arguments.
    """
    command = _COMMANDS.get(args[0]) or find(args[0])
    if command is None:
        raise unknown_command(args)
    if command.subcommands and len(args) > 1:
        subcommand = _find(_SUBCOMMANDS[command.name], args[1])
        if subcommand is None:
            text = f"ERR unknown subcommand '{printable(args[1])}'. Try {command.name} HELP."
            raise CommandError(text)
        command = subcommand
    count = len(args)
    arity = command.arity
    if count != arity and (arity >= 0 or count < -arity):
        raise wrong_arity(command)
    return command


def wrong_arity(command: Command) -> CommandError:
    return CommandError(f"ERR wrong number of arguments for '{command.name.lower()}' command")


def unknown_command(args: list[bytes]) -> CommandError:
    """As Redis: the name, and as many arguments as begin within 128 bytes."""
    shown = ""
    for arg in args[1:]:
        if len(shown) >= 128:
            break
        shown += f"'{printable(arg, 128 - len(shown))}' "
    return CommandError(f"ERR unknown command '{printable(args[0])}', with args beginning with: {shown}")
