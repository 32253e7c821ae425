"""Histories: what clients asked, when, and what they were told.

An operation has an invocation and, where a reply came, a return; both are times of any one clock (virtual, monotonic,
or a plain counter of events). Operations with equal times count as concurrent, so a clock that never repeats is
stricter. What came of it is its status:

    OK        it was answered. An answer that says no (`UPD` of a missing key) is one too: its result is an Error
    FAIL      it was not applied and never will be
    UNKNOWN   it may have been applied, or may be at any time to come: `returned` is infinite. The process that asked is
              retired: whatever its client asks next belongs to another process

A process is one connection: its operations take effect in the order in which they were sent. Keys and values are bytes;
results are what RESP knows: bytes, integers, None, tuples of these, and Error. An operation on several keys has a tuple
of keys.

As a file a history has one JSON object per line, in the order of invocation:

    {"process": 1, "kind": "SET", "key": "k", "argument": "v", "invoked": 3, "returned": 5, "status": "ok",
     "result": "OK", "seq": 17}

Bytes are written as Latin-1 text, so that any of them come back; an Error as {"error": text}; fields that are null may
be left out. `returned` is null where the outcome is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from enum import Enum
from itertools import count
from math import inf
from threading import Lock
from typing import IO, Any, NamedTuple


class Status(Enum):
    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


OK, FAIL, UNKNOWN = Status.OK, Status.FAIL, Status.UNKNOWN

_FAILURES = ("CLUSTERDOWN ", "LOADING ", "MISCONF ", "ERR max number of clients reached")


class Error(NamedTuple):
    """A reply that says no. `text` is without the leading `-`, and without the code where that is `ERR`."""

    text: str


class Operation(NamedTuple):
    """One command of one process. `seq` is the one that `CLIENT REPLYSEQ ON` tells, None where it was not asked for."""

    process: Hashable
    kind: str
    key: Any
    argument: Any
    invoked: float
    returned: float
    status: Status
    result: Any = None
    seq: int | None = None

    @property
    def keys(self) -> tuple[Any, ...]:
        return self.key if isinstance(self.key, tuple) else (self.key,)

    def __str__(self) -> str:
        words = [self.kind, *map(_shown, self.keys), *([] if self.argument is None else [_shown(self.argument)])]
        told = _shown(self.result) if self.status is OK else self.status.value
        seq = "" if self.seq is None else f" seq {self.seq}"
        return f"{self.process}: {' '.join(words)} -> {told} [{self.invoked:.12g}, {self.returned:.12g}]{seq}"


History = list[Operation]


def status_of_error(text: str) -> Status:
    """What an error reply says of the command; `text` is without the leading `-`."""
    if text.startswith(_FAILURES):
        return FAIL
    return UNKNOWN if text.startswith("UNKNOWN ") else OK


class Recorder:
    """Writes a history down while it happens.

    `clock` tells the time; `itertools.count().__next__` will do where one thread sees all events. `invoke` is called
    before the request is sent, the others after the reply is there. What is never answered is unknown. It may be used
    from several threads.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tickets = count()
        self._operations: dict[int, Operation] = {}
        self._guard = Lock()  # while it grows, and is copied: collecting garbage lets other threads run in between

    def __repr__(self) -> str:
        return f"Recorder operations={len(self._operations)}"

    def invoke(self, process: Hashable, kind: str, key: Any, argument: Any = None) -> int:
        """A ticket, with which to tell what came of it."""
        ticket = next(self._tickets)
        operation = Operation(process, kind, key, argument, self._clock(), inf, UNKNOWN)
        with self._guard:
            self._operations[ticket] = operation
        return ticket

    def answer(self, ticket: int, result: Any, seq: int | None = None) -> None:
        self._end(ticket, OK, tuple(result) if isinstance(result, list) else result, seq)

    def error(self, ticket: int, text: str, seq: int | None = None) -> Status:
        """An error reply, without the leading `-`: an answer, a failure or an unknown outcome, which is returned."""
        status = status_of_error(text)
        if status is OK:
            self._end(ticket, OK, Error(text.removeprefix("ERR ")), seq)
        elif status is FAIL:
            self.fail(ticket)
        return status

    def fail(self, ticket: int) -> None:
        """It was certainly not applied: the request never left, or the reply says so."""
        self._end(ticket, FAIL, None, None)

    def _end(self, ticket: int, status: Status, result: Any, seq: int | None) -> None:
        process, kind, key, argument, invoked, *_ = self._operations[ticket]
        self._operations[ticket] = Operation(process, kind, key, argument, invoked, self._clock(), status, result, seq)

    def history(self) -> History:
        """What has happened so far, in the order of invocation; what is under way is unknown."""
        with self._guard:
            operations = list(self._operations.items())
        return [operation for _, operation in sorted(operations)]


def write(history: Iterable[Operation], file: IO[str]) -> None:
    for operation in history:
        fields = {name: _plain(value) for name, value in operation._asdict().items()}
        fields["status"] = operation.status.value
        fields["returned"] = None if operation.status is UNKNOWN else operation.returned
        file.write(json.dumps({name: value for name, value in fields.items() if value is not None}) + "\n")


def read(lines: Iterable[str]) -> Iterator[Operation]:
    for line in lines:
        fields = json.loads(line)
        status = Status(fields["status"])
        returned = fields.get("returned")
        yield Operation(
            fields["process"],
            fields["kind"],
            _as_bytes(fields.get("key")),
            _as_bytes(fields.get("argument")),
            fields["invoked"],
            inf if status is UNKNOWN or returned is None else returned,
            status,
            _as_bytes(fields.get("result")),
            fields.get("seq"),
        )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, Error):
        return {"error": value.text}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value


def _as_bytes(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("latin-1")
    if isinstance(value, dict):
        return Error(value["error"])
    if isinstance(value, list):
        return tuple(_as_bytes(part) for part in value)
    return value


def _shown(value: Any) -> str:
    """A key, a value or a result as people read it, on one line and not without end."""
    if isinstance(value, bytes):
        text = value.decode("latin-1")
        text = text if text.isascii() and text.isprintable() and " " not in text and text else repr(value)
    elif isinstance(value, Error):
        text = f"({value.text})"
    elif isinstance(value, tuple):
        text = " ".join(map(_shown, value))
    else:
        text = "nil" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:30]}…{text[-45:]}"
