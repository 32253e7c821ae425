"""The command table: what is in it, how rows are found, and what COMMAND says about them."""

from __future__ import annotations

import pytest

from kvnode.reply import CommandError, Reply, Status
from kvnode.store import command_docs
from kvnode.store.command import Arg, Command, Kind, Positions
from kvnode.store.table import COMMANDS, CONTAINERS, find, find_full, resolve

ROWS = [row for command in COMMANDS for row in (command, *command.subcommands)]


def refusal(*args: bytes) -> str:
    with pytest.raises(CommandError) as error:
        resolve(list(args))
    return error.value.text


def ask(*args: bytes) -> Reply:
    return command_docs.answer(resolve(list(args)), list(args))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_whole(row: Command) -> None:
    assert row.name == row.name.upper()
    assert row.summary[:1].isalnum() or row.summary.startswith("[")
    assert not row.summary.endswith(".")
    assert (row.evaluate is None) == (row.kind is Kind.SESSION)
    assert (row.keys is not None) == any(
        argument.type in ("key", "block") and row.kind is not Kind.SESSION for argument in row.arguments
    )
    assert find_full(row.name.encode()) is row
    assert find_full(row.name.lower().encode()) is row


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=lambda row: row.name)
def test_subcommands_are_all_of_the_session(container: Command) -> None:
    """A leader takes a command with the name and the number of words of the last one for the same (node/leading.py)."""
    assert {row.kind for row in (container, *container.subcommands)} == {Kind.SESSION}


@pytest.mark.parametrize("row", [row for row in ROWS if not row.subcommands], ids=lambda row: row.name)
def test_arity_fits_the_documented_arguments(row: Command) -> None:
    if row.name in ("QUIT", "CLIENT|LIST", "CLIENT|KILL"):  # accept, as Redis does, what they do not document
        return
    required, is_open = count_arguments(row.arguments)
    names = 2 if "|" in row.name else 1
    assert row.arity == (-(required + names) if is_open else required + names)


def count_arguments(arguments: tuple[Arg, ...]) -> tuple[int, bool]:
    """How many are required, and whether there may be more."""
    required = 0
    is_open = False
    for argument in arguments:
        inner = count_arguments(argument.arguments)[0] if argument.type == "block" else 1
        required += 0 if argument.optional else inner + (argument.token is not None and argument.type != "pure-token")
        is_open |= argument.optional or argument.multiple
    return required, is_open


@pytest.mark.parametrize("name", [b"GET", b"get", b"Get", b"gEt"])
def test_names_are_found_in_any_case(name: bytes) -> None:
    command = find(name)
    assert command is not None
    assert command.name == "GET"
    assert resolve([b"client", name + b"name"]).name == "CLIENT|GETNAME"


@pytest.mark.parametrize("name", [b"", b"GETX", b"client|id", b"\xff", b"g" * 1_000_000])
def test_other_names_are_not_found(name: bytes) -> None:
    assert find(name) is None


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((b"foo",), "ERR unknown command 'foo', with args beginning with: "),
        ((b"foo", b"a", b"b c"), "ERR unknown command 'foo', with args beginning with: 'a' 'b c' "),
        ((b"f\r\n\x1b",), "ERR unknown command 'f   ', with args beginning with: "),
        ((b"\xff",), "ERR unknown command '\\xff', with args beginning with: "),
        ((b"x" * 200, b"y" * 200), f"ERR unknown command '{'x' * 128}', with args beginning with: '{'y' * 128}' "),
        (
            (b"x", *[b"y" * 60] * 9),
            f"ERR unknown command 'x', with args beginning with: '{'y' * 60}' '{'y' * 60}' '{'y' * 2}' ",
        ),
        ((b"GET",), "ERR wrong number of arguments for 'get' command"),
        ((b"get", b"a", b"b"), "ERR wrong number of arguments for 'get' command"),
        ((b"mget",), "ERR wrong number of arguments for 'mget' command"),
        ((b"client",), "ERR wrong number of arguments for 'client' command"),
        ((b"client", b"SetName"), "ERR wrong number of arguments for 'client|setname' command"),
        ((b"client", b"tracking", b"on"), "ERR unknown subcommand 'tracking'. Try CLIENT HELP."),
        ((b"config", b"\n"), "ERR unknown subcommand ' '. Try CONFIG HELP."),
    ],
)
def test_refusals_in_the_words_of_redis(args: tuple[bytes, ...], text: str) -> None:
    assert refusal(*args) == text


def test_key_positions() -> None:
    positions = {row.name: row.keys for row in COMMANDS}
    assert positions["GET"] == positions["SET"] == Positions(1, 1, 1)
    assert positions["DEL"] == Positions(1, -1, 1)
    assert positions["MSET"] == Positions(1, -1, 2)
    assert positions["RANGE"] is positions["PING"] is None


def test_docs_of_one_command() -> None:
    docs = ask(b"COMMAND", b"DOCS", b"Upd", b"nosuch", b"client|nosuch")
    assert docs == {
        "upd": {
            "summary": "Replace the value of a key; an error when there is none",
            "since": "0.1.0",
            "group": "string",
            "complexity": "O(1)",
            "arguments": [
                {"name": "key", "type": "key", "key_spec_index": 0},
                {"name": "value", "type": "string"},
            ],
        }
    }


def test_docs_of_everything() -> None:
    docs = ask(b"COMMAND", b"DOCS")
    assert isinstance(docs, dict)
    assert list(docs) == [row.name.lower() for row in COMMANDS]
    assert set(docs["client"]["subcommands"]) >= {"client|id", "client|setname"}
    condition = docs["set"]["arguments"][2]
    assert repr(condition["flags"]) == "[+optional]"
    assert [choice["token"] for choice in condition["arguments"]] == ["NX", "XX"]


def test_info() -> None:
    get, mset, unknown, client = ask(b"COMMAND", b"INFO", b"get", b"mset", b"nosuch", b"client|id")
    assert repr(get) == "['get', 2, [+readonly, +fast], 1, 1, 1, [], [], [], []]"
    assert repr(mset) == "['mset', -3, [+write], 1, -1, 2, [], [], [], []]"
    assert unknown is None
    assert client[:2] == ["client|id", 2]
    assert len(ask(b"COMMAND", b"INFO")) == len(ask(b"COMMAND")) == ask(b"COMMAND", b"COUNT") == len(COMMANDS)


def test_list() -> None:
    assert ask(b"COMMAND", b"LIST") == [row.name.lower() for row in ROWS]
    assert ask(b"COMMAND", b"LIST", b"filterby", b"pattern", b"GET*") == ["get", "getdel", "getset"]
    with pytest.raises(CommandError, match="syntax error"):
        ask(b"COMMAND", b"LIST", b"FILTERBY", b"MODULE")


def test_help_of_a_container() -> None:
    lines = ask(b"COMMAND", b"HELP")
    texts = [line.text for line in lines if isinstance(line, Status)]
    assert texts[0] == "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    assert "DOCS [command-name [command-name ...]]" in texts
    assert len(texts) == len(lines)


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        (b"set", "key value [NX|XX] [GET]"),
        (b"mset", "key value [key value ...]"),
        (b"scan", "cursor [MATCH pattern] [COUNT count] [TYPE type]"),
        (b"client|reply", "<ON|OFF|SKIP>"),
        (b"hello", "[protover [SETNAME clientname]]"),
        (b"dbsize", ""),
    ],
)
def test_usage(name: bytes, usage: str) -> None:
    row = find_full(name)
    assert row is not None
    assert command_docs.usage(row.arguments) == usage
