from __future__ import annotations

import pytest

from kvclient.command_table import describe, hint, options, overview, parse
from kvclient.completion import candidates, hint_after, shortened


def argument(name: bytes, kind: bytes = b"string", **more: object) -> dict[bytes, object]:
    return {b"name": name, b"type": kind} | {key.encode(): value for key, value in more.items()}


def token(name: bytes) -> dict[bytes, object]:
    return argument(name.lower(), b"pure-token", token=name)


PAIR = argument(
    b"data", b"block", flags=[b"multiple"], arguments=[argument(b"key", b"key"), argument(b"value")]
)  # fmt: skip
REPLY = {
    b"get": {b"summary": b"Get a value", b"group": b"string", b"arguments": [argument(b"key", b"key")]},
    b"set": {
        b"summary": b"Set a value",
        b"since": b"1.0",
        b"group": b"string",
        b"arguments": [
            argument(b"key", b"key"),
            argument(b"value"),
            argument(b"condition", b"oneof", flags=[b"optional"], arguments=[token(b"NX"), token(b"XX")]),
            token(b"GET") | {b"flags": [b"optional"]},
        ],
    },
    b"mset": {b"group": b"string", b"arguments": [PAIR]},
    b"del": {b"arguments": [argument(b"key", b"key", flags=[b"multiple"])]},
    b"scan": {
        b"arguments": [
            argument(b"cursor", b"integer"),
            argument(b"pattern", b"pattern", token=b"MATCH", flags=[b"optional"]),
            argument(b"count", b"integer", token=b"COUNT", flags=[b"optional"]),
        ]
    },
    b"client": {
        b"summary": b"Connections",
        b"subcommands": {
            b"client|id": {b"summary": b"Its id"},
            b"client|setname": {b"summary": b"Names it", b"arguments": [argument(b"connection-name")]},
        },
    },
}
TABLE = parse(REPLY)


def flat(value: object) -> object:
    """A map as RESP2 sends it."""
    if isinstance(value, dict):
        return [item for pair in value.items() for item in (pair[0], flat(pair[1]))]
    return [flat(item) for item in value] if isinstance(value, list) else value


def test_resp2_and_resp3_say_the_same() -> None:
    assert parse(flat(REPLY)) == TABLE
    assert list(TABLE) == ["CLIENT", "DEL", "GET", "MSET", "SCAN", "SET"]


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("SET", "SET key value [NX | XX] [GET]"),
        ("MSET", "MSET key value [key value ...]"),
        ("SCAN", "SCAN cursor [MATCH pattern] [COUNT count]"),
    ],
)
def test_syntax(name: str, syntax: str) -> None:
    assert TABLE[name].syntax == syntax


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("set", "key value [NX | XX] [GET]"),
        ("SET k", "value [NX | XX] [GET]"),
        ("set k v", "[NX | XX] [GET]"),
        ("set k v nx", "[GET]"),
        ("set k v get", "[NX | XX]"),
        ("set k v get nx", ""),
        ("set k v nonsense", ""),
        ("get a b", ""),
        ("scan 0 count", "count [MATCH pattern]"),
        ("scan 0 count 5", "[MATCH pattern]"),
        ("scan 0 count 5 match a*", ""),
        ("mset a", "value"),
        ("mset a 1", "[key value ...]"),
        ("mset a 1 b", "value"),
        ("del a b", "[key ...]"),
        ("client", "subcommand"),
        ("client setname", "connection-name"),
        ("client nothing", ""),
        ("nothing", ""),
    ],
)
def test_the_hint_after_finished_words(line: str, rest: str) -> None:
    assert hint(TABLE, line.split()) == rest


def test_the_hint_stands_off_a_word_that_is_being_typed() -> None:
    assert hint_after(TABLE, "") == ""
    assert hint_after(TABLE, "get") == " key"
    assert hint_after(TABLE, "get ") == "key"
    assert hint_after(TABLE, "ping\nget ") == "key"
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdef", 4) == "abc…"
    assert shortened("abcdef", 0) == ""


def test_options() -> None:
    assert options(TABLE, ["set", "k", "v"]) == ["NX", "XX", "GET"]
    assert options(TABLE, ["set", "k", "v", "xx"]) == ["GET"]
    assert options(TABLE, ["set", "k"]) == []
    assert options(TABLE, ["client"]) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ge", ["get"]),
        ("GE", ["GET"]),
        ("S", ["SCAN", "SET"]),
        ("get", []),
        ("client ", ["ID", "SETNAME"]),
        ("client s", ["setname"]),
        ("help cl", ["clear", "client"]),
        ("help client i", ["id"]),
        ("set k v n", ["nx"]),
        ("set k v ", ["NX", "XX", "GET"]),
        ("get ", []),
        ("ex", ["exit"]),
    ],
)
def test_completion(text: str, names: list[str]) -> None:
    assert [name for name, _ in candidates(TABLE, text)] == names


def test_help_texts() -> None:
    assert list(describe(TABLE["SET"])) == [
        "  SET key value [NX | XX] [GET]",
        "  summary: Set a value",
        "  group: string",
        "  since: 1.0",
    ]
    assert "    SETNAME  Names it" in describe(TABLE["CLIENT"])
    assert "  GET     Get a value" in overview(TABLE)


@pytest.mark.parametrize("reply", [None, b"x", [], [b"a"], [b"a", None], {b"a": {b"arguments": [None]}}])
def test_a_strange_table_does_no_harm(reply: object) -> None:
    for command in parse(reply).values():
        assert command.name == "A"
