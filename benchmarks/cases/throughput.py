"""Commands per second and their latency, all systems in turn: SET and GET, by clients, pipelines, sizes and nodes.

In two parts, so that nobody runs beside those that are compared: with all peers, then with Redis alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.bench import Bench, Measured, in_turn
from benchmarks.load import Load
from benchmarks.results import Sample
from benchmarks.systems.kvnode import Kvnode
from benchmarks.systems.processes import Servers

CLIENTS = (1, 10, 50, 100, 200)
KEYS = 100_000

Choice = Callable[[Kvnode], list[str]]


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of load. `at`: the nodes of kvnode that get it, where that is not the leader; then no peer does."""

    name: str
    systems: tuple[str, ...]
    clients: int = 50
    pipeline: int = 1
    value_bytes: int = 64
    is_get: bool = False
    at: Choice | None = None

    def load(self, system: Servers, label: str, seconds: float) -> Load:
        """The same for each system, but for what its write is called."""
        command = "get" if self.is_get else "set" if label == ALONE else system.write
        return Load(command, self.clients, self.pipeline, seconds, value_bytes=self.value_bytes, keys=KEYS)


ALONE = "redis alone"
"""The master, without WAIT: it promises less."""
OURS = ("kvnode",)
REDIS = ("kvnode", "redis")
ALL = ("kvnode", "redis", "etcd", "pysyncobj")


def one_follower(kvnode: Kvnode) -> list[str]:
    return kvnode.followers()[:1]


def all_nodes(kvnode: Kvnode) -> list[str]:
    return list(kvnode.names)


AMONG_ALL = (
    *(Work(f"set/{clients}", (*ALL, ALONE) if clients == 50 else ALL, clients) for clients in CLIENTS),
    Work("set at follower", OURS, at=one_follower),
)
BESIDE_REDIS = (
    Work("set 16", REDIS, pipeline=16),
    Work("get", REDIS, is_get=True),
    Work("get 16", REDIS, pipeline=16, is_get=True),
    Work("get spread", OURS, is_get=True, at=all_nodes),
    Work("get 16 spread", OURS, pipeline=16, is_get=True, at=all_nodes),
    Work("set 16 KiB", REDIS, value_bytes=16 * 1024),  # the last: what is read before are small values
)


def measure(bench: Bench) -> Measured:
    yield from compare(bench, AMONG_ALL, [bench.kvnode(), bench.redis(), bench.etcd(), bench.pysyncobj()])
    yield from compare(bench, BESIDE_REDIS, [bench.kvnode("kvnode-2"), bench.redis("redis-2")])


def compare(bench: Bench, works: Sequence[Work], made: Sequence[Servers | None]) -> Measured:
    """Each round: each work at each system, one directly after the other."""
    with ExitStack() as stack:
        systems = {item.label: stack.enter_context(item) for item in made if item is not None}
        if "redis" in systems:
            systems[ALONE] = systems["redis"]
        for number in range(bench.rounds):
            for label in ("kvnode", "redis"):
                if label in systems:
                    systems[label].fill(KEYS)
            for work in works:
                yield from one_round(bench, work, systems, number)
        kvnode = systems["kvnode"]
        assert isinstance(kvnode, Kvnode)
        yield kvnode.prove()


def one_round(bench: Bench, work: Work, systems: dict[str, Servers], number: int) -> Iterator[Sample]:
    for label in in_turn([label for label in work.systems if label in systems], number):
        system = systems[label]
        names = work.at(system) if work.at and isinstance(system, Kvnode) else []
        answer = system.run(work.load(system, label, bench.seconds), *names)
        yield Sample(work.name, label, number, answer.figures, answer.percentiles_ms)
