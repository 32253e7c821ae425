"""Lists that only grow, by APPEND of elements that are all different: a read shows the order of all writes before it.

So a look at the longest read tells nearly everything: the others must be beginnings of it, and every APPEND was told
(by the length that it answered) where its element is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import inf

from tests.checker.history import FAIL, OK, History, Operation
from tests.checker.real_time import floors

END = b";"
_REPLIES = {"GET": bytes | None, "APPEND": int}


class Order:
    """The elements of one list, as the longest read has them."""

    def __init__(self, longest: bytes) -> None:
        self.longest = longest
        self.elements = [element + END for element in longest.split(END)[:-1]]
        self.element_at = dict(zip(accumulate(map(len, self.elements)), self.elements, strict=True))
        """By the length of the list when it was the last."""

    def faults(self, key: bytes, writers: dict[bytes, Operation]) -> Iterator[str]:
        """Elements that do not belong here, or are here twice."""
        for element in self.elements:
            writer = writers.get(element)
            if writer is None or writer.status is FAIL or writer.key != key:
                yield f"{element!r} is in the list {key!r}, and its writer is: {writer}"
        if len(set(self.elements)) < len(self.elements):
            yield f"an element is twice in the list {key!r}: {self.longest!r}"

    def asked(self, writers: dict[bytes, Operation]) -> dict[int, float]:
        """For each length: when the last of the elements up to there was asked for."""
        times = [writers[element].invoked if element in writers else -inf for element in self.elements]
        return dict(zip(self.element_at, accumulate(times, max), strict=True))


def faults(operations: History, writers: dict[bytes, Operation]) -> Iterator[str]:
    """Of the operations on one list. `writers`: for each element the APPEND that asked for it, also if it failed."""
    for operation in operations:
        if operation.status is OK and not isinstance(operation.result, _REPLIES[operation.kind]):
            yield f"no reply to this: {operation}"
            return
    reads = [operation.result or b"" for operation in operations if operation.kind == "GET" and operation.status is OK]
    order = Order(max(reads, key=len, default=b""))
    yield from order.faults(operations[0].key, writers)
    asked = order.asked(writers)
    told: dict[int, Operation] = {}
    for operation, floor in floors(operations, length):
        if operation.status is not OK:
            continue
        reached = length(operation)
        fault = _read_fault(operation, order) if operation.kind == "GET" else _append_fault(operation, order, told)
        if fault:
            yield fault
        if asked.get(reached, -inf) > operation.returned:
            yield f"it saw what had not been asked for yet: {operation}"
        if reached - len(operation.argument or b"") < max(floor, 0):
            yield f"the list had been {max(floor, 0)} bytes long before: {operation}"


def _read_fault(read: Operation, order: Order) -> str | None:
    if not order.longest.startswith(read.result or b""):
        return f"not a beginning of the longest read, {order.longest!r}: {read}"
    if length(read) and length(read) not in order.element_at:
        return f"no element ends there: {read}"
    return None


def _append_fault(append: Operation, order: Order, told: dict[int, Operation]) -> str | None:
    place = length(append)
    if told.setdefault(place, append) is not append:
        return f"two elements in one place: {told[place]} and {append}"
    if place <= len(order.longest) and order.element_at.get(place) != append.argument:
        return f"the longest read has {order.element_at.get(place)!r} in its place: {append}"
    return None


def length(operation: Operation) -> int:
    """Of the list, after the operation."""
    result = operation.result
    return result if isinstance(result, int) else len(result or b"")


def by_element(history: Iterable[Operation]) -> dict[bytes, Operation]:
    return {operation.argument: operation for operation in history if operation.kind == "APPEND"}
