"""What clients ask so that the replies tell a lot, and what a look at the replies says at once.

    Registers    SET and GET, each value once. `mixed`: also UPD, SETNX, GETSET, DEL
    Counters     INCR and GET: each total is told once
    Lists        APPEND of an element of its own, and GET: a read shows the order of all writes before it
    Bank         MSET of all accounts of one customer, and MGET: money moves between accounts, the sum stays

`next(random)` gives what a process asks next: (kind, key, argument). A key is left for a new one when it has had enough
operations for the black-box checker, or too many with unknown outcome (`note_unknown`). `faults(history)` is quick and
complete for what its docstring names; it does not replace the checkers, but it says in a line what went wrong, and its
findings need no belief in them.

`name` tells apart what several workloads write into one cluster.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import count
from random import Random
from typing import Any, NamedTuple, Protocol

from tests.checker import lists, unique
from tests.checker.history import FAIL, OK, History, Operation
from tests.checker.models import integer
from tests.checker.real_time import LOWEST, floors

OPERATIONS_PER_KEY_MAX = 200
UNKNOWN_PER_KEY_MAX = 5
KEYS = 5
"""Keys in use at one time."""


class Request(NamedTuple):
    kind: str
    key: Any
    argument: Any = None


class Workload(Protocol):
    keys: KeyPool

    def next(self, random: Random) -> Request: ...

    def faults(self, history: Iterable[Operation]) -> list[str]: ...


class KeyPool:
    """The keys in use, and new ones for those that have had enough."""

    def __init__(self, name: str, width: int, parts: int = 1) -> None:
        """`parts`: a key is a tuple of so many keys of the store, if more than one. All of them begin with `name`."""
        self.name = name
        self._new = (_key(b"%b%d" % (name.encode(), number), parts) for number in count())
        self._operations: dict[Any, int] = {}
        self._unknown: dict[Any, int] = {}
        for _ in range(width):
            self._begin()

    def __repr__(self) -> str:
        return f"KeyPool {self._operations}"

    def _begin(self) -> None:
        key = next(self._new)
        self._operations[key] = self._unknown[key] = 0

    def _leave(self, key: Any) -> None:
        del self._operations[key], self._unknown[key]
        self._begin()

    def pick(self, random: Random) -> Any:
        key = random.choice(list(self._operations))
        self._operations[key] += 1
        if self._operations[key] >= OPERATIONS_PER_KEY_MAX:
            self._leave(key)
        return key

    def note_unknown(self, key: Any) -> None:
        """An operation on this key has an unknown outcome; they all stay concurrent for ever."""
        if key in self._unknown:
            self._unknown[key] += 1
            if self._unknown[key] >= UNKNOWN_PER_KEY_MAX:
                self._leave(key)


def _key(name: bytes, parts: int) -> Any:
    return name if parts == 1 else tuple(b"%b.%d" % (name, part) for part in range(parts))


def by_key(history: Iterable[Operation]) -> dict[Any, History]:
    """What may have happened to each key, or group of keys; failed operations are left out."""
    found: dict[Any, History] = defaultdict(list)
    for operation in history:
        if operation.status is not FAIL:
            found[operation.key].append(operation)
    return found


class Registers:
    def __init__(self, name: str = "register", *, mixed: bool = False, width: int = KEYS) -> None:
        self.keys = KeyPool(name, width)
        self._values = (b"%b.%d" % (name.encode(), number) for number in count())
        self._kinds = ["GET", "GET", "SET", *(("UPD", "SETNX", "GETSET", "DEL") if mixed else ("SET",))]

    def next(self, random: Random) -> Request:
        kind = random.choice(self._kinds)
        return Request(kind, self.keys.pick(random), None if kind in ("GET", "DEL") else next(self._values))

    def faults(self, history: Iterable[Operation]) -> list[str]:
        """Values from nowhere: never written to that key, by an operation that failed, or not written yet. Where there
        is only SET and GET, everything (see unique.py)."""
        history = list(history)
        if all(operation.kind in ("GET", "SET") for operation in history):
            return unique.check(history).text.splitlines()
        writers = {(each.key, each.argument): each for each in history if each.argument is not None}
        faults = []
        for operation in history:
            if operation.kind in ("GET", "GETSET") and operation.status is OK and operation.result is not None:
                writer = writers.get((operation.key, operation.result))
                if writer is None or writer.status is FAIL or operation.returned < writer.invoked:
                    faults.append(f"a value from nowhere: {operation}; its writer: {writer}")
        return faults


class Counters:
    def __init__(self, name: str = "counter", *, width: int = KEYS) -> None:
        self.keys = KeyPool(name, width)

    def next(self, random: Random) -> Request:
        return Request(random.choice(("INCR", "INCR", "GET")), self.keys.pick(random))

    def faults(self, history: Iterable[Operation]) -> list[str]:
        """Totals that were told twice (an increment is lost), that go back, or above what was asked for until then (one
        was applied twice)."""
        return [fault for operations in by_key(history).values() for fault in self._faults(operations)]

    def _faults(self, operations: History) -> Iterator[str]:
        asked = sorted(operation.invoked for operation in operations if operation.kind == "INCR")
        told: dict[int, Operation] = {}
        for operation, floor in floors(operations, counted):
            if operation.status is not OK:
                continue
            total = counted(operation)
            if total == LOWEST:
                yield f"no number: {operation}"
            if operation.kind == "INCR":
                if total in told:
                    yield f"two increments to the same total: {told[total]} and {operation}"
                told[total] = operation
            if total < floor + (operation.kind == "INCR"):
                yield f"the total had been {floor} before: {operation}"
            if total > bisect_right(asked, operation.returned):
                yield f"more than all increments that had been asked for: {operation}"


def counted(operation: Operation) -> int:
    """The total that was told; LOWEST where the reply is no number."""
    result = operation.result
    if operation.kind == "INCR":
        return result if isinstance(result, int) else LOWEST
    if result is None:
        return 0
    total = integer(result) if isinstance(result, bytes) else None
    return LOWEST if total is None else total


class Lists:
    def __init__(self, name: str = "list", *, width: int = KEYS) -> None:
        self.keys = KeyPool(name, width)
        self._elements = (b"%b.%d%b" % (name.encode(), number, lists.END) for number in count())

    def next(self, random: Random) -> Request:
        key = self.keys.pick(random)
        return Request("APPEND", key, next(self._elements)) if random.random() < 0.6 else Request("GET", key)

    def faults(self, history: Iterable[Operation]) -> list[str]:
        """Reads that are not beginnings of one order; elements from nowhere, twice, too early, lost, or at another
        place than their writer was told; lengths that go back."""
        history = list(history)
        writers = lists.by_element(history)
        return [fault for operations in by_key(history).values() for fault in lists.faults(operations, writers)]


class Bank:
    """Each customer has some accounts and TOTAL in all; a transfer writes all of them at once. The first amount is the
    number of the transfer, so that each is told apart."""

    TOTAL = 1_000_000
    ACCOUNTS = 3

    def __init__(self, name: str = "customer", *, width: int = KEYS) -> None:
        self.keys = KeyPool(name, width, self.ACCOUNTS)
        self._numbers = count(1)

    def next(self, random: Random) -> Request:
        accounts = self.keys.pick(random)
        if random.random() < 0.5:
            return Request("MGET", accounts)
        amounts = [next(self._numbers), *(random.randrange(1000) for _ in accounts[2:])]
        amounts.append(self.TOTAL - sum(amounts))
        return Request("MSET", accounts, tuple(b"%d" % amount for amount in amounts))

    def faults(self, history: Iterable[Operation]) -> list[str]:
        """Reads of a wrong sum, of a transfer in part, of one that failed, or of one that had not been asked for."""
        history = list(history)
        transfers = {(each.key, each.argument): each for each in history if each.kind == "MSET"}
        faults = []
        for read in history:
            if read.kind != "MGET" or read.status is not OK or read.result == (None,) * self.ACCOUNTS:
                continue
            transfer = transfers.get((read.key, read.result))
            if not isinstance(read.result, tuple) or len(read.result) != self.ACCOUNTS:
                faults.append(f"no reply to this: {read}")
            elif sum(integer(amount or b"0") or 0 for amount in read.result) != self.TOTAL:
                faults.append(f"the sum is wrong: {read}")
            elif transfer is None or transfer.status is FAIL or read.returned < transfer.invoked:
                faults.append(f"a transfer from nowhere: {read}; {transfer}")
        return faults
