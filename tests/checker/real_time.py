"""What was over before something else began: the one thing that times say for certain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.checker.history import OK, Operation

LOWEST = -1


def floors(operations: Iterable[Operation], height: Callable[[Operation], Any]) -> Iterator[tuple[Operation, Any]]:
    """Each operation, in the order of invocation, and the greatest height (LOWEST if there is none) of those that were
    answered before it was invoked. O(n log n)."""
    by_invocation = sorted(operations, key=lambda operation: operation.invoked)
    answered = [operation for operation in by_invocation if operation.status is OK]
    answered.sort(key=lambda operation: operation.returned)
    floor = LOWEST
    position = 0
    for operation in by_invocation:
        invoked = operation.invoked
        while position < len(answered) and answered[position].returned < invoked:
            floor = max(floor, height(answered[position]))
            position += 1
        yield operation, floor
