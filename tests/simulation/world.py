"""Virtual time, and what happens in it: a heap of things that are due. One world is one run of one seed.

Randomness comes from several generators, one per purpose, each made from the seed: what the network draws does not
change when a fault is left out, so that a list of faults can be shrunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

from tests.simulation.options import Options

TRACE_LINES_MAX = 5000
VIOLATIONS_MAX = 10


class Violation(Exception):
    """Something happened that never may. The text begins with the name of the rule."""


class World:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.now_ms = 1000.0
        self.events = 0
        """What nodes were told: the unit in which runs are counted."""
        self.order = 0
        """Counts on with everything that a client does: real-time order, also within one instant."""
        self.is_faulty = True
        self.trace: deque[str] = deque(maxlen=TRACE_LINES_MAX)
        self.counts: dict[str, int] = {}
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._randoms: dict[str, Random] = {}

    def random(self, purpose: str) -> Random:
        if purpose not in self._randoms:
            self._randoms[purpose] = Random(f"{purpose} {self.options.seed}")
        return self._randoms[purpose]

    def at(self, at_ms: float, what: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heappush(self._heap, (at_ms, self._number, what, arguments))

    def after(self, wait_ms: float, what: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now_ms + wait_ms, what, *arguments)

    def run_until(self, end_ms: float, is_enough: Callable[[], bool] = lambda: False) -> None:
        """Let everything happen that is due until then, or until `is_enough`, asked now and then."""
        steps = 0
        while self._heap and self._heap[0][0] <= end_ms:
            at_ms, _, what, arguments = heappop(self._heap)
            self.now_ms = max(self.now_ms, at_ms)
            what(*arguments)
            steps += 1
            if steps % 64 == 0 and is_enough():
                return
        self.now_ms = max(self.now_ms, end_ms)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def say(self, text: str) -> None:
        self.trace.append(f"{self.now_ms:10.1f} {text}")

    def tick(self) -> int:
        self.order += 1
        return self.order
