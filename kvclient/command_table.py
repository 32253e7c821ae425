"""The server's command table, as COMMAND DOCS tells it: help texts, syntax lines, and the hint behind the cursor. Pure.

An argument has a type, and stands for itself (`key`), after a token (`MATCH pattern`), or is the token (`NX`). It may
be optional, come several times, be one of several (`oneof`), or a sequence (`block`).
https://redis.io/docs/latest/commands/command-docs/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command. `name`: what is shown for it."""

    name: str
    kind: str = "string"
    token: str = ""
    is_optional: bool = False
    is_multiple: bool = False
    has_multiple_token: bool = False
    parts: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `name` in capitals, a subcommand's with its container: "CLIENT ID"."""

    name: str
    summary: str = ""
    since: str = ""
    group: str = ""
    complexity: str = ""
    arguments: tuple[Argument, ...] = ()
    subcommands: Mapping[str, Command] = field(default_factory=dict)

    @property
    def syntax(self) -> str:
        return " ".join([self.name, *map(syntax, self.arguments)])


Table = dict[str, Command]


def parse(reply: Any) -> Table:
    """The table from a reply to COMMAND DOCS, RESP2 or RESP3. What is not understood is left out."""
    commands = (_command(_text(name), fields) for name, fields in _pairs(reply))
    return {command.name: command for command in sorted(commands, key=lambda command: command.name)}


def _pairs(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list) and all(isinstance(item, tuple) for item in value):
        yield from value
    elif isinstance(value, list):
        yield from zip(value[::2], value[1::2], strict=False)


def _fields(value: Any) -> dict[str, Any]:
    return {_text(name): item for name, item in _pairs(value)}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _command(name: str, value: Any) -> Command:
    fields = _fields(value)
    name = name.replace("|", " ").upper()
    subcommands = (_command(_text(key), sub) for key, sub in _pairs(fields.get("subcommands", [])))
    return Command(
        name=name,
        summary=_text(fields.get("summary", "")),
        since=_text(fields.get("since", "")),
        group=_text(fields.get("group", "")),
        complexity=_text(fields.get("complexity", "")),
        arguments=tuple(_argument(item) for item in fields.get("arguments") or []),
        subcommands={command.name.partition(" ")[2]: command for command in subcommands},
    )


def _argument(value: Any) -> Argument:
    fields = _fields(value)
    flags = {_text(flag) for flag in fields.get("flags") or []}
    return Argument(
        name=_text(fields.get("display_text") or fields.get("name", "")),
        kind=_text(fields.get("type", "string")),
        token=_text(fields.get("token", "")).upper(),
        is_optional="optional" in flags,
        is_multiple="multiple" in flags,
        has_multiple_token="multiple_token" in flags,
        parts=tuple(_argument(item) for item in fields.get("arguments") or []),
    )


# --- syntax ---


def syntax(argument: Argument) -> str:
    """As in redis-cli's help: `key`, `[NX | XX]`, `[COUNT count]`, `key [key ...]`."""
    text = _once(argument)
    if argument.is_multiple:
        again = text if argument.has_multiple_token or not argument.token else _value(argument)
        text = f"{text} [{again} ...]"
    return f"[{text}]" if argument.is_optional else text


def _once(argument: Argument) -> str:
    if argument.kind == "pure-token":
        return argument.token or argument.name
    return f"{argument.token} {_value(argument)}" if argument.token else _value(argument)


def _value(argument: Argument) -> str:
    if argument.kind == "oneof":
        text = " | ".join(map(syntax, argument.parts))
        return f"<{text}>" if not argument.is_optional or argument.token else text
    if argument.kind == "block":
        return " ".join(map(syntax, argument.parts))
    return argument.name


# --- what is already typed ---


def find(table: Mapping[str, Command], words: Sequence[str]) -> tuple[Command | None, int]:
    """The command, or subcommand, that the words begin with, and how many of them name it."""
    command = table.get(words[0].upper()) if words else None
    if command and len(words) > 1 and (subcommand := command.subcommands.get(words[1].upper())):
        return subcommand, 2
    return command, 1


def hint(table: Mapping[str, Command], words: Sequence[str]) -> str:
    """What may follow the finished words of a line, "" for an unknown command."""
    command, count = find(table, words)
    if command is None:
        return ""
    if command.subcommands:
        return "subcommand" if len(words) == 1 else ""
    return " ".join(_rest(command.arguments, list(words[count:])))


def options(table: Mapping[str, Command], words: Sequence[str]) -> list[str]:
    """The tokens that may come next, after the finished words of a line."""
    command, count = find(table, words)
    if command is None or command.subcommands:
        return []
    matched = _match(command.arguments, list(words[count:]))
    tokens: list[str] = []
    for argument in matched.open_arguments:
        tokens.extend(_first_tokens(argument))
        if not argument.is_optional:
            break
    return tokens


def _rest(arguments: Sequence[Argument], words: list[str]) -> list[str]:
    matched = _match(arguments, words)
    if matched.left_over:
        return []
    return [*matched.begun, *map(syntax, matched.open_arguments)]


@dataclass(frozen=True, slots=True)
class _Matched:
    """`begun`: syntax still owed to an argument that has begun; `open_arguments`: not begun; `left_over`: too much."""

    begun: list[str]
    open_arguments: list[Argument]
    left_over: bool


def _match(arguments: Sequence[Argument], words: list[str]) -> _Matched:
    """Give the words to the arguments: positions in order, neighbouring optional tokens in any order."""
    waiting = list(arguments)
    begun: list[str] = []
    at = 0
    while at < len(words) and waiting:
        chosen = next((a for a in _candidates(waiting) if _takes(a, words[at])), None)
        if chosen is None:
            break
        waiting = waiting[_skipped(waiting, chosen) :]
        at, begun, is_finished = _consume(chosen, words, at)
        waiting = [argument for argument in waiting if argument is not chosen]
        if not is_finished:
            break
    return _Matched(begun, waiting, left_over=at < len(words))


def _candidates(waiting: Sequence[Argument]) -> Iterator[Argument]:
    """Those that the next word may belong to: the optional ones up to and with the first required one."""
    for argument in waiting:
        yield argument
        if not argument.is_optional:
            return


def _skipped(waiting: Sequence[Argument], chosen: Argument) -> int:
    """How many at the front can not come any more: all before a required argument that has been reached."""
    return 0 if chosen.is_optional else list(waiting).index(chosen)


def _takes(argument: Argument, word: str) -> bool:
    tokens = _first_tokens(argument)
    return word.upper() in tokens if tokens else True


def _first_tokens(argument: Argument) -> list[str]:
    """The tokens that the argument can begin with; none: it begins with any word."""
    if argument.token:
        return [argument.token]
    if argument.kind == "oneof":
        return [token for part in argument.parts for token in _first_tokens(part)]
    if argument.kind == "block" and argument.parts:
        return _first_tokens(argument.parts[0])
    return []


def _consume(argument: Argument, words: list[str], at: int) -> tuple[int, list[str], bool]:
    """Where the argument's words end, what it still lacks, and whether another argument may begin."""
    while True:
        at, lacking = _consume_once(argument, words, at)
        if lacking:
            return at, lacking, False
        if not argument.is_multiple:
            return at, [], True
        if at == len(words) or not _takes(argument, words[at]):
            return at, [f"[{_once(argument)} ...]"] if at == len(words) else [], True


def _consume_once(argument: Argument, words: list[str], at: int) -> tuple[int, list[str]]:
    if argument.token:
        at += 1
        if argument.kind == "pure-token":
            return at, []
        if at == len(words):
            return at, [_value(argument)]
    if argument.kind == "oneof":
        part = next((part for part in argument.parts if _takes(part, words[at])), None)
        return _consume_once(part, words, at) if part else (at + 1, [])
    if argument.kind == "block":
        for number, part in enumerate(argument.parts):
            if at == len(words):
                return at, [syntax(later) for later in argument.parts[number:]]
            at, lacking, _ = _consume(part, words, at)
            if lacking:
                return at, lacking + [syntax(later) for later in argument.parts[number + 1 :]]
        return at, []
    return at + 1, []


# --- help ---


def overview(table: Mapping[str, Command]) -> Iterator[str]:
    """All commands, by group."""
    groups = sorted({command.group for command in table.values()})
    width = max((len(name) for name in table), default=0)
    for group in groups:
        yield f"{group or 'other'}:"
        for command in table.values():
            if command.group == group:
                yield f"  {command.name:<{width}}  {command.summary}"


def describe(command: Command) -> Iterator[str]:
    """One command in full."""
    yield f"  {command.syntax}"
    if command.subcommands:
        width = max(map(len, command.subcommands))
        yield f"  {command.summary}"
        for name, subcommand in sorted(command.subcommands.items()):
            yield f"    {name:<{width}}  {subcommand.summary}"
        return
    for label, text in (
        ("summary", command.summary),
        ("complexity", command.complexity),
        ("group", command.group),
        ("since", command.since),
    ):
        if text:
            yield f"  {label}: {text}"
