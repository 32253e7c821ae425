"""Glob patterns as Redis has them, on bytes.

    *        any bytes, also none          [abc]    one of these
    ?        any one byte                  [^abc]   none of these
    \\x       x itself                      [a-z]    a range

A pattern becomes a regular expression. Each run between two stars is searched for once, as far left as it is found, in
an atomic group: going back into it could not find more, since a run matches a fixed number of bytes. So the time is
bounded by length of the pattern times length of the key, for `a*a*a*a*b` too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from kvnode.reply import CommandError

PATTERN_BYTES_MAX: Final = 1024  # compiling takes up to 10 microseconds per byte


def matcher(pattern: bytes) -> Callable[[bytes], object]:
    """A function that says, by the truth of what it returns, whether a key matches. Raises CommandError if too long."""
    if len(pattern) > PATTERN_BYTES_MAX:
        raise CommandError(f"ERR pattern is too long ({len(pattern)} bytes, the limit is {PATTERN_BYTES_MAX})")
    return re.compile(translate(pattern), re.DOTALL).fullmatch


def translate(pattern: bytes) -> bytes:
    """The regular expression, for DOTALL and `fullmatch`, that matches what `pattern` does."""
    first, *others = _runs(pattern)
    if not others:
        return b"".join(first)
    *middle, last = others
    searches = [b"(?>.*?%s)" % b"".join(run) for run in middle if run]
    # The last run stands at the very end: go there, leaving room for it, and look back once.
    ending = b".{%d,}+(?<=%s)" % (len(last), b"".join(last)) if last else b".*"
    return b"".join((*first, *searches, ending))


def _runs(pattern: bytes) -> list[list[bytes]]:
    """What stands before, between and after the stars: lists of regular expressions, each for one byte."""
    runs: list[list[bytes]] = [[]]
    position = 0
    while position < len(pattern):
        letter = pattern[position : position + 1]
        position += 1
        if letter == b"*":
            runs.append([])
        elif letter == b"?":
            runs[-1].append(b".")
        elif letter == b"[":
            one, position = _class(pattern, position)
            runs[-1].append(one)
        else:
            if letter == b"\\" and position < len(pattern):
                letter = pattern[position : position + 1]
                position += 1
            runs[-1].append(re.escape(letter))
    return runs


def _class(pattern: bytes, position: int) -> tuple[bytes, int]:
    """The class whose bracket is before `position`, and the position after it. An open one goes to the last byte."""
    is_negated = pattern[position : position + 1] == b"^"
    position += is_negated
    members: set[int] = set()
    while position < len(pattern) and pattern[position] != ord("]"):
        if pattern[position] == ord("\\") and position + 1 < len(pattern):
            members.add(pattern[position + 1])
            position += 2
        elif pattern[position + 1 : position + 2] == b"-" and position + 2 < len(pattern):
            first, last = sorted((pattern[position], pattern[position + 2]))
            members.update(range(first, last + 1))
            position += 3
        else:
            members.add(pattern[position])
            position += 1
    return _one_of(members, is_negated), position + 1


def _one_of(members: set[int], is_negated: bool) -> bytes:
    if not members:
        return b"." if is_negated else b"(?!)."  # any byte, or none ever
    ranges: list[tuple[int, int]] = []
    for member in sorted(members):
        if ranges and ranges[-1][1] == member - 1:
            ranges[-1] = (ranges[-1][0], member)
        else:
            ranges.append((member, member))
    return b"[%s%s]" % (b"^" if is_negated else b"", b"".join(b"\\x%02x-\\x%02x" % ends for ends in ranges))
