"""The commands of the client: what each sends, whether it only reads, and what its reply becomes.

Pure, and shared by the sync and the asyncio client. Keys and values go in as bytes, str (UTF-8) or int, and come out
as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Argument = bytes | bytearray | memoryview | str | int
Fields = dict[str, str | int]

# Commands without effect: another node may be asked when one fails to answer. Anything else counts as a write.
READS = frozenset(
    b"GET MGET EXISTS STRLEN TYPE KEYS SCAN RANGE DBSIZE PING ECHO TIME ROLE INFO COMMAND HELLO DEBUG CONFIG".split()
)


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One command. `decode` turns its reply (bytes, int, None, list, dict) into what the caller gets."""

    args: tuple[bytes, ...]
    reads: bool
    decode: Callable[[Any], T]

    def __repr__(self) -> str:
        return f"Request({b' '.join(self.args)[:60]!r}, {'reads' if self.reads else 'writes'})"


def encode(argument: Argument) -> bytes:
    """An argument as it goes over the wire. Raises TypeError for what has no single obvious form."""
    if isinstance(argument, bytes):
        return argument
    if isinstance(argument, str):
        return argument.encode()
    if isinstance(argument, int) and not isinstance(argument, bool):
        return b"%d" % argument
    if isinstance(argument, bytearray | memoryview):
        return bytes(argument)
    raise TypeError(f"expected bytes, str or int, not {argument.__class__.__name__}")


def _request(decode: Callable[[Any], T], *arguments: Argument) -> Request[T]:
    args = tuple(map(encode, arguments))
    return Request(args, args[0].upper() in READS, decode)


def _same(reply: Any) -> Any:
    return reply


def _nothing(reply: Any) -> None:
    return None


def _is_given(reply: Any) -> bool:
    return reply is not None


def _text(reply: Any) -> str:
    return bytes(reply).decode("utf-8", "replace")


def command(*arguments: Argument) -> Request[Any]:
    """Any command; its reply as it comes."""
    if not arguments:
        raise TypeError("a command has at least its name")
    return _request(_same, *arguments)


def ping() -> Request[bool]:
    return _request(lambda reply: reply == b"PONG", "PING")


# --- one key ---


def get(key: Argument) -> Request[bytes | None]:
    return _request(_same, "GET", key)


def set(key: Argument, value: Argument, *, nx: bool = False, xx: bool = False) -> Request[bool]:
    return _request(_is_given, "SET", key, value, *_flags(nx=nx, xx=xx))


def set_get(key: Argument, value: Argument, *, nx: bool = False, xx: bool = False) -> Request[bytes | None]:
    return _request(_same, "SET", key, value, *_flags(nx=nx, xx=xx, get=True))


def _flags(**flags: bool) -> list[str]:
    return [name.upper() for name, is_set in flags.items() if is_set]


def upd(key: Argument, value: Argument) -> Request[None]:
    return _request(_nothing, "UPD", key, value)


def getdel(key: Argument) -> Request[bytes | None]:
    return _request(_same, "GETDEL", key)


def append(key: Argument, value: Argument) -> Request[int]:
    return _request(int, "APPEND", key, value)


def strlen(key: Argument) -> Request[int]:
    return _request(int, "STRLEN", key)


def type(key: Argument) -> Request[str]:
    return _request(_text, "TYPE", key)


def incr(key: Argument, by: int = 1) -> Request[int]:
    return _request(int, "INCR", key) if by == 1 else _request(int, "INCRBY", key, by)


def decr(key: Argument, by: int = 1) -> Request[int]:
    return _request(int, "DECR", key) if by == 1 else _request(int, "DECRBY", key, by)


# --- several keys ---


def delete(*keys: Argument) -> Request[int]:
    return _request(int, "DEL", *keys)


def exists(*keys: Argument) -> Request[int]:
    return _request(int, "EXISTS", *keys)


def mget(*keys: Argument) -> Request[list[bytes | None]]:
    return _request(list, "MGET", *keys)


def mset(values: Mapping[Any, Argument]) -> Request[None]:
    return _request(_nothing, "MSET", *(argument for pair in values.items() for argument in pair))


# --- the key space ---


def keys(pattern: Argument = b"*") -> Request[list[bytes]]:
    return _request(list, "KEYS", pattern)


def scan(
    cursor: Argument = 0, match: Argument | None = None, count: int | None = None
) -> Request[tuple[bytes, list[bytes]]]:
    """One step: the cursor for the next, b"0" at the end, and some keys. A cursor holds at the node that gave it."""
    options: list[Argument] = []
    if match is not None:
        options += ["MATCH", match]
    if count is not None:
        options += ["COUNT", count]
    return _request(lambda reply: (bytes(reply[0]), list(reply[1])), "SCAN", cursor, *options)


def range(
    start: Argument | None = None, end: Argument | None = None, limit: int | None = None
) -> Request[list[tuple[bytes, bytes]]]:
    """Keys in [start, end) and their values, in the order of the keys' bytes. None: from the first, past the last."""
    options: list[Argument] = [] if limit is None else ["LIMIT", limit]
    return _request(_pairs, "RANGE", "-" if start is None else start, "+" if end is None else end, *options)


def _pairs(reply: Any) -> list[tuple[bytes, bytes]]:
    items = iter(reply)
    return list(zip(items, items, strict=True))


def dbsize() -> Request[int]:
    return _request(int, "DBSIZE")


def flushall() -> Request[None]:
    return _request(_nothing, "FLUSHALL")


# --- the node ---


def info(*sections: Argument) -> Request[Fields]:
    return _request(lambda reply: parse_info(bytes(reply)), "INFO", *sections)


def parse_info(data: bytes) -> Fields:
    """The fields of an INFO reply, whole numbers as int. Headings and what is no field are left out."""
    fields: Fields = {}
    for line in data.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            is_number = value.removeprefix("-").isdecimal() and value.isascii() and name != "log_checksum"
            fields[name] = int(value) if is_number else value
    return fields
