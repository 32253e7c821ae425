"""Replies that remember their RESP type, for people to read: OK is not "OK", a map is not an array.

    +…  Status        $…  bytes       :…  int       _, $-1, *-1  None       *…, ~…  list
    =…  Verbatim      %…  Pairs       ,…  float     #…           bool       -…, !…  ResponseError

The library itself uses hiredis, which is faster and drops these differences.
"""

from __future__ import annotations

from typing import Any

import redis.connection
from redis.exceptions import ConnectionError, InvalidResponse

from kvclient.wire import whole_error

_Parser: Any = redis.connection._RESP3Parser  # type: ignore[attr-defined]


class Status(bytes):
    """A simple string."""


class Verbatim(bytes):
    """Text meant for people, several lines long."""


class Pairs(list[tuple[Any, Any]]):
    """A map, in the order of the reply; its keys may be anything."""

    def get(self, name: Any) -> Any:
        """The value of a key, or None. redis-py asks for it in the reply to HELLO."""
        return next((value for key, value in self if key == name), None)


class TypedParser(_Parser):  # type: ignore[misc]
    """redis-py's parser of RESP3 (and 2) with the types kept. Push messages are passed over."""

    parse_error = staticmethod(whole_error)

    def _read_response(self, disable_decoding: bool = False, push_request: bool = False, **options: Any) -> Any:
        line: bytes = self._buffer.readline(**options)
        kind, rest = line[:1], line[1:]
        try:
            if kind in (b"$", b"=", b"!"):
                return self._bulk(kind, int(rest), options)
            if kind in (b"*", b"~", b"%", b">"):
                return self._aggregate(kind, int(rest), options)
            return self._scalar(kind, rest)
        except ValueError:
            raise InvalidResponse(f"no reply: {line[:80]!r}") from None

    def _scalar(self, kind: bytes, rest: bytes) -> Any:
        if kind == b"+":
            return Status(rest)
        if kind == b"-":
            return whole_error(rest.decode("utf-8", "replace"))
        if kind in (b":", b"("):
            return int(rest)
        if kind == b"_":
            return None
        if kind == b"#":
            return rest == b"t"
        if kind == b",":
            return float(rest)
        raise ValueError(kind)

    def _bulk(self, kind: bytes, size: int, options: dict[str, Any]) -> Any:
        if size < 0:
            return None
        data: bytes = self._buffer.read(size, **options)
        if len(data) < size:
            raise ConnectionError("the connection ended within a reply")
        if kind == b"!":
            return whole_error(data.decode("utf-8", "replace"))
        return Verbatim(data[4:]) if kind == b"=" else data

    def _aggregate(self, kind: bytes, size: int, options: dict[str, Any]) -> Any:
        if size < 0:
            return None
        if kind == b"%":
            return Pairs([(self._read_response(**options), self._read_response(**options)) for _ in range(size)])
        items = [self._read_response(**options) for _ in range(size)]
        return self._read_response(**options) if kind == b">" else items
