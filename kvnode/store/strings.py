"""Evaluation of the commands on string values. https://redis.io/docs/latest/commands/?group=string"""

from __future__ import annotations

from typing import Final

from kvnode.reply import OK, CommandError, Reply
from kvnode.store.arguments import printable, syntax_error
from kvnode.store.command import View
from kvnode.store.overlay import Overlay

# Options of SET that belong to expiry, which has an issue of its own.
_NOT_YET: Final = frozenset({b"EX", b"PX", b"EXAT", b"PXAT", b"KEEPTTL"})


def get(view: View, args: list[bytes]) -> Reply:
    return view.get(args[1])


def set_(overlay: Overlay, args: list[bytes]) -> Reply:
    key = args[1]
    value = args[2]
    limits = overlay.limits
    if len(value) > limits.value_bytes_max or len(key) > limits.key_bytes_max:
        limits.check(key, value)  # raises
    if len(args) > 3:
        return _set_with_options(overlay, args)
    overlay.set(key, value)
    return OK


def _set_with_options(overlay: Overlay, args: list[bytes]) -> Reply:
    options = {option.upper() for option in args[3:]}
    if unsupported := options & _NOT_YET:
        raise CommandError(f"ERR {printable(min(unsupported))} is not supported yet")
    if not options <= {b"NX", b"XX", b"GET"} or options >= {b"NX", b"XX"}:
        raise syntax_error()
    old = overlay.get(args[1])
    is_wanted = not ((b"NX" in options and old is not None) or (b"XX" in options and old is None))
    if is_wanted:
        overlay.set(args[1], args[2])
    if b"GET" in options:
        return old
    return OK if is_wanted else None


def upd(overlay: Overlay, args: list[bytes]) -> Reply:
    _, key, value = args
    overlay.limits.check(key, value)
    if overlay.get(key) is None:
        raise CommandError("ERR no such key")
    overlay.update(key, value)
    return OK


def setnx(overlay: Overlay, args: list[bytes]) -> Reply:
    _, key, value = args
    overlay.limits.check(key, value)
    if overlay.get(key) is not None:
        return 0
    overlay.set(key, value)
    return 1


def getset(overlay: Overlay, args: list[bytes]) -> Reply:
    _, key, value = args
    overlay.limits.check(key, value)
    old = overlay.get(key)
    overlay.set(key, value)
    return old


def getdel(overlay: Overlay, args: list[bytes]) -> Reply:
    old = overlay.get(args[1])
    if old is not None:
        overlay.delete(args[1])
    return old


def mget(view: View, args: list[bytes]) -> Reply:
    values: list[Reply] = []
    size = 0
    for key in args[1:]:
        value = view.get(key)
        if value is not None:
            size += len(value)
        values.append(value)
    view.limits.check_reply_bytes(size)
    return values


def mset(overlay: Overlay, args: list[bytes]) -> Reply:
    keys = args[1::2]
    values = args[2::2]
    if len(keys) != len(values):
        raise CommandError("ERR wrong number of arguments for 'mset' command")
    for key, value in zip(keys, values, strict=True):
        overlay.limits.check(key, value)
    for key, value in zip(keys, values, strict=True):
        overlay.set(key, value)
    return OK


def append(overlay: Overlay, args: list[bytes]) -> Reply:
    _, key, operand = args
    value = overlay.get(key)
    if value is None:
        overlay.limits.check(key, operand)
        overlay.set(key, operand)
        return len(operand)
    overlay.limits.check_value_bytes(len(value) + len(operand))
    return overlay.append(key, operand)


def strlen(view: View, args: list[bytes]) -> Reply:
    return len(view.get(args[1]) or b"")
