"""The control: the same clients, faults and checkers against other servers. What they find there, and what they do not,
says whether they can be believed.

    etcd    kills, pauses and partitions, by the nemesis of the torture runs: nothing
    Redis   a master and two replicas, AOF with fsync always. The master is cut off, its clients go on writing to it, a
            replica is promoted, the old master comes back as a replica: what it had acknowledged meanwhile is gone

Clients write and read registers (C2 and C3), and add keys that nobody ever touches again: each that was acknowledged is
looked for in the end, at every server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from tests.checker import linearizable, unique
from tests.checker.history import OK, History, Operation
from tests.checker.workloads import Registers, Request, Workload
from tests.cluster.harness import eventually
from tests.torture.clients import POLL_S, Shared
from tests.torture.control.etcd import EtcdClient, EtcdCluster
from tests.torture.control.redis_server import FAR, NEAR, RedisClient, RedisCluster
from tests.torture.libraries import Caller, Library
from tests.torture.nemesis import Nemesis, plan

CLIENTS = 6
PAUSE_MS = 15.0
ANSWER_S = 4.0
FAULTS_S = 4.0
ETCD_ROUNDS = 6
REDIS_ROUNDS = 2
SHOWN = 3
WRITES_S = 60.0
ETCD_FAULTS = (
    "kill the leader",
    "kill a follower",
    "kill a majority",
    "kill all",
    "pause the leader",
    "pause a follower",
    "isolate the leader",
    "isolate a follower",
    "partial",
    "halves",
    "deaf",
    "mute",
    "swizzle",
    "cut all",
    "delay",
)


class Once:
    """Keys that are used once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numbers = count()

    def note_unknown(self, key: object) -> None:
        """It is never asked about again, before the end."""


class Additions:
    """SET of a new key each time, which nobody touches again."""

    def __init__(self, name: str) -> None:
        self.keys = Once(name)

    def next(self, random: Random) -> Request:
        key = b"%b%d" % (self.keys.name.encode(), next(self.keys.numbers))
        return Request("SET", key, b"value of " + key)

    def faults(self, history: Iterable[Operation]) -> list[str]:
        """See `lost`: it takes a look at the servers."""
        return []


@dataclass(slots=True)
class Findings:
    """Of one control run."""

    server: str
    operations: int = 0
    acknowledged: int = 0
    """Additions."""
    lost: list[Operation] = field(default_factory=list)
    not_linearizable: list[str] = field(default_factory=list)
    """Keys, by C2, with what it says."""
    unexplained: list[str] = field(default_factory=list)
    """What C3 says."""
    happened: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.not_linearizable or self.unexplained)

    def __str__(self) -> str:
        lines = [
            f"{self.server}: {self.operations:,} operations; {len(self.happened)} faults: {', '.join(self.happened)}",
            f"acknowledged writes that are gone: {len(self.lost)} of {self.acknowledged:,}",
            *(f"    {operation}" for operation in self.lost[:SHOWN]),
            f"registers that are not linearizable (C2): {len(self.not_linearizable)}",
            *(f"    {text}" for text in self.not_linearizable[:SHOWN]),
            f"reads and writes that no order explains (C3): {len(self.unexplained)}",
            *(f"    {text}" for text in self.unexplained[:SHOWN]),
        ]
        return "\n".join(lines)


def control_etcd(directory: Path, seed: int = 1, rounds: int = ETCD_ROUNDS) -> Findings:
    findings = Findings("etcd")
    cluster = EtcdCluster(directory, seed)
    shared = Shared(_workloads())

    def make(number: int) -> Library:
        id = cluster.ids[number % len(cluster.ids)]
        return EtcdClient(id, cluster.address(id), ANSWER_S)

    try:
        cluster.start()
        cluster.wait_for_leader()
        nemesis = Nemesis(cluster, seed)
        with _clients(shared, make, seed) as callers:
            for number in range(rounds):
                faults = plan(Random(f"control {seed} {number}"), ETCD_FAULTS, 1.0, faults_max=3)
                findings.happened += [fault.kind for fault in faults]
                nemesis.carry_out(faults, FAULTS_S)
                nemesis.heal()
                _wait_for_more(shared, 100)
            _pause(shared, callers)
        _judge(findings, shared.recorder.history(), lambda key: [cluster.read(id, key) for id in cluster.ids])
    finally:
        cluster.close()
    return findings


def control_redis(directory: Path, seed: int = 1, rounds: int = REDIS_ROUNDS) -> Findings:
    findings = Findings("Redis")
    cluster = RedisCluster(directory, seed)
    shared = Shared(_workloads())

    def make(number: int) -> Library:
        return RedisClient(cluster, (NEAR, FAR)[number % 2], ANSWER_S)

    try:
        cluster.begin()
        with _clients(shared, make, seed) as callers:
            for _ in range(rounds):
                for fail_over in (_partition, _kill):
                    _wait_for_more(shared, 200)
                    fail_over(cluster, shared)
                    findings.happened.append(fail_over.__name__.strip("_"))
            _wait_for_more(shared, 200)
            _pause(shared, callers)
        cluster.wait_for_replicas(cluster.masters[FAR])
        _judge(findings, shared.recorder.history(), lambda key: [cluster.read(id, key) for id in cluster.ids])
    finally:
        cluster.close()
    return findings


def _partition(cluster: RedisCluster, shared: Shared) -> None:
    """The master and half of the clients on one side, the replicas and the other half on the other one. The master
    takes writes all the time."""
    old = cluster.masters[FAR]
    others = [id for id in cluster.ids if id != old]
    cut = cluster.links.impose([pair for pair in cluster.links.all if old in pair], held=True, gives_up_s=None)
    _wait_for_more(shared, 200)  # nobody has noticed yet
    new = cluster.best_replica(*others)
    cluster.promote(new)
    for id in others:
        if id != new:
            cluster.follow(id, new)
    cluster.masters = {NEAR: old, FAR: new}
    _wait_for_more(shared, 200)
    cluster.links.lift(cut)
    cluster.follow(old, new)
    cluster.masters = {NEAR: new, FAR: new}
    cluster.wait_for_replicas(new)


def _kill(cluster: RedisCluster, shared: Shared) -> None:
    """The master is gone; what it had not sent yet is gone with it, though it is on its disk."""
    old = cluster.masters[FAR]
    cluster.kill(old)
    new = cluster.best_replica(*cluster.running)
    cluster.masters = {NEAR: new, FAR: new}
    cluster.lead(new)
    _wait_for_more(shared, 100)
    cluster.start(old, replicaof=f"127.0.0.1 {cluster.links.ports[old, new]}")
    cluster.wait_for_replicas(new)


def _workloads() -> list[Workload]:
    return [Registers("register.", width=3), Additions("addition.")]


@contextmanager
def _clients(shared: Shared, make: Callable[[int], Library], seed: int) -> Iterator[list[Caller]]:
    callers = [
        Caller(
            shared,
            lambda number=number: make(number),  # type: ignore[misc]
            name=f"client{number}",
            seed=seed,
            pause_ms=PAUSE_MS,
            answer_s_max=ANSWER_S,
        )
        for number in range(CLIENTS)
    ]
    with ExitStack() as stack:
        for caller in callers:
            stack.enter_context(caller)
        yield callers
        shared.is_over = True
    assert shared.faults == []


def _wait_for_more(shared: Shared, more: int) -> None:
    until = shared.counts["answered"] + more
    eventually(lambda: shared.counts["answered"] >= until, f"{more} more answers", WRITES_S)


def _pause(shared: Shared, callers: list[Caller]) -> None:
    shared.is_paused = True
    eventually(lambda: not any(caller.is_busy for caller in callers), "no call is under way", WRITES_S, POLL_S)


def _judge(findings: Findings, history: History, read: Callable[[bytes], list[bytes | None]]) -> None:
    registers = [operation for operation in history if operation.key.startswith(b"register.")]
    added = [operation for operation in history if operation.key.startswith(b"addition.") and operation.status is OK]
    findings.operations = len(history)
    findings.acknowledged = len(added)
    findings.lost = [each for each in added if any(value != each.argument for value in read(each.key))]
    for keys, operations in linearizable.parts(registers):
        verdict = linearizable.check(operations)
        if not verdict.is_linearizable:
            findings.not_linearizable.append(f"{keys[0].decode()}: {verdict.text.splitlines()[0]}")
    findings.unexplained = unique.check(registers).text.splitlines()
