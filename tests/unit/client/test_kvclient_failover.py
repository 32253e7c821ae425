"""Both clients against nodes that refuse, answer with errors, hang up and stay silent, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fake_node import FakeNode, bulk, fake_node, unused_address

from kvclient import AsyncKVClient, CommandError, KVClient, NoSuchKey, NotApplied, Timeouts, Unknown

Call = Callable[[Any], Any]
Run = Callable[..., list[Any]]
SHORT = Timeouts(node_s=0.3, call_s=5.0, connect_s=0.3)


def run_sync(addresses: list[str], *calls: Call) -> list[Any]:
    with KVClient(addresses, timeouts=SHORT) as client:
        return [call(client) for call in calls]


def run_async(addresses: list[str], *calls: Call) -> list[Any]:
    async def all_calls() -> list[Any]:
        async with AsyncKVClient(addresses, timeouts=SHORT) as client:
            results = []
            for call in calls:
                result = call(client)
                results.append(await result if asyncio.iscoroutine(result) else result)
            return results

    return asyncio.run(all_calls())


@pytest.fixture(params=[run_sync, run_async], ids=["sync", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


def say(data: bytes | None) -> Callable[[list[bytes]], bytes | None]:
    return lambda _: data


@contextmanager
def two_nodes(first: bytes | None, second: bytes = b"+OK\r\n") -> Iterator[tuple[FakeNode, FakeNode]]:
    with fake_node(say(first)) as a, fake_node(say(second)) as b:
        yield a, b


def test_a_refused_connection_leads_to_the_next_node_which_then_stays(run: Run) -> None:
    with unused_address() as nobody, fake_node(say(b"+OK\r\n")) as node:
        addresses = [nobody, node.address]
        results = run(addresses, lambda c: c.set("k", "v"), lambda c: c.node, lambda c: c.upd("k", "w"))
        assert results == [True, node.address, None]
        assert node.received == [[b"SET", b"k", b"v"], [b"UPD", b"k", b"w"]]


@pytest.mark.parametrize("reply", [b"-LOADING starting\r\n", b"-CLUSTERDOWN no leader\r\n"])
def test_a_write_that_was_not_applied_goes_to_the_next_node(run: Run, reply: bytes) -> None:
    with two_nodes(reply) as (a, b):
        assert run([a.address, b.address], lambda c: c.set("k", "v")) == [True]
        assert a.received == b.received == [[b"SET", b"k", b"v"]]


def test_a_node_that_refuses_the_greeting_is_passed_over(run: Run) -> None:
    with fake_node(say(b""), greeting=b"-LOADING starting\r\n") as a, fake_node(say(b"+OK\r\n")) as b:
        assert run([a.address, b.address], lambda c: c.set("k", "v")) == [True]
        assert a.received == []


def test_something_else_than_a_node_is_passed_over(run: Run) -> None:
    with fake_node(say(b""), greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as a, fake_node(say(b"+OK\r\n")) as b:
        assert run([a.address, b.address], lambda c: c.set("k", "v")) == [True]
        with pytest.raises(NotApplied, match="does not speak the Redis protocol"):
            run([a.address], lambda c: c.set("k", "v"))


@pytest.mark.parametrize("reply", [b"", None], ids=["hangs up", "silent"])
def test_a_write_without_an_answer_is_unknown_and_not_sent_again(run: Run, reply: bytes | None) -> None:
    with two_nodes(reply) as (a, b):
        with pytest.raises(Unknown, match="may have been applied"):
            run([a.address, b.address], lambda c: c.set("k", "v"))
        assert (len(a.received), b.received) == (1, [])


@pytest.mark.parametrize("reply", [b"", None, b"-UNKNOWN lost\r\n"], ids=["hangs up", "silent", "unknown"])
def test_a_read_without_an_answer_goes_to_the_next_node(run: Run, reply: bytes | None) -> None:
    with two_nodes(reply, bulk(b"v")) as (a, b):
        assert run([a.address, b.address], lambda c: c.get("k")) == [b"v"]
        assert a.received == b.received


def test_error_replies_end_the_call_at_the_node_that_gave_them(run: Run) -> None:
    for reply, kind in (
        (b"-ERR no such key\r\n", NoSuchKey),
        (b"-ERR syntax error\r\n", CommandError),
        (b"-UNKNOWN it may have been applied\r\n", Unknown),
        (b"-MISCONF the disk is full\r\n", NotApplied),
    ):
        with two_nodes(reply) as (a, b):
            with pytest.raises(kind) as caught:
                run([a.address, b.address], lambda c: c.upd("k", "v"))
            assert caught.value.text == reply[1:-2].decode()
            assert b.received == []


def test_when_no_node_takes_it_the_error_names_each(run: Run) -> None:
    with unused_address() as nobody, fake_node(say(b"-CLUSTERDOWN no leader\r\n")) as node:
        with pytest.raises(NotApplied) as caught:
            run([nobody, node.address], lambda c: c.set("k", "v"))
        assert caught.value.text == (
            f"no node took the command: {nobody}: connection refused; {node.address}: CLUSTERDOWN no leader"
        )


def test_a_connection_that_was_closed_while_idle_is_replaced_before_a_write(run: Run) -> None:
    with fake_node(say(b":1\r\n")) as node:
        results = run([node.address], lambda c: c.incr("n"), lambda _: node.hang_up(), lambda c: c.incr("n"))
        assert results == [1, None, 1]
        assert len(node.received) == 2


def test_an_error_reply_keeps_the_connection_usable(run: Run) -> None:
    def answer(command: list[bytes]) -> bytes:
        return b"-ERR x\r\n" if command[0] == b"BAD" else bulk(b"v")

    def bad(client: Any) -> Any:
        return client.command("BAD")

    with fake_node(answer) as node:
        with KVClient(node.address) as client:
            with pytest.raises(CommandError):
                bad(client)
            assert client.get("k") == b"v"
        assert len(node._connections) == 1


def test_a_scan_stays_at_its_node_and_begins_again_when_that_is_lost() -> None:
    def step(cursor: bytes, *keys: bytes) -> bytes:
        return b"*2\r\n" + bulk(cursor) + b"*%d\r\n" % len(keys) + b"".join(map(bulk, keys))

    def breaks_off(command: list[bytes]) -> bytes:
        return step(b"7", b"a", b"b") if command[1] == b"0" else b""

    def goes_on(command: list[bytes]) -> bytes:
        return step(b"9", b"a") if command[1] == b"0" else step(b"0", b"b", b"c")

    async def scan_async(addresses: list[str]) -> list[bytes]:
        async with AsyncKVClient(addresses) as client:
            return [key async for key in client.scan(match="*", count=2)]

    for scan in (lambda nodes: list(KVClient(nodes).scan(match="*", count=2)), lambda n: asyncio.run(scan_async(n))):
        with fake_node(breaks_off) as a, fake_node(goes_on) as b:
            assert scan([a.address, b.address]) == [b"a", b"b", b"a", b"b", b"c"]
            assert [command[1] for command in a.received] == [b"0", b"7"]
            assert [command[1] for command in b.received] == [b"0", b"9"]
            assert b.received[1][2:] == [b"MATCH", b"*", b"COUNT", b"2"]


def test_status_asks_every_node(run: Run) -> None:
    with unused_address() as nobody, fake_node(say(bulk(b"# Raft\r\nrole:leader\r\nterm:2\r\n"))) as node:
        (found,) = run([node.address, nobody], lambda c: c.status())
    assert [(status.node, status.fields) for status in found] == [
        (node.address, {"role": "leader", "term": 2}),
        (nobody, None),
    ]
    assert "connection refused" in found[1].error


def test_a_cancelled_call_does_not_leave_its_reply_to_the_next() -> None:
    waiting = asyncio.Event()

    async def main(node: FakeNode, loop_holder: list[asyncio.AbstractEventLoop]) -> bytes | None:
        loop_holder.append(asyncio.get_running_loop())
        async with AsyncKVClient(node.address) as client:
            task = asyncio.create_task(client.get("slow"))
            await waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await client.get("quick")

    loops: list[asyncio.AbstractEventLoop] = []

    def answer(command: list[bytes]) -> bytes | None:
        if command[1] == b"slow":
            loops[0].call_soon_threadsafe(waiting.set)
            return None
        return bulk(command[1])

    with fake_node(answer) as node:
        assert asyncio.run(main(node, loops)) == b"quick"


def test_many_threads_share_a_client() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with fake_node(lambda command: bulk(command[1])) as node, KVClient(node.address) as client:
        keys = [b"%d" % number for number in range(500)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(client.get, keys)) == keys


def test_many_tasks_share_a_client() -> None:
    async def main(address: str) -> list[bytes | None]:
        async with AsyncKVClient(address) as client:
            return list(await asyncio.gather(*(client.get(number) for number in range(100))))

    with fake_node(lambda command: bulk(command[1])) as node:
        assert asyncio.run(main(node.address)) == [b"%d" % number for number in range(100)]


METHODS: list[tuple[Call, bytes, bytes, Any]] = [
    (lambda c: c.ping(), b"PING", b"+PONG\r\n", True),
    (lambda c: c.set_get("k", "v"), b"SET k v GET", b"_\r\n", None),
    (lambda c: c.getdel("k"), b"GETDEL k", bulk(b"v"), b"v"),
    (lambda c: c.append("k", "v"), b"APPEND k v", b":3\r\n", 3),
    (lambda c: c.strlen("k"), b"STRLEN k", b":3\r\n", 3),
    (lambda c: c.type("k"), b"TYPE k", b"+string\r\n", "string"),
    (lambda c: c.decr("k"), b"DECR k", b":-1\r\n", -1),
    (lambda c: c.delete("a", "b"), b"DEL a b", b":2\r\n", 2),
    (lambda c: c.exists("a"), b"EXISTS a", b":0\r\n", 0),
    (lambda c: c.mget("a", "b"), b"MGET a b", b"*2\r\n_\r\n" + bulk(b"v"), [None, b"v"]),
    (lambda c: c.mset({"a": 1}), b"MSET a 1", b"+OK\r\n", None),
    (lambda c: c.keys("a*"), b"KEYS a*", b"*0\r\n", []),
    (lambda c: c.range("a", limit=1), b"RANGE a + LIMIT 1", b"*2\r\n+a\r\n+1\r\n", [(b"a", b"1")]),
    (lambda c: c.dbsize(), b"DBSIZE", b":7\r\n", 7),
    (lambda c: c.flushall(), b"FLUSHALL", b"+OK\r\n", None),
    (lambda c: c.info("server"), b"INFO server", bulk(b"a:1\r\n"), {"a": 1}),
    (lambda c: c.command("ECHO", 1), b"ECHO 1", bulk(b"1"), b"1"),
]


def test_what_each_method_sends_and_returns(run: Run) -> None:
    replies = {command.split()[0]: reply for _, command, reply, _ in METHODS}
    with fake_node(lambda command: replies[command[0]]) as node:
        results = run([node.address], *(call for call, _, _, _ in METHODS))
        assert [b" ".join(command) for command in node.received] == [command for _, command, _, _ in METHODS]
    assert results == [result for _, _, _, result in METHODS]


def test_repr_tells_where_it_is(run: Run) -> None:
    with fake_node(say(b"+OK\r\n")) as node:
        (text,) = run([node.address, "localhost:1"], repr)
    assert text.endswith(f"KVClient {node.address},localhost:1 at={node.address}")
