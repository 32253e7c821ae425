"""C3: plain registers whose values are all different, as a black box in O(n log n).

Where no value is written twice, each read says which write it saw. A write and the reads of its value form a cluster;
between them nothing else may take effect. Let `end` be the first return in a cluster, `start` its last invocation:

    end < start    a forward zone: from `end` to `start` the register certainly held this value
    start <= end   a backward zone: all of the cluster may take effect at one moment between `start` and `end`

A history is linearizable if and only if (Gibbons and Korach, Testing Shared Memories, 1997)

    1. each value read was written to that key, and no read had returned before that write was invoked
    2. no two forward zones of a key overlap
    3. no backward zone lies inside a forward zone

What a key holds at first, nothing, counts as written before all times. A write with unknown outcome never returns: its
zone has no end, and is in nobody's way, until its value is read. Only SET and GET: a DEL would write nothing again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from math import inf
from typing import Any

from tests.checker.history import FAIL, OK, Operation
from tests.checker.verdict import Verdict, by_faults

FAULTS_MAX = 10


def check(history: Iterable[Operation]) -> Verdict:
    """Raises ValueError for a history that this checker cannot judge: other kinds, or a value that is written twice."""
    history = list(history)
    clusters = _written(history)
    faults = _add_reads(clusters, history)
    keys: dict[Any, list[Cluster]] = {}
    for (key, _), cluster in clusters.items():
        keys.setdefault(key, []).append(cluster)
    for on_key in keys.values():
        faults += _overlaps(on_key)
    return by_faults(faults[:FAULTS_MAX])


class Cluster:
    """`first`: that of its operations that returned first; `last`: the one that was invoked last."""

    __slots__ = ("first", "last", "write")

    def __init__(self, write: Operation) -> None:
        self.write = self.first = self.last = write

    def __repr__(self) -> str:
        return f"Cluster of ({self.write}), [{self.end:.12g}, {self.start:.12g}]"

    @property
    def end(self) -> float:
        return self.first.returned

    @property
    def start(self) -> float:
        return self.last.invoked

    def add(self, read: Operation) -> None:
        if read.returned < self.first.returned:
            self.first = read
        if read.invoked > self.last.invoked:
            self.last = read


Clusters = dict[tuple[Any, Any], Cluster]


def _written(history: list[Operation]) -> Clusters:
    clusters: Clusters = {}
    for operation in history:
        if operation.kind == "SET":
            if (operation.key, operation.argument) in clusters or isinstance(operation.argument, tuple):
                raise ValueError(f"not a plain SET of a new value: {operation}")
            clusters[operation.key, operation.argument] = Cluster(operation)
        elif operation.kind != "GET":
            raise ValueError(f"neither SET nor GET: {operation}")
    return clusters


def _add_reads(clusters: Clusters, history: list[Operation]) -> list[str]:
    """Puts the reads where they belong, takes the failed writes away, and tells of reads that no write explains."""
    faults = []
    for read in history:
        if read.kind != "GET" or read.status is not OK:
            continue
        cluster = clusters.get((read.key, read.result))
        if cluster is None:
            if read.result is not None:
                faults.append(f"nobody wrote what was read: {read}")
                continue
            clusters[read.key, None] = cluster = Cluster(_nothing(read.key))
        write = cluster.write
        if write.status is FAIL:
            faults.append(f"what failed was read: {write}, {read}")
        elif read.returned < write.invoked:
            faults.append(f"it was read before it was written: {read}, {write}")
        else:
            cluster.add(read)
    for operation in history:
        if operation.kind == "SET" and operation.status is FAIL:
            del clusters[operation.key, operation.argument]
    return faults


def _nothing(key: Any) -> Operation:
    return Operation("the beginning", "SET", key, None, -inf, -inf, OK)


def _overlaps(clusters: list[Cluster]) -> list[str]:
    """Two clusters of one key are in each other's way if neither can be the earlier one as a whole."""
    faults = []
    forward: list[Cluster] = []
    for cluster in sorted((each for each in clusters if each.end < each.start), key=lambda each: each.end):
        if forward and cluster.end < forward[-1].start:
            faults.append(_both(forward[-1], cluster))
        else:
            forward.append(cluster)
    ends = [cluster.end for cluster in forward]
    for cluster in clusters:
        if cluster.start <= cluster.end:
            position = bisect_left(ends, cluster.start) - 1
            if position >= 0 and cluster.end < forward[position].start:
                faults.append(_both(forward[position], cluster))
    return faults


def _both(holding: Cluster, other: Cluster) -> str:
    return (
        f"the register held one value from the return of ({holding.first}) to the invocation of ({holding.last}); "
        f"another value was there in between: ({other.first}), ({other.last})"
    )
