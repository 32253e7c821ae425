"""Reading numbers and options out of a command's arguments, with the error texts of Redis."""

from __future__ import annotations

from typing import Final

from kvnode.reply import CommandError

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
INT64_DIGITS_MAX: Final = 20  # with the sign

NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"


def syntax_error() -> CommandError:
    return CommandError("ERR syntax error")


def parse_int64(data: bytes) -> int:
    """The number that `data` is the only way to write: no space, no plus, no leading zero, 64 bits with sign."""
    try:
        number = int(data) if len(data) <= INT64_DIGITS_MAX else None
    except ValueError:
        number = None
    if number is None or not INT64_MIN <= number <= INT64_MAX or b"%d" % number != data:
        raise CommandError(NOT_AN_INTEGER)
    return number


def printable(data: bytes, bytes_max: int = 128) -> str:
    """`data` for use in an error text: at most `bytes_max` of its bytes, on one line, as text."""
    text = data[:bytes_max].decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else " " for letter in text)
