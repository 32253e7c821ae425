"""What operations do: the meaning that a history is held against, written anew and not taken from the product.

`evaluate(read, operation)` says what an operation answers and changes where `read` gives the value of a key, None for a
missing one. It serves the checker that replays the log. The black-box checker wants a model: a state that can be
hashed, and `step(state, operation) -> (fits, state)`, which says whether the operation may take effect there with the
result that it had (with any, if that is unknown), and what it leaves.

    Keys    some keys of kvnode. The state is the tuple of their values, in order of the keys
    Cas     one register of integers with read, write and compare-and-set, as in Jepsen's logs of etcd
    Text    one text with get, put and append, as in the logs of porcupine's key-value test

Arguments, by kind: a value; for SET a value or (value, option, …); for INCRBY and DECRBY an integer; for MSET a tuple
of values, one for each key. Limits on sizes are not modelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from tests.checker.history import OK, Error, Operation

Value = bytes | None
Read = Callable[[bytes], Value]
Changes = dict[bytes, Value]
"""What an operation leaves in keys, None for a key that is gone. Not to be changed once it was returned."""

DONE = b"OK"
NO_SUCH_KEY = Error("no such key")
NOT_AN_INTEGER = Error("value is not an integer or out of range")
OVERFLOW = Error("increment or decrement would overflow")
NOTHING: Changes = {}


class Kind(NamedTuple):
    """`evaluate(read, key, argument)` gives the result and the changes; `wrote(argument, result)` says whether an
    operation with this result has changed something, and so has an entry of its own in the log. None: it never does."""

    evaluate: Callable[[Read, Any, Any], tuple[Any, Changes]]
    wrote: Callable[[Any, Any], bool] | None


def evaluate(read: Read, operation: Operation) -> tuple[Any, Changes]:
    return KINDS[operation.kind].evaluate(read, operation.key, operation.argument)


def may_write(operation: Operation) -> bool:
    """Whether it has changed something; of an unknown outcome, whether it can."""
    wrote = KINDS[operation.kind].wrote
    return wrote is not None and (operation.status is not OK or wrote(operation.argument, operation.result))


def words(kind: str, key: Any, argument: Any) -> list[bytes]:
    """The request, as it goes over the wire."""
    keys = key if isinstance(key, tuple) else (key,)
    arguments = argument if isinstance(argument, tuple) else () if argument is None else (argument,)
    if kind == "MSET":
        tail = [word for pair in zip(keys, arguments, strict=True) for word in pair]
    else:
        tail = [*keys, *arguments]
    return [kind.encode(), *(b"%d" % word if isinstance(word, int) else word for word in tail)]


# Kinds


def _get(read: Read, key: bytes, _: None) -> tuple[Value, Changes]:
    return read(key), NOTHING


def _strlen(read: Read, key: bytes, _: None) -> tuple[int, Changes]:
    return len(read(key) or b""), NOTHING


def _mget(read: Read, keys: tuple[bytes, ...], _: None) -> tuple[tuple[Value, ...], Changes]:
    return tuple(map(read, keys)), NOTHING


def _exists(read: Read, key: Any, _: None) -> tuple[int, Changes]:
    return sum(read(each) is not None for each in _each(key)), NOTHING


def _each(key: Any) -> tuple[bytes, ...]:
    return key if isinstance(key, tuple) else (key,)


def _set(read: Read, key: bytes, argument: Any) -> tuple[Any, Changes]:
    if not isinstance(argument, tuple):
        return DONE, {key: argument}
    value, *options = argument
    old = read(key)
    if (b"NX" in options and old is not None) or (b"XX" in options and old is None):
        return (old if b"GET" in options else None), NOTHING
    return (old if b"GET" in options else DONE), {key: value}


def _set_wrote(argument: Any, result: Any) -> bool:
    if not isinstance(argument, tuple) or b"GET" not in argument[1:]:
        return bool(result == DONE)
    return not (b"NX" in argument[1:] and result is not None) and not (b"XX" in argument[1:] and result is None)


def _mset(_: Read, keys: tuple[bytes, ...], values: tuple[bytes, ...]) -> tuple[bytes, Changes]:
    return DONE, dict(zip(keys, values, strict=True))


def _setnx(read: Read, key: bytes, value: bytes) -> tuple[int, Changes]:
    return (1, {key: value}) if read(key) is None else (0, NOTHING)


def _getset(read: Read, key: bytes, value: bytes) -> tuple[Value, Changes]:
    return read(key), {key: value}


def _getdel(read: Read, key: bytes, _: None) -> tuple[Value, Changes]:
    old = read(key)
    return old, NOTHING if old is None else {key: None}


def _upd(read: Read, key: bytes, value: bytes) -> tuple[Any, Changes]:
    return (NO_SUCH_KEY, NOTHING) if read(key) is None else (DONE, {key: value})


def _del(read: Read, key: Any, _: None) -> tuple[int, Changes]:
    gone: Changes = {each: None for each in _each(key) if read(each) is not None}
    return len(gone), gone


def _append(read: Read, key: bytes, operand: bytes) -> tuple[int, Changes]:
    grown = (read(key) or b"") + operand
    return len(grown), {key: grown}


def _add(read: Read, key: bytes, amount: int) -> tuple[Any, Changes]:
    value = read(key)
    number = 0 if value is None else integer(value)
    if number is None:
        return NOT_AN_INTEGER, NOTHING
    total = number + amount
    return (total, {key: b"%d" % total}) if -(2**63) <= total < 2**63 else (OVERFLOW, NOTHING)


def integer(value: bytes) -> int | None:
    """The number that `value` is the only way to write, in 64 bits with sign."""
    try:
        number = int(value[:21])
    except ValueError:
        return None
    return number if b"%d" % number == value and -(2**63) <= number < 2**63 else None


def _always(_: Any, result: Any) -> bool:
    return not isinstance(result, Error)


KINDS = {
    "GET": Kind(_get, None),
    "STRLEN": Kind(_strlen, None),
    "MGET": Kind(_mget, None),
    "EXISTS": Kind(_exists, None),
    "SET": Kind(_set, _set_wrote),
    "MSET": Kind(_mset, _always),
    "SETNX": Kind(_setnx, lambda _, result: bool(result == 1)),
    "GETSET": Kind(_getset, _always),
    "GETDEL": Kind(_getdel, lambda _, result: isinstance(result, bytes)),
    "UPD": Kind(_upd, _always),
    "DEL": Kind(_del, lambda _, result: isinstance(result, int) and result > 0),
    "APPEND": Kind(_append, _always),
    "INCR": Kind(lambda read, key, _: _add(read, key, 1), _always),
    "DECR": Kind(lambda read, key, _: _add(read, key, -1), _always),
    "INCRBY": Kind(_add, _always),
    "DECRBY": Kind(lambda read, key, amount: _add(read, key, -amount), _always),
}


# Models


class Model(Protocol):
    @property
    def start(self) -> Any:
        """The state before everything; states are hashable."""
        ...

    def may_write(self, operation: Operation) -> bool:
        """False: it never changes a state that it fits in, and may be taken as soon as it fits."""
        ...

    def step(self, state: Any, operation: Operation) -> tuple[bool, Any]: ...

    def show(self, state: Any) -> str:
        """The state, for people."""
        ...


class Keys:
    def __init__(self, keys: Iterable[bytes]) -> None:
        self.keys = tuple(sorted(keys))
        self.start = (None,) * len(self.keys)

    def may_write(self, operation: Operation) -> bool:
        return may_write(operation)

    def step(self, state: tuple[Value, ...], operation: Operation) -> tuple[bool, tuple[Value, ...]]:
        values: Changes = dict(zip(self.keys, state, strict=True))
        result, changes = KINDS[operation.kind].evaluate(values.get, operation.key, operation.argument)
        if operation.status is OK and result != operation.result:
            return False, state
        if changes:
            values.update(changes)
            state = tuple(values.values())
        return True, state

    def show(self, state: tuple[Value, ...]) -> str:
        return ", ".join(f"{key!r}: {value!r:.200}" for key, value in zip(self.keys, state, strict=True))


class Cas:
    start = None

    def __init__(self, keys: Iterable[Any]) -> None:
        pass

    def may_write(self, operation: Operation) -> bool:
        return operation.kind != "read" and operation.result is not False

    def step(self, state: int | None, operation: Operation) -> tuple[bool, int | None]:
        match operation.kind:
            case "read":
                return state == operation.result, state
            case "write":
                return True, operation.argument
            case "cas":
                old, new = operation.argument
                if operation.status is not OK:
                    return True, new if state == old else state
                return operation.result is (state == old), new if state == old else state
        raise ValueError(f"no operation of this register: {operation}")

    def show(self, state: int | None) -> str:
        return str(state)


class Text:
    start = b""

    def __init__(self, keys: Iterable[Any]) -> None:
        pass

    def may_write(self, operation: Operation) -> bool:
        return operation.kind != "get"

    def step(self, state: bytes, operation: Operation) -> tuple[bool, bytes]:
        match operation.kind:
            case "get":
                return state == operation.result, state
            case "put":
                return True, operation.argument
            case "append":
                return True, state + operation.argument
        raise ValueError(f"no operation on this text: {operation}")

    def show(self, state: bytes) -> str:
        return repr(state)
