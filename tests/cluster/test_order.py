"""The order of commands and replies, reads that see every write before them, and the numbers that tell when."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from tests.cluster.harness import Cluster
from tests.cluster.load import load


@pytest.fixture(params=["leader", "follower"])
def node(request: pytest.FixtureRequest, shared: Cluster) -> str:
    return shared.wait_for_leader() if request.param == "leader" else shared.followers()[0]


def bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def test_a_pipeline_is_answered_in_order(shared: Cluster, node: str) -> None:
    """Reads, writes, commands of the node and errors, mixed by chance: each sees what went before it."""
    rng = random.Random(1)
    model: dict[bytes, bytes] = {}
    sent: list[bytes] = []
    expected: list[bytes] = []
    for number in range(3000):
        key, value = b"key%d" % rng.randrange(20), b"value%d" % number
        match rng.randrange(8):
            case 0 | 1:
                sent.append(b"SET %b %b" % (key, value))
                expected.append(b"+OK\r\n")
                model[key] = value
            case 2 | 3:
                sent.append(b"GET %b" % key)
                expected.append(bulk(model.get(key)))
            case 4:
                sent.append(b"DEL %b" % key)
                expected.append(b":%d\r\n" % (model.pop(key, None) is not None))
            case 5:
                sent.append(b"ECHO %b" % value)
                expected.append(bulk(value))
            case 6:
                sent.append(b"DBSIZE")
                expected.append(b":%d\r\n" % len(model))
            case 7:
                sent.append(b"UPD %b %b" % (key, value))
                expected.append(b"+OK\r\n" if key in model else b"-ERR no such key\r\n")
                if key in model:
                    model[key] = value
    data = b"".join(command + b"\r\n" for command in sent) + b"QUIT\r\n"
    with shared.connect(node) as connection:
        thread = threading.Thread(target=connection.send, args=(data,))
        thread.start()
        replies = connection.rest()
        thread.join()
    assert replies == b"".join(expected) + b"+OK\r\n"
    shared.wait_until_equal()


def test_pieces_of_any_size(shared: Cluster, node: str) -> None:
    """The same bytes in pieces of any size are the same commands."""
    rng = random.Random(2)
    data = b"".join(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$%d\r\n%b\r\nGET key\r\n" % (n, b"x" * n) for n in range(1, 80))
    with shared.connect(node) as connection:
        position = 0
        while position < len(data):
            size = rng.choice((1, 2, 3, 7, 100, 1000))
            connection.send(data[position : position + size])
            position += size
        connection.send_end()
        assert connection.rest() == b"".join(b"+OK\r\n" + bulk(b"x" * n) for n in range(1, 80))


def test_one_byte_at_a_time(shared: Cluster, node: str) -> None:
    with shared.connect(node) as connection:
        for byte in b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n\r\nGET a\r\n":
            connection.send(bytes((byte,)))
        connection.send_end()
        assert connection.rest() == b"+OK\r\n" + bulk(b"\r\n")


def test_what_was_acknowledged_is_read_everywhere(shared: Cluster) -> None:
    """A write at any node, then at once a read at any other, again and again."""
    rng = random.Random(3)
    clients = {id: shared.client(id) for id in shared.ids}
    for number in range(300):
        writer, reader = rng.sample(shared.ids, 2)
        assert clients[writer].set("key", number)
        assert clients[reader].get("key") == b"%d" % number


def test_values_never_go_back(shared: Cluster) -> None:
    """While a counter runs at one node, what any node reads never falls behind what was read before anywhere."""
    highest, faults, ends = [0], [], threading.Event()
    lock = threading.Lock()

    def read(id: str) -> None:
        client = shared.client(id)
        while not ends.is_set():
            with lock:
                floor = highest[0]
            value = int(client.get("counter") or 0)
            if value < floor:
                faults.append((id, value, floor))
            with lock:
                highest[0] = max(highest[0], value)

    threads = [threading.Thread(target=read, args=(id,)) for id in shared.ids for _ in range(2)]
    for thread in threads:
        thread.start()
    writer = shared.client(shared.followers()[0])
    try:
        for _ in range(500):
            count = writer.incr("counter")
            with lock:
                highest[0] = max(highest[0], count)
    finally:
        ends.set()
        for thread in threads:
            thread.join(20)
    assert not faults
    assert highest[0] == 500


# CLIENT REPLYSEQ


def test_replyseq(shared: Cluster, node: str) -> None:
    """Each reply tells the seq at which it took effect: a write its own, a read one at which it is the truth."""
    client: Any = shared.client(node, single_connection_client=True, protocol=2)
    client.response_callbacks.clear()
    client.execute_command("CLIENT", "REPLYSEQ", "ON")

    def ask(*words: object) -> tuple[int, Any]:
        seq, reply = client.execute_command(*words)
        return seq, reply

    first, reply = ask("SET", "key", "1")
    assert reply == b"OK"
    assert ask("SET", "key", "2") == (first + 1, b"OK")
    assert ask("GET", "key") == (first + 1, b"2")
    assert ask("MSET", "a", "1", "b", "2") == (first + 2, b"OK")
    assert ask("INCR", "a") == (first + 3, 2)
    seq, reply = ask("UPD", "missing", "x")
    assert seq == first + 3
    assert str(reply) == "no such key"
    assert ask("DEL", "missing") == (first + 3, 0)
    assert ask("SET", "key", "3", "NX") == (first + 3, None)
    assert ask("DBSIZE") == (first + 3, 3)
    assert ask("PING")[1] == b"PONG"
    assert shared.info(shared.wait_for_leader())["last_seq"] == first + 3
    pipeline = client.pipeline(transaction=False)  # has a connection of its own
    pipeline.execute_command("CLIENT", "REPLYSEQ", "ON")
    for number in range(50):
        pipeline.execute_command("SET", "key", number)
        pipeline.execute_command("GET", "key")
    answers = pipeline.execute()[1:]
    assert [seq for seq, _ in answers[::2]] == list(range(first + 4, first + 54))
    assert [answer[1] for answer in answers[1::2]] == [b"%d" % number for number in range(50)]
    assert all(write[0] <= read[0] for write, read in zip(answers[::2], answers[1::2], strict=True))


def test_replyseq_numbers_are_those_of_the_log(shared: Cluster) -> None:
    """Writers at all nodes: no two writes have the same seq, and each finds its own value there."""
    seen: dict[int, bytes] = {}
    lock = threading.Lock()

    def write(id: str) -> None:
        client: Any = shared.client(id, single_connection_client=True, protocol=2)
        client.response_callbacks.clear()
        client.execute_command("CLIENT", "REPLYSEQ", "ON")
        for number in range(200):
            seq, reply = client.execute_command("SET", f"{id}{number}", "v")
            assert reply == b"OK"
            with lock:
                assert seq not in seen, "two writes at one seq"
                seen[seq] = b"%b%d" % (id.encode(), number)

    threads = [threading.Thread(target=write, args=(id,)) for id in shared.ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(seen) == 600
    assert max(seen) == shared.info(shared.wait_for_leader())["last_seq"]  # a follower may trail
    assert max(seen) - min(seen) == 599
    shared.wait_until_equal()


# WAIT


def test_wait(shared: Cluster, node: str) -> None:
    client = shared.client(node, single_connection_client=True)
    client.set("key", "value")
    began = time.monotonic()
    assert client.wait(1, 3000) >= 1
    assert client.wait(2, 3000) == 2
    assert time.monotonic() - began < 2
    began = time.monotonic()
    assert client.wait(3, 300) == 2, "there are two members beside the leader"
    assert 0.25 < time.monotonic() - began < 1.5


def test_wait_counts_members_that_are_there(cluster: Cluster) -> None:
    gone, node = cluster.followers()
    for id in (cluster.wait_for_leader(), node):
        assert cluster.client(id, single_connection_client=True).wait(2, 1000) == 2
    cluster.kill(gone)
    for id in (cluster.wait_for_leader(), node):
        client = cluster.client(id, single_connection_client=True)
        client.set("key", id)
        assert client.wait(1, 2000) == 1
        assert client.wait(2, 300) == 1
    cluster.start(gone)
    assert client.wait(2, 3500) == 2


def test_the_lag_of_members_is_told(cluster: Cluster) -> None:
    """INFO raft: who is alive, and how many entries behind."""
    leader = cluster.wait_for_leader()
    gone, other = cluster.followers()
    cluster.kill(gone)
    with load(cluster, "key", leader) as writers:
        writers.wait_for(50)
        told = writers.stop()
    cluster.wait_until_equal(leader, other)
    if cluster.wait_for_leader() == other:  # a busy machine may have changed it
        leader, other = other, leader
    info = cluster.info(leader)
    assert (info[f"member_{leader}"], info[f"member_{other}"]) == (
        {"alive": 1, "lag": 0, "room": 1},
        {"alive": 1, "lag": 0, "room": 1},
    )
    assert info[f"member_{gone}"]["alive"] == 0
    assert info[f"member_{gone}"]["lag"] >= len(told.acknowledged)
    cluster.start(gone)
    cluster.wait_until_equal()
    info = cluster.info(cluster.wait_for_leader())
    assert all(info[f"member_{id}"]["alive"] for id in cluster.ids)
