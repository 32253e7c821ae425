"""What no member should send: the link is dropped with one line in the log, and the node goes on."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from kvnode.log.identity import cluster_id
from kvnode.net.frames import frame
from kvnode.node.wire import MAGIC, VERSION
from tests.cluster.harness import Cluster, eventually
from tests.cluster.wire import Wire

MIB = 1024 * 1024
DROPPED = 'event="link dropped"'
IDENTITY = cluster_id(("A", "B", "C"), "")


def length(size: int) -> bytes:
    return struct.pack(">I", size)


def body(data: bytes) -> bytes:
    return length(len(data)) + data


def hello(
    magic: Any = MAGIC,
    version: Any = VERSION,
    cluster: Any = IDENTITY,
    sender: Any = "C",
    receiver: Any = "A",
    lane: Any = "data",
) -> bytes:
    return frame([magic, version, cluster, sender, receiver, lane])


BEFORE_THE_HANDSHAKE = {
    "RESP": b"*1\r\n$4\r\nPING\r\n",
    "inline": b"PING\r\n",
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "zeros": b"\x00" * 64,
    "length 2**32-1": b"\xff\xff\xff\xff",
    "length 64 MiB": length(64 * MIB),
    "no array": body(msgpack.packb({"a": 1})),
    "empty array": body(b"\x90"),
    "more than one": body(b"\x90\x90"),
    "less than one": body(b"\x96\xa1"),
    "never used": body(b"\xc1"),
    "nesting": body(b"\x91" * 1000),
    "announced array": body(b"\xdd\x00\x0f\xff\xff" * 100),
    "announced map": body(b"\xdf\xff\xff\xff\xff"),
    "announced bytes": body(b"\xc6\xff\xff\xff\xff"),
    "announced extension": body(b"\xc9\xff\xff\xff\xff\x01"),
    "timestamp": body(b"\x91\xd6\xff\x00\x00\x00\x00"),
    "invalid UTF-8": body(b"\x91\xa2\xff\xfe"),
    "pickle": body(b"\x80\x04\x95\x10\x00\x00\x00"),
    "wrong magic": hello(magic="other peer"),
    "wrong version": hello(version=2**40),
    "no version": hello(version=None),
    "another cluster": hello(cluster="0" * 32),
    "cluster of another type": hello(cluster=7),
    "for another member": hello(receiver="B"),
    "from itself": hello(sender="A"),
    "from a stranger": hello(sender="Z"),
    "from a list": hello(sender=["C"]),
    "unknown lane": hello(lane="express"),
}

AFTER_THE_HANDSHAKE = {
    "length 0": length(0),
    "length 2**32-1": b"\xff\xff\xff\xff",
    "no message": body(b"\x90"),
    "unknown type": frame([99, 1, 2, 3]),
    "type true": frame([True, 1, 2, 3, 4, 5, 6, 7, b""]),
    "type negative": frame([-1, 1]),
    "append without fields": frame([0, 1]),
    "append with text": frame([0, "1", 0, 0, 0, 0, 0, 0, b""]),
    "append with a float": frame([0, 1.0, 0, 0, 0, 0, 0, 0, b""]),
    "append with true": frame([0, True, 0, 0, 0, 0, 0, 0, b""]),
    "append of term 2**63": frame([0, 2**63, 0, 0, 0, 0, 0, 0, b""]),
    "append of term 2**64-1": frame([0, 2**64 - 1, 0, 0, 0, 0, 0, 0, b""]),
    "append with negative term": frame([0, -1, 0, 0, 0, 0, 0, 0, b""]),
    "append with text for records": frame([0, 1, 0, 0, 0, 0, 0, 0, "records"]),
    "heartbeat on the data lane": frame([2, 1, 0, 0, False]),
    "forward without requests": frame([18, 1]),
    "forward with nonsense": frame([18, 1, [[1, 2, 3]]]),
    "forward of nothing": frame([18, 1, [[1, 2, False, 0, 1000, []]]]),
    "forward of numbers": frame([18, 1, [[1, 2, False, 0, 1000, [[1, 2]]]]]),
    "outcomes of nonsense": frame([19, [[1]]]),
    "nesting": body(b"\x91" * 100_000),
    "announced arrays": body(b"\xdd\x00\x0f\xff\xff" * 500),
}


@pytest.fixture(scope="module")
def _pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A and B run, A's peer port can be talked to as C."""
    cluster = Cluster(tmp_path_factory.mktemp("peers") / "cluster")
    try:
        cluster.start()
        cluster.wait_until_all_vote()
        cluster.wait_for_leader()
        cluster.stop("C")
        cluster.wait_for_leader()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def pair(_pair: Cluster) -> Iterator[Cluster]:
    """A must be as well after the test as before it."""
    pid, before, term = _pair.pid("A"), _pair.resident_bytes("A"), _pair.info("A")["term"]
    yield _pair
    assert _pair.running == ["A", "B"]
    assert _pair.pid("A") == pid
    assert _pair.client("A").set("well", "1")
    assert _pair.info("A")["term"] == term, "whoever led has gone on"
    assert _pair.resident_bytes("A") - before < 16 * MIB
    _pair.wait_until_equal()


def dropped(cluster: Cluster) -> int:
    return cluster.log_text("A").count(DROPPED)


def check_dropped(cluster: Cluster, connection: Wire, data: bytes, name: str) -> None:
    """The node closes the connection, and tells so in exactly one line."""
    lines = dropped(cluster)
    connection.send(data)
    connection.rest()
    eventually(lambda: dropped(cluster) > lines, f"{name}: a line in the log", 5)
    assert dropped(cluster) == lines + 1, name


def test_before_the_handshake(pair: Cluster) -> None:
    for name, data in BEFORE_THE_HANDSHAKE.items():
        with pair.connect_to_peer_port("A") as connection:
            check_dropped(pair, connection, data, name)


def test_after_the_handshake(pair: Cluster) -> None:
    for name, data in AFTER_THE_HANDSHAKE.items():
        with pair.connect_to_peer_port("A") as connection:
            connection.send(hello())
            size = struct.unpack(">I", connection.take(4))[0]
            assert msgpack.unpackb(connection.take(size))[0] == "welcome", name
            check_dropped(pair, connection, data, name)


def test_in_pieces_and_at_once(pair: Cluster) -> None:
    """A handshake byte by byte, and one with its first message in the same bytes."""
    with pair.connect_to_peer_port("A") as connection:
        for byte in hello():
            connection.send(bytes((byte,)))
        assert connection.take(4)
        check_dropped(pair, connection, length(0), "in pieces")
    with pair.connect_to_peer_port("A") as connection:
        check_dropped(pair, connection, hello() + frame([99]), "at once")


def test_silence(pair: Cluster) -> None:
    """Who does not finish the handshake is dropped after a while."""
    lines = dropped(pair)
    quiet = [pair.connect_to_peer_port("A") for _ in range(3)]
    quiet[1].send(length(100) + b"x" * 50)
    quiet[2].send(hello()[:10])
    try:
        for connection in quiet:
            assert connection.rest() == b""
    finally:
        for connection in quiet:
            connection.close()
    eventually(lambda: dropped(pair) == lines + 3, "three lines in the log")


def test_announced_and_never_sent(pair: Cluster) -> None:
    """A member may announce a frame as large as a record: nothing is kept ready for it."""
    before = pair.resident_bytes("A")
    connections = []
    try:
        for _ in range(20):
            connections.append(pair.connect_to_peer_port("A"))
            connections[-1].send(hello())
            assert connections[-1].take(4)
            connections[-1].send(length(100 * MIB) + b"x" * 100)
        assert pair.client("A").set("key", "value")
        assert pair.resident_bytes("A") - before < 16 * MIB
    finally:
        for connection in connections:
            connection.close()


def test_another_cluster_in_earnest(pair: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A node of another cluster that was given the wrong address dials for ever: one line each time, at most."""
    other = Cluster(tmp_path_factory.mktemp("other") / "cluster")
    other.peer_ports["B"] = pair.peer_ports["B"]
    other.options["cluster_name"] = "another"
    other.client_ports["B"] = pair.client_ports["B"]
    try:
        other.start("A")
        eventually(lambda: "refused by member" in other.log_text("A"), "it is told why")
        assert other.log_text("A").count("refused by member") == 1
        assert "another cluster" in other.log_text("A")
    finally:
        other.close()
    assert "another cluster" in pair.log_text("B")
