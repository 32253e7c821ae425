"""C1: the servers' own account of the order, held against what clients saw. O(n log n), for millions of operations.

With `CLIENT REPLYSEQ ON` each reply tells a seq: a write its own, a read one at which it is the truth. Together with
the log that is a complete order: by seq, the write before the reads. It is a witness of linearizability if

    1. no two writes tell the same seq; an operation on several keys is one entry with one seq
    2. what returned before an operation was invoked tells no higher seq, and a lower one if the operation is a write
    3. what one process sent earlier tells no higher seq either, and a lower one likewise
    4. replaying the log, entry by entry, each operation that tells a seq gets the reply that it got: a write as the
       command that makes that very entry out of the state before it, everything else in the state after it
    5. every other entry is a no-op, or the effect of an operation with unknown outcome, which has this one entry at
       most, and none below what had returned before it was invoked (2). So nothing that failed is in the log, nothing
       is there twice, and nothing that nobody asked for

Positions are the servers' word: C2 does without.

The log is that of any one member, or of all, once they agree: (seq, entry) from seq 1 on, without gaps, and an entry as
in kvnode/store/effects.py. The history must have every write that was ever sent. Reads that waive linearizability
(READONLY) do not belong into it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.checker.history import FAIL, OK, History, Operation
from tests.checker.models import Changes, Read, Value, evaluate, may_write
from tests.checker.real_time import LOWEST, floors
from tests.checker.verdict import Verdict, by_faults

FAULTS_MAX = 10
Log = Iterable[tuple[int, Sequence[Any]]]


def check(history: Iterable[Operation], log: Log) -> Verdict:
    return by_faults(Witness(history).faults(log))


class Unclaimed(NamedTuple):
    """An entry that no answered operation has made, with the values of its keys before it."""

    seq: int
    entry: Sequence[Any]
    before: Mapping[bytes, Value]
    changes: Changes


class TooMany(Exception):
    """Enough faults were found."""


class Witness:
    def __init__(self, history: Iterable[Operation]) -> None:
        self._history: History = list(history)
        self._state: dict[bytes, bytes] = {}
        self._unclaimed: list[Unclaimed] = []
        self._open: list[tuple[int, Operation]] = []
        """The operations with unknown outcome that may be in the log, and the seq that they must be above."""
        self._faults: list[str] = []

    def __repr__(self) -> str:
        return f"Witness operations={len(self._history)} faults={len(self._faults)}"

    def faults(self, log: Log) -> list[str]:
        """What is wrong, the first FAULTS_MAX findings."""
        try:
            told = self._with_seq()
            self._check_order()
            self._replay(told, log)
            self._explain_unclaimed()
        except TooMany:
            pass
        return self._faults

    def _fault(self, text: str) -> None:
        self._faults.append(text)
        if len(self._faults) == FAULTS_MAX:
            raise TooMany

    def _with_seq(self) -> History:
        told = [operation for operation in self._history if operation.status is OK]
        for operation in told:
            if operation.seq is None:
                self._fault(f"a reply tells no seq: {operation}")
        return [operation for operation in told if operation.seq is not None]

    # Times

    def _check_order(self) -> None:
        newest: dict[Any, int] = {}
        for operation, returned_seq in floors(self._history, _seq):
            if operation.status is OK:
                process = operation.process
                sent_seq = newest.get(process, LOWEST)
                newest[process] = seq = _seq(operation)
                is_write = may_write(operation)
                if seq < returned_seq + is_write:
                    self._fault(f"seq {returned_seq} had been told before this was asked: {operation}")
                elif seq < sent_seq + is_write:
                    self._fault(f"the same process was told seq {sent_seq} for what it sent before: {operation}")
            elif operation.status is not FAIL and may_write(operation):
                self._open.append((returned_seq, operation))

    # Replies

    def _replay(self, told: History, log: Log) -> None:
        told.sort(key=lambda operation: (operation.seq, not may_write(operation)))
        waiting = deque(told)
        last_seq = 0
        self._check_reads(waiting, 0)
        for seq, entry in log:
            if seq != last_seq + 1:
                self._fault(f"the log goes from seq {last_seq} to {seq}")
            last_seq = seq
            changes = changes_of(entry, self._state.get)
            self._check_writes(waiting, seq, entry, changes)
            for key, value in changes.items():
                if value is None:
                    self._state.pop(key, None)
                else:
                    self._state[key] = value
            self._check_reads(waiting, seq)
        for operation in waiting:
            self._fault(f"the log ends at seq {last_seq}, this is not in it: {operation}")

    def _check_writes(self, waiting: deque[Operation], seq: int, entry: Sequence[Any], changes: Changes) -> None:
        writer: Operation | None = None
        read = self._state.get
        while waiting and waiting[0].seq == seq and may_write(waiting[0]):
            operation = waiting.popleft()
            if writer is not None:
                self._fault(f"two writes tell seq {seq}: {writer} and {operation}")
            writer = operation
            result, expected = evaluate(read, operation)
            if expected != changes:
                self._fault(f"the log has {entry!r:.200} at seq {seq}, which is not what was asked: {operation}")
            elif result != operation.result:
                self._fault(f"the reply should have been {result!r:.200}: {operation}")
        if writer is None and changes:
            before = {key: read(key) for key in changes}
            self._unclaimed.append(Unclaimed(seq, entry, before, changes))

    def _check_reads(self, waiting: deque[Operation], seq: int) -> None:
        """All that tell `seq` and have changed nothing; the state is the one at that seq."""
        read = self._state.get
        while waiting and waiting[0].seq == seq:
            operation = waiting.popleft()
            if may_write(operation):
                self._fault(f"there is no entry at seq {seq}, but a write tells it: {operation}")
                continue
            result, _ = evaluate(read, operation)  # with this result it changes nothing: see may_write
            if result != operation.result:
                self._fault(f"the reply should have been {result!r:.200} at seq {seq}: {operation}")

    # Entries that no reply tells of

    def _explain_unclaimed(self) -> None:
        """Give each unclaimed entry an unknown operation of its own: a matching, by augmenting paths."""
        candidates = Candidates(self._open)
        given: dict[int, Unclaimed] = {}  # number of the operation -> the entry that it has made
        for unclaimed in self._unclaimed:
            if not _augment(unclaimed, candidates, given):
                failed = (each for each in self._history if each.status is FAIL and _makes(each, unclaimed))
                culprit = next((f"; it failed, they say: {each}" for each in failed), "")
                self._fault(f"nobody made {unclaimed.entry!r:.200}, which the log has at seq {unclaimed.seq}{culprit}")


def _seq(operation: Operation) -> int:
    return LOWEST if operation.seq is None else operation.seq


def changes_of(entry: Sequence[Any], read: Read) -> Changes:
    """What an entry of the log changes in keys."""
    match entry:
        case ["SET" | "UPD", key, value]:
            return {key: value}
        case ["DEL", key]:
            return {key: None}
        case ["APPEND", key, operand]:
            return {key: (read(key) or b"") + operand}
        case ["NOOP"]:
            return {}
        case ["TX", effects]:
            changes: Changes = {}

            def read_on(key: bytes) -> Value:
                return changes[key] if key in changes else read(key)

            for effect in effects:
                changes |= changes_of(effect, read_on)
            return changes
    raise ValueError(f"an entry that no operation of a history makes: {entry!r:.200}")


class Candidates:
    """Operations with unknown outcome, to be found by the entry that they may have made."""

    def __init__(self, operations: list[tuple[int, Operation]]) -> None:
        self.operations = operations
        self._by_key: dict[bytes, list[int]] = {}
        for number, (_, operation) in enumerate(operations):
            for key in operation.keys:
                self._by_key.setdefault(key, []).append(number)

    def of(self, unclaimed: Unclaimed) -> Iterator[int]:
        """Their numbers. The one that was asked last comes first: most probably it was that."""
        numbers = self._by_key.get(next(iter(unclaimed.changes)), [])
        end = bisect_left(numbers, unclaimed.seq, key=lambda number: self.operations[number][0])  # floors only grow
        for position in range(end - 1, -1, -1):
            if _makes(self.operations[numbers[position]][1], unclaimed):
                yield numbers[position]


def _makes(operation: Operation, unclaimed: Unclaimed) -> bool:
    keys = operation.keys
    return all(key in keys for key in unclaimed.changes) and (
        evaluate(unclaimed.before.get, operation)[1] == unclaimed.changes
    )


def _augment(unclaimed: Unclaimed, candidates: Candidates, given: dict[int, Unclaimed]) -> bool:
    """Give the entry an operation, if need be one that another entry had, which gets another one in turn."""
    came_from: dict[int, Unclaimed] = {}
    had: dict[int, int] = {}  # seq of an entry -> the operation that it has so far
    queue = deque([unclaimed])
    while queue:
        entry = queue.popleft()
        for number in candidates.of(entry):
            if number in came_from:
                continue
            came_from[number] = entry
            holder = given.get(number)
            if holder is not None:
                had[holder.seq] = number
                queue.append(holder)
                continue
            free: int | None = number
            while free is not None:
                taker = came_from[free]
                given[free] = taker
                free = had.get(taker.seq)
            return True
    return False
