"""The values that a command's evaluation returns, before they are encoded for a client.

Status          a simple string, "+OK"
CommandError    an error reply, "-ERR …"; raised or returned
bytes, str      a bulk string (str as UTF-8)
int             an integer
None            null
list            an array of replies
dict            a map (RESP3), a flat array (RESP2)
Verbatim        text for people, "=txt:…" (RESP3), a bulk string (RESP2)
"""

from __future__ import annotations

from typing import Final, Union


class Status:
    """A simple string reply. `text` has no CR or LF."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"+{self.text}"


class Verbatim:
    """Text meant for people, several lines long."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"={self.text!r}"


class CommandError(Exception):
    """An error reply: `text` begins with its code ("ERR", "CLUSTERDOWN", "UNKNOWN", …), without the leading '-'."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __repr__(self) -> str:
        return f"-{self.text}"


# Union, not |: the alias names itself in strings, and is used in other aliases at run time.
Reply = Union[Status, Verbatim, CommandError, bytes, str, int, list["Reply"], dict["Reply", "Reply"], None]  # noqa: UP007

OK: Final = Status("OK")
