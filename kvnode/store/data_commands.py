"""The rows of the command table that this package evaluates."""

from __future__ import annotations

from typing import Final

from kvnode.store import keys, numbers, scans, strings
from kvnode.store.command import Arg, Command, Evaluate, Kind, Positions


def _row(
    name: str,
    arity: int,
    kind: Kind,
    evaluate: Evaluate,
    group: str,
    summary: str,
    *arguments: Arg,
    complexity: str = "O(1)",
    whole: bool = False,
) -> Command:
    return Command(
        name,
        arity,
        kind,
        summary,
        group,
        complexity=complexity,
        evaluate=evaluate,
        whole=whole,
        keys=_positions(arguments),
        arguments=arguments,
    )


def _positions(arguments: tuple[Arg, ...]) -> Positions | None:
    """Where the keys are: they come first in all of these commands, and go on to the end where there are several."""
    first = arguments[0] if arguments else None
    if first is None or first.type not in ("key", "block"):
        return None
    if first.type == "key":
        return Positions(1, -1 if first.multiple else 1, 1)
    return Positions(1, -1, len(first.arguments))  # a block of a key and what belongs to it, again and again


READ: Final = Kind.READ
WRITE: Final = Kind.WRITE

KEY: Final = Arg("key", "key")
KEYS: Final = Arg("key", "key", multiple=True)
VALUE: Final = Arg("value")
PAIRS: Final = Arg("key_value", "block", multiple=True, arguments=(KEY, VALUE))
CONDITION: Final = Arg.choice("condition", "NX", "XX", optional=True)
FLUSH_MODE: Final = Arg.choice("mode", "ASYNC", "SYNC", optional=True)
OLD_VALUE: Final = Arg.flag("GET")
SCAN_OPTIONS: Final = (
    Arg("pattern", "pattern", "MATCH", optional=True),
    Arg("count", "integer", "COUNT", optional=True),
    Arg("type", "string", "TYPE", optional=True),
)
LIMIT: Final = Arg("limit", "integer", "LIMIT", optional=True)

# fmt: off
STRING_COMMANDS: Final = (
    _row("GET", 2, READ, strings.get, "string", "The value of a key, null when there is none", KEY),
    _row("SET", -3, WRITE, strings.set_, "string",
         "Create a key or replace its value; NX only creates, XX only replaces, GET answers the value before",
         KEY, VALUE, CONDITION, OLD_VALUE),
    _row("UPD", 3, WRITE, strings.upd, "string", "Replace the value of a key; an error when there is none", KEY, VALUE),
    _row("SETNX", 3, WRITE, strings.setnx, "string", "Create a key: 1, or 0 when it exists already", KEY, VALUE),
    _row("GETSET", 3, WRITE, strings.getset, "string",
         "Create a key or replace its value; answers the value before", KEY, VALUE),
    _row("GETDEL", 2, WRITE, strings.getdel, "string", "Remove a key; answers the value it had", KEY),
    _row("MGET", -2, READ, strings.mget, "string", "The values of several keys, at one moment", KEYS,
         complexity="O(N), N keys"),
    _row("MSET", -3, WRITE, strings.mset, "string", "Create or replace several keys: all of them at once", PAIRS,
         complexity="O(N), N keys"),
    _row("APPEND", 3, WRITE, strings.append, "string", "Let a value grow at its end; answers its new length",
         KEY, VALUE, complexity="O(N), N bytes of the new value"),
    _row("STRLEN", 2, READ, strings.strlen, "string", "The length of a value in bytes, 0 when there is none", KEY),
)

NUMBER_COMMANDS: Final = (
    _row("INCR", 2, WRITE, numbers.incr, "string", "Add 1 to a counter; a missing one counts as 0", KEY),
    _row("DECR", 2, WRITE, numbers.decr, "string", "Subtract 1 from a counter; a missing one counts as 0", KEY),
    _row("INCRBY", 3, WRITE, numbers.incrby, "string", "Add a number to a counter; a missing one counts as 0",
         KEY, Arg("increment", "integer")),
    _row("DECRBY", 3, WRITE, numbers.decrby, "string", "Subtract a number from a counter; a missing one counts as 0",
         KEY, Arg("decrement", "integer")),
)

KEY_COMMANDS: Final = (
    _row("DEL", -2, WRITE, keys.delete, "generic", "Remove keys; answers how many there were", KEYS,
         complexity="O(N), N keys"),
    _row("EXISTS", -2, READ, keys.exists, "generic", "How many keys exist, each counted as often as it is named", KEYS,
         complexity="O(N), N keys"),
    _row("TYPE", 2, READ, keys.type_, "generic", "string, or none when there is no such key", KEY),
    _row("FLUSHALL", -1, WRITE, keys.flush, "server", "Remove every key", FLUSH_MODE),
    _row("FLUSHDB", -1, WRITE, keys.flush, "server", "Remove every key; there is one database", FLUSH_MODE),
)

WHOLE_COMMANDS: Final = (
    _row("KEYS", 2, READ, scans.keys, "generic", "The keys that match a pattern, in order", Arg("pattern", "pattern"),
         complexity="O(N), N keys in the store", whole=True),
    _row("SCAN", -2, READ, scans.scan, "generic",
         "Some of the keys, and a cursor to go on with at the same node; 0 begins and ends",
         Arg("cursor", "integer"), *SCAN_OPTIONS, complexity="O(N), N keys looked at: COUNT, or 10", whole=True),
    _row("RANGE", -3, READ, scans.range_, "generic",
         "Keys and values in [start, end) in order; - is before the first key, + after the last",
         Arg("start"), Arg("end"), LIMIT, complexity="O(log(M)+N), M keys in the store, N in the reply", whole=True),
    _row("DBSIZE", 1, READ, scans.dbsize, "server", "How many keys there are", whole=True),
)
# fmt: on

DATA_COMMANDS: Final = STRING_COMMANDS + NUMBER_COMMANDS + KEY_COMMANDS + WHOLE_COMMANDS
