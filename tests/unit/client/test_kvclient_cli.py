from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from fake_node import FakeNode, bulk, fake_node, unused_address

from kvclient.cli import main
from kvclient.shell import history_path


def answer(command: list[bytes]) -> bytes:
    """A small store's replies, enough to see what is printed."""
    match [command[0].upper(), *command[1:]]:
        case [b"GET", b"missing"]:
            return b"_\r\n"
        case [b"GET", key]:
            return bulk(b"value of " + key)
        case [b"SET" | b"MSET", *_]:
            return b"+OK\r\n"
        case [b"MGET" | b"KEYS", *_]:
            return b"*2\r\n" + bulk(b"one") + bulk(b"\xff")
        case [b"RANGE", *_]:
            return b"*4\r\n" + b"".join(map(bulk, (b"a", b"1", b"b", b"2")))
        case [b"SCAN", *_]:
            return b"*2\r\n" + bulk(b"0") + b"*1\r\n" + bulk(b"key")
        case [b"INFO", *_]:
            text = b"# Raft\r\nnode:A\r\nrole:leader\r\nterm:4\r\n"
            return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text)
        case [b"INCRBY" | b"DEL", *_]:
            return b":5\r\n"
        case [b"UPD", *_]:
            return b"-ERR no such key\r\n"
        case _:
            return b"-ERR unknown command\r\n"


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with fake_node(answer) as node:
        yield node


def run(node: FakeNode | str, *args: str, stdin: str | bytes | None = None) -> Result:
    address = node if isinstance(node, str) else node.address
    return CliRunner().invoke(main, args, input=stdin, env={"KVCLIENT_NODES": address})


def all_commands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield name, command
        if isinstance(command, click.Group):
            yield from all_commands(command)


def test_every_command_and_option_has_a_help_and_is_in_the_docs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "CLIENT.md").read_text()
    for name, command in all_commands(main):
        assert command.help, name
        assert len(command.get_short_help_str(limit=200).split("\n")[0]) < 60, name
        assert f"`{name}" in page, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (name, parameter.name)


@pytest.mark.parametrize(
    ("args", "sent", "printed"),
    [
        (["get", "k"], b"GET k", "value of k\n"),
        (["get", "missing"], b"GET missing", "\n"),
        (["get", "missing", "--json"], b"GET missing", "null\n"),
        (["get", "missing", "--pretty"], b"GET missing", "(nil)\n"),
        (["--pretty", "get", "k"], b"GET k", '"value of k"\n'),
        (["--pretty", "get", "k", "--json"], b"GET k", '"value of k"\n'),
        (["get", "-n", "k"], b"GET k", "value of k"),
        (["set", "k", "v"], b"SET k v", "OK\n"),
        (["set", "k", "v", "--nx", "--get"], b"SET k v NX GET", "OK\n"),
        (["set", "k", "-5"], b"SET k -5", "OK\n"),
        (["set", "--xx", "-5", "--json", "-6"], b"SET -5 -6 XX", '"OK"\n'),
        (["set", "--", "-k", "--nx"], b"SET -k --nx", "OK\n"),
        (["incr", "n", "--by", "-5"], b"INCRBY n -5", "5\n"),
        (["incr", "n", "--by=-5", "--pretty"], b"INCRBY n -5", "(integer) 5\n"),
        (["del", "a", "b"], b"DEL a b", "5\n"),
        (["mset", "a", "1", "b", "2"], b"MSET a 1 b 2", "OK\n"),
        (["keys", "--json"], b"KEYS *", '["one", {"b64": "/w=="}]\n'),
        (["scan", "--match", "k*"], b"SCAN 0 MATCH k* COUNT 1000", "key\n"),
        (["range", "a", "--limit", "2"], b"RANGE a + LIMIT 2", "a\n1\nb\n2\n"),
        (["raw", "GET", "-k"], b"GET -k", "value of -k\n"),
        (["raw", "SET", "k", "--json"], b"SET k --json", "OK\n"),
        (["info", "raft", "--json"], b"INFO raft", '{"node": "A", "role": "leader", "term": 4}\n'),
        (["info"], b"INFO", "# Raft\r\nnode:A\r\nrole:leader\r\nterm:4\r\n"),
    ],
)
def test_a_command(node: FakeNode, args: list[str], sent: bytes, printed: str) -> None:
    result = run(node, *args)
    assert b" ".join(node.received[-1]) == sent
    assert result.stdout_bytes.replace(b"\r\n", b"\n") == printed.replace("\r\n", "\n").encode()
    assert (result.exit_code, result.stderr) == (0, "")


def test_bytes_pass_through_standard_input_and_output(node: FakeNode) -> None:
    data = bytes(range(256)) + b"\r\n"
    assert run(node, "set", "k", "-", stdin=data).exit_code == 0
    assert node.received[-1] == [b"SET", b"k", data]
    assert run(node, "keys").stdout_bytes == b"one\n\xff\n"


def test_an_error_is_status_1_and_on_standard_error(node: FakeNode) -> None:
    result = run(node, "upd", "k", "v")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "(error) ERR no such key\n")
    with unused_address() as nobody:
        result = run(node, "--node", nobody, "get", "k")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"(error) no node took the command: {nobody}: connection refused\n"


@pytest.mark.parametrize(
    "args",
    [
        ["get"],
        ["get", "k", "--jsno"],
        ["get", "k", "--node", "a:99999"],
        ["set", "k", "v", "--nx", "--xx"],
        ["mset", "a", "1", "b"],
        ["del"],
        ["incr", "n", "--by", "x"],
        ["nothing"],
        ["--timeout", "0", "get", "k"],
    ],
)
def test_wrong_usage_is_status_2(node: FakeNode, args: list[str]) -> None:
    result = run(node, *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr
    assert node.received == []


def test_a_bad_environment_is_named() -> None:
    result = run("a:b", "get", "k")
    assert result.exit_code == 2
    assert "KVCLIENT_NODES: 'a:b' is not an address" in result.stderr


def test_flushall_asks_first(node: FakeNode) -> None:
    assert run(node, "flushall", stdin="n\n").exit_code == 1
    assert node.received == []
    run(node, "flushall", "--yes")
    assert node.received == [[b"FLUSHALL"]]


def test_status(node: FakeNode) -> None:
    with unused_address() as nobody:
        both = ["status", "--node", node.address, "--node", nobody]
        result = run(node, *both, "--pretty")
        assert result.exit_code == 0
        heading, first, second = result.stdout.splitlines()
        assert heading.split()[:5] == ["address", "node", "role", "leader", "term"]
        assert first.split()[:5] == [node.address, "A", "leader", "-", "4"]
        assert second.split(maxsplit=1) == [nobody, "connection refused"]
        result = run(node, *both, "--json")
        assert [status["error"] is None for status in json.loads(result.stdout)] == [True, False]
        assert run(node, "status", "--node", nobody).exit_code == 1


def test_a_pipe_gets_a_reply_per_command_and_the_status_of_the_last(node: FakeNode) -> None:
    result = run(node, "shell", stdin='SET k "a b"\n\nUPD k v\nGET k\r\n')
    assert result.stdout == "OK\n(error) ERR no such key\nvalue of k\n"
    assert (result.exit_code, result.stderr) == (0, "")
    assert node.received[0] == [b"SET", b"k", b"a b"]


@pytest.mark.parametrize(
    ("stdin", "status"),
    [("", 0), ("GET k", 0), ("GET k\nUPD k v\n", 1), ("UPD k v\nexit\nGET k\n", 1), ('GET "k\n', 1)],
)
def test_the_status_of_a_pipe(node: FakeNode, stdin: str, status: int) -> None:
    assert run(node, "shell", stdin=stdin).exit_code == status


def test_a_pipe_may_hold_any_bytes(node: FakeNode) -> None:
    run(node, "shell", stdin=b'SET k \xff"\n')
    assert node.received == []
    run(node, "shell", stdin=b"SET k \xff\xc3\n")
    assert node.received == [[b"SET", b"k", b"\xff\xc3"]]


def test_where_the_history_is() -> None:
    assert history_path({"XDG_STATE_HOME": "/state"}) == Path("/state/kvclient/history")
    assert history_path({"XDG_STATE_HOME": "relative"}) == Path("~/.local/state/kvclient/history").expanduser()
    assert history_path({}) == Path("~/.local/state/kvclient/history").expanduser()
