"""Reads of the whole key space. They run in slices, on a snapshot: neither a turn nor a write waits for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from kvnode.reply import CommandError, Reply
from kvnode.store.arguments import INT64_MAX, parse_int64, syntax_error
from kvnode.store.command import Reading
from kvnode.store.cursors import Cursors
from kvnode.store.glob import matcher
from kvnode.store.keyspace import KeySpace
from kvnode.store.snapshot import READ_SLICE, take_snapshot

SCAN_COUNT: Final = 10


class WholeView(Protocol):
    """What such a read is evaluated against: the applied state, without an overlay."""

    @property
    def keyspace(self) -> KeySpace: ...

    @property
    def cursors(self) -> Cursors: ...


def dbsize(view: WholeView, args: list[bytes]) -> Reply:
    return len(view.keyspace)


def keys(view: WholeView, args: list[bytes]) -> Reading:
    return _keys(view.keyspace, matcher(args[1]))


def _keys(keyspace: KeySpace, matches: Callable[[bytes], object]) -> Reading:
    found: list[Reply] = []
    size = 0
    with (yield from take_snapshot(keyspace)) as snapshot:
        for part in snapshot.slices():
            matching = [key for key in part if matches(key)]
            size += sum(map(len, matching))
            keyspace.limits.check_reply_bytes(size)
            found += matching
            yield
    return found


def range_(view: WholeView, args: list[bytes]) -> Reading:
    limit = INT64_MAX
    if len(args) == 5 and args[3].upper() == b"LIMIT":
        limit = parse_int64(args[4])
        if limit < 0:
            raise CommandError("ERR value is out of range, must be positive")
    elif len(args) > 3:
        raise syntax_error()
    start, end = args[1:3]
    if start == b"+" or end == b"-":
        limit = 0
    return _range(view.keyspace, None if start == b"-" else start, None if end == b"+" else end, limit)


def _range(keyspace: KeySpace, start: bytes | None, end: bytes | None, limit: int) -> Reading:
    pairs: list[Reply] = []
    size = 0
    with (yield from take_snapshot(keyspace)) as snapshot:
        for part in snapshot.slices(start, end, count=min(limit, READ_SLICE)):
            wanted = part[: limit - len(pairs) // 2]
            for key, value in zip(wanted, snapshot.values(wanted), strict=True):
                size += len(key) + len(value)
                pairs += (key, value)
            keyspace.limits.check_reply_bytes(size)
            if len(pairs) // 2 == limit:
                break
            yield
    return pairs


def scan(view: WholeView, args: list[bytes]) -> Reading:
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]. https://redis.io/docs/latest/commands/scan/"""
    cursor = _parse_cursor(args[1])
    matches: Callable[[bytes], object] = _anything
    count = SCAN_COUNT
    options = args[2:]
    if len(options) % 2:
        raise syntax_error()
    for option, value in zip(options[::2], options[1::2], strict=True):
        match option.upper():
            case b"MATCH":
                matches = matcher(value)
            case b"COUNT":
                count = parse_int64(value)
                if count < 1:
                    raise syntax_error()
            case b"TYPE":
                if value.lower() != b"string":
                    matches = _nothing
            case _:
                raise syntax_error()
    after = view.cursors.key(cursor) if cursor else None
    return _scan(view, after, count, matches)


def _parse_cursor(data: bytes) -> int:
    if not data.isdigit() or len(data) > 20 or int(data) >= 2**64:
        raise CommandError("ERR invalid cursor")
    return int(data)


def _anything(key: bytes) -> bool:
    return True


def _nothing(key: bytes) -> bool:
    return False


def _scan(view: WholeView, after: bytes | None, count: int, matches: Callable[[bytes], object]) -> Reading:
    found: list[Reply] = []
    size = 0
    last = None  # the last of the keys looked at, if there are more
    with (yield from take_snapshot(view.keyspace)) as snapshot:
        start = None if after is None else after + b"\0"  # the next key there could be
        for keys in snapshot.slices(start, count=min(count, READ_SLICE)):
            part = keys[:count]
            matching = [key for key in part if matches(key)]
            size += sum(map(len, matching))
            view.keyspace.limits.check_reply_bytes(size)
            found += matching
            count -= len(part)
            if count <= 0:
                last = part[-1]
                break
            yield
    cursor = 0 if last is None else view.cursors.remember(last)
    return [b"%d" % cursor, found]
