"""How long a start takes until a read is answered, and the memory of a server, by the size of its data.

kvnode is measured in two ways: one node of a running cluster, and all three at once, which share the machine's cores
and elect a leader. Each is asked for a linearizable GET until it answers. Redis is one server without replicas, once
with the AOF as it was written, command by command, and once after it was rewritten (its base is then an RDB file).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.bench import Bench, Measured, in_turn
from benchmarks.results import Sample
from benchmarks.systems.kvnode import Kvnode
from benchmarks.systems.processes import Servers, ask_line
from benchmarks.systems.redis import Redis

ASK_SECONDS = 0.005


def measure(bench: Bench) -> Measured:
    """Each size by itself, each with fresh systems."""
    for size in bench.sizes():
        with ExitStack() as stack:
            kvnode = stack.enter_context(bench.kvnode(f"kvnode-{size}"))
            made = (bench.redis(f"redis-{size}", replicas=0), bench.redis(f"redis-rdb-{size}", replicas=0))
            redis = [stack.enter_context(item) for item in made if item is not None]
            for system in (kvnode, *redis):
                system.fill(size)
            for label, system, name in (
                ("kvnode", kvnode, kvnode.leader()),
                ("kvnode follower", kvnode, kvnode.followers()[0]),
                *(("redis", system, "master") for system in redis[:1]),
            ):
                yield Sample(f"memory/{size}", label, 0, {"bytes": system.memory_bytes(name)})
            for system in redis[1:]:
                system.rewrite()
            yield from restart_in_turn(bench, size, kvnode, redis)
            yield kvnode.prove()


def restart_in_turn(bench: Bench, size: int, kvnode: Kvnode, redis: list[Redis]) -> Iterator[Sample]:
    ways = {"kvnode": partial(restart_one, kvnode), "kvnode all": partial(restart, kvnode, list(kvnode.names))}
    for label, system in zip(("redis", "redis rdb"), redis, strict=False):
        ways[label] = partial(restart, system, ["master"])
    for number in range(bench.rounds):
        for label in in_turn(list(ways), number):
            yield Sample(f"start/{size}", label, number, {"seconds": ways[label]()})
            kvnode.settle()
        name = kvnode.followers()[0]
        yield Sample(f"memory/{size}", "kvnode restarted", number, {"bytes": kvnode.memory_bytes(name)})


def restart_one(kvnode: Kvnode) -> float:
    """A follower, while the others go on."""
    return restart(kvnode, kvnode.followers()[:1])


def restart(system: Servers, names: list[str]) -> float:
    """Seconds from the start of the processes until the first of them answers a read."""
    system.end(*names)
    begin = time.monotonic()
    for name in names:
        system.launch(name)
    port = system.ports[names[0]]
    system.wait_for("answer", lambda: ask_line(port, "GET key:000000000000").startswith(b"$"), ASK_SECONDS)
    return time.monotonic() - begin
