"""kvclient against real nodes: the one-shot commands, a pipe, the command table, and a leader that is killed."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from typing import Any

import pytest
from click.testing import CliRunner

from kvclient import AsyncKVClient, KVClient, NoSuchKey, NotApplied, Unknown
from kvclient.cli import main
from kvclient.command_table import hint, parse
from tests.cluster.harness import program

IDS = ("A", "B", "C")


def address(cluster: Any, node_id: str) -> str:
    options = cluster.client(node_id).connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']}"


def addresses(cluster: Any) -> list[str]:
    return [address(cluster, node_id) for node_id in IDS]


def kvclient(cluster: Any, node_id: str, *args: str) -> str:
    result = CliRunner().invoke(main, ["--node", address(cluster, node_id), *args])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_the_basic_scenario_with_one_shot_commands(cluster: Any) -> None:
    cluster.wait_for_leader()
    kvclient(cluster, "A", "set", "testKey", "testValue")
    assert [kvclient(cluster, node_id, "get", "testKey") for node_id in IDS] == ["testValue\n"] * 3
    kvclient(cluster, "B", "upd", "testKey", "newValue")
    assert [kvclient(cluster, node_id, "get", "testKey") for node_id in IDS] == ["newValue\n"] * 3
    assert kvclient(cluster, "C", "del", "testKey") == "1\n"
    assert [kvclient(cluster, node_id, "get", "testKey", "--json") for node_id in IDS] == ["null\n"] * 3


def test_every_method(cluster: Any) -> None:
    cluster.wait_for_leader()
    with KVClient(addresses(cluster)) as client:
        assert client.ping()
        assert client.set("a", 1) is True
        assert client.set("a", 2, nx=True) is False
        assert client.set_get("a", 2) == b"1"
        assert (client.incr("a"), client.incr("a", 5), client.decr("a"), client.decr("a", 2)) == (3, 8, 7, 5)
        with pytest.raises(NoSuchKey):
            client.upd("missing", "x")
        client.upd("a", b"\x00\xff")
        assert (client.get("a"), client.get("missing")) == (b"\x00\xff", None)
        assert (client.append("a", "!"), client.strlen("a"), client.type("a")) == (3, 3, "string")
        client.mset({"b": 2, "c": 3})
        assert client.mget("b", "missing", "c") == [b"2", None, b"3"]
        assert (client.exists("a", "b", "missing"), client.dbsize()) == (2, 3)
        assert sorted(client.keys("[ab]")) == [b"a", b"b"]
        assert sorted(client.scan(count=1)) == [b"a", b"b", b"c"]
        assert client.range("b") == [(b"b", b"2"), (b"c", b"3")]
        assert client.range("a", "c", limit=1) == [(b"a", b"\x00\xff!")]
        assert (client.getdel("b"), client.delete("a", "b")) == (b"2", 1)
        client.flushall()
        assert client.dbsize() == 0
        assert [status.error for status in client.status()] == [None] * 3
        assert sum(status.fields["role"] == "leader" for status in client.status() if status.fields) == 1
        assert client.info("raft")["leader"] in IDS


def test_a_pipe_ends_with_the_status_of_its_last_command(cluster: Any) -> None:
    cluster.wait_for_leader()
    command = [*program("kvclient"), "shell", "--node", address(cluster, "B")]

    def run(text: str) -> tuple[str, int]:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        return done.stdout, done.returncode

    assert run('SET k "a b"\nGET k\nGET missing\n') == ("OK\na b\n\n", 0)
    printed, status = run("GET k\nUPD missing x\n")
    assert (printed.startswith("a b\n(error) ERR "), status) == (True, 1)


def test_the_command_table_gives_help_and_hints(cluster: Any) -> None:
    cluster.wait_for_leader()
    with KVClient(address(cluster, "A")) as client:
        table = parse(client.command("COMMAND", "DOCS"))
    for name in ("GET", "SET", "UPD", "RANGE", "SCAN", "CLIENT"):
        assert table[name].summary, name
    assert hint(table, ["upd", "key"]) == "value"
    assert "[LIMIT" in hint(table, ["range", "a", "b"])
    assert {"ID", "SETNAME", "REPLYSEQ"} <= table["CLIENT"].subcommands.keys()


def test_no_acknowledged_write_is_lost_when_the_leader_is_killed(cluster: Any) -> None:
    leader = cluster.wait_for_leader()
    leader = leader if isinstance(leader, str) else cluster.info("A")["leader"]
    acknowledged: list[int] = []
    unknown: list[int] = []
    half, killed = threading.Event(), threading.Event()

    def write(client: KVClient) -> None:
        for number in range(200):
            if number == 100:
                half.set()
                assert killed.wait(30)
            try:
                client.set(f"key{number}", number)
                acknowledged.append(number)
            except Unknown:
                unknown.append(number)
            except NotApplied:
                continue

    with KVClient(addresses(cluster)) as client:
        writer = threading.Thread(target=write, args=(client,))
        writer.start()
        assert half.wait(60)
        cluster.kill(leader)
        killed.set()
        writer.join(120)
        assert not writer.is_alive()
        assert len(acknowledged) >= 150
        assert len(unknown) <= 2
        found = client.mget(*(f"key{number}" for number in acknowledged))
        assert found == [b"%d" % number for number in acknowledged]


def test_increments_are_neither_lost_nor_doubled_when_the_leader_is_killed(cluster: Any) -> None:
    leader = cluster.wait_for_leader()
    leader = leader if isinstance(leader, str) else cluster.info("A")["leader"]

    async def count(client: AsyncKVClient, reached: asyncio.Event) -> tuple[int, int]:
        done = unknown = 0
        for _ in range(60):
            try:
                if await client.incr("counter") > 150:
                    reached.set()
                done += 1
            except Unknown:
                unknown += 1
            except NotApplied:
                continue
        return done, unknown

    async def run() -> None:
        reached = asyncio.Event()
        async with AsyncKVClient(addresses(cluster)) as client:
            workers = [asyncio.create_task(count(client, reached)) for _ in range(10)]
            await reached.wait()
            await asyncio.to_thread(cluster.kill, leader)
            results = await asyncio.gather(*workers)
            done, unknown = (sum(part) for part in zip(*results, strict=True))
            total = int(await client.get("counter") or 0)
        assert done <= total <= done + unknown
        assert done >= 300

    asyncio.run(run())
