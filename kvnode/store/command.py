"""What a command is: the row type of the command table."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from kvnode.reply import Reply
from kvnode.store.limits import Limits


class View(Protocol):
    """What a read is evaluated against: a KeySpace, or the leader's Overlay."""

    limits: Limits

    def get(self, key: bytes, /) -> bytes | None: ...


Reading = Generator[None, None, Reply]
"""A read of the whole key space: a pause (None) after each slice of some milliseconds, the reply as return value."""

Evaluate = Callable[[Any, list[bytes]], Reply | Reading]


class Kind(Enum):
    SESSION = "session"  # answered by the node: the connection, the cluster, the table itself
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument for COMMAND DOCS. `type` as in Redis: key, string, integer, pattern, pure-token, oneof, block."""

    name: str
    type: str = "string"
    token: str | None = None
    optional: bool = False
    multiple: bool = False
    arguments: tuple[Arg, ...] = ()

    @classmethod
    def flag(cls, token: str) -> Arg:
        """A word that may be there or not."""
        return cls(token.lower(), "pure-token", token, optional=True)

    @classmethod
    def choice(cls, name: str, *tokens: str, optional: bool = False) -> Arg:
        """One of several words."""
        words = tuple(cls(token.lower(), "pure-token", token) for token in tokens)
        return cls(name, "oneof", optional=optional, arguments=words)


@dataclass(frozen=True, slots=True)
class Positions:
    """Where the keys are among the arguments, the name being number 0. `last` -1: up to the last argument."""

    first: int
    last: int
    step: int


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table.

    name         upper case; of a subcommand "CLIENT|SETNAME"
    arity        how many arguments, the name included; -n: at least n
    kind         who evaluates it, and whether it may change anything
    evaluate     READ: (view, args) -> Reply. READ with `whole`: (whole_view, args) -> Reply or Reading.
                 WRITE: (overlay, args) -> Reply. SESSION: None, the node has the handler.
                 `args` are all arguments, the name included, their number right for `arity`.
                 Raises CommandError to refuse, nothing being changed then.
    whole        looks at the whole key space, so that no overlay may be over it
    since        the version of kvnode
    """

    name: str
    arity: int
    kind: Kind
    summary: str
    group: str
    since: str = "0.1.0"
    complexity: str = "O(1)"
    evaluate: Evaluate | None = None
    whole: bool = False
    keys: Positions | None = None
    arguments: tuple[Arg, ...] = ()
    subcommands: tuple[Command, ...] = ()
