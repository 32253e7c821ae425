"""What a client sends: commands as RESP arrays of bulk strings, or as inline lines, in any mix and cut anywhere.

    *2 CRLF                     an array of two
    $3 CRLF  GET CRLF           a bulk string: its length, its bytes, CRLF
    $3 CRLF  key CRLF
    GET key CRLF                the same as an inline line (LF alone will do)

Empty lines and arrays of length <= 0 are passed over. Lengths are decimal without sign, space or leading zero.

Three parsers read the same bytes. The fastest knows what the commands before looked like (shapes.py). The fast one
takes a run of whole commands: it splits at the CRLFs, takes every second piece for an argument, and compares the other
pieces with what the canonical form has there. When they are equal it was right, and nothing else need be checked: a
CRLF inside of a value, a length in another form, an inline command, a fault, all end in a difference. The strict one
takes anything, byte by byte if need be, and keeps what has arrived, never room for what was announced.

Limits: a line, header or inline, of 64 KiB; 1,048,576 arguments; a bulk of 512 MiB: past these the framing can not be
trusted, so it is a fault and the connection ends. A request of `request_bytes_max` (as encoded): past that it is read
to its end without being stored, and delivered as `Refused`.
Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ and Redis 7.0, networking.c, for the error texts.
"""

from __future__ import annotations

import sys
from typing import Final

from hiredis import pack_command

from kvnode.net import shapes
from kvnode.net.inline import split_words
from kvnode.net.refused import Refused
from kvnode.net.shapes import Shape

LINE_BYTES_MAX: Final = 64 * 1024
ARGUMENTS_MAX: Final = 1024 * 1024
BULK_BYTES_MAX: Final = 512 * 1024 * 1024
REQUEST_BYTES_MAX: Final = 32 * 1024 * 1024

_STAR: Final = ord("*")
_DOLLAR: Final = ord("$")
# A request begins with '*' or with a word. A type of reply or of RESP3 means that somebody has lost count, a control
# character or a byte above ASCII that this is another protocol (TLS, a peer).
_WORD_BEGINS: Final = set(range(33, 127)) - set(b"$+-:_#,(!=%~>|")
_NO_REQUEST: Final = frozenset(range(256)) - _WORD_BEGINS - set(b" \t\r\n")
# What a browser sends when a web page makes it talk to this port (cross-protocol scripting).
_HTTP_WORDS: Final = frozenset((b"post", b"host:"))
_SMALL_BYTES: Final = 1024
_SMALL_BULKS: Final = {b"$%d\r\n" % size: size for size in range(_SMALL_BYTES)}
_SMALL_ARRAYS: Final = {b"*%d" % count: count for count in range(1, 10)}
_HEADERS_OF_SMALL: Final = [b"$%d" % size for size in range(_SMALL_BYTES)]
_header_of_small: Final = dict(enumerate(_HEADERS_OF_SMALL)).get


class Requests:
    """The requests of one connection.

    `fault` is None, or the text of the error reply after which the connection is to be closed.
    """

    __slots__ = (
        "_arguments",
        "_arguments_missing",
        "_bulk",
        "_bulk_missing",
        "_is_between",
        "_line",
        "_request_bytes",
        "_request_bytes_max",
        "_shape",
        "_skip",
        "_whole_bytes_max",
        "fault",
    )

    def __init__(self, request_bytes_max: int = REQUEST_BYTES_MAX) -> None:
        self.fault: str | None = None
        self._request_bytes_max = request_bytes_max
        # Neither limit can be passed within a chunk of this size: an argument takes six bytes or more.
        self._whole_bytes_max = min(request_bytes_max, ARGUMENTS_MAX)
        self._is_between = True  # no part of a request is held, and there is no fault
        self._line = b""  # a line whose end has not come yet
        self._arguments: list[bytes] | None = None  # of the array that is being read
        self._arguments_missing = 0
        self._request_bytes = 0  # of that array, as encoded, up to the end of the last bulk announced
        self._bulk: bytearray | None = None  # what has come of a bulk and its CRLF …
        self._bulk_missing = 0  # … and how much has not
        self._shape: Shape | None = None  # of the commands that came last
        self._skip = 0  # bytes still to come of a bulk that is not kept

    def __repr__(self) -> str:
        return f"requests buffered={self.buffered_bytes} fault={self.fault!r}"

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for a request that has not wholly arrived."""
        if self._arguments is None or isinstance(self._arguments, Refused):
            return len(self._line)
        return len(self._line) + self._request_bytes - self._bulk_missing

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Take what arrived; return the commands that it completed, in order, each a list of its name and arguments.

        After a fault whatever still comes is dropped; the commands before it are returned.
        """
        size = len(data)
        if self._is_between and size <= self._whole_bytes_max:
            shape = self._shape
            if shape is None or size % shape.size:
                shape = shapes.of_size(size)
            if shape is not None:
                commands = shape.read(data)
                if commands is not None:
                    return commands
            commands = _split_whole(data)
            if commands is not None:
                count = len(commands)
                if size % count == 0:
                    self._shape = shapes.learn(commands[0], size // count)
                return commands
        return self._feed_pieces(data)

    def _feed_pieces(self, data: bytes) -> list[list[bytes]]:
        """Take a chunk that begins or ends within a command, or that the fast parser does not understand."""
        commands: list[list[bytes]] = []
        if self.fault is not None:
            return commands
        try:
            position = 0
            if not self._is_between:
                data, self._line = self._line + data, b""
                position = self._parse(data, 0, commands, commands_max=1)
            if self._arguments is None and not self._line:
                position = self._parse_run(data, position, commands)
            self._parse(data, position, commands)
        except _FaultError as error:
            self.fault = f"ERR Protocol error: {error}"
            self._line, self._arguments, self._bulk = b"", None, None  # there may be much in them
        self._is_between = self._arguments is None and not self._line and self.fault is None
        return commands

    def _parse_run(self, data: bytes, position: int, commands: list[list[bytes]]) -> int:
        """Let the fast parser read all commands but the last, which may be cut. Return the position after them."""
        end = data.rfind(b"\r\n*", position) + 2
        if position < end <= position + self._whole_bytes_max:
            run = _split_whole(data[position:end])
            if run is not None:
                commands += run
                return end
        return position

    def _parse(self, data: bytes, position: int, commands: list[list[bytes]], commands_max: int = sys.maxsize) -> int:
        """Read `data` strictly: complete commands go to `commands`, the rest into the state. Return the position."""
        while True:
            if self._arguments is not None and self._arguments_missing == 0:
                commands.append(self._arguments)
                self._arguments = None
            if position >= len(data) or len(commands) >= commands_max:
                return position
            if self._skip:
                skipped = min(self._skip, len(data) - position)
                self._skip -= skipped
                position += skipped
            elif self._bulk is not None:
                position = self._continue_bulk(data, position, self._bulk)
            elif self._arguments is not None:
                position = self._read_bulks(data, position, self._arguments)
            else:
                position = self._read_line(data, position, commands)

    def _read_line(self, data: bytes, position: int, commands: list[list[bytes]]) -> int:
        """Read the header of an array, or an inline command."""
        if data[position] in _NO_REQUEST:
            raise _FaultError(f"expected '*', got '{_printable(data[position])}'")
        is_array = data[position] == _STAR
        end = data.find(b"\n", position, position + LINE_BYTES_MAX) + 1
        if not end:
            return self._keep_line(data, position, "mbulk count string" if is_array else "inline request")
        if is_array:
            count = _decimal(data[position + 1 : end])
            if count is None or count > ARGUMENTS_MAX:
                raise _FaultError("invalid multibulk length")
            if count > 0:
                self._arguments, self._arguments_missing, self._request_bytes = [], count, end - position
        elif words := _read_inline(data[position:end]):
            commands.append(words)
        return end

    def _read_bulks(self, data: bytes, position: int, arguments: list[bytes]) -> int:
        """Read bulks up to the end of the array, the end of `data`, or one that is not to be read at once."""
        while self._arguments_missing and position < len(data):
            if data[position] != _DOLLAR:
                raise _FaultError(f"expected '$', got '{_printable(data[position])}'")
            end = data.find(b"\n", position, position + LINE_BYTES_MAX) + 1
            if not end:
                return self._keep_line(data, position, "bulk count string")
            size = _bulk_size(data[position:end])
            self._request_bytes += end - position + size + 2
            if self._request_bytes > self._request_bytes_max:
                self._refuse(size)
                return end
            position = end + size + 2
            if position > len(data):
                self._bulk, self._bulk_missing = bytearray(), size + 2
                return end
            if not data.endswith(b"\r\n", end, position):
                raise _FaultError("expected CRLF after a bulk")
            arguments.append(data[end : position - 2])
            self._arguments_missing -= 1
        return position

    def _continue_bulk(self, data: bytes, position: int, bulk: bytearray) -> int:
        """Read as much of a bulk as has come, and take it for an argument when that is all of it."""
        piece = data[position : position + self._bulk_missing]
        bulk += piece
        self._bulk_missing -= len(piece)
        if self._bulk_missing == 0:
            if not bulk.endswith(b"\r\n"):
                raise _FaultError("expected CRLF after a bulk")
            del bulk[-2:]
            if self._arguments is not None and not isinstance(self._arguments, Refused):
                self._arguments.append(bytes(bulk))
            self._arguments_missing -= 1
            self._bulk = None
        return position + len(piece)

    def _refuse(self, size: int) -> None:
        """Pass over a bulk of `size` bytes, but for its CRLF, and over the rest of the request."""
        if not isinstance(self._arguments, Refused):
            limit = self._request_bytes_max
            self._arguments = Refused(f"ERR request is too large (the limit is {limit} bytes: request_bytes_max)")
        self._skip = size
        self._bulk, self._bulk_missing = bytearray(), 2

    def _keep_line(self, data: bytes, position: int, kind: str) -> int:
        """Keep the beginning of a line for the next chunk. Its end must come within LINE_BYTES_MAX."""
        if len(data) - position >= LINE_BYTES_MAX:
            raise _FaultError(f"too big {kind}")
        self._line = data[position:]
        return len(data)


class _FaultError(Exception):
    """The bytes are not RESP. The message becomes the fault."""


def _split_whole(data: bytes) -> list[list[bytes]] | None:
    """The commands of a chunk that consists of whole arrays in their canonical form; None for any other chunk."""
    if not data.endswith(b"\r\n") or not data.startswith(b"*"):
        return None
    if data.rfind(b"*") == 0:  # one command: the usual case, when a client does not pipeline
        return _split_one(data)
    return _split_alike(data) or _split_any(data)


def _split_one(data: bytes) -> list[list[bytes]] | None:
    """One command. (By way of `_split_alike` it would take twice the time.)"""
    pieces = data.split(b"\r\n")
    command = pieces[2::2]
    count = _SMALL_ARRAYS.get(pieces[0], 0)
    if 0 < count == len(command) and len(pieces) == 2 * count + 2:
        for i in range(count):
            size = len(command[i])
            if size >= _SMALL_BYTES or pieces[2 * i + 1] != _HEADERS_OF_SMALL[size]:
                break
        else:
            return [command]
    return [command] if command and pack_command(tuple(command)) == data else None  # type: ignore[arg-type]


def _split_alike(data: bytes) -> list[list[bytes]] | None:
    """Commands with equally many arguments, none of them long, as most pipelines have: column by column.

    Each piece between two CRLFs must be what the canonical form has in its place, so the whole is."""
    pieces = data.split(b"\r\n")
    count = _SMALL_ARRAYS.get(pieces[0], 0)
    stride = 1 + 2 * count
    commands, rest = divmod(len(pieces), stride)
    if not count or rest != 1 or pieces[:-1:stride].count(pieces[0]) != commands:
        return None
    columns = []
    for place in range(1, stride, 2):
        arguments = pieces[place + 1 :: stride]
        if list(map(_header_of_small, map(len, arguments))) != pieces[place::stride]:
            return None
        columns.append(arguments)
    return list(map(list, zip(*columns, strict=True)))


def _split_any(data: bytes) -> list[list[bytes]] | None:
    commands = [piece.split(b"\r\n")[2::2] for piece in data.split(b"\r\n*")]
    packed = b"".join([pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]
    return commands if packed == data and all(commands) else None


def _read_inline(line: bytes) -> list[bytes]:
    words = split_words(line.removesuffix(b"\n").removesuffix(b"\r"))
    if words is None:
        raise _FaultError("unbalanced quotes in request")
    if words and words[0].lower() in _HTTP_WORDS:
        raise _FaultError("this is not an HTTP server")
    return words


def _bulk_size(header: bytes) -> int:
    size = _SMALL_BULKS.get(header)
    if size is None:
        size = _decimal(header[1:])
        if size is None or not 0 <= size <= BULK_BYTES_MAX:
            raise _FaultError("invalid bulk length")
    return size


def _decimal(line: bytes) -> int | None:
    """The number of a header line (with its CRLF), or None when it is not one in canonical form."""
    digits = line[:-2]
    if not line.endswith(b"\r\n") or len(digits) > 20:
        return None
    magnitude = digits.removeprefix(b"-")
    if not magnitude.isdigit() or (magnitude.startswith(b"0") and digits != b"0"):
        return None
    number = int(digits)
    return number if -(2**63) <= number < 2**63 else None


def _printable(character: int) -> str:
    return chr(character) if 32 <= character < 127 else f"\\x{character:02x}"
