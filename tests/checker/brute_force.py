"""Linearizability by definition, for a handful of operations: every order of every choice of the unknown ones."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, permutations

from tests.checker.history import FAIL, OK, Operation
from tests.checker.models import Model


def is_linearizable(history: Iterable[Operation], model: Model) -> bool:
    operations = [operation for operation in history if operation.status is not FAIL]
    known = [operation for operation in operations if operation.status is OK]
    unknown = [operation for operation in operations if operation.status is not OK]
    return any(
        _keeps_time(order) and _explains(order, model)
        for size in range(len(unknown) + 1)
        for chosen in combinations(unknown, size)
        for order in permutations((*known, *chosen))
    )


def _keeps_time(order: tuple[Operation, ...]) -> bool:
    return all(earlier.invoked <= later.returned for earlier, later in combinations(order, 2))


def _explains(order: tuple[Operation, ...], model: Model) -> bool:
    state = model.start
    for operation in order:
        fits, state = model.step(state, operation)
        if not fits:
            return False
    return True
