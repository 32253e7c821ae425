"""What a write costs as keys grow: new keys, and overwrites of random ones, 50 clients with pipelines of 16."""

from __future__ import annotations

from benchmarks.bench import Bench, Measured
from benchmarks.load import Load
from benchmarks.results import Sample
from benchmarks.systems.kvnode import Kvnode
from benchmarks.systems.processes import HOST
from kvnode.cli.ask import ask

NEW_KEYS_MAX = 200_000
SMALL_KEYS_MAX = 100_000
"""Up to here each round begins with an empty key space: adding keys would otherwise soon make it a large one."""


def measure(bench: Bench) -> Measured:
    """One cluster that grows tenfold, again and again; only the last few rounds' keys are more than the size says."""
    with bench.kvnode() as kvnode:
        size, held = 10_000, 0
        while size <= bench.growth_keys:
            for number in range(bench.rounds):
                if size <= SMALL_KEYS_MAX:
                    ask(HOST, kvnode.ports[kvnode.leader()], "FLUSHALL", 5.0)
                    held = 0
                if held < size:
                    kvnode.fill(size - held, held)
                    held = size
                yield Sample(f"overwrite/{size}", "kvnode", number, overwrite(kvnode, size, bench.seconds))
                count = min(size, NEW_KEYS_MAX)
                answer = kvnode.run(Load("set", 50, 16, count=count, first=held))
                held += count
                yield Sample(f"new/{size}", "kvnode", number, cost(answer.figures["per_second"]))
            size *= 10
        yield kvnode.prove()


def overwrite(kvnode: Kvnode, size: int, seconds: float) -> dict[str, float]:
    return cost(kvnode.run(Load("set", 50, 16, seconds, keys=size)).figures["per_second"])


def cost(per_second: float) -> dict[str, float]:
    """Writes per second, and what one takes of the cluster's time."""
    return {"per_second": per_second, "microseconds": 1e6 / per_second}
