"""The form of the small files beside the log: one frame of record.py around a msgpack array that begins with a name.

    [checksum, payload]    payload = [name of the kind, format version, field, field, …]

Readers accept longer arrays of the same version, and ignore what follows the frame.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from kvnode.log.record import BadRecord, frame, unframe
from kvnode.packing import Packing

NOTE_BYTES_MAX: Final = 64 * 1024
VERSION: Final = 1

_packing: Final = Packing()


class NewerNote(BadRecord):
    """Not bad: a later version of this program wrote it."""


def encode_note(kind: str, fields: list[Any]) -> bytes:
    """A framed note."""
    return frame(_packing.pack([kind, VERSION, *fields]))[0]


def decode_note(data: bytes, kind: str, types: tuple[type, ...]) -> list[Any]:
    """The fields of the note that `data` begins with, at least as many as `types` (`object`: any). Raises BadRecord."""
    _, payload = unframe(data)
    try:
        array = msgpack.unpackb(payload)
    except (ValueError, TypeError, OverflowError):
        raise BadRecord("it is not valid msgpack") from None
    if type(array) is not list or array[:1] != [kind]:
        raise BadRecord(f"it is not a {kind}")
    if array[1:2] != [VERSION]:
        raise NewerNote(f"its format version is {array[1:2]}, this program knows {VERSION}")
    fields: list[Any] = array[2:]
    if len(fields) < len(types) or any(type(f) is not t is not object for f, t in zip(fields, types, strict=False)):
        raise BadRecord(f"a field of the {kind} is missing or has the wrong type")
    return fields
