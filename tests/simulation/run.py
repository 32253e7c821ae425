"""One run of one seed: a phase with faults, then everything heals and the cluster must converge; then the verdict.

python -m tests.simulation --seed 42            one seed, with what it drew and what happened
python -m tests.simulation --runs 1000          many, from --seed on
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from itertools import pairwise

from kvnode.config import Member
from kvnode.log.record import Record, split
from kvnode.node.wire import LANES
from tests.simulation.checks import Checks
from tests.simulation.clients import Client, Request
from tests.simulation.faults import Fault, Faults, plan
from tests.simulation.host import Host
from tests.simulation.network import Network
from tests.simulation.options import Options, draw
from tests.simulation.verdict import judge
from tests.simulation.world import Violation, World

GO_ON_MS = 4000.0
CONVERGE_MS = 30_000.0
"""In virtual time. Some waits are long: a paused disk, a broken connection that nobody tells of, a rejoining member."""
REQUESTS_AFTER = 3
READ_BYTES = 1 << 20


@dataclass(slots=True)
class Result:
    options: Options
    faults: list[Fault]
    violation: str | None
    events: int
    requests: int
    answered: int
    counts: dict[str, int]
    trace: list[str]


class Simulation:
    def __init__(self, options: Options, faults: list[Fault]) -> None:
        self.options = options
        self.world = World(options)
        self.network = Network(self.world)
        ids = "ABCDE"[: options.members]
        members = tuple(Member(id, "host", 3000 + k, "host", 13000 + k) for k, id in enumerate(ids))
        self.hosts = [Host(self.world, self.network, member, members) for member in members]
        for host in self.hosts:
            host.all_hosts = self.hosts
        self.checks = Checks(self.world, self.hosts)
        self.faults = Faults(self.world, self.network, self.hosts, faults)
        self.history: list[Request] = []
        self.clients = [
            Client(self.world, self.network, self.hosts, number, self.history) for number in range(options.clients)
        ]
        for client in self.clients:
            client.on_seq = self.checks.on_seq

    def run(self) -> None:
        """Raises Violation, or whatever a node raised."""
        with self.options.applied():
            self._run()

    def _run(self) -> None:
        world = self.world
        random = world.random("beginning")
        for host in self.hosts:
            world.after(random.choice((0, 10, 300)), host.start)
        for client in self.clients:
            world.after(random.random() * 1500, client.connect)
        world.run_until(1000 + self.options.safety_ms)
        self._heal()
        world.run_until(world.now_ms + GO_ON_MS, self._is_all_done)
        for client in self.clients:
            client.is_done = True
        world.run_until(world.now_ms + CONVERGE_MS, self._has_converged)
        if not self._has_converged():
            raise Violation(f"S10 no convergence: {'; '.join(map(repr, self.hosts))}")
        judge(self._committed_records(), self.history)

    def _heal(self) -> None:
        """No more faults; what is broken is mended."""
        world = self.world
        world.say("everything heals")
        world.is_faulty = False
        self.network.unblock(set(self.network.blocked))
        for host in self.hosts:
            host.disk.fail_at.clear()
            host.disk.room = None
            host.resume(host.life)
            world.after(1000, host.start)
        for client in self.clients:
            client.go_on(REQUESTS_AFTER)

    def _is_all_done(self) -> bool:
        return all(client.has_asked_all for client in self.clients) and self._has_converged()

    def _has_converged(self) -> bool:
        nodes = [host.node for host in self.hosts]
        states = {
            (n.raft.term, n.raft.index.last_seq, n.raft.index.last_checksum, n.raft.durable_seq, n.raft.commit_seq)
            for n in nodes
            if n is not None
        }
        if len(states) != 1 or not all(nodes) or any(client.pending for client in self.clients):
            return False
        is_settled = all(
            n.raft.may_vote
            and n.applier.applied_seq == n.raft.index.last_seq == n.raft.commit_seq == n.raft.durable_seq
            for n in nodes
            if n is not None
        )
        return is_settled and sum(n is not None and n.raft.leading is not None for n in nodes) == 1

    def _committed_records(self) -> list[Record]:
        """Read from a disk, and compared with what was seen to be committed."""
        log = next(host.log for host in self.hosts if host not in self.faults.rotten)
        parts: list[bytes] = []
        at_seq = 0
        while True:
            data, last_seq = log.read(at_seq, READ_BYTES)
            if not data:
                break
            parts.append(data)
            at_seq = last_seq
        records = [record for record in split(b"".join(parts)) if record.last_seq <= self.checks.committed_seq]
        last_seq = records[-1].last_seq if records else 0
        if last_seq != self.checks.committed_seq:
            raise Violation(f"S3 the log ends at {last_seq}, but {self.checks.committed_seq} was committed")
        for record in records:
            if self.checks.committed.get(record.last_seq) != record.checksum:
                raise Violation(f"S3 {record!r} is not what was committed")
        for before, record in pairwise(records):
            if record.time_ms < before.time_ms:
                raise Violation(f"S12 log time goes back from {before.time_ms} to {record.time_ms} at {record!r}")
        return records


def run(seed: int, faults: list[Fault] | None = None) -> Result:
    """Run a seed, with the plan that it draws or with another one."""
    options = draw(seed)
    if faults is None:
        faults = plan(options)
    simulation = Simulation(options, faults)
    violation = None
    try:
        simulation.run()
    except Violation as found:
        violation = str(found)
    except Exception as error:  # any other one is a defect of a node, or of the simulator: both must be seen
        place = "".join(traceback.format_exception(error)[-6:])
        violation = f"{type(error).__name__}: {error}\n{place}"
    world = simulation.world
    answered = sum(request.returned is not None for request in simulation.history)
    return Result(
        options,
        faults,
        violation,
        world.events,
        len(simulation.history),
        answered,
        world.counts,
        list(world.trace),
    )


def shrink(seed: int, faults: list[Fault], rounds_max: int = 60) -> list[Fault]:
    """A shorter list of faults with which the seed still fails: halves, quarters … are left out where that can be."""
    size = max(1, len(faults) // 2)
    while rounds_max > 0:
        start = 0
        while start < len(faults) and rounds_max > 0:
            shorter = faults[:start] + faults[start + size :]
            rounds_max -= 1
            if run(seed, shorter).violation is not None:
                faults = shorter
            else:
                start += size
        if size == 1:
            break
        size = max(1, size // 2)
    return faults


assert set(LANES) == {"control", "data", "records"}
