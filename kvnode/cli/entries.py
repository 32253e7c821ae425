"""Entries of the log as lines for people and as JSON. Pure functions; stored data never reaches a terminal unescaped.

A line:   seq  term  time (UTC)  verb  key  value          (an APPEND's operand stands in the place of the value)
JSON:     {"seq": 42, "term": 3, "time_ms": 1700000000000, "verb": "SET", "key": "k", "value": "v"}

Bytes that are not UTF-8 become `\\xff` in a line and `{"base64": "…"}` in JSON, so that nothing is lost there. A
transaction is one entry: its effects are joined by "; " in a line, and a list "effects" in JSON. Where only some of
them were asked for, a line shows these, and says so: `TX 1/3`. A verb that this version does not know is shown with
its operands as "args", so that an old tool reads a newer log.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.cells import cell_len, set_cell_size

SEQ_WIDTH = 8
TERM_WIDTH = 4
VERB_WIDTH = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}
_BYTES = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\"}
_ESCAPED = re.compile(r"\\(?:([nrt\\])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")
_OPERANDS = {
    "SET": ("key", "value"),
    "UPD": ("key", "value"),
    "APPEND": ("key", "value"),
    "DEL": ("key",),
    "FLUSHALL": (),
    "NOOP": (),
}

TRANSACTION = "TX"
VERBS = (*_OPERANDS, TRANSACTION)
HEADING = f"{'seq':>{SEQ_WIDTH}} {'term':>{TERM_WIDTH}}  {'time':<24}  {'verb':<{VERB_WIDTH}} key value"


class BadEscape(ValueError):
    """The text is not what `escape` makes of bytes; the message says which part of it."""


def line(
    seq: int,
    term: int,
    time: str,
    entry: Sequence[Any],
    width: int | None = None,
    effects: Sequence[Any] | None = None,
) -> str:
    """One entry as one line without its end, cut to `width` cells of a terminal where that is given.

    `effects`: of a transaction, show these alone.
    """
    # An escaped byte takes at least a cell, so more than this can not be seen; escaping 16 MiB to cut it is slow.
    limit = None if width is None else width + 1
    verb, rest = _verb_and_rest(entry if effects is None else (TRANSACTION, effects), limit)
    if effects is not None and len(effects) < len(entry[1]):
        verb += f" {len(effects)}/{len(entry[1])}"
    text = f"{seq:>{SEQ_WIDTH}} {term:>{TERM_WIDTH}}  {time}  {verb:<{VERB_WIDTH}} {rest}".rstrip(" ")
    return text if width is None else cut(text, width)


def as_json(seq: int, term: int, time_ms: int, entry: Sequence[Any]) -> str:
    """One entry as one JSON object in one line, ASCII only."""
    return json.dumps(as_object(seq, term, time_ms, entry))


def as_object(seq: int, term: int, time_ms: int, entry: Sequence[Any]) -> dict[str, Any]:
    """One entry for JSON."""
    return {"seq": seq, "term": term, "time_ms": time_ms, **_as_object(entry)}


def time_text(time_ms: int) -> str:
    """Log time as UTC with milliseconds; the plain number where no calendar reaches."""
    try:
        moment = _EPOCH + timedelta(milliseconds=time_ms)
    except OverflowError:
        return f"{time_ms:<24}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def escape(data: object, limit: int | None = None) -> str:
    """Any value of an entry as printable text on one line; of bytes, at most the first `limit`."""
    if isinstance(data, bytes):
        data = data[:limit].decode("utf-8", "surrogateescape")
    text = str(data)
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_escape(character) for character in text)


def unescape(text: str) -> bytes:
    """The bytes that `escape` shows as `text`. Raises BadEscape."""
    pieces = []
    position = 0
    while (found := text.find("\\", position)) >= 0:
        match = _ESCAPED.match(text, found)
        if match is None:
            raise BadEscape(f"{text[found : found + 2]} is no escape; a backslash itself is written as \\\\")
        pieces.append(_encode(text[position:found]))
        named, byte, short, long = match.groups()
        if named or byte:
            pieces.append(_BYTES[named] if named else bytes([int(byte, 16)]))
        elif int(short or long, 16) > sys.maxunicode:
            raise BadEscape(f"{match[0]} is no character")
        else:
            pieces.append(_encode(chr(int(short or long, 16))))
        position = match.end()
    return b"".join([*pieces, _encode(text[position:])])


def cut(text: str, width: int) -> str:
    """At most `width` cells, with an ellipsis where something is missing."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + "…"


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")  # as the arguments of a command are decoded
    except UnicodeEncodeError:
        raise BadEscape("a surrogate is no character") from None


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if character in _NAMED:
        return _NAMED[character]
    if character.isprintable():
        return character
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _checked(entry: Any) -> Sequence[Any]:
    """The log's checksums vouch for its bytes, not for their sense: what is no entry is shown all the same."""
    return entry if isinstance(entry, list | tuple) and entry else ("?", entry)


def _verb_and_rest(entry: Sequence[Any], limit: int | None) -> tuple[str, str]:
    verb, *operands = _checked(entry)
    if verb == TRANSACTION and operands and isinstance(operands[0], list | tuple):
        shown = operands[0] if limit is None else operands[0][:limit]
        return TRANSACTION, "; ".join(" ".join(_verb_and_rest(effect, limit)).rstrip(" ") for effect in shown)
    return escape(verb), " ".join(escape(operand, limit) for operand in operands)


def _as_object(entry: Sequence[Any]) -> dict[str, Any]:
    verb, *operands = _checked(entry)
    if verb == TRANSACTION and operands and isinstance(operands[0], list | tuple):
        return {"verb": TRANSACTION, "effects": [_as_object(effect) for effect in operands[0]]}
    names = _OPERANDS.get(verb) if isinstance(verb, str) else None
    if names is None or len(names) != len(operands):
        return {"verb": _plain(verb), "args": [_plain(operand) for operand in operands]}
    return {"verb": verb, **{name: _plain(operand) for name, operand in zip(names, operands, strict=True)}}


def _plain(value: Any) -> Any:
    """A msgpack value as JSON can hold it."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return [[_plain(key), _plain(item)] for key, item in value.items()]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)
