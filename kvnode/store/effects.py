"""Entries: one command each, as it took effect. The log holds them as msgpack arrays, verb first.

    ["SET", key, value]        create or replace
    ["UPD", key, value]        replace; the key exists
    ["DEL", key]               remove; the key exists
    ["APPEND", key, operand]   the value grows by the operand; the key exists
    ["FLUSHALL"]               remove everything
    ["TX", [effect, …]]        several of the above at once, for one command on several keys; never nested
    ["NOOP"]                   nothing; the first entry of a leader's term

Verbs are text, keys, values and operands binary. An entry is a tuple, where it is made and where it was decoded.
An effect says what happened, not what was asked: `INCR n` is logged as `["SET", "n", "42"]`, and a failed `UPD` not at
all. So replay needs no evaluation, and cannot come out differently when a command's meaning changes.
"""

from __future__ import annotations

from typing import Any

Entry = tuple[Any, ...]
