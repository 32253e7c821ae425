"""C2: is there an order of the operations that explains every reply? A black box: only times and results are used.

The search is that of Wing and Gong as Lowe improved it: take any operation that was invoked before the first return
among those not taken yet, let it take effect if the model allows its result, and go on; go back when none fits. Which
operations are taken and the state that they left is all that the future depends on, so no such pair is entered twice.

Linearizability is local: what one key does can be checked without the others (Herlihy and Wing; P-compositionality in
Horn and Kroening). Operations on several keys tie these together.

The known operations of a part are numbered in the order of their returns. So the first return among those not taken is
that of the lowest number, and what was taken is a number, `low`, below which all are, and bits for the few above it:
memory for a step does not grow with the length of the history. Operations with unknown outcome come after the known
ones, in the order of invocation, with bits of their own, and need never be taken. Three rules keep the search small,
and change no verdict:

    a read that fits is taken at once: it leaves the state as it is, so an order with it later is one with it here too
    of unknown operations that ask for the same, the one that was invoked first is taken first: they never return
    an unknown operation is taken only if the next one makes a difference of it: where that one fits without it too, and
    leaves the same state, we get as far with the unknown operation still to be taken

The worst case is exponential in the number of operations under way at one time, hence the limits on steps and time.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from tests.checker.history import FAIL, OK, History, Operation
from tests.checker.models import Keys, Model
from tests.checker.verdict import LINEARIZABLE, Outcome, Verdict

STEPS_MAX = 2_000_000
"""Each step costs some 10 to 30 microseconds, and some hundred bytes that stay until the end."""
SECONDS_MAX = 60.0
STEPS_PER_LOOK = 1024
"""How often the limits are looked at."""
SHOWN_MAX = 12


def check(
    history: Iterable[Operation],
    model: Callable[[tuple[Any, ...]], Model] = Keys,
    *,
    steps_max: int = STEPS_MAX,
    seconds_max: float = SECONDS_MAX,
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """The limits hold for each part that is checked alone. One part that is not linearizable decides."""
    undecided = LINEARIZABLE
    for keys, operations in parts(history):
        verdict = check_part(operations, model(keys), steps_max, clock() + seconds_max, clock)
        if verdict.outcome is Outcome.NOT_LINEARIZABLE:
            return verdict
        if verdict.outcome is Outcome.UNDECIDED:
            undecided = verdict
    return undecided


def parts(history: Iterable[Operation]) -> list[tuple[tuple[Any, ...], History]]:
    """The keys that operations tie together, with all operations on them that may have had an effect or saw one."""
    parent: dict[Any, Any] = {}

    def root(key: Any) -> Any:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    operations = [operation for operation in history if operation.status is not FAIL]
    for operation in operations:
        first = root(operation.keys[0])
        for key in operation.keys[1:]:
            parent[root(key)] = first
    found: dict[Any, tuple[list[Any], History]] = {}
    for key in parent:
        found.setdefault(root(key), ([], []))[0].append(key)
    for operation in operations:
        found[root(operation.keys[0])][1].append(operation)
    return [(tuple(keys), tied) for keys, tied in found.values()]


class Node(NamedTuple):
    """A point of the search: what is taken (see above), the state that it left, and how we came here."""

    low: int
    above: int
    """Bit i: operation `low + i` is taken. Bit 0 is never set."""
    unknown: int
    """Bit i: the i-th of the unknown operations is taken."""
    state: Any
    taken: int
    """How many of the known ones are."""
    parent: Node | None
    operation: Operation | None
    without: Any = None
    """The node without the unknown operation that was taken last, if that was just now."""


class Search:
    def __init__(self, operations: Iterable[Operation], model: Model) -> None:
        self.model = model
        operations = list(operations)
        self.known = sorted((each for each in operations if each.status is OK), key=lambda each: each.returned)
        self.unknown = sorted(
            (each for each in operations if each.status is not OK and model.may_write(each)),
            key=lambda each: each.invoked,
        )
        self._reads, self._writes = self._choices()
        invoked = [operation.invoked for operation in self.unknown]
        self._unknown_counts = [bisect_right(invoked, operation.returned) for operation in self.known]
        self._twins = self._twins_before()
        self.best = Node(0, 0, 0, model.start, 0, None, None)
        self.steps = 0

    def __repr__(self) -> str:
        return f"Search known={len(self.known)} unknown={len(self.unknown)} best={self.best.taken} steps={self.steps}"

    def _choices(self) -> tuple[list[list[int]], list[list[int]]]:
        """For each `low`: the known operations from there on that were invoked before it returned: reads, others."""
        known = self.known
        is_write = [self.model.may_write(operation) for operation in known]
        by_invocation = sorted(range(len(known)), key=lambda number: known[number].invoked)
        reads: list[list[int]] = []
        writes: list[list[int]] = []
        under_way: set[int] = set()
        position = 0
        for low, operation in enumerate(known):
            while position < len(known) and known[by_invocation[position]].invoked <= operation.returned:
                under_way.add(by_invocation[position])
                position += 1
            ordered = sorted(under_way)
            reads.append([number for number in ordered if not is_write[number]])
            writes.append([number for number in ordered if is_write[number]])
            under_way.discard(low)
        return reads, writes

    def _twins_before(self) -> list[int]:
        """For each unknown operation the bit of the one before it that asks for the same, 0 where there is none."""
        newest: dict[Any, int] = {}
        twins = []
        for number, operation in enumerate(self.unknown):
            request = (operation.kind, operation.key, operation.argument)
            twins.append(newest.get(request, 0))
            newest[request] = 1 << number
        return twins

    def run(self, may_go_on: Callable[[int], bool]) -> bool | None:
        """Whether there is such an order; None if `may_go_on(steps)` said no before that was decided."""
        start = self._take_reads(self.best)
        self.best = start
        if start.low == len(self.known):
            return True
        entered = {start[:4]}
        stack = [self._children(start)]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            if node.taken > self.best.taken:
                self.best = node
                if node.low == len(self.known):
                    return True
            if node[:4] in entered:
                continue
            entered.add(node[:4])
            self.steps += 1
            if not self.steps % STEPS_PER_LOOK and not may_go_on(self.steps):
                return None
            stack.append(self._children(node))
        return False

    def _children(self, node: Node) -> Iterator[Node]:
        low, above, unknown, *_ = node
        for number in self._writes[low]:
            if not above >> (number - low) & 1:
                fits, after = self._step(node, self.known[number])
                if fits:
                    yield self._take_reads(self._take(node, number, after))
        for number in range(self._unknown_counts[low]):
            bit, twin = 1 << number, self._twins[number]
            if not unknown & bit and unknown & twin == twin:
                operation = self.unknown[number]
                fits, after = self._step(node, operation)
                if fits and after != node.state:  # without an effect there is no need to take it
                    child = Node(low, above, unknown | bit, after, node.taken, node, operation, without=node)
                    yield self._take_reads(child)

    def _step(self, node: Node, operation: Operation) -> tuple[bool, Any]:
        """Whether to take it here, and what it leaves."""
        fits, after = self.model.step(node.state, operation)
        if fits and node.without is not None:
            return self.model.step(node.without.state, operation) != (True, after), after
        return fits, after

    def _take(self, node: Node, number: int, state: Any) -> Node:
        low, above, unknown, _, taken, *_ = node
        above |= 1 << (number - low)
        full = (above ^ (above + 1)).bit_length() - 1  # so many of the lowest bits are set
        return Node(low + full, above >> full, unknown, state, taken + 1, node, self.known[number])

    def _take_reads(self, node: Node) -> Node:
        """All reads that fit here, and those that may be taken after them."""
        known, step = self.known, self.model.step
        state = node.state
        has_taken = True
        while has_taken and node.low < len(known):
            has_taken = False
            for number in self._reads[node.low]:
                if number >= node.low and not node.above >> (number - node.low) & 1 and step(state, known[number])[0]:
                    node = self._take(node, number, state)
                    has_taken = True
        return node

    # For people

    def explain(self) -> str:
        best = self.best
        path: list[Operation] = []
        node: Node | None = best
        while node is not None:
            if node.operation is not None:
                path.append(node.operation)
            node = node.parent
        path.reverse()
        lines = [
            f"{len(self.known)} operations with a reply and {len(self.unknown)} without; "
            f"the longest order found explains {best.taken} replies, and ends in"
        ]
        lines += [f"    {operation}" for operation in path[-SHOWN_MAX:]]
        lines.append(f"which leaves {self.model.show(best.state)}. What comes next is one of")
        lines += [f"    {operation}" for operation in self._stuck()]
        return "\n".join(lines)

    def _stuck(self) -> list[Operation]:
        best = self.best
        numbers = sorted({*self._reads[best.low], *self._writes[best.low]})
        known = [self.known[number] for number in numbers if not best.above >> (number - best.low) & 1]
        count = self._unknown_counts[best.low]
        return known + [self.unknown[number] for number in range(count) if not best.unknown >> number & 1]


def check_part(
    operations: Iterable[Operation],
    model: Model,
    steps_max: int = STEPS_MAX,
    until: float = float("inf"),
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """Check what belongs together. Undecided after `steps_max` steps, or when `clock()` has passed `until`."""
    search = Search(operations, model)
    result = search.run(lambda steps: steps < steps_max and clock() < until)
    if result is None:
        return Verdict(Outcome.UNDECIDED, f"given up after {search.steps} steps; {search.explain()}")
    return LINEARIZABLE if result else Verdict(Outcome.NOT_LINEARIZABLE, search.explain())
