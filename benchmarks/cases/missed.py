"""A server that was away while others went on: how long from its start until it is current, and what it received.

kvnode: a follower. Redis: a replica, with a replication backlog of its default size, 1 MiB. Both held all keys before,
and missed overwrites of some.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

from benchmarks.bench import Bench, Measured, in_turn
from benchmarks.results import Sample
from benchmarks.systems.kvnode import Kvnode
from benchmarks.systems.redis import Redis

POLL_SECONDS = 0.01
SHARES = (1000, 100, 10)
"""A 1000th, a 100th and a tenth of all keys are missed."""


def measure(bench: Bench) -> Measured:
    """Each number of missed entries at each system in turn, round after round."""
    with ExitStack() as stack:
        kvnode = stack.enter_context(bench.kvnode())
        kvnode.fill(bench.keys)
        ways = {kvnode.label: partial(away_from_kvnode, kvnode)}
        redis = bench.redis()
        if redis is not None:
            stack.enter_context(redis).fill(bench.keys)
            ways[redis.label] = partial(away_from_redis, redis)
        for number in range(bench.rounds):
            for share in SHARES:
                count = bench.keys // share
                for label in in_turn(list(ways), number):
                    yield Sample(f"missed/{count}", label, number, ways[label](count))
        yield kvnode.prove()


def away_from_kvnode(kvnode: Kvnode, count: int) -> dict[str, float]:
    kvnode.settle()
    name = kvnode.followers()[0]
    kvnode.end(name)
    kvnode.fill(count)
    wanted = int(kvnode.info(kvnode.leader())["last_seq"])
    begin = time.monotonic()
    kvnode.launch(name)
    kvnode.wait_for("current node", lambda: int(kvnode.info(name).get("applied_seq", 0)) >= wanted, POLL_SECONDS)
    seconds = time.monotonic() - begin
    return {"seconds": seconds, "bytes": float(kvnode.info(name)["catch_up_bytes_received"])}


def away_from_redis(redis: Redis, count: int) -> dict[str, float]:
    redis.settle()
    redis.end("replica1")
    redis.fill(count)
    begin = time.monotonic()
    redis.launch("replica1")
    redis.wait_for("current replica", lambda: redis.is_current("replica1"), POLL_SECONDS)
    seconds = time.monotonic() - begin
    return {"seconds": seconds, "bytes": float(redis.info("replica1", "stats")["total_net_repl_input_bytes"])}
