"""COMMAND and its subcommands, and the HELP of every container: the table told to clients.

redis-cli takes its hints and its `help` from COMMAND DOCS, some clients the key positions from COMMAND.
https://redis.io/docs/latest/commands/command-docs/ and command-info/
"""

from __future__ import annotations

from kvnode.reply import Reply, Status
from kvnode.store.arguments import syntax_error
from kvnode.store.command import Arg, Command, Kind
from kvnode.store.glob import matcher
from kvnode.store.table import COMMANDS, CONTAINERS, find_full


def answer(command: Command, args: list[bytes]) -> Reply:
    """The reply to a request whose row (`resolve`) is COMMAND or one of its subcommands."""
    match command.name:
        case "COMMAND":
            return info([])
        case "COMMAND|COUNT":
            return len(COMMANDS)
        case "COMMAND|DOCS":
            return docs(args[2:])
        case "COMMAND|INFO":
            return info(args[2:])
        case "COMMAND|LIST":
            return names(args[2:])
        case _:
            return help_lines(command)


def docs(wanted: list[bytes]) -> Reply:
    """COMMAND DOCS: name -> documentation, for all commands or those that are `wanted` and known."""
    rows = [row for name in wanted if (row := find_full(name))] if wanted else COMMANDS
    return {row.name.lower(): _docs_of(row) for row in rows}


def _docs_of(command: Command) -> Reply:
    reply: dict[Reply, Reply] = {
        "summary": command.summary,
        "since": command.since,
        "group": command.group,
        "complexity": command.complexity,
    }
    if command.arguments:
        reply["arguments"] = [_docs_of_argument(arg) for arg in command.arguments]
    if command.subcommands:
        reply["subcommands"] = {row.name.lower(): _docs_of(row) for row in command.subcommands}
    return reply


def _docs_of_argument(arg: Arg) -> Reply:
    reply: dict[Reply, Reply] = {"name": arg.name, "type": arg.type}
    if arg.type == "key":
        reply["key_spec_index"] = 0
    if arg.token is not None:
        reply["token"] = arg.token
    flags = (("optional", arg.optional), ("multiple", arg.multiple))
    if arg.optional or arg.multiple:
        reply["flags"] = [Status(flag) for flag, is_set in flags if is_set]
    if arg.arguments:
        reply["arguments"] = [_docs_of_argument(inner) for inner in arg.arguments]
    return reply


def info(wanted: list[bytes]) -> Reply:
    """COMMAND INFO: an array for each command `wanted`, null for an unknown one; all commands when none is named."""
    rows = [find_full(name) for name in wanted] if wanted else COMMANDS
    return [None if row is None else _info_of(row) for row in rows]


def _info_of(command: Command) -> Reply:
    """Name, arity, flags, first key, last key, step, ACL categories, tips, key specifications, subcommands."""
    keys = command.keys
    return [
        command.name.lower(),
        command.arity,
        [Status(flag) for flag in _flags(command)],
        keys.first if keys else 0,
        keys.last if keys else 0,
        keys.step if keys else 0,
        [],
        [],
        [],
        [_info_of(row) for row in command.subcommands],
    ]


def _flags(command: Command) -> list[str]:
    flags = {Kind.SESSION: ["loading", "stale"], Kind.READ: ["readonly"], Kind.WRITE: ["write"]}[command.kind]
    return [*flags, "fast"] if command.complexity == "O(1)" else flags


def names(options: list[bytes]) -> Reply:
    """COMMAND LIST [FILTERBY PATTERN pattern]."""
    every = [row.name.lower() for command in COMMANDS for row in (command, *command.subcommands)]
    if not options:
        return list[Reply](every)
    if [option.upper() for option in options[:2]] != [b"FILTERBY", b"PATTERN"] or len(options) != 3:
        raise syntax_error()
    matches = matcher(options[2].lower())
    return [name for name in every if matches(name.encode())]


def help_lines(command: Command) -> Reply:
    """The reply to a request whose row is `<container>|HELP`: a line for each subcommand, and what it does."""
    container = CONTAINERS[command.name.partition("|")[0]]
    lines = [f"{container.name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for row in container.subcommands:
        lines += [f"{row.name.partition('|')[2]} {usage(row.arguments)}".rstrip(), f"    {row.summary}."]
    return [Status(line) for line in lines]


def usage(arguments: tuple[Arg, ...]) -> str:
    """Arguments as one writes them in a synopsis: `key value [NX|XX] [GET]`."""
    return " ".join(map(_usage_of, arguments))


def _usage_of(arg: Arg) -> str:
    if arg.type == "oneof":
        text = "|".join(map(_usage_of, arg.arguments))
        text = text if arg.optional else f"<{text}>"
    elif arg.type == "block":
        text = usage(arg.arguments)
    elif arg.type == "pure-token":
        text = arg.token or arg.name
    else:
        text = f"{arg.token} {arg.name}" if arg.token else arg.name
    if arg.multiple:
        text = f"{text} [{text} ...]"
    return f"[{text}]" if arg.optional else text
