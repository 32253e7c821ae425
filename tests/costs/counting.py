"""What a small cluster does for some pipelines, counted: no clock, no noise, the same at every run.

    counts = count_pipelines(led_by("A"), pipelines)
    counts["A"].events    of the node A, for all of these pipelines together

One connection sends one pipeline after the other, each when the one before it is answered, so that each becomes one
record. The cluster is that of the unit tests, in this process, with its disks in memory.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import kvnode
from tests.unit.node.small_cluster import Cluster, Host

SOURCE = str(Path(kvnode.__file__).parent)
LEADER = "A"


@dataclass(slots=True)
class Counts:
    """Of one node. `calls`: of functions, those written in C included, that kvnode's own code made or was."""

    turns: int = 0
    events: int = 0
    appends: int = 0
    records: int = 0
    log_bytes: int = 0
    peer_writes: int = 0
    peer_bytes: int = 0
    client_writes: int = 0
    client_bytes: int = 0
    calls: int = 0


def count_pipelines(cluster: Cluster, pipelines: Sequence[bytes], replies: int, at: str = LEADER) -> dict[str, Counts]:
    """Send them to a node; each has so many replies. By node, what that took."""
    counts = {id: Counts() for id in cluster.hosts}
    client = cluster.client(at)
    cluster.settle()
    with _watched(cluster, counts):
        for pipeline in pipelines:
            client.send_bytes(pipeline)
            cluster.settle()
            assert len(client.take()) == replies, "a pipeline was not answered at once"
    return counts


def kept_blocks(cluster: Cluster, pipelines: Sequence[bytes], replies: int) -> int:
    """How many blocks of memory the interpreter has more, in all nodes together, after these pipelines."""
    count_pipelines(cluster, pipelines[:1], replies)
    before = _blocks(cluster)
    count_pipelines(cluster, pipelines, replies)
    return _blocks(cluster) - before


def set_pipeline(first: int, commands: int) -> bytes:
    """SET of so many keys, of 16 bytes, with values of 64."""
    parts = (
        b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$64\r\n%064d\r\n" % (n, n) for n in range(first, first + commands)
    )
    return b"".join(parts)


def get_pipeline(first: int, commands: int) -> bytes:
    """GET of the same keys."""
    return b"".join(b"*2\r\n$3\r\nGET\r\n$16\r\nkey:%012d\r\n" % number for number in range(first, first + commands))


def _blocks(cluster: Cluster) -> int:
    for host in cluster.hosts.values():
        del host.log.records[:-1]  # a disk is no memory
        host.notes.clear()
    gc.collect()
    return sys.getallocatedblocks()


@contextmanager
def _watched(cluster: Cluster, counts: dict[str, Counts]) -> Iterator[None]:
    """Count what hosts do, as long as the context lasts."""
    turn = Host.turn
    appends = {id: host.log.append for id, host in cluster.hosts.items()}

    def watched_turn(host: Host) -> None:
        count = counts[host.id]
        count.turns += 1
        count.events += len(host.events)
        with _counted_calls(count):
            turn(host)
        count.peer_writes += len(host.outputs.link_writes)
        count.peer_bytes += sum(len(data) for _, data in host.outputs.link_writes)
        count.client_writes += len(host.outputs.client_writes)
        count.client_bytes += sum(len(data) for _, data in host.outputs.client_writes)

    def watched_append(id: str, records: Sequence[Any]) -> None:
        counts[id].appends += 1
        counts[id].records += len(records)
        counts[id].log_bytes += sum(record.size for record in records)
        appends[id](records)

    try:
        Host.turn = watched_turn  # type: ignore[method-assign]
        for id, host in cluster.hosts.items():
            host.log.append = lambda records, id=id: watched_append(id, records)
        yield
    finally:
        Host.turn = turn  # type: ignore[method-assign]
        for host in cluster.hosts.values():
            del host.log.append


@contextmanager
def _counted_calls(count: Counts) -> Iterator[None]:
    def on_event(frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(SOURCE):
            count.calls += 1

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        yield
    finally:
        sys.setprofile(before)
