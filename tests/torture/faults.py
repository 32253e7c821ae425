"""The table of faults: what the nemesis may do to a cluster. Each is given its own generator, and how long it may last.

A fault that finds nobody to hit (all are down, no leader) does nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from tests.faults.disks import EXIT_DISK_FAILED, KILLED
from tests.torture import links, rot

if TYPE_CHECKING:
    from tests.torture.nemesis import Nemesis

Deed = Callable[["Nemesis", Random, float], None]

RESTARTS_S = (0.0, 0.1, 0.5, 1.5)
STAGGER_S = 2.0
FLAP_S = 0.1
LATER_MS = 100
LATER_EVERY_S = 0.12
"""A leader that hears nothing for an election timeout steps down: what it hears comes later step by step."""
LOOP_S = (0.05, 0.3, 1.0)


# Processes


def _kill(role: str, nemesis: Nemesis, random: Random, _: float) -> None:
    id = nemesis.pick(random, role)
    if id is not None:
        nemesis.kill(id, restart_s=lambda: random.choice(RESTARTS_S))


def _kill_majority(nemesis: Nemesis, random: Random, _: float) -> None:
    ids = nemesis.cluster.ids
    nemesis.kill(*random.sample(ids, len(ids) // 2 + 1), restart_s=lambda: random.uniform(0, STAGGER_S))


def _kill_all(nemesis: Nemesis, random: Random, _: float) -> None:
    """Their clients ask again while they come back, one after the other."""
    nemesis.kill(*nemesis.cluster.ids, restart_s=lambda: random.uniform(0, STAGGER_S))


def _crash_loop(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    """One node is killed, started, and killed again while it reads its log or catches up."""
    id = nemesis.pick(random)
    if id is None:
        return
    left = [random.choice(LOOP_S) for _ in range(round(2 + 2 * lasts_s))]

    def again() -> None:
        nemesis.kill(id, restart_s=lambda: 0.0)
        if left:
            nemesis.after(left.pop(), again)

    again()


def _terminate(nemesis: Nemesis, random: Random, _: float) -> None:
    id = nemesis.pick(random)
    if id is not None:
        nemesis.terminate(id)


def _rolling_restart(nemesis: Nemesis, random: Random, _: float) -> None:
    for place, id in enumerate(random.sample(nemesis.cluster.ids, len(nemesis.cluster.ids))):
        nemesis.after(0.8 * place, partial(nemesis.terminate, id))


def _pause(role: str, nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    id = nemesis.pick(random, role)
    if id is not None:
        nemesis.pause(id, lasts_s)


def _pause_all(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    for id in nemesis.awake:
        nemesis.pause(id, random.uniform(0, lasts_s))


# Links


def _partition(shape: Callable[[tuple[str, ...], str], links.Pairs], role: str, **rule: Any) -> Deed:
    """A shape around one node."""

    def deed(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
        id = nemesis.pick(random, role)
        if id is not None:
            nemesis.impose(shape(nemesis.cluster.ids, id), lasts_s, **rule)

    return deed


def _partial(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    """Two do not reach each other, all others do: the leader is one of the two, or it is not."""
    one = nemesis.pick(random, random.choice(("leader", "any")))
    if one is not None:
        other = random.choice([id for id in nemesis.cluster.ids if id != one])
        nemesis.impose(links.between(one, other), lasts_s, held=True)


def _halves(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    """Groups of any size: none of them may have a majority."""
    groups: dict[int, list[str]] = {}
    for id in nemesis.cluster.ids:
        groups.setdefault(random.randrange(3), []).append(id)
    nemesis.impose(links.split(*groups.values()), lasts_s, held=True)


def _swizzle(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    """Links stop one by one, and come back one by one in another order."""
    pairs = random.sample(sorted(nemesis.cluster.links.all), len(nemesis.cluster.links.all) // 2)
    for pair in pairs:
        begins_s = random.uniform(0, lasts_s / 2)
        nemesis.after(begins_s, partial(nemesis.impose, [pair], random.uniform(0, lasts_s - begins_s), held=True))


def _late(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    """A leader hears everything later and later, is then not heard any more, and goes on believing that it leads."""
    id = nemesis.pick(random, "leader")
    if id is None:
        return
    ids, steps = nemesis.cluster.ids, random.choice((5, 8, 12))
    all_s = steps * LATER_EVERY_S + lasts_s + 1.0
    for step in range(steps):
        begins_s = step * LATER_EVERY_S
        later = partial(nemesis.impose, links.towards(ids, id), all_s - begins_s, delay_ms=LATER_MS * (step + 1))
        nemesis.after(begins_s, later)
    nemesis.after(steps * LATER_EVERY_S, partial(nemesis.impose, links.away_from(ids, id), lasts_s + 1.0, held=True))


def _flap(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    id = nemesis.pick(random)
    if id is None:
        return
    pairs = links.isolate(nemesis.cluster.ids, id)
    for turn in range(int(lasts_s / (2 * FLAP_S))):
        nemesis.after(2 * FLAP_S * turn, partial(nemesis.impose, pairs, FLAP_S, held=True))


def _quality(*, all_links: bool = True, **choices: tuple[Any, ...]) -> Deed:
    """Each field of the rule is one of its choices."""

    def deed(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
        pairs = sorted(nemesis.cluster.links.all)
        chosen = pairs if all_links and random.random() < 0.5 else random.sample(pairs, random.randint(1, len(pairs)))
        nemesis.impose(chosen, lasts_s, **{name: random.choice(values) for name, values in choices.items()})

    return deed


def _cut_all(nemesis: Nemesis, random: Random, _: float) -> None:
    nemesis.say(f"{nemesis.cluster.links.cut(nemesis.cluster.links.all)} connections are reset")


def _replay(nemesis: Nemesis, random: Random, _: float) -> None:
    pairs = random.sample(sorted(nemesis.cluster.links.all), 2)
    nemesis.cluster.links.cut(pairs)
    nemesis.after(0.2, lambda: nemesis.say(f"{nemesis.cluster.links.replay(pairs)} old frames once more"))


# Clocks and disks


def _clock(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    """The wall clock of one node is another one."""
    id = nemesis.pick(random)
    if id is not None:
        offset_ms = random.choice((-1, 1)) * random.choice((500, 10_000, 3_600_000, 86_400_000 * 365))
        nemesis.break_disk(id, f"clock wall offset_ms={offset_ms} rate={random.choice((0.5, 1, 1, 2))}", lasts_s)


def _disk_fails(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    """Some call fails, which ends the node; its disk works again when it is started."""
    id = nemesis.pick(random)
    if id is not None and id not in nemesis.rotten:
        operation = random.choice(("sync", "sync", "fdatasync", "pwrite", "pwrite", "open", "rename", "*"))
        what = random.choice(("EIO", "EIO", "EIO lose", "short={short} EIO", "EROFS"))
        rule = f"{operation} * n={random.randint(1, 20)} {what.format(short=random.randrange(60))}"
        nemesis.break_disk(id, rule, lasts_s, (EXIT_DISK_FAILED,))


def _disk_is_full(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    """At one, or at all. What is held in reserve may be full too."""
    ids = nemesis.cluster.ids if random.random() < 0.3 else (nemesis.pick(random),)
    for id in ids:
        if id is not None:
            rules = f"pwrite .log from={random.randint(1, 20)} short={random.randrange(100)} ENOSPC"
            if random.random() < 0.5:
                rules = f"pwrite .log from={random.randint(1, 20)} ENOSPC | open .tmp from=1 ENOSPC"
            nemesis.break_disk(id, rules, lasts_s, (EXIT_DISK_FAILED,))


def _disk_is_slow(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    ids = nemesis.cluster.ids if random.random() < 0.2 else (nemesis.pick(random),)
    delay_ms = random.choice((5, 50, 300, 1500))
    for id in ids:
        if id is not None:
            nemesis.break_disk(id, f"sync * from=1 delay_ms={delay_ms}", lasts_s)


def _lose_power(nemesis: Nemesis, random: Random, lasts_s: float) -> None:
    """One node, or all, end at some call of their own, and what they had not synced is gone."""
    ids = nemesis.cluster.ids if random.random() < 0.4 else (nemesis.pick(random),)
    for id in ids:
        if id is not None and id not in nemesis.rotten:
            when = random.choice(("before", "after"))
            rule = f"* * n={random.randint(1, 40)} crash={when} lose"
            nemesis.break_disk(id, rule, lasts_s, (KILLED,))


def _cut_power(whose: str, nemesis: Nemesis, random: Random, _: float) -> None:
    """At the same moment for all that are hit: what they had not synced is gone."""
    ids = list(nemesis.cluster.ids)
    count = {"one": 1, "a majority": len(ids) // 2 + 1, "all": len(ids)}[whose]
    hit = [id for id in random.sample(ids, count) if id not in nemesis.rotten]
    nemesis.kill(*hit, restart_s=lambda: random.choice(RESTARTS_S), number=signal.SIGUSR2)


def _wipe(nemesis: Nemesis, random: Random, _: float) -> None:
    id = random.choice(nemesis.lossy) if nemesis.lossy else None
    if id is not None and nemesis.can_be_spared(id):
        nemesis.kill(id, restart_s=None)
        if nemesis.cluster.data(id).exists():
            rot.wipe(nemesis.cluster.data(id))
            nemesis.say(f"the directory of {id} is gone")
        nemesis.start_later(id, random.choice(RESTARTS_S))


def _rot(nemesis: Nemesis, random: Random, _: float) -> None:
    """Of a stopped node, or of a running one, which is perhaps killed a little later."""
    id = random.choice(nemesis.lossy) if nemesis.lossy else None
    if id is None or not nemesis.may_rot(id):
        return
    nemesis.rotten.add(id)
    is_running = random.random() < 0.4 and id in nemesis.awake
    if not is_running:
        nemesis.kill(id, restart_s=None)
    what = rot.spoil(nemesis.cluster.data(id), random, is_running=is_running)
    nemesis.say(f"the disk of {id}: {what or 'nothing that could rot'}")
    if not is_running:
        nemesis.start_later(id, random.choice(RESTARTS_S))
    elif random.random() < 0.5:
        nemesis.after(random.choice(RESTARTS_S), partial(nemesis.kill, id, restart_s=lambda: 0.1))


FAULTS: dict[str, Deed] = {
    "kill the leader": partial(_kill, "leader"),
    "kill a follower": partial(_kill, "follower"),
    "kill a majority": _kill_majority,
    "kill all": _kill_all,
    "crash loop": _crash_loop,
    "terminate": _terminate,
    "rolling restart": _rolling_restart,
    "pause the leader": partial(_pause, "leader"),
    "pause a follower": partial(_pause, "follower"),
    "pause all": _pause_all,
    "isolate the leader": _partition(links.isolate, "leader", held=True),
    "isolate a follower": _partition(links.isolate, "follower", held=True),
    "deaf": _partition(links.towards, "any", held=True),
    "mute": _partition(links.away_from, "any", held=True),
    "bridge": _partition(links.bridge, "any", held=True),
    "black hole": _partition(links.isolate, "any", vanishes=True),
    "black hole one way": _partition(links.away_from, "any", vanishes=True),
    "refused": _partition(links.towards, "any", refused=True),
    "partial": _partial,
    "halves": _halves,
    "swizzle": _swizzle,
    "flap": _flap,
    "late": _late,
    "delay": _quality(delay_ms=(5, 75, 75, 300), jitter_ms=(0, 5, 50, 300)),
    "loss": _quality(lost=(0.01, 0.1, 0.3)),
    "repeat": _quality(repeated=(0.05, 0.3), delay_ms=(0, 5)),
    "reorder": _quality(reordered=(0.1, 0.5), delay_ms=(2, 20), jitter_ms=(0, 5)),
    "narrow": _quality(bytes_per_second=(32_000, 256_000), all_links=False),
    "cuts in mid-frame": _quality(cuts=(0.005, 0.05)),
    "cut all": _cut_all,
    "replay": _replay,
    "disk fails": _disk_fails,
    "disk is full": _disk_is_full,
    "disk is slow": _disk_is_slow,
    "lose power at a call": _lose_power,
    "cut the power of one": partial(_cut_power, "one"),
    "cut the power of a majority": partial(_cut_power, "a majority"),
    "cut the power of all": partial(_cut_power, "all"),
    "clock": _clock,
    "wipe": _wipe,
    "rot": _rot,
}
