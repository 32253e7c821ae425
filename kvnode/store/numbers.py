"""Evaluation of the commands that count. A counter is a string value that is written as a 64-bit integer with sign."""

from __future__ import annotations

from kvnode.reply import CommandError, Reply
from kvnode.store.arguments import INT64_MAX, INT64_MIN, parse_int64
from kvnode.store.overlay import Overlay


def incr(overlay: Overlay, args: list[bytes]) -> Reply:
    return _add(overlay, args[1], 1)


def decr(overlay: Overlay, args: list[bytes]) -> Reply:
    return _add(overlay, args[1], -1)


def incrby(overlay: Overlay, args: list[bytes]) -> Reply:
    return _add(overlay, args[1], parse_int64(args[2]))


def decrby(overlay: Overlay, args: list[bytes]) -> Reply:
    amount = parse_int64(args[2])
    if amount == INT64_MIN:  # has no opposite in 64 bits
        raise CommandError("ERR decrement would overflow")
    return _add(overlay, args[1], -amount)


def _add(overlay: Overlay, key: bytes, amount: int) -> int:
    value = overlay.get(key)
    if value is None:
        total = amount
        overlay.limits.check(key, b"%d" % total)
    else:
        total = parse_int64(value) + amount
        if not INT64_MIN <= total <= INT64_MAX:
            raise CommandError("ERR increment or decrement would overflow")
    overlay.set(key, b"%d" % total)
    return total
