"""Inline commands: a line of words as a person types it into `nc`, quoted by the rules of redis-cli (`sdssplitargs`).

SET greeting "hello\\r\\n"      double quotes: \\n \\r \\t \\b \\a, \\xHH, and \\ before any other character
SET path 'C:\\new'             single quotes: only \\' is an escape
SET a pre"fix"                a quote may open inside a word, but what closes it must end the word
"""

from __future__ import annotations

import re
from typing import Final

# Possessive quantifiers (*+): a quote that is never closed fails at once, however long the line is.
_WORD: Final = re.compile(
    rb"""
    ([^\s"']*+)
    (?: "((?: \\. | [^"\\] )*+)"
      | '((?: \\' | [^'] )*+)'
    )?
    (?: \s++ | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_CONTROLS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def split_words(line: bytes) -> list[bytes] | None:
    """The words of `line`, none for a blank one; None when its quotes are not balanced."""
    words = []
    position = len(line) - len(line.lstrip())
    while position < len(line):
        word = _WORD.match(line, position)
        if word is None:
            return None
        plain, double, single = word.groups()
        if double is not None:
            plain += _ESCAPE.sub(_unescape, double)
        elif single is not None:
            plain += single.replace(b"\\'", b"'")
        words.append(plain)
        position = word.end()
    return words


def _unescape(escape: re.Match[bytes]) -> bytes:
    digits, character = escape.groups()
    if digits is not None:
        return bytes.fromhex(digits.decode())
    return _CONTROLS.get(character, character)
