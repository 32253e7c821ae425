"""Evaluation of the commands on keys as such, whatever their value."""

from __future__ import annotations

from kvnode.reply import OK, Reply, Status
from kvnode.store.arguments import syntax_error
from kvnode.store.command import View
from kvnode.store.overlay import Overlay

_STRING = Status("string")
_NONE = Status("none")


def delete(overlay: Overlay, args: list[bytes]) -> Reply:
    count = 0
    for key in args[1:]:
        if overlay.get(key) is not None:
            overlay.delete(key)
            count += 1
    return count


def exists(view: View, args: list[bytes]) -> Reply:
    return sum(view.get(key) is not None for key in args[1:])


def type_(view: View, args: list[bytes]) -> Reply:
    return _NONE if view.get(args[1]) is None else _STRING


def flush(overlay: Overlay, args: list[bytes]) -> Reply:
    """FLUSHALL and FLUSHDB, there being one database. ASYNC or SYNC: memory is freed bit by bit in either case."""
    if len(args) > 2 or (len(args) == 2 and args[1].upper() not in (b"ASYNC", b"SYNC")):
        raise syntax_error()
    overlay.flush()
    return OK
