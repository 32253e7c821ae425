"""Every command of the table through redis-py 8: RESP3 and RESP2, sync and asyncio, at the leader and at a follower.

The conversation is a list of steps, so that the four kinds of client hold the same one.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff

from tests.cluster.harness import Cluster

NO_SYNTAX = "syntax error"
NO_INTEGER = "value is not an integer or out of range"


@dataclass(frozen=True, slots=True)
class Error:
    """An error reply: what redis-py makes of it, without `ERR `."""

    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """`method` of a client, called so, returns `expected`, or something that makes a callable `expected` true."""

    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    expected: Any

    def check(self, got: object) -> None:
        if isinstance(self.expected, Error):
            assert isinstance(got, redis.ResponseError), f"{self} -> {got!r}"
            assert str(got) == self.expected.text, self
        elif callable(self.expected):
            assert self.expected(got), f"{self} -> {got!r}"
        else:
            assert got == self.expected, f"{self} -> {got!r}"


def step(expected: Any, method: str, *arguments: Any, **options: Any) -> Step:
    return Step(method, arguments, options, expected)


def raw(expected: Any, *words: Any) -> Step:
    return Step("execute_command", words, {}, expected)


def arity(name: str) -> Error:
    return Error(f"wrong number of arguments for '{name}' command")


def is_cursor_and_all(expected: set[bytes]) -> Callable[[Any], bool]:
    return lambda got: got[0] == 0 and set(got[1]) == expected


def as_pairs(reply: Any) -> dict[bytes, Any]:
    """A map: a dict in RESP3, a flat list in RESP2."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))


STRINGS = [
    step(None, "get", "k"),
    step(True, "set", "k", "v"),
    step(b"v", "get", "k"),
    step(None, "set", "k", "w", nx=True),
    step(True, "set", "new", "w", nx=True),
    step(None, "set", "missing", "w", xx=True),
    step(True, "set", "k", "w", xx=True),
    step(b"w", "set", "k", "x", get=True),
    step(b"x", "set", "k", "y", nx=True, get=True),
    step(None, "set", "other", "y", get=True),
    raw(Error(NO_SYNTAX), "SET", "k", "v", "NX", "XX"),
    raw(Error(NO_SYNTAX), "SET", "k", "v", "NONSENSE"),
    raw(lambda got: isinstance(got, redis.ResponseError), "SET", "k", "v", "EX", "10"),
    raw(arity("set"), "SET", "k"),
    raw(arity("get"), "GET"),
    raw(arity("get"), "get", "k", "l"),
    step(b"x", "get", "k"),
    raw(b"OK", "UPD", "k", "z"),
    raw(Error("no such key"), "UPD", "missing", "z"),
    raw(arity("upd"), "UPD", "k"),
    step(b"z", "get", "k"),
    step(True, "setnx", "created", "1"),
    step(False, "setnx", "created", "2"),
    step(b"1", "getset", "created", "3"),
    step(None, "getset", "missing2", "3"),
    step(b"3", "getdel", "created"),
    step(None, "getdel", "created"),
    step(True, "mset", {"m1": "1", "m2": "2"}),
    raw(arity("mset"), "MSET", "a", "1", "b"),
    raw(True, "MSET", "twice", "1", "twice", "2"),
    step([b"1", b"2", None, b"2"], "mget", "m1", "m2", "none", "twice"),
    step(5, "append", "appended", "hello"),
    step(11, "append", "appended", " world"),
    step(b"hello world", "get", "appended"),
    step(11, "strlen", "appended"),
    step(0, "strlen", "none"),
    step(True, "set", "empty", ""),
    step(b"", "get", "empty"),
    step(True, "set", b"\x00\xff\r\n", b"\r\n\x00\xfe"),
    step(b"\r\n\x00\xfe", "get", b"\x00\xff\r\n"),
    step(True, "set", "", "the empty key"),
    step(b"the empty key", "get", ""),
]

NUMBERS = [
    step(1, "incr", "n"),
    raw(2, "INCR", "n"),
    raw(1, "DECR", "n"),
    step(11, "incrby", "n", 10),
    step(6, "decrby", "n", 5),
    step(b"6", "get", "n"),
    step(True, "set", "big", 2**63 - 1),
    raw(Error("increment or decrement would overflow"), "INCR", "big"),
    step(b"%d" % (2**63 - 1), "get", "big"),
    step(True, "set", "small", -(2**63)),
    raw(Error("increment or decrement would overflow"), "DECR", "small"),
    raw(Error(NO_INTEGER), "INCRBY", "n", "1.5"),
    raw(Error(NO_INTEGER), "INCRBY", "n", "9223372036854775808"),
    raw(Error(NO_INTEGER), "INCRBY", "n", "+1"),
    raw(Error(NO_INTEGER), "INCRBY", "n", ""),
    raw(Error("decrement would overflow"), "DECRBY", "n", "-9223372036854775808"),
    *(
        item
        for text in ("text", "1 ", " 1", "+1", "1e3", "", "01", "0x1", "9223372036854775808", "-0")
        for item in (step(True, "set", "t", text), raw(Error(NO_INTEGER), "INCR", "t"), step(text.encode(), "get", "t"))
    ),
]

KEYS = [
    step(True, "mset", {"a": "1", "b": "2", "c": "3", "key:1": "x", "key:2": "y"}),
    step(2, "exists", "a", "b", "none"),
    step(2, "exists", "a", "a"),
    step(b"string", "type", "a"),
    step(b"none", "type", "none"),
    step(5, "dbsize"),
    step([b"a", b"b", b"c", b"key:1", b"key:2"], "keys", "*"),
    step([b"key:1", b"key:2"], "keys", "key:?"),
    step([b"a", b"c"], "keys", "[^b]"),
    step(is_cursor_and_all({b"a", b"b", b"c", b"key:1", b"key:2"}), "scan", 0, count=100),
    step(is_cursor_and_all({b"key:1", b"key:2"}), "scan", 0, match="key:*", count=100),
    raw(Error("invalid cursor"), "SCAN", "x"),
    raw(Error("invalid cursor"), "SCAN", "-1"),
    raw(Error("invalid cursor"), "SCAN", 2**64),
    raw(Error(NO_SYNTAX), "SCAN", "0", "COUNT", "0"),
    raw(Error(NO_SYNTAX), "SCAN", "0", "MATCH"),
    raw([b"b", b"2", b"c", b"3"], "RANGE", "b", "d"),
    raw([b"a", b"1", b"b", b"2"], "RANGE", "-", "c"),
    raw([b"a", b"1"], "RANGE", "-", "+", "LIMIT", "1"),
    raw([], "RANGE", "x", "+"),
    raw(Error(NO_INTEGER), "RANGE", "-", "+", "LIMIT", "x"),
    step(2, "delete", "a", "b", "none"),
    step(1, "delete", "c", "c"),
    raw(arity("del"), "DEL"),
    step(2, "dbsize"),
    step(True, "flushdb"),
    step(0, "dbsize"),
    step(True, "set", "a", "1"),
    step(True, "flushall", asynchronous=True),
    step(None, "get", "a"),
    step([], "keys", "*"),
]

CONNECTION = [
    step(True, "ping"),
    raw(arity("ping"), "PING", "a", "b"),
    step(b"hello", "echo", "hello"),
    step(True, "select", 0),
    step(Error("DB index is out of range"), "select", 1),
    step(True, "client_setname", "me"),
    step(lambda got: got in (b"me", "me"), "client_getname"),
    raw(Error("Client names cannot contain spaces, newlines or special characters."), "CLIENT", "SETNAME", "a b"),
    step(lambda got: isinstance(got, int), "client_id"),
    step(lambda got: int(got["id"]) > 0 and got["name"] == "me", "client_info"),
    step(lambda got: any(each["name"] == "me" for each in got), "client_list"),
    step(True, "client_setinfo", "LIB-NAME", "tests"),
    raw(b"OK", "CLIENT", "NO-EVICT", "ON"),
    raw(b"OK", "CLIENT", "NO-TOUCH", "OFF"),
    raw(b"OK", "CLIENT", "REPLY", "ON"),
    raw(0, "CLIENT", "KILL", "ID", "999999999"),
    raw(lambda got: isinstance(got, redis.ResponseError), "CLIENT", "MAINT_NOTIFICATIONS", "ON"),
    raw(lambda got: len(got) > 2, "CLIENT", "HELP"),
    raw(lambda got: as_pairs(got)[b"proto"] in (2, 3), "HELLO"),
    raw(Error("NOPROTO unsupported protocol version"), "HELLO", "4"),
    step(True, "readonly"),
    step(None, "get", "nothing"),
    step(True, "readwrite"),
]

SERVER = [
    step(lambda got: got["leader"] in "ABC" and got["role"] in ("leader", "follower"), "info", "raft"),
    step(lambda got: got["loading"] == 0 and got["redis_version"].count(".") == 2, "info"),
    step(lambda got: got[0] in (b"master", b"slave", "master", "slave"), "role"),
    step(lambda got: got[0] > 1_700_000_000 and 0 <= got[1] < 1_000_000, "time"),
    step({"appendonly": "yes"}, "config_get", "appendonly"),
    step({"save": ""}, "config_get", "save"),
    step({}, "config_get", "no-such-setting"),
    step(lambda got: got["value_bytes_max"] == "16777216", "config_get", "*_bytes_max"),
    step(lambda got: got > 30, "command_count"),
    step(lambda got: {"get", "upd", "range"} <= {each.decode().lower() for each in got}, "command_list"),
    raw(lambda got: len(got) > 30, "COMMAND"),
    raw(lambda got: list(as_pairs(got)) == [b"upd"], "COMMAND DOCS", "UPD"),
    raw(lambda got: len(got) == 2, "COMMAND INFO", "GET", "NO-SUCH-COMMAND"),
    raw(lambda got: len(got) > 2, "COMMAND HELP"),
    raw(lambda got: len(got) > 2, "CONFIG HELP"),
    raw(lambda got: len(got) > 2, "DEBUG", "HELP"),
    raw(lambda got: len(got) > 8, "DEBUG", "DIGEST"),
    step(True, "set", "waited", "for"),
    step(lambda got: got in (1, 2), "wait", 1, 2000),
    step(lambda got: got in (0, 1, 2), "wait", 0, 100),
]

UNKNOWN = [
    raw(Error("unknown command 'NOSUCH', with args beginning with: "), "NOSUCH"),
    raw(Error("unknown command 'nosuch', with args beginning with: 'a' 'b c' "), "nosuch", "a", "b c"),
    raw(lambda got: str(got).startswith("unknown subcommand 'NOSUCH'"), "CLIENT", "NOSUCH"),
    raw(arity("client|setname"), "CLIENT", "SETNAME"),
    raw(arity("client"), "CLIENT"),
    raw(lambda got: str(got).startswith("unknown command 'a"), "a\r\nb"),
]

CONVERSATIONS = {
    "strings": STRINGS,
    "numbers": NUMBERS,
    "keys": KEYS,
    "connection": CONNECTION,
    "server": SERVER,
    "unknown": UNKNOWN,
}


@pytest.fixture(params=["leader", "follower"])
def node(request: pytest.FixtureRequest, shared: Cluster) -> str:
    leader = shared.wait_for_leader()
    return leader if request.param == "leader" else shared.followers()[0]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_sync(shared: Cluster, node: str, protocol: int, name: str) -> None:
    client = shared.client(node, protocol=protocol, single_connection_client=True)
    for each in CONVERSATIONS[name]:
        got: object
        try:
            got = getattr(client, each.method)(*each.arguments, **each.options)
        except redis.ResponseError as error:
            got = error
        each.check(got)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_asyncio(shared: Cluster, node: str, protocol: int, name: str) -> None:
    async def hold() -> None:
        host, port = shared.address(node)
        retry: Any = redis.asyncio.retry.Retry(NoBackoff(), 0)
        async with redis.asyncio.Redis(
            host=host, port=port, protocol=protocol, retry=retry, single_connection_client=True
        ) as client:
            for each in CONVERSATIONS[name]:
                got: object
                try:
                    got = getattr(client, each.method)(*each.arguments, **each.options)
                    if inspect.isawaitable(got):
                        got = await got
                except redis.ResponseError as error:
                    got = error
                each.check(got)

    asyncio.run(hold())


def test_no_command_is_left_out(shared: Cluster) -> None:
    """Each command of the table is part of a conversation above or named here, with the test that has it."""
    elsewhere = {"QUIT": "test_quit", "RESET": "test_reset"}
    names = {name.decode().upper() for name in shared.client("A").command_list()}
    said = set(elsewhere)
    for each in (each for steps in CONVERSATIONS.values() for each in steps):
        words = [each.method, *each.arguments] if each.method != "execute_command" else list(each.arguments)
        said.add(str(words[0]).upper().replace("DELETE", "DEL"))
        said.add(re.split("[_ ]", str(words[0]).upper())[0])
    containers = {name for name in names if "|" not in name}
    assert containers <= said, containers - said


@pytest.mark.parametrize("protocol", [2, 3])
def test_quit(shared: Cluster, node: str, protocol: int) -> None:
    """The replies that are due, OK, and the end; what came after it is not run."""
    with shared.connect(node) as connection:
        connection.send(b"HELLO %d\r\nSET quit 1\r\nQUIT\r\nSET quit 2\r\n" % protocol)
        assert connection.rest().endswith(b"+OK\r\n+OK\r\n")
    assert shared.client(node).get("quit") == b"1"


def test_reset(shared: Cluster, node: str) -> None:
    """The connection is as it was when it began: RESP2, no name, linearizable."""
    with shared.connect(node) as connection:
        connection.send(
            b"HELLO 3 SETNAME me\r\nREADONLY\r\nCLIENT REPLYSEQ ON\r\nRESET\r\nCLIENT GETNAME\r\nGET none\r\nQUIT\r\n"
        )
        assert connection.rest().endswith(b"+RESET\r\n$-1\r\n$-1\r\n+OK\r\n")


def test_client_reply(shared: Cluster, node: str) -> None:
    with shared.connect(node) as connection:
        connection.send(
            b"CLIENT REPLY SKIP\r\nSET a 1\r\nSET b 2\r\n"
            b"CLIENT REPLY OFF\r\nSET c 3\r\nPING\r\nGET c\r\nCLIENT REPLY ON\r\nMGET a b c\r\nQUIT\r\n"
        )
        assert connection.rest() == (b"+OK\r\n+OK\r\n*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n+OK\r\n")


def test_client_kill(shared: Cluster, node: str) -> None:
    victim = shared.client(node, single_connection_client=True)
    killer = shared.client(node)
    assert killer.execute_command("CLIENT", "KILL", "ID", victim.client_id()) == 1
    with pytest.raises(redis.ConnectionError):
        victim.get("key")
    with shared.connect(node) as connection:
        connection.send(b"CLIENT ID\r\n")
        connection.send(b"CLIENT KILL SKIPME NO ID %d\r\n" % int(connection.line()[1:]))
        assert connection.rest() == b":1\r\n", "its own connection, after the reply"


def test_scan_goes_through_everything(shared: Cluster, node: str) -> None:
    client = shared.client(node)
    names = {b"key%d" % number for number in range(2500)}
    client.mset({name.decode(): "v" for name in names})
    assert set(client.scan_iter(count=7)) == names
    assert set(client.scan_iter(match="key1*")) == {name for name in names if name.startswith(b"key1")}
    with pytest.raises(redis.ResponseError):
        client.execute_command("SCAN", 12345678901)
