"""Replies as text. Pure.

raw     for programs: the bytes and a line feed; null is an empty line, an array one line per element
pretty  for people, as redis-cli prints it; nothing that is stored can move the cursor or change colours
json    one line; what is not UTF-8 becomes {"b64": "…"}
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from redis.exceptions import ResponseError

from kvclient.typed import Pairs, Status, Verbatim

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b", "\\": "\\\\", '"': '\\"'}


def raw(reply: Any) -> Iterator[bytes]:
    """Lines, without their line feeds."""
    if reply is None:
        yield b""
    elif isinstance(reply, Verbatim):
        yield reply.replace(b"\r\n", b"\n").removesuffix(b"\n")
    elif isinstance(reply, bytes):
        yield reply
    elif isinstance(reply, bool):
        yield b"true" if reply else b"false"
    elif isinstance(reply, int | float):
        yield repr(reply).encode()
    elif isinstance(reply, ResponseError):
        yield b"(error) " + str(reply).encode()
    elif isinstance(reply, list):
        for item in reply:
            yield from raw(item)
    elif isinstance(reply, dict | tuple):
        for item in reply.items() if isinstance(reply, dict) else reply:
            yield from raw(item)
    else:
        yield str(reply).encode()


def pretty(reply: Any) -> Iterator[str]:
    """Lines as redis-cli prints them to a terminal."""
    if isinstance(reply, Pairs | dict):
        yield from _pretty_map(list(reply.items()) if isinstance(reply, dict) else reply)
    elif isinstance(reply, list):
        yield from _pretty_list(reply)
    elif isinstance(reply, Verbatim):
        yield from text_lines(reply)
    else:
        yield _pretty_scalar(reply)


def _pretty_scalar(reply: Any) -> str:
    match reply:
        case None:
            return "(nil)"
        case Status():
            return printable(reply.decode("utf-8", "replace"))
        case bytes():
            return quoted(reply)
        case bool():
            return f"({str(reply).lower()})"
        case int():
            return f"(integer) {reply}"
        case float():
            return f"(double) {reply!r}"
        case ResponseError():
            return f"(error) {printable(str(reply))}"
        case _:
            return printable(str(reply))


def _pretty_list(items: list[Any]) -> Iterator[str]:
    if not items:
        yield "(empty array)"
    width = len(str(len(items)))
    for number, item in enumerate(items, 1):
        yield from _hanging(f"{number:>{width}}) ", pretty(item))


def _pretty_map(pairs: list[tuple[Any, Any]]) -> Iterator[str]:
    if not pairs:
        yield "(empty map)"
    width = len(str(len(pairs)))
    for number, (key, value) in enumerate(pairs, 1):
        lines = list(pretty(value))
        head = f"{number:>{width}}# {' '.join(pretty(key))} => "
        if len(lines) == 1:
            yield head + lines[0]
        else:
            yield head.rstrip()
            yield from (" " * (width + 2) + line for line in lines)


def _hanging(head: str, lines: Iterator[str]) -> Iterator[str]:
    """The first line after `head`, the others below it."""
    for line in lines:
        yield head + line
        head = " " * len(head)


def quoted(data: bytes) -> str:
    """Bytes between double quotes, in the syntax that the shell reads. Printable UTF-8 stands for itself."""
    return '"' + "".join(_escaped(character) for character in data.decode("utf-8", "surrogateescape")) + '"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def printable(text: str) -> str:
    """Text of a node on one line, with control characters escaped."""
    return "".join(
        character if character.isprintable() or character == " " else _escaped(character) for character in text
    )


def text_lines(data: bytes) -> Iterator[str]:
    """Text of several lines, with control characters escaped."""
    for line in data.decode("utf-8", "replace").removesuffix("\n").split("\n"):
        yield printable(line.removesuffix("\r").expandtabs())


def as_json(reply: Any) -> str:
    """One line of JSON."""
    return json.dumps(_plain(reply), ensure_ascii=False)


def _plain(reply: Any) -> Any:
    if isinstance(reply, bytes):
        try:
            return reply.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(reply).decode()}
    if isinstance(reply, Pairs | dict):
        items = reply.items() if isinstance(reply, dict) else reply
        return {_name(key): _plain(value) for key, value in items}
    if isinstance(reply, list | tuple):
        return [_plain(item) for item in reply]
    if isinstance(reply, ResponseError):
        return {"error": str(reply)}
    return reply


def _name(key: Any) -> str:
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
