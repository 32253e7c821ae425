"""What nodes send each other: frames, each one msgpack array.

    +-----------------------+----------------------+
    | length, 4 bytes, big- | body: `length` bytes,|
    | endian, >= 1          | one msgpack array    |
    +-----------------------+----------------------+

Limits: a frame is no longer than `frame_bytes_max`; its length takes no memory before the bytes are there. Until the
peer has shown that it belongs to this cluster the limit is HELLO_BYTES_MAX, for a hostile body takes memory when it is
unpacked: seventy times its size for empty arrays; for nested headers of long ones 80 kB for each of 1,024 levels.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import msgpack

from kvnode.packing import Packing

HELLO_BYTES_MAX: Final = 2048

_LENGTH: Final = struct.Struct(">I")
_packing: Final = Packing()


class FrameError(Exception):
    """A peer sent what is not a message: the link must be dropped."""


class Frames:
    """The frames of one link.

    `fault` is None, or a sentence for the log that says why the link must be dropped.
    `frame_bytes_max` may be changed at any time; it holds for the frames whose length has not been read yet.
    """

    __slots__ = ("_body", "_body_missing", "_header", "fault", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.fault: str | None = None
        self._header = b""  # the beginning of a length
        self._body = bytearray()  # what has come of a body …
        self._body_missing = 0  # … and how much has not

    def __repr__(self) -> str:
        return f"frames buffered={self.buffered_bytes} fault={self.fault!r}"

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for a frame that has not wholly arrived."""
        return len(self._header) + len(self._body)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived; return the bodies of the frames that it completed, in order.

        After a fault whatever still comes is dropped; the frames before it are returned.
        """
        bodies: list[bytes] = []
        if self.fault is not None:
            return bodies
        position = 0
        if self._body_missing:
            position = self._body_missing
            self._body += data[:position]
            self._body_missing = max(0, position - len(data))
            if self._body_missing:
                return bodies
            bodies.append(bytes(self._body))
            self._body = bytearray()
        elif self._header:
            data = self._header + data
            self._header = b""
        size = len(data)
        while size - position >= 4:
            (length,) = _LENGTH.unpack_from(data, position)
            if not 0 < length <= self.frame_bytes_max:
                self.fault = f"a frame of {length} bytes was announced, allowed are 1 to {self.frame_bytes_max}"
                return bodies
            position += 4
            end = position + length
            if end > size:
                self._body = bytearray(data[position:])
                self._body_missing = end - size
                return bodies
            bodies.append(data[position:end])
            position = end
        self._header = data[position:]
        return bodies


def frame(message: Sequence[Any]) -> bytes:
    """The frame of one message, an array."""
    body = _packing.pack(message)
    return _LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> list[Any]:
    """The array of one body. FrameError when the body is not exactly one msgpack array."""
    try:
        # No limits of length: by default msgpack takes none that the body has no bytes for.
        message = msgpack.unpackb(body, max_ext_len=0, ext_hook=_no_extension)
    except Exception as error:  # msgpack raises a dozen kinds, ValueError and RecursionError among them
        raise FrameError(f"not a msgpack message: {type(error).__name__}: {error}") from error
    if type(message) is not list:
        raise FrameError(f"a message is an array, this is a {type(message).__name__}")
    return message


def _no_extension(code: int, data: bytes) -> Any:
    raise FrameError(f"a message has no extension types, this has {code}")
