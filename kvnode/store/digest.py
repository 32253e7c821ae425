"""A fingerprint of the key space: equal where keys and values are equal, however they came about.

BLAKE2b of 128 bits over the keys in order, each as

    key length (4 bytes, big-endian) | key | value length (4 bytes, big-endian) | value
"""

from __future__ import annotations

from collections.abc import Generator
from hashlib import blake2b
from struct import Struct
from typing import Final

from kvnode.store.keyspace import KeySpace
from kvnode.store.snapshot import take_snapshot

DIGEST_BYTES: Final = 16
SLICE_BYTES: Final = 4 * 1024 * 1024  # hashed in about 5 ms
_LENGTH: Final = Struct(">I")


def digest(keyspace: KeySpace) -> Generator[None, None, str]:
    """The digest of the key space as it is now, 32 hexadecimal digits; pauses after each slice of work."""
    state = blake2b(digest_size=DIGEST_BYTES)
    length = _LENGTH.pack
    with (yield from take_snapshot(keyspace)) as snapshot:
        size = 0
        for keys in snapshot.slices():
            parts: list[bytes] = []
            for key, value in zip(keys, snapshot.values(keys), strict=True):
                parts += (length(len(key)), key, length(len(value)), value)
                size += len(key) + len(value)
                if size >= SLICE_BYTES:
                    state.update(b"".join(parts))
                    parts.clear()
                    size = 0
                    yield
            state.update(b"".join(parts))
            yield
    return state.hexdigest()
