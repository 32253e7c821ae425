"""Commands that differ in nothing but their arguments' bytes, as most that a client sends one after the other do.

The shape of a command is its canonical form without the bytes of its arguments (the name apart):

    *3 CRLF $3 CRLF SET CRLF $16 CRLF | 16 bytes | CRLF $64 CRLF | 64 bytes | CRLF

Bytes that have these pieces in these places, and nothing else, are such commands: nothing else need be read or counted.
A shape is learned from a command that was read otherwise, and kept by the size of the command. For another command of
the same size it is tried in vain, at a tenth of the cost of reading that.
"""

from __future__ import annotations

from typing import Final

SIZE_MAX: Final = 2048
"""Of a command, in bytes: reading longer ones costs little beside copying them."""
WORDS_MAX: Final = 9
MISSES_MAX: Final = 16
"""Commands of its size that a shape is tried for in vain before another is learned instead: to learn one takes longer
than to read a command without."""


class Shape:
    """`size`: bytes of one such command. `misses`: how often it was tried in vain."""

    __slots__ = ("_blank", "_ends", "_heads", "misses", "size")

    def __init__(self, command: list[bytes]) -> None:
        """The shape of `command`, which has an argument at least."""
        name = command[0]
        self._blank = [name] * len(command)
        self._heads: list[bytes] = []  # what stands before each argument
        self._ends: list[int] = []  # how far from where that begins the argument goes
        self.size = 0
        self.misses = 0
        head = b"\r\n*%d\r\n$%d\r\n%b\r\n" % (len(command), len(name), name)
        for argument in command[1:]:
            head += b"$%d\r\n" % len(argument)
            end = len(head) + len(argument)
            self._heads.append(head)
            self._ends.append(end)
            self.size += end
            head = b"\r\n"

    def __repr__(self) -> str:
        return f"shape of {self._blank[0]!r:.50}, {len(self._heads)} pieces, {self.size} bytes"

    def read(self, data: bytes) -> list[list[bytes]] | None:
        """The commands, if `data` is some of this shape one after the other and nothing else; None otherwise."""
        if not data.endswith(b"\r\n"):
            return None
        commands: list[list[bytes]] = []
        heads, ends, blank = self._heads, self._ends, self._blank
        pieces = len(heads)
        data = b"\r\n" + data  # so that each command is what follows a CRLF, up to the next
        position = 0
        size = len(data) - 2
        while position < size:
            command = blank[:]
            for i in range(pieces):
                head = heads[i]
                start = position + len(head)
                if data[position:start] != head:
                    return None
                position += ends[i]
                command[i + 1] = data[start:position]
            commands.append(command)
        return commands if position == size else None


_by_size: Final[list[Shape | None]] = [None] * (SIZE_MAX + 1)


def of_size(size: int) -> Shape | None:
    """The shape that is known for commands of `size` bytes."""
    return _by_size[size] if size <= SIZE_MAX else None


def learn(command: list[bytes], size: int) -> Shape | None:
    """The shape of commands of `size` bytes from now on: perhaps that of this one, which was read without it."""
    if size > SIZE_MAX or not 2 <= len(command) <= WORDS_MAX:
        return None
    known = _by_size[size]
    if known is not None:
        known.misses += 1
        if known.misses < MISSES_MAX:
            return known
    shape = Shape(command)
    if shape.size == size:
        _by_size[size] = shape
    return _by_size[size]
