"""Who does all this to a cluster: carries out a plan of which fault happens when, drawn ahead from a seed.

What a fault hits is drawn when it happens, from a generator of its own. Disks that lose what was durable (wiped,
rotten) are kept to a minority of the members, the same as long as the cluster lives, as every promise assumes; who of
them is hit can be spared by the others.

    nemesis = Nemesis(cluster, seed)
    nemesis.carry_out(plan(Random(7), sorted(FAULTS), seconds=2), seconds=4)
    nemesis.heal()                                            no fault holds any more, all nodes run

A node that ends is noted with its exit code, and must have had a reason to end so.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, NamedTuple

from tests.cluster.harness import eventually
from tests.faults.disks import EXIT_DISK_FAILED, EXIT_REFUSED, KILLED
from tests.torture import links, rot
from tests.torture.cluster import TorturedCluster
from tests.torture.faults import FAULTS, RESTARTS_S
from tests.torture.judge import Spell, require

STOPPED = 0
TERMINATED = -signal.SIGTERM
BOOT_S = 5.0
"""A process that is this young may end by a signal that it would handle a little later."""
TICK_S = 0.02
END_S = 20.0
"""A node that was told to stop has stopped."""
LIVE_S = 60.0
"""A healed node answers, or has ended."""
AFTER_S = 3.0
"""How long what a node could not do may be felt."""
LEADER_CHANCE = 0.4
"""That a fault which may hit anybody hits the leader."""


class Fault(NamedTuple):
    """`lasts_s`: until it is lifted, where that is for the nemesis to do."""

    at_s: float
    kind: str
    lasts_s: float
    number: int

    def __str__(self) -> str:
        return f"{self.at_s:.2f} s {self.kind} ({self.lasts_s:.1f} s)"


def plan(random: Random, kinds: Sequence[str], seconds: float, faults_max: int = 4) -> list[Fault]:
    """One fault or some, within so many seconds; the same kind may come twice."""
    faults = [
        Fault(random.uniform(0, seconds), random.choice(kinds), random.choice((0.2, 0.5, 1, 2, 4)), number)
        for number in range(random.randint(1, faults_max))
    ]
    return sorted(faults)


class Nemesis:
    """See the module. `told` is what has happened, for people; `counts` how often, by kind."""

    def __init__(self, cluster: TorturedCluster, seed: object) -> None:
        self.cluster = cluster
        self.told: list[str] = []
        self.counts: Counter[str] = Counter()
        self.exits: Counter[str] = Counter()
        self.spells: list[Spell] = []
        self.lossy = Random(f"lossy {seed}").sample(cluster.ids, (len(cluster.ids) - 1) // 2)
        self.rotten: set[str] = set()
        """Whose disk has rotten in this round: it is not to lose its latest mark too, for what the mark on disk does
        not cover can not be told from a torn write."""
        self._seed = seed
        self._began_s = time.monotonic()
        self._numbers = count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._paused: dict[str, float] = {}
        self._down: dict[str, float] = {}
        self._may_end: dict[str, set[int]] = {id: set() for id in cluster.ids}
        """How each node may end, this life."""
        self._disk_since: dict[str, float] = {}
        self._started_s: dict[str, float] = {}
        self._terminated: dict[str, int] = {}
        """Who was told to stop, and its process id then."""

    def __repr__(self) -> str:
        return f"Nemesis {dict(self.counts)} paused={[*self._paused]} down={[*self._down]}"

    # Time

    def carry_out(self, faults: Iterable[Fault], seconds: float) -> None:
        """All that is planned, and what follows from it, for so long."""
        began_s = time.monotonic()
        for fault in faults:
            self._at(began_s + fault.at_s, lambda fault=fault: self._happen(fault))  # type: ignore[misc]
        while time.monotonic() < began_s + seconds:
            self._do_what_is_due()
            time.sleep(TICK_S)

    def _do_what_is_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            heappop(self._due)[2]()
        self.note_ended()

    def _at(self, at_s: float, what: Callable[[], None]) -> None:
        heappush(self._due, (at_s, next(self._numbers), what))

    def after(self, wait_s: float, what: Callable[[], None]) -> None:
        self._at(time.monotonic() + wait_s, what)

    def _happen(self, fault: Fault) -> None:
        random = Random(f"fault {self._seed} {fault}")
        self.say(f"-- {fault.kind}")
        FAULTS[fault.kind](self, random, fault.lasts_s)
        self.counts[fault.kind] += 1

    def say(self, text: str) -> None:
        self.told.append(f"{time.monotonic() - self._began_s:8.2f} {text}")

    # Processes

    @property
    def awake(self) -> list[str]:
        return [id for id in self.cluster.running if id not in self._paused]

    def leader(self) -> str | None:
        """The node that says so, if one does; what stands still is not asked."""
        infos = [info for id in self.awake if (info := self.cluster.maybe_info(id)) and info["role"] == "leader"]
        return str(max(infos, key=lambda info: info["term"])["node"]) if infos else None

    def pick(self, random: Random, role: str = "any") -> str | None:
        """A node that runs: the leader, another one, or any; the leader more often than its share."""
        awake = self.awake
        if not awake:
            return None
        leader = self.leader()
        if role == "leader" or (role == "any" and leader and random.random() < LEADER_CHANCE):
            return leader
        others = [id for id in awake if id != leader or role == "any"]
        return random.choice(others) if others else None

    def note_ended(self) -> None:
        """Processes that have ended, each of which must have had a reason, and starts them again later."""
        for id in self.cluster.ids:
            if id not in self.cluster.running and id not in self._down:
                self._note_end(id)
                self.start_later(id, Random(f"restart {self._seed} {next(self._numbers)}").choice(RESTARTS_S))

    def _note_end(self, id: str, why: str = "") -> None:
        code = self.cluster.wait_for_exit(id, END_S)
        self._down[id] = time.monotonic()
        self.say(f"{id} has ended with {code}")
        self.exits[why or f"code {code}"] += 1
        end = self.cluster.log_text(id)[-2000:]
        require(code in self._may_end[id], f"{id} ended with {code}, which nobody made it do:\n{end}")

    def start(self, id: str) -> None:
        if id in self.cluster.running:
            return
        was_hindered = id in self._disk_since
        self._may_end[id] = {KILLED, EXIT_DISK_FAILED, EXIT_REFUSED} if was_hindered else set()
        self.cluster.launch(id)
        self._started_s[id] = time.monotonic()
        self.say(f"{id} starts")
        self.spells.append(Spell(id, self._down.pop(id, time.monotonic()), time.monotonic() + AFTER_S))

    def kill(self, *ids: str, restart_s: Callable[[], float] | None, number: int = signal.SIGKILL) -> None:
        """SIGKILL, or SIGUSR2 for a loss of power (shim.c), at the same moment as far as possible; and, but with None,
        a start after so long."""
        ids = tuple(id for id in ids if id in self.cluster.running)
        for id in ids:
            self._may_end[id] |= {KILLED, -number} if self._is_young(id) else {KILLED}
            self._wake(id)
        self.say(f"{signal.Signals(number).name} to {' '.join(ids)}")
        for id in ids:
            self.cluster.send_signal(id, number)
        for id in ids:
            self._note_end(id, signal.Signals(number).name)
            if restart_s is not None:
                self.start_later(id, restart_s())

    def _is_young(self, id: str) -> bool:
        """It may still be about to start, and not know yet what a signal means."""
        return time.monotonic() < self._started_s.get(id, 0.0) + BOOT_S

    def start_later(self, id: str, wait_s: float) -> None:
        self.after(wait_s, lambda: self.start(id))

    def terminate(self, id: str) -> None:
        """SIGTERM: it hands over, answers, and ends by itself; then it is started again."""
        if id not in self.cluster.running:
            return
        self._may_end[id].add(STOPPED)
        if self._is_young(id):
            self._may_end[id].add(TERMINATED)
        self.say(f"SIGTERM to {id}")
        self.cluster.send_signal(id, signal.SIGTERM)
        self._terminated[id] = self.cluster.pid(id)

    def pause(self, id: str, lasts_s: float) -> None:
        if id in self._paused or id not in self.cluster.running:
            return
        self._paused[id] = time.monotonic()
        self.say(f"SIGSTOP to {id}")
        self.cluster.send_signal(id, signal.SIGSTOP)
        self.after(lasts_s, lambda: self._wake(id))

    def _wake(self, id: str) -> None:
        if id in self._paused:
            self.spells.append(Spell(id, self._paused.pop(id), time.monotonic() + AFTER_S))
            if id in self.cluster.running:
                self.say(f"SIGCONT to {id}")
                self.cluster.send_signal(id, signal.SIGCONT)

    # Links

    def impose(self, pairs: Iterable[links.Pair], lasts_s: float, **rule: Any) -> None:
        pairs = frozenset(pairs)
        self.say(f"{links.shown(pairs)}: {' '.join(f'{name}={value}' for name, value in rule.items())}")
        number = self.cluster.links.impose(pairs, **rule)
        self.after(lasts_s, lambda: self.cluster.links.lift(number))

    # Disks

    def break_disk(self, id: str, rules: str, lasts_s: float, codes: Collection[int] = ()) -> None:
        """Rules of the shim, until they are lifted; the node may end with these codes."""
        self.say(f"the disk of {id}: {rules}")
        self._disk_since.setdefault(id, time.monotonic())
        self._may_end[id] |= set(codes)
        if codes and self._is_young(id):
            self._may_end[id].add(EXIT_REFUSED)  # the start itself meets it
        self.cluster.break_disk(id, rules)
        self.after(lasts_s, lambda: self.mend_disk(id))

    def mend_disk(self, id: str) -> None:
        if id in self._disk_since:
            self.cluster.mend_disk(id)
            self.spells.append(Spell(id, self._disk_since.pop(id), time.monotonic() + AFTER_S))

    def may_rot(self, id: str) -> bool:
        return id not in self._disk_since and self.can_be_spared(id)

    def can_be_spared(self, id: str) -> bool:
        """Whether the others can elect a leader without it: who is set aside comes back through one."""
        others = [other for other in self.cluster.ids if other != id and other not in self.lossy]
        voters = [other for other in others if rot.may_vote(self.cluster.data(other))]
        return len(voters) > len(self.cluster.ids) // 2

    # The end

    def heal(self) -> None:
        """No fault holds any more. All nodes run, and answer."""
        self.say("-- everything heals")
        self._due.clear()
        self.rotten.clear()
        self.cluster.links.heal()
        for id in self.cluster.ids:
            self._wake(id)
            self.mend_disk(id)
        for id, pid in self._terminated.items():
            eventually(lambda id=id, pid=pid: self._has_ended(id, pid), f"{id} ends after SIGTERM", END_S)  # type: ignore[misc]
        self._terminated.clear()
        for id in self.cluster.ids:
            eventually(lambda id=id: self._lives(id), f"{id} answers or ends", LIVE_S)  # type: ignore[misc]

    def _has_ended(self, id: str, pid: int) -> bool:
        return id not in self.cluster.running or self.cluster.pid(id) != pid

    def _lives(self, id: str) -> bool:
        if id not in self.cluster.running:
            if id not in self._down:
                self._note_end(id)
            self.start(id)
        return self.cluster.maybe_info(id) is not None
