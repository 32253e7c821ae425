"""The links between the members of a real cluster, and what happens on them: the hand on tests/torture/proxy.py.

    links = Links({"A": 13001, "B": 13002, "C": 13003})     where the members listen for each other
    links.ports["A", "B"]                                   where A finds B
    trouble = links.impose(isolate(ids, "A"), held=True)    a Rule of the proxy, from now on
    links.lift(trouble); links.heal()

What was imposed adds up: a link that has a delay and then loses frames does both. Pairs are directed: ("A", "B") is
what A sends to B. The shapes below give sets of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import reduce
from itertools import permutations
from typing import Any

from tests.cluster.harness import ROOT, node_environment
from tests.torture.proxy import NOTHING, Rule

Pair = tuple[str, str]
Pairs = frozenset[Pair]
STOP_S = 5.0


class Links:
    """The proxies' process. `close` ends it, and with it every connection between the members."""

    def __init__(
        self, peer_ports: Mapping[str, int], seed: int = 1, *, is_framed: bool = True, is_named: bool = True
    ) -> None:
        """The last two: see proxy.py. Without names all dial B at `ports["", "B"]`."""
        self.all: Pairs = frozenset(permutations(peer_ports, 2))
        options = {"targets": dict(peer_ports), "seed": seed, "is_framed": is_framed, "is_named": is_named}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.proxy", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=node_environment(),
            start_new_session=True,  # Ctrl-C is for the one who started it
        )
        self.ports: dict[Pair, int] = {}
        for name, port in self._answer().items():
            dialer, target = name.split(" ")
            self.ports[dialer, target] = port
        self._imposed: dict[int, tuple[Pairs, Rule]] = {}
        self._last = 0

    def __repr__(self) -> str:
        return f"Links {'; '.join(f'{shown(pairs)}: {rule}' for pairs, rule in self._imposed.values())}"

    # Rules

    def impose(self, pairs: Iterable[Pair], **rule: Any) -> int:
        """The fields of a Rule, for these links; what to lift it with."""
        self._last += 1
        self._imposed[self._last] = (frozenset(pairs), Rule(**rule))
        self._set(self._imposed[self._last][0])
        return self._last

    def lift(self, number: int) -> None:
        """It need not be there any more."""
        pairs, _ = self._imposed.pop(number, (frozenset(), NOTHING))
        self._set(pairs)

    def heal(self) -> None:
        """No rule holds any more. Connections that are half-open stay so."""
        self._imposed.clear()
        self._set(self.all)

    def _set(self, pairs: Pairs) -> None:
        by_rule: dict[Rule, list[Pair]] = {}
        for pair in pairs:
            by_rule.setdefault(self.rule(pair), []).append(pair)
        for rule, those in by_rule.items():
            self._call("set", links=those, rule=asdict(rule))

    def rule(self, pair: Pair) -> Rule:
        """All that holds for a link."""
        return reduce(together, (rule for pairs, rule in self._imposed.values() if pair in pairs), NOTHING)

    # Deeds

    def cut(self, pairs: Iterable[Pair]) -> int:
        """Reset all connections that have one of these links; how many."""
        return int(self._call("cut", links=list(pairs)))

    def replay(self, pairs: Iterable[Pair]) -> int:
        """Send once more what connections had brought that are over; how many frames."""
        return int(self._call("replay", links=list(pairs)))

    def processes(self, pids: Mapping[str, int]) -> None:
        """Who is who from now on, where nobody is known by the port that he dials."""
        self._call("processes", pids=dict(pids))

    def counts(self) -> dict[str, int]:
        """What has happened to frames and connections so far."""
        return dict(self._call("counts"))

    def streams(self) -> dict[Pair, int]:
        """How many streams each link has now: two for each connection between two members, one for each link."""
        counts = self._call("connections")
        return {pair: counts[" ".join(pair)] for pair in self.all}

    def _call(self, name: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": name, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the proxies have ended with {self._process.wait(STOP_S)}")
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def together(one: Rule, other: Rule) -> Rule:
    """Both at once: the worse of each."""
    fields: dict[str, Any] = {
        name: max(value, getattr(other, name))
        for name, value in asdict(one).items()
        if name not in ("bytes_per_second", "gives_up_s")
    }
    rates = [rule.bytes_per_second for rule in (one, other) if rule.bytes_per_second]
    fields["bytes_per_second"] = min(rates, default=0)
    patience = [rule.gives_up_s for rule in (one, other) if rule.blocks]
    known = [each for each in patience if each is not None]
    fields["gives_up_s"] = min(known) if known else None if patience else NOTHING.gives_up_s
    return Rule(**fields)


def shown(pairs: Iterable[Pair]) -> str:
    return " ".join(sorted(f"{a}>{b}" for a, b in pairs))


# Shapes


def both_ways(pairs: Iterable[Pair]) -> Pairs:
    pairs = frozenset(pairs)
    return pairs | {(b, a) for a, b in pairs}


def isolate(ids: Iterable[str], one: str) -> Pairs:
    """Neither to nor from `one`."""
    return frozenset(pair for pair in permutations(ids, 2) if one in pair)


def towards(ids: Iterable[str], one: str) -> Pairs:
    """It can send, and hears nothing."""
    return frozenset((other, one) for other in ids if other != one)


def away_from(ids: Iterable[str], one: str) -> Pairs:
    """It hears all, and is not heard."""
    return frozenset((one, other) for other in ids if other != one)


def between(one: str, other: str) -> Pairs:
    """A partial partition: all others still reach both."""
    return frozenset({(one, other), (other, one)})


def split(*groups: Iterable[str]) -> Pairs:
    """No way from one group into another."""
    number = {id: count for count, group in enumerate(groups) for id in group}
    return frozenset(pair for pair in permutations(number, 2) if number[pair[0]] != number[pair[1]])


def bridge(ids: Iterable[str], one: str) -> Pairs:
    """Two halves, and `one` that reaches both."""
    others = sorted(id for id in ids if id != one)
    middle = len(others) // 2
    return split(others[:middle], others[middle:])
