"""What a client gets: replies (kvnode.reply) encoded as RESP2 or RESP3.

    reply           RESP2               RESP3
    Status          +OK                 +OK
    CommandError    -ERR text           -ERR text
    int             :42                 :42
    bytes, str      $5 CRLF hello       $5 CRLF hello
    None            $-1                 _
    list            *2 …                *2 …
    dict            *4, flat            %2 …
    Verbatim        $5 CRLF hello       =9 CRLF txt:hello

A status or an error is one line: a CR or LF in its text becomes a space, so that no text that came from a client can
end a reply early and begin another.
Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from kvnode.invariant import InvariantError
from kvnode.reply import OK, CommandError, Reply, Status, Verbatim

RESP2: Final = 2
RESP3: Final = 3

OK_BYTES: Final = b"+OK\r\n"
NULL_BYTES: Final = {RESP2: b"$-1\r\n", RESP3: b"_\r\n"}
SLICE_ELEMENTS: Final = 5_000
"""Elements of an array that are encoded at once: a millisecond or two."""

SMALL_BULKS: Final = [b"$%d\r\n" % size for size in range(1024)]
# Counts of keys, results of EXISTS and DEL: most integers are small.
_SMALL_INTEGERS: Final = tuple(b":%d\r\n" % number for number in range(256))
_NO_LINE_ENDS: Final = str.maketrans("\r\n", "  ")


def encode(reply: Reply, protocol: int) -> bytes:
    """The bytes of `reply` for a client that speaks `protocol`, 2 or 3."""
    if reply is OK:
        return OK_BYTES
    if isinstance(reply, bytes):
        size = len(reply)
        return SMALL_BULKS[size] + reply + b"\r\n" if size < len(SMALL_BULKS) else b"$%d\r\n%b\r\n" % (size, reply)
    if reply is None:
        return NULL_BYTES[protocol]
    if isinstance(reply, int):
        return _SMALL_INTEGERS[reply] if 0 <= reply < 256 else b":%d\r\n" % reply
    if isinstance(reply, list):
        return b"*%d\r\n%b" % (len(reply), b"".join([encode(element, protocol) for element in reply]))
    return _encode_rare(reply, protocol)


def encode_error(text: str) -> bytes:
    """An error reply; `text` begins with its code, without the leading '-'."""
    return b"-%b\r\n" % _line(text)


def _encode_rare(reply: Reply, protocol: int) -> bytes:
    if isinstance(reply, Status):
        return b"+%b\r\n" % _line(reply.text)
    if isinstance(reply, CommandError):
        return encode_error(reply.text)
    if isinstance(reply, str):
        return encode(_utf8(reply), protocol)
    if isinstance(reply, Verbatim):
        text = _utf8(reply.text)
        return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text) if protocol == RESP3 else encode(text, protocol)
    if isinstance(reply, dict):
        header = b"%%%d\r\n" % len(reply) if protocol == RESP3 else b"*%d\r\n" % (2 * len(reply))
        return header + b"".join([encode(part, protocol) for pair in reply.items() for part in pair])
    raise InvariantError(f"not a reply: {reply!r}")


def encode_in_slices(reply: Reply, protocol: int) -> Generator[None, None, bytes]:
    """As `encode`, for replies of any length: pauses (None) after some milliseconds of work; returns the bytes."""
    parts: list[bytes] = []
    yield from _append_in_slices(parts, reply, protocol)
    return b"".join(parts)


def _append_in_slices(parts: list[bytes], reply: Reply, protocol: int) -> Generator[None, None, None]:
    if not isinstance(reply, list):
        parts.append(encode(reply, protocol))
        return
    parts.append(b"*%d\r\n" % len(reply))
    is_flat = not any(isinstance(element, list) for element in reply[:SLICE_ELEMENTS])
    for begin in range(0, len(reply), SLICE_ELEMENTS):
        elements = reply[begin : begin + SLICE_ELEMENTS]
        if is_flat:
            parts.append(b"".join([encode(element, protocol) for element in elements]))
            yield
        else:
            for element in elements:
                yield from _append_in_slices(parts, element, protocol)


def _line(text: str) -> bytes:
    if "\r" in text or "\n" in text:
        text = text.translate(_NO_LINE_ENDS)
    return _utf8(text)


def _utf8(text: str) -> bytes:
    # "replace": a text that quotes bytes of a client may hold what UTF-8 can not say.
    return text.encode("utf-8", "replace")
