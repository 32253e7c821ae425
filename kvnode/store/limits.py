"""The caps on what a client may store in one key and ask for in one reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kvnode.reply import CommandError

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """`reply_bytes_max` bounds keys and values of one reply: MGET, KEYS and RANGE can ask for any number of them."""

    key_bytes_max: int = 64 * KIB
    value_bytes_max: int = 16 * MIB
    reply_bytes_max: int = 64 * MIB

    def check(self, key: bytes, value: bytes) -> None:
        """Raise CommandError unless `key` and `value` may be stored."""
        self.check_value_bytes(len(value))
        if len(key) > self.key_bytes_max:
            raise too_long("key", len(key), self.key_bytes_max, "key_bytes_max")

    def check_value_bytes(self, size: int) -> None:
        """Raise CommandError unless a value of `size` bytes may be stored."""
        if size > self.value_bytes_max:
            raise too_long("value", size, self.value_bytes_max, "value_bytes_max")

    def check_reply_bytes(self, size: int) -> None:
        """Raise CommandError unless the values of one reply may have `size` bytes together."""
        if size > self.reply_bytes_max:
            raise too_long("reply", size, self.reply_bytes_max, "reply_bytes_max")


DEFAULT_LIMITS: Final = Limits()


def too_long(what: str, size: int, size_max: int, setting: str) -> CommandError:
    return CommandError(f"ERR {what} is too long ({size} bytes, the limit is {size_max}: {setting})")
