"""What a write costs as keys grow: new keys, and overwrites of random ones, 50 clients with pipelines of 16."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench, Measured
from benchmarks.load import Load
from benchmarks.results import Sample
from benchmarks.systems.kvnode import Kvnode
from benchmarks.systems.processes import HOST
from benchmarks.systems.redis import Redis
from kvnode.cli.ask import ask

NEW_KEYS_MAX = 200_000
REDIS_KEYS_MAX = 1_000_000
"""While ten millions were written replicas fell behind, fetched everything anew, and again, and were never current."""
SMALL_KEYS_MAX = 100_000
"""Up to here each round begins with an empty key space: adding keys would otherwise soon make it a large one."""


def measure(bench: Bench) -> Measured:
    """kvnode, then Redis, for comparison: together they would take too much memory."""
    with bench.kvnode() as kvnode:
        yield from grow(bench, kvnode, bench.growth_keys)
        yield kvnode.prove()
    redis = bench.redis()
    if redis is not None:
        with redis:
            yield from grow(bench, redis, min(bench.growth_keys, REDIS_KEYS_MAX))


def grow(bench: Bench, system: Kvnode | Redis, keys_max: int) -> Iterator[Sample]:
    """One cluster that grows tenfold, again and again; only the last few rounds' keys are more than the size says."""
    size, held = 10_000, 0
    while size <= keys_max:
        for number in range(bench.rounds):
            if size <= SMALL_KEYS_MAX:
                ask(HOST, system.ports[system.leader()], "FLUSHALL", 5.0)
                held = 0
            if held < size:
                system.fill(size - held, held)
                system.rest()
                held = size
            overwrites = Load(system.write, 50, 16, bench.seconds, keys=size)
            yield Sample(f"overwrite/{size}", system.label, number, cost(system, overwrites))
            count = min(size, NEW_KEYS_MAX)
            new_keys = Load(system.write, 50, 16, count=count, first=held)
            yield Sample(f"new/{size}", system.label, number, cost(system, new_keys))
            held += count
        size *= 10


def cost(system: Kvnode | Redis, load: Load) -> dict[str, float]:
    """Writes per second, and what one takes of the servers' time."""
    per_second = system.run(load).figures["per_second"]
    return {"per_second": per_second, "microseconds": 1e6 / per_second}
