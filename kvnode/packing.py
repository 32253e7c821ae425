"""msgpack.packb, without the packer that it makes and throws away each time: that takes longer than packing a record.

The values are of built-in types alone, so packing runs no Python code and another thread can not come in between.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

KEPT_BYTES_MAX: Final = 4 * 1024 * 1024
"""A packer keeps a buffer for the largest value that it has packed; one with a larger buffer is not kept."""


class Packing:
    def __init__(self) -> None:
        self._packer = msgpack.Packer()

    def pack(self, value: Any) -> bytes:
        """The bytes of one value."""
        data: bytes = self._packer.pack(value)
        if len(data) > KEPT_BYTES_MAX:
            self._packer = msgpack.Packer()
        return data

    def array_head(self, size: int) -> bytes:
        """What stands before the items of an array of `size`."""
        head: bytes = self._packer.pack_array_header(size)
        return head
