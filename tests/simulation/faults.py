"""The plan of a run: which fault happens when, drawn ahead from the seed, so that a failing plan can be shrunk.

What a fault hits is drawn when it happens, from a generator of its own: leaving one out does not change the others.

Disks that lose what was durable (wiped, rotten, forged) are kept to a minority of the members, as every promise
assumes. Rot hits what is known durable: a record that the mark on the disk does not cover can not be told from a torn
write.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from kvnode.log.identity import decode_identity
from kvnode.log.record import BadRecord
from tests.simulation import rot
from tests.simulation.host import DIRECTORY, Host
from tests.simulation.network import Network
from tests.simulation.options import DAMAGE_NONE, Options
from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Fault:
    at_ms: float
    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.at_ms:.0f} {self.kind}"


KINDS = {
    "crash": "crash_every_ms",
    "pause": "pause_every_ms",
    "partition": "partition_every_ms",
    "break": "break_every_ms",
    "stop": "stop_every_ms",
    "clock": "clock_every_ms",
    "wipe": "wipe_every_ms",
    "rot": "rot_every_ms",
    "disk_failure": "disk_failure_every_ms",
    "fill": "fill_every_ms",
    "forge": "forge_every_ms",
}


def plan(options: Options) -> list[Fault]:
    """All faults of a run, in order of time."""
    faults = []
    for kind, every in KINDS.items():
        mean_ms: float = getattr(options, every)
        random = Random(f"plan {kind} {options.seed}")
        at_ms = 2500.0
        while mean_ms != DAMAGE_NONE and (at_ms := at_ms + random.expovariate(1 / mean_ms)) < 1000 + options.safety_ms:
            faults.append(Fault(at_ms, kind, len(faults)))
    return sorted(faults, key=lambda fault: fault.at_ms)


class Faults:
    """Carries out a plan."""

    def __init__(self, world: World, network: Network, hosts: list[Host], faults: list[Fault]) -> None:
        self.world = world
        self.network = network
        self.hosts = hosts
        lossy = Random(f"lossy {world.options.seed}").sample(hosts, (len(hosts) - 1) // 2)
        self._lossy = lossy
        self.rotten: set[Host] = set()
        actions: dict[str, Callable[[Random], None]] = {kind: getattr(self, f"_{kind}") for kind in KINDS}
        for fault in faults:
            random = Random(f"fault {fault.kind} {fault.at_ms} {world.options.seed}")
            world.at(fault.at_ms, self._happen, actions[fault.kind], fault.kind, random)

    def _happen(self, action: Callable[[Random], None], kind: str, random: Random) -> None:
        self.world.count(kind)
        action(random)

    def _pick(self, random: Random) -> Host:
        """Any member; a leader more often than its share."""
        leaders = [host for host in self.hosts if host.node and host.node.raft.leading]
        return random.choice(leaders if leaders and random.random() < 0.4 else self.hosts)

    def _restart_later(self, host: Host, random: Random) -> None:
        waits = (1, 1, 5, 50) if self.world.options.restarts_quickly else (1, 50, 300, 1500)
        self.world.after(random.choice(waits), host.start)

    # Processes

    def _crash(self, random: Random) -> None:
        victims = self.hosts if random.random() < 0.1 else [self._pick(random)]
        loses_power = random.random() < 0.5
        for host in victims:
            if host.is_up:
                host.crash(loses_power=loses_power)
                self._restart_later(host, random)

    def _pause(self, random: Random) -> None:
        host = self._pick(random)
        host.pause()
        self.world.after(random.choice((30, 400, 1500, 4000)), host.resume, host.life)

    def _stop(self, random: Random) -> None:
        self._pick(random).stop()

    def _clock(self, random: Random) -> None:
        random.choice(self.hosts).wall_offset_ms += random.choice((-3_600_000.0, 1000.0, -1000.0, 86_400_000.0))

    # Links

    def _partition(self, random: Random) -> None:
        ids = [host.id for host in self.hosts]
        if len(ids) == 1:
            return
        one = self._pick(random).id
        rest = [each for each in ids if each != one]
        other = random.choice(rest)
        group = set(random.sample(ids, random.randint(1, len(ids) - 1)))
        shapes = (
            {(one, each) for each in rest} | {(each, one) for each in rest},
            {(one, other)},
            {(one, other), (other, one)},
            {(each, one) for each in rest},
            {(one, each) for each in rest},
            {(a, b) for a in ids for b in ids if (a in group) != (b in group)},
        )
        pairs = random.choice(shapes)
        self.world.say(f"blocked: {sorted(pairs)}")
        self.network.block(pairs)
        self.world.after(random.choice((100, 700, 2000, 4000)), self.network.unblock, pairs)

    def _break(self, random: Random) -> None:
        whole = [each for each in self.network.connections if all(each.is_open) and not each.is_broken]
        if whole:
            connection = random.choice(whole)
            self.world.say(f"breaks: {connection!r}")
            self.network.break_one(connection)

    # Disks

    def _disk_failure(self, random: Random) -> None:
        """The next fsync or write of a member fails."""
        host = random.choice(self.hosts)
        if host.is_up:
            position = len(host.disk.calls) + random.randint(0, 6)
            host.disk.fail_at[position] = OSError(errno.EIO, "Input/output error")

    def _fill(self, random: Random) -> None:
        """The disk of a member, or of all, is full for a while, but for some bytes."""
        victims = self.hosts if random.random() < 0.3 else [self._pick(random)]
        for host in victims:
            host.disk.room = host.disk.bytes_used + random.choice((0, 0, 100, 5000))
            self.world.say(f"{host.id}: the disk is full")
            self.world.after(random.choice((50, 500, 2000)), self._make_room, host)

    def _make_room(self, host: Host) -> None:
        host.disk.room = None

    def _wipe(self, random: Random) -> None:
        if not self._lossy:
            return
        host = random.choice(self._lossy)
        if host.is_up and host.node is not None and host.node.raft.may_vote and self._can_be_spared(host):
            host.crash(loses_power=False)
            host.wipe()
            self._restart_later(host, random)

    def _rot(self, random: Random) -> None:
        """Some bytes of a file, or of several, are others, or a segment can not be read at a place. The process lives
        on, or is started anew and finds it."""
        host = random.choice(self._lossy) if self._lossy else None
        if host is None or not self._can_be_spared(host):
            return
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            choices = rot.choices(host.disk, DIRECTORY)
            if not choices:
                return
            name, size = random.choice(choices)
            file = host.disk.file(DIRECTORY / name)
            at = random.randrange(size)
            end = min(size, at + random.choice((1, 1, 16, 600)))
            self._spoiled(host)
            if name not in rot.NOTES and random.random() < 0.2:
                file.unreadable.update(range(at, end))
                self.world.say(f"{host.id}: {name} can not be read at offset {at}")
            else:
                rot.spoil(file, at, end, random)
                self.world.say(f"{host.id}: {name} rots from offset {at} to {end}")
        if random.random() < 0.7 and host.is_up:
            host.crash(loses_power=random.random() < 0.5)
            self._restart_later(host, random)

    def _forge(self, random: Random) -> None:
        """A member comes back with another history in which everything verifies. All others can tell: they have the
        records in question. Who has not would believe it, if it led."""
        host = self._lossy[0] if len(self._lossy) == 1 else None
        if host is None or not self._can_be_spared(host) or not (host.node and host.node.raft.may_vote):
            return
        mark = rot.mark_of(host.disk, DIRECTORY)
        if mark is None or not all(rot.holds(other.disk, DIRECTORY, mark) for other in self.hosts):
            return
        host.crash(loses_power=False)
        is_as_it_was = rot.mark_of(host.disk, DIRECTORY) == mark  # else it speaks of records that others may lack
        forged = rot.forge(host.disk, DIRECTORY, random) if is_as_it_was else {}
        if forged:
            host.forged |= forged.keys()
            host.replaced |= set(forged.values())
            self._spoiled(host)
            self.world.say(f"{host.id}: {len(forged)} records are others now")
            self.world.count("forged logs")
        self._restart_later(host, random)

    def _spoiled(self, host: Host) -> None:
        self.rotten.add(host)
        host.is_spoiled = True

    def _can_be_spared(self, host: Host) -> bool:
        """Whether the others can elect a leader without it: who is set aside comes back through one."""
        voters = [other for other in self.hosts if other is not host and other not in self._lossy and _may_vote(other)]
        return len(voters) > len(self.hosts) // 2


def _may_vote(host: Host) -> bool:
    """As its disk says, durably."""
    directory = host.disk.synced.get(str(DIRECTORY), {})
    file = directory.get("identity")
    try:
        return file is not None and decode_identity(file.synced).may_vote
    except BadRecord:
        return False
