"""What no client should send: an error, at worst the end of that connection, never more.

After each case the node must live, answer another client at once, and hold about as much memory as before.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.cluster.harness import Cluster

MIB = 1024 * 1024
MEMORY_MAX = 16 * MIB
PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"
PROTOCOL_ERROR = b"-ERR Protocol error: "

BROKEN = {
    "multibulk over 2**31": (b"*3000000000\r\n", b"invalid multibulk length"),
    "multibulk of a billion": (b"*1000000000\r\n", b"invalid multibulk length"),
    "multibulk of 2**63": (b"*9223372036854775808\r\n", b"invalid multibulk length"),
    "multibulk of 2**64+1": (b"*18446744073709551617\r\n", b"invalid multibulk length"),
    "multibulk below -2**63": (b"*-9223372036854775809\r\n", b"invalid multibulk length"),
    "multibulk of letters": (b"*blabla\r\n", b"invalid multibulk length"),
    "multibulk over the limit": (b"*1048577\r\n", b"invalid multibulk length"),
    "no bulk": (b"*1\r\nfoo\r\n", b"expected '$', got 'f'"),
    "no second bulk": (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", b"expected '$', got 'f'"),
    "nested arrays": (b"*1\r\n" * 100_000, b"expected '$', got '*'"),
    "negative bulk": (b"*1\r\n$-10\r\n", b"invalid bulk length"),
    "bulk of 2000000000": (b"*1\r\n$2000000000\r\n", b"invalid bulk length"),
    "bulk of 2**63": (b"*2\r\n$3\r\nGET\r\n$9223372036854775808\r\n", b"invalid bulk length"),
    "bulk of letters": (b"*1\r\n$blabla\r\n", b"invalid bulk length"),
    "bulk without number": (b"*1\r\n$\r\n", b"invalid bulk length"),
    "bulk with a space": (b"*1\r\n$ 4\r\nPING\r\n", b"invalid bulk length"),
    "bulk with a sign": (b"*1\r\n$+4\r\nPING\r\n", b"invalid bulk length"),
    "bulk with a zero before": (b"*1\r\n$04\r\nPING\r\n", b"invalid bulk length"),
    "bulk in hexadecimal": (b"*1\r\n$0x4\r\nPING\r\n", b"invalid bulk length"),
    "bulk that is longer": (b"*1\r\n$4\r\nPINGXX\r\n", b""),
    "endless multibulk count": (b"*" + b"1" * 70_000, b"too big mbulk count string"),
    "endless bulk count": (b"*1\r\n$" + b"1" * 70_000, b"too big bulk count string"),
    "endless inline": (b"A" * 70_000, b"too big inline request"),
    "unbalanced quotes": (b'SET key "value\r\n', b"unbalanced quotes in request"),
    "HTTP POST": (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "HTTP Host": (b"Host: 127.0.0.1\r\n", b""),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)), b""),
    "a peer": (b"\x00\x00\x00\x20\x96\xaakvnode peer\x01" + b"x" * 32, b""),
    "zeros": (b"\x00" * 1000, b""),
    **{f"RESP3 {kind}": (kind.encode() + b"9223372036854775807\r\n", b"") for kind in "%~>_(=|!,#"},
    "map in an array": (b"*2\r\n$3\r\nGET\r\n%1000000000\r\n", b"expected '$', got '%'"),
}

REFUSED = [
    (b"GET\r\n", b"-ERR wrong number of arguments for 'get' command"),
    (b"GET a b\r\n", b"-ERR wrong number of arguments for 'get' command"),
    (b"set a\r\n", b"-ERR wrong number of arguments for 'set' command"),
    (b"NOSUCH a 'b c'\r\n", b"-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b c' "),
    (b"*1\r\n$0\r\n\r\n", b"-ERR unknown command '', with args beginning with: "),
    (b"SELECT 1\r\n", b"-ERR DB index is out of range"),
    (b"SELECT x\r\n", b"-ERR value is not an integer or out of range"),
    (b"HELLO 99\r\n", b"-NOPROTO unsupported protocol version"),
    (b"HELLO x\r\n", b"-ERR Protocol version is not an integer or out of range"),
    (b"INCRBY a 9223372036854775808\r\n", b"-ERR value is not an integer or out of range"),
    (b"SCAN -1\r\n", b"-ERR invalid cursor"),
    (b"SCAN 0 COUNT -1\r\n", b"-ERR syntax error"),
    (b"WAIT x 1\r\n", b"-ERR value is not an integer or out of range"),
    (b"WAIT 1 -1\r\n", b"-ERR timeout is negative"),
    (b"SET a b GARBAGE\r\n", b"-ERR syntax error"),
    (b"CLIENT REPLY MAYBE\r\n", b"-ERR syntax error"),
    (b"CLIENT NOSUCH\r\n", b"-ERR unknown subcommand"),
    (b"CONFIG SET a b\r\n", b"-ERR unknown subcommand"),
    (b"MSET a\r\n", b"-ERR wrong number of arguments for 'mset' command"),
]


@pytest.fixture(params=["leader", "follower"])
def node(request: pytest.FixtureRequest, shared: Cluster) -> Iterator[str]:
    """A node that must be as well after the test as before it."""
    id = shared.wait_for_leader() if request.param == "leader" else shared.followers()[0]
    shared.client(id).set("well", "1")
    before = shared.resident_bytes(id)
    yield id
    with shared.connect(id) as other:
        other.ask(PING)
        began = time.monotonic()
        assert other.ask(PING) == PONG
        assert time.monotonic() - began < 0.5
    assert shared.client(id).get("well") == b"1"
    assert shared.resident_bytes(id) - before < MEMORY_MAX


def test_broken_framing(shared: Cluster, node: str) -> None:
    """The commands before it are answered, then the error, then the end; whoever else is connected notices nothing."""
    with shared.connect(node) as other:
        for name, (data, text) in BROKEN.items():
            for before in (b"", PING + b"GET well\r\n"):
                with shared.connect(node) as connection:
                    connection.send(before + data)
                    answer = connection.rest()
                expected = (PONG + b"$1\r\n1\r\n" if before else b"") + PROTOCOL_ERROR + text
                assert answer.startswith(expected), (name, answer)
                assert answer.endswith(b"\r\n"), name
                assert answer.count(b"-ERR") == 1, name
            assert other.ask(PING) == PONG, name


def test_what_is_passed_over(shared: Cluster, node: str) -> None:
    """Empty lines and empty arrays are no requests and no errors."""
    with shared.connect(node) as connection:
        for data in (b"\r\n", b"\n", b"*0\r\n", b"*-1\r\n", b"*-10\r\n", b"   \r\n", b"\r\n\r\n*0\r\n"):
            assert connection.ask(data + PING) == PONG, data


def test_refused_commands(shared: Cluster, node: str) -> None:
    """Redis's texts, and the connection stays usable."""
    with shared.connect(node) as connection:
        for data, text in REFUSED:
            answer = connection.ask(data)
            assert answer.startswith(text), (data, answer)
        assert connection.ask(PING) == PONG
        connection.send(b"".join(data for data, _ in REFUSED))
        for data, text in REFUSED:
            assert connection.line().startswith(text), data
        assert connection.ask(PING) == PONG


def test_errors_are_one_line(shared: Cluster, node: str) -> None:
    """What is echoed can not split a reply or move a cursor, and is not as long as what was sent."""
    with shared.connect(node) as connection:
        for name in (b"a\r\n+OK\r\nb", b"\x1b[2J", b"\x00\x07", b"x" * MIB, b"\xff\xfe"):
            answer = connection.ask(b"*2\r\n$%d\r\n%b\r\n$3\r\n\r\n-\r\n" % (len(name), name))
            assert answer.startswith(b"-ERR unknown command '")
            assert len(answer) < 600
            assert answer[:-2].isascii()
            assert answer[:-2].decode().isprintable()
            assert connection.ask(PING) == PONG


def test_announced_and_never_sent(shared: Cluster, node: str) -> None:
    """Nothing is kept ready for what has only been announced."""
    before = shared.resident_bytes(node)
    announced = [
        b"*1048576\r\n",
        b"*1\r\n$536870912\r\n",
        b"*2\r\n$3\r\nGET\r\n$33554432\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$16777216\r\n" + b"x" * 1000,
        b"*1048576\r\n" + b"$1\r\nx\r\n" * 100,
    ]
    connections = []
    try:
        for data in announced * 20:
            connections.append(shared.connect(node))
            connections[-1].send(data)
        with shared.connect(node) as other:
            assert other.ask(PING) == PONG
            assert other.ask(b"SET other 1\r\n") == b"+OK\r\n"
        assert shared.resident_bytes(node) - before < MEMORY_MAX
    finally:
        for connection in connections:
            connection.close()


def test_noise(shared: Cluster, node: str) -> None:
    """Bytes of any kind: an answer or an end."""
    rng = random.Random(4)
    alphabet = [
        b"*",
        b"$",
        b"\r\n",
        b"\r",
        b"\n",
        b"1",
        b"3",
        b"-1",
        b"GET",
        b"SET",
        b"well",
        b'"',
        b"\x00",
        b"\xff",
        b" ",
    ]
    for _ in range(150):
        size = rng.randrange(1, 60)
        data = rng.randbytes(size) if rng.random() < 0.3 else b"".join(rng.choices(alphabet, k=size))
        with shared.connect(node) as connection:
            connection.send(data)
            connection.send_end()
            answer = connection.rest()
        assert not answer or answer[:1] in b"+-$:*", (data, answer)


def test_half_a_command_and_the_end(shared: Cluster, node: str) -> None:
    for _ in range(100):
        with shared.connect(node) as connection:
            connection.send(PING + b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$100\r\nxxx")
            connection.send_end()
            assert connection.rest() == PONG
    assert shared.client(node).get("half") is None


def test_resets_in_the_middle(shared: Cluster, node: str) -> None:
    """Clients that vanish with commands under way."""
    for number in range(200):
        connection = shared.connect(node)
        connection.send(b"SET reset %d\r\nGET reset\r\n" % number * 20 + b"*3\r\n$3\r\nSET\r\n")
        connection.close()
    assert shared.client(node).ping()
    shared.wait_until_equal()


# Sizes


def set_request(key: bytes, value: bytes) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)


@pytest.mark.parametrize("at", ["leader", "follower"])
def test_sizes_up_to_the_caps(shared: Cluster, at: str) -> None:
    id = shared.wait_for_leader() if at == "leader" else shared.followers()[0]
    client: Any = shared.client(id, single_connection_client=True, socket_timeout=20)
    value = random.Random(5).randbytes(16 * MIB)
    key = b"k" * (64 * 1024)
    assert client.set("big", value)
    assert client.set(key, "long key")
    for other in shared.ids:
        assert shared.client(other, socket_timeout=20).get("big") == value
        assert shared.client(other).get(key) == b"long key"
    connection_id = client.client_id()
    with pytest.raises(redis.ResponseError, match=r"value is too long \(16777217 bytes, the limit is 16777216"):
        client.set("big", value + b"x")
    with pytest.raises(redis.ResponseError, match=r"key is too long \(65537 bytes, the limit is 65536"):
        client.set(key + b"k", "x")
    with pytest.raises(redis.ResponseError, match="value is too long"):
        client.append("big", "x")
    with pytest.raises(redis.ResponseError, match="request is too large"):
        client.mset({"big1": value, "big2": value[:-1], "big3": "x" * 1000})
    assert client.mset({"big1": value, "big2": value[: 15 * MIB]})
    assert client.mget("big1", "big2") == [value, value[: 15 * MIB]]
    assert client.strlen("big") == 16 * MIB
    assert client.client_id() == connection_id, "the connection has stayed"
    assert client.delete("big", "big1", "big2", "big3", key) == 4
    shared.wait_until_equal()


def test_a_request_over_the_cap_is_read_to_its_end(shared: Cluster, node: str) -> None:
    """The commands before and after it are answered; its bytes are not kept."""
    before = shared.resident_bytes(node)
    with shared.connect(node, timeout_s=30) as connection:
        connection.send(PING + b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (100 * MIB))
        for _ in range(100):
            connection.send(b"x" * MIB)
            assert shared.resident_bytes(node) - before < 3 * MEMORY_MAX
        connection.send(b"\r\n" + PING)
        assert connection.line() == PONG
        assert connection.line().startswith(b"-ERR request is too large")
        assert connection.line() == PONG


def test_many_arguments(shared: Cluster, node: str) -> None:
    count = 200_000
    client = shared.client(node, socket_timeout=20)
    assert client.exists(*["well"] * count) == count
    assert client.mget(*["well"] * 1000) == [b"1"] * 1000


def test_pattern_bombs(shared: Cluster, node: str) -> None:
    """They take no longer than any pattern, and nobody waits for them."""
    client = shared.client(node, socket_timeout=10)
    client.mset({f"{'a' * 200}{number}": "v" for number in range(200)})
    began = time.monotonic()
    assert client.keys("a*" * 50 + "b") == []
    assert client.keys("*a" * 500 + "b") == []
    assert client.scan(0, match="[a-" * 300, count=1000)[1] == []
    assert time.monotonic() - began < 2
    with pytest.raises(redis.ResponseError, match="pattern is too long"):
        client.keys("*a" * 5000 + "b")
