"""What a case is given: how long to measure, where to put data, and the systems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.proof import Proof
from benchmarks.results import Sample
from benchmarks.systems.etcd import Etcd
from benchmarks.systems.kvnode import Kvnode
from benchmarks.systems.pysyncobj import PySyncObj
from benchmarks.systems.redis import Redis

T = TypeVar("T")

Measured = Iterator[Sample | Proof]
"""What a case yields: samples as they are taken, and what was proved about the writes that were acknowledged."""


@dataclass(frozen=True, slots=True)
class Bench:
    """`seconds`: of one measurement of throughput. `keys`: what a large data set is. `growth_keys`: the largest.

    `home`: a new directory for data. `tools`: where programs are built. `peers`: what is installed, by its label;
    a program, PySyncObj its Python.
    """

    home: Path
    tools: Path
    rounds: int
    seconds: float
    trials: int
    keys: int
    growth_keys: int
    peers: Mapping[str, Path]

    def kvnode(self, name: str = "kvnode") -> Kvnode:
        """A cluster that is not started."""
        return Kvnode(self.home / name, self.tools)

    def redis(self, name: str = "redis", replicas: int = 2) -> Redis | None:
        """None where it is not installed, as with all peers."""
        return Redis(self.home / name, self.tools, replicas) if "redis" in self.peers else None

    def etcd(self) -> Etcd | None:
        return Etcd(self.home / "etcd", self.tools) if "etcd" in self.peers else None

    def pysyncobj(self) -> PySyncObj | None:
        if "pysyncobj" not in self.peers:
            return None
        return PySyncObj(self.home / "pysyncobj", self.tools, self.peers["pysyncobj"])

    def sizes(self) -> list[int]:
        """Of data sets: 10,000, 100,000 … up to `keys`."""
        return [size for size in (10_000, 100_000, 1_000_000) if size < self.keys] + [self.keys]


def in_turn(items: Sequence[T], number: int) -> list[T]:
    """In round `number` each takes the place of the one before it: who comes later finds another machine."""
    first = number % len(items) if items else 0
    return [*items[first:], *items[:first]]
