"""A store that is linearizable by construction, and reads that are stale by construction: to check the checkers.

Each operation takes effect at one moment between its invocation and its return, and in the order of these moments; each
entry goes into a log as the product would write it, and replies tell seqs. What fails never takes effect; what has an
unknown outcome may, once, whenever it likes. Times are small integers, so that many coincide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from random import Random
from typing import Any, NamedTuple

from tests.checker.history import FAIL, OK, UNKNOWN, History, Operation
from tests.checker.lists import length
from tests.checker.models import Changes, evaluate, may_write
from tests.checker.real_time import floors
from tests.checker.workloads import Request, by_key, counted

DELAY_MAX = 6
LATE_MAX = 100
"""How long an operation with unknown outcome may wait before it takes effect."""


class Run(NamedTuple):
    history: History
    log: list[tuple[int, Sequence[Any]]]


def simulate(
    random: Random,
    next_request: Callable[[Random], Request],
    processes: int,
    operations: int,
    unknown: float = 0.0,
    failing: float = 0.0,
    pause_max: int = DELAY_MAX,
) -> Run:
    """A history of so many operations; `unknown` and `failing` are the shares of those with that outcome. A process
    asks again within `pause_max` of the reply."""
    unsorted = _moments(random, processes, operations, unknown, failing, pause_max)
    moments = sorted(unsorted, key=lambda moment: moment[0].invoked)
    asked = []
    for operation, effect in moments:
        kind, key, argument = next_request(random)
        asked.append((operation._replace(kind=kind, key=key, argument=argument), effect))
    return _run(random, asked)


def _moments(
    random: Random, processes: int, operations: int, unknown: float, failing: float, pause_max: int
) -> Iterator[tuple[Operation, float]]:
    """Operations without content, and when each takes effect."""
    for number in range(processes):
        process, now = number, random.randrange(DELAY_MAX)
        for _ in range(number, operations, processes):
            effect = now + random.randrange(DELAY_MAX)
            returned: float = effect + random.randrange(DELAY_MAX)
            blank = Operation(process, "", None, None, now, returned, OK)
            now = int(returned) + random.randint(1, pause_max)
            drawn = random.random()
            if drawn < unknown:
                late = random.choice((effect, effect + random.randrange(LATE_MAX), inf))
                yield blank._replace(returned=inf, status=UNKNOWN), late
                process += processes  # this one is retired
            elif drawn < unknown + failing:
                yield blank._replace(status=FAIL), inf
            else:
                yield blank, effect


def _run(random: Random, asked: list[tuple[Operation, float]]) -> Run:
    state: dict[bytes, bytes] = {}
    log: list[tuple[int, Sequence[Any]]] = [(1, ("NOOP",))]
    history = [operation for operation, _ in asked]
    effects = [(effect, random.random(), number) for number, (_, effect) in enumerate(asked) if effect < inf]
    for _, _, number in sorted(effects):
        operation = history[number]
        result, changes = evaluate(state.get, operation)
        if changes:
            log.append((len(log) + 1, _entry(operation, state, changes)))
            _apply(changes, state)
        if operation.status is OK:
            history[number] = operation._replace(result=result, seq=len(log))
        if random.random() < 0.02:
            log.append((len(log) + 1, ("NOOP",)))
    return Run(history, log)


def _apply(changes: Changes, state: dict[bytes, bytes]) -> None:
    for key, value in changes.items():
        if value is None:
            del state[key]
        else:
            state[key] = value


def _entry(operation: Operation, state: dict[bytes, bytes], changes: Changes) -> Sequence[Any]:
    if operation.kind == "APPEND" and operation.key in state:
        return ("APPEND", operation.key, operation.argument)
    verb = "UPD" if operation.kind == "UPD" else "SET"
    effects = [("DEL", key) if value is None else (verb, key, value) for key, value in changes.items()]
    return effects[0] if len(effects) == 1 else ("TX", effects)


def plant_stale_read(random: Random, history: History) -> History | None:
    """The same history with one read that saw what had certainly gone before it was invoked; None if none can."""
    number_of = {id(operation): number for number, operation in enumerate(history)}
    choices = [
        (number_of[id(read)], result, seq)
        for operations in by_key(history).values()
        for read, result, seq in _stale(operations)
    ]
    if not choices:
        return None
    number, result, seq = random.choice(choices)
    seq = random.choice((seq, history[number].seq))  # an old answer at its own time, or at the time of the new one
    return [*history[:number], history[number]._replace(result=result, seq=seq), *history[number + 1 :]]


def _stale(operations: History) -> Iterator[tuple[Operation, Any, int | None]]:
    """Reads of one key, each with a result that no order explains, and the seq at which that was the truth."""
    kinds = {operation.kind for operation in operations}
    if "INCR" in kinds:
        return _shrunk(operations, counted)
    return _shrunk(operations, length) if "APPEND" in kinds else _overwritten(operations)


def _overwritten(operations: History) -> Iterator[tuple[Operation, Any, int | None]]:
    """**Proof.** The value was written once, by a write that returned before another write (or DEL), which did take
    effect, was invoked; and that one returned before the read was invoked. So in every order the read comes after the
    second, that after the first, and nothing can have put the value back."""
    writes = [operation for operation in operations if operation.status is OK and may_write(operation)]
    for read in operations:
        if read.kind in ("GET", "MGET") and read.status is OK:
            overwritten = max((write.invoked for write in writes if write.returned < read.invoked), default=-inf)
            for write in writes:
                if write.returned < overwritten and write.argument is not None:
                    yield read, write.argument, write.seq


def _shrunk(operations: History, height: Callable[[Operation], int]) -> Iterator[tuple[Operation, Any, int | None]]:
    """**Proof.** Counters only count up and lists only grow, and a greater number or length had been told before the
    read was invoked."""
    reads = [operation for operation in operations if operation.kind == "GET" and operation.status is OK]
    for read, floor in floors(operations, height):
        if read.kind == "GET" and read.status is OK:
            for other in reads:
                if height(other) < floor:
                    yield read, other.result, other.seq
