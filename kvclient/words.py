r"""Splitting what is typed into the words of a command. Pure. The quoting of redis-cli:

    bare    up to the next blank
    "…"     with \n \r \t \a \b \\ \" and \xHH (a byte)
    '…'     with \' only
    A closing quote is followed by a blank or the end.

A line feed outside quotes ends a command, so pasted text may hold several; one inside quotes belongs to the word.
"""

from __future__ import annotations

import re
import string

_BLANKS = " \t\r\v\f\0"
_BARE = re.compile(r"""[^ \t\r\v\f\0\n"']+""")
_PLAIN = {'"': re.compile(r'[^"\\]+'), "'": re.compile(r"[^'\\]+")}
_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "a": b"\a", "b": b"\b"}


class QuoteError(ValueError):
    """The text can not be split. The message is for the user."""


def split(text: str) -> list[list[bytes]]:
    """The commands of `text`, each a list of words; empty lines are left out. Raises QuoteError."""
    commands: list[list[bytes]] = [[]]
    at = 0
    while at < len(text):
        if text[at] == "\n":
            commands.append([])
            at += 1
        elif text[at] in _BLANKS:
            at += 1
        else:
            word, at = _word(text, at)
            commands[-1].append(word)
    return [words for words in commands if words]


def lines(text: str) -> list[str]:
    """`text` cut at the line feeds outside quotes; what can not be split stays in one piece."""
    cuts, at = [0], 0
    while at < len(text):
        if text[at] == "\n":
            cuts.append(at + 1)
            at += 1
        elif text[at] in _BLANKS:
            at += 1
        else:
            try:
                _, at = _word(text, at)
            except QuoteError:
                break
    pieces = [
        text[start:end].strip(_BLANKS)
        for start, end in zip(cuts, [*(cut - 1 for cut in cuts[1:]), len(text)], strict=True)
    ]
    return [piece for piece in pieces if piece]


def typed(text: str) -> tuple[list[str], str]:
    """For completion: the finished words of a line that is still being typed, and the word under the cursor."""
    *_, line = text.split("\n")
    words = line.split(" ")
    return [word for word in words[:-1] if word], words[-1]


def _word(text: str, at: int) -> tuple[bytes, int]:
    """The word that begins at `at`, and where it ends."""
    parts: list[bytes] = []
    while at < len(text) and text[at] not in _BLANKS and text[at] != "\n":
        if text[at] in "\"'":
            part, at = _quoted(text, at)
            if at < len(text) and text[at] not in _BLANKS and text[at] != "\n":
                raise QuoteError("a closing quote must be followed by a blank")
            parts.append(part)
        elif run := _BARE.match(text, at):
            parts.append(_encode(run[0]))
            at = run.end()
    return b"".join(parts), at


def _quoted(text: str, at: int) -> tuple[bytes, int]:
    quote, start = text[at], at
    parts: list[bytes] = []
    at += 1
    while at < len(text):
        character = text[at]
        if character == quote:
            return b"".join(parts), at + 1
        if character == "\\" and quote == '"':
            part, at = _escape(text, at)
            parts.append(part)
        elif character == "\\" and text[at + 1 : at + 2] == "'":
            parts.append(b"'")
            at += 2
        elif run := _PLAIN[quote].match(text, at):
            parts.append(_encode(run[0]))
            at = run.end()
        else:
            parts.append(_encode(character))
            at += 1
    raise QuoteError(f"a quote is not closed: {text[start : start + 20].splitlines()[0]}")


def _escape(text: str, at: int) -> tuple[bytes, int]:
    digits = text[at + 2 : at + 4]
    if text[at + 1 : at + 2] == "x" and len(digits) == 2 and all(digit in string.hexdigits for digit in digits):
        return bytes([int(digits, 16)]), at + 4
    character = text[at + 1 : at + 2]
    return _ESCAPES.get(character) or _encode(character), at + 2


def _encode(text: str) -> bytes:
    # Bytes that are not UTF-8 arrive from the terminal, a pipe or the command line as surrogate escapes.
    return text.encode("utf-8", "surrogateescape")
