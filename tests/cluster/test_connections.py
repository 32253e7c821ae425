"""Many connections, and clients that do not read, or read slowly: nobody else notices."""

from __future__ import annotations

import random
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.cluster.conftest import started
from tests.cluster.harness import Cluster, eventually, node_environment
from tests.cluster.wire import Wire

MIB = 1024 * 1024
PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3000:
        pytest.skip(f"this process may have {hard} files alone: ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(params=["leader", "follower"])
def node(request: pytest.FixtureRequest, shared: Cluster) -> str:
    return shared.wait_for_leader() if request.param == "leader" else shared.followers()[0]


def slowest_s(cluster: Cluster, node: str, count: int = 50) -> float:
    """How long the slowest of some writes and reads of a well-behaved client takes."""
    client, slowest = cluster.client(node), 0.0
    client.ping()
    for number in range(count):
        began = time.monotonic()
        client.set("neighbour", number)
        assert client.get("neighbour") == b"%d" % number
        slowest = max(slowest, time.monotonic() - began)
    return slowest


@pytest.mark.alone
def test_a_thousand_idle_connections(shared: Cluster, node: str) -> None:
    before = shared.resident_bytes(node)
    began = time.monotonic()
    idle = [shared.connect(node) for _ in range(1000)]
    try:
        assert time.monotonic() - began < 1, "a full queue of connections costs a second each time"
        for connection in idle:
            connection.send(PING)
        assert all(connection.line() == PONG for connection in idle)
        assert shared.info(node, "clients")["connected_clients"] >= 1000
        assert slowest_s(shared, node) < 1
        assert shared.resident_bytes(node) - before < 64 * MIB
        assert all(connection.ask(PING) == PONG for connection in idle[::100]), "they have stayed"
    finally:
        for connection in idle:
            connection.close()
    eventually(lambda: shared.info(node, "clients")["connected_clients"] < 100, "they are forgotten")


def test_more_clients_than_allowed(make_cluster: Callable[..., Cluster]) -> None:
    cluster = started(make_cluster("A", {"clients_max": 20}))
    crowd = [cluster.connect("A") for _ in range(30)]
    try:
        answers = [connection.ask(PING) for connection in crowd]
        refused = [answer for answer in answers if answer != PONG]
        assert 10 <= len(refused) <= 12
        assert set(refused) == {b"-ERR max number of clients reached\r\n"}
    finally:
        for connection in crowd:
            connection.close()
    client = cluster.client("A")

    def is_let_in() -> bool:
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.ResponseError):
            return False

    eventually(is_let_in, "there is room again")


def test_clients_leave_descriptors_to_the_log(make_cluster: Callable[..., Cluster]) -> None:
    """More clients than there may be open files: the log makes its next segments all the same."""
    cluster = make_cluster("A", {"segment_bytes": 4096})
    cluster.prefixes["A"] = ["prlimit", "--nofile=150:150"]
    started(cluster)
    writer = cluster.client("A")
    writer.set("first", "1")
    crowd = [cluster.connect("A") for _ in range(200)]
    try:
        assert PONG in [connection.ask(PING) for connection in crowd]
        for number in range(200):
            writer.set(f"key{number}", "x" * 100)
        assert len(list(cluster.data("A").glob("*.log"))) > 3
        assert cluster.running == ["A"]
        assert "clients_max=50" in cluster.log_text("A")
    finally:
        for connection in crowd:
            connection.close()


def slow_wire(cluster: Cluster, node: str) -> Wire:
    """A connection with a small receive buffer, so that the node notices soon that it is not read."""
    connection = Wire.__new__(Wire)
    connection.socket = socket.socket()
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    connection.socket.settimeout(20)
    connection.socket.connect(cluster.address(node))
    connection._stream = connection.socket.makefile("rb")
    return connection


@pytest.mark.alone
def test_a_client_that_does_not_read_large_values(shared: Cluster, node: str) -> None:
    """1000 times a value of 1 MiB is asked for and not taken: the node keeps a few of them, not all."""
    value = random.Random(6).randbytes(MIB)
    shared.client(node).set("large", value)
    before = shared.resident_bytes(node)
    with slow_wire(shared, node) as connection:
        connection.send(b"GET large\r\n" * 1000)
        worst = 0
        for _ in range(20):
            assert slowest_s(shared, node, 10) < 1
            worst = max(worst, shared.resident_bytes(node) - before)
        assert worst < 64 * MIB, f"{worst / MIB:.0f} MiB for one client that does not read"
        # Now it reads: what it gets is right, up to where its time was up or it was cut off.
        answered = 0
        while line := connection.line():
            if line.startswith(b"-CLUSTERDOWN"):
                break
            assert line == b"$%d\r\n" % MIB
            assert connection.take(MIB + 2) == value + b"\r\n"
            answered += 1
            if answered == 200:
                break
        assert answered >= 1
    shared.client(node).delete("large")


def test_large_replies_in_a_pipeline(shared: Cluster, node: str) -> None:
    """A client that asks for far more than a node may keep, and reads it as it comes, gets all of it."""
    value = random.Random(8).randbytes(MIB)
    shared.client(node).set("large", value)
    count = 200
    with shared.connect(node, timeout_s=20) as connection:
        connection.send(b"GET large\r\n" * count + b"QUIT\r\n")
        for number in range(count):
            assert connection.line() == b"$%d\r\n" % MIB, number
            assert connection.take(MIB + 2) == value + b"\r\n", number
        assert connection.rest() == b"+OK\r\n"
    assert "cut off" not in shared.log_text(node)
    shared.client(node).delete("large")


def test_reads_that_can_not_be_confirmed_take_no_room(cluster: Cluster) -> None:
    """While the leader can not reach anybody, one client asks for 3 GiB: they are not made ready."""
    leader, others = cluster.wait_for_leader(), cluster.followers()
    cluster.client(leader).set("large", "x" * MIB)
    cluster.wait_until_equal()
    before = cluster.peak_bytes(leader)
    for id in others:
        cluster.send_signal(id, signal.SIGSTOP)
    try:
        with cluster.connect(leader) as connection:
            connection.send(b"GET large\r\n" * 3000)
            eventually(lambda: cluster.info(leader)["role"] != "leader", "it steps down")
            more = cluster.peak_bytes(leader) - before
            assert more < 64 * MIB, f"{more / MIB:.0f} MiB"
    finally:
        for id in others:
            cluster.send_signal(id, signal.SIGCONT)
    cluster.wait_for_leader()
    cluster.wait_until_equal()


@pytest.mark.alone
def test_a_client_that_does_not_read_small_replies(shared: Cluster, node: str) -> None:
    """It sends pings for as long as anybody takes them, and reads none of the answers."""
    before = shared.resident_bytes(node)
    with slow_wire(shared, node) as connection:
        connection.socket.settimeout(1.0)
        sent = 0
        chunk = PING * 5000
        try:
            while sent < 64 * MIB:
                sent += connection.socket.send(chunk)
        except (TimeoutError, ConnectionResetError, BrokenPipeError):
            pass
        assert sent < 64 * MIB, "somebody has taken it all"
        assert slowest_s(shared, node) < 1
        assert shared.resident_bytes(node) - before < 96 * MIB


def test_a_client_that_reads_slowly_gets_everything(shared: Cluster, node: str) -> None:
    """Replies of 20 MiB through a small window, while it goes on sending."""
    value = random.Random(7).randbytes(100 * 1024)
    shared.client(node).set("medium", value)
    count = 200
    reply = b"$%d\r\n%b\r\n" % (len(value), value)
    with slow_wire(shared, node) as connection:

        def send() -> None:
            for _ in range(count):
                connection.send(b"*2\r\n$3\r\nGET\r\n$6\r\nmedium\r\n" + PING)

        thread = threading.Thread(target=send)
        thread.start()
        for _ in range(count):
            assert connection.take(len(reply)) == reply
            assert connection.line() == PONG
        thread.join(20)
        assert not thread.is_alive()


def test_a_log_that_nobody_reads(make_cluster: Callable[..., Cluster]) -> None:
    """A full pipe on standard error stops the lines, not the node."""
    cluster = make_cluster("A")
    process = subprocess.Popen(
        cluster.command("A"), stderr=subprocess.PIPE, cwd=cluster.directory, env=node_environment()
    )
    try:
        eventually(lambda: (cluster.maybe_info("A") or {}).get("role") == "leader", "it leads", 20)
        for _ in range(1000):  # a line for each: more than a pipe holds
            with cluster.connect("A") as connection:
                connection.send(b"*x\r\n")
                assert connection.rest().startswith(b"-ERR Protocol error")
        assert cluster.client("A").set("key", "value")
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


@pytest.mark.alone
def test_writes_that_nobody_waits_for(shared: Cluster, node: str) -> None:
    """A client that sends 20 MiB of writes, then closes without reading: the node and its neighbours are well."""
    value = b"x" * 10_000
    with shared.connect(node) as connection:
        for number in range(2000):
            connection.send(
                b"*3\r\n$3\r\nSET\r\n$%d\r\nk%d\r\n$10000\r\n%b\r\n" % (len(str(number)) + 1, number, value)
            )
    assert slowest_s(shared, node) < 1.5
    shared.wait_until_equal()


@pytest.mark.alone
def test_long_reads_hold_up_nobody(shared: Cluster, node: str) -> None:
    """Reads of the whole key space are done in slices: none takes 50 ms, four times that is for a busy machine."""
    loader = shared.client(shared.wait_for_leader(), socket_timeout=20)
    count = 400_000
    for start in range(0, count, 4000):
        loader.mset({f"key{number:07}": "value" for number in range(start, start + 4000)})
    shared.wait_until_equal()
    waits: dict[str, float] = {}
    doing, ends = ["nothing"], threading.Event()

    def ping() -> None:
        with shared.connect(node) as neighbour:
            while not ends.is_set():
                name, began = doing[0], time.monotonic()
                assert neighbour.ask(PING) == PONG
                waits[name] = max(waits.get(name, 0.0), time.monotonic() - began)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        for command in (
            "DBSIZE",
            "DEBUG DIGEST",
            "KEYS *7777*",
            "KEYS *",
            "RANGE - +",
            "SCAN 0 COUNT 400000",
            "FLUSHALL",
        ):
            doing[0] = command
            with shared.connect(node, timeout_s=20) as connection:
                connection.send(command.encode() + b"\r\nQUIT\r\n")
                received = connection.rest()
            assert received[:1] in b"*:+$"
            doing[0] = "nothing"
    finally:
        ends.set()
        thread.join(20)
    long = {name: f"{wait_s * 1000:.0f} ms" for name, wait_s in waits.items() if wait_s > 0.2}
    assert not long
