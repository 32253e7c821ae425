"""A bare connection, for tests about bytes."""

from __future__ import annotations

import socket
from types import TracebackType


class Wire:
    """A blocking connection: what is expected must come within `timeout_s`."""

    def __init__(self, address: tuple[str, int], timeout_s: float = 10.0) -> None:
        self.socket = socket.create_connection(address, timeout_s)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it. A peer that has closed is no error here: what it answered before is still to be read."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def send_end(self) -> None:
        """Say that no more will be sent, and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def line(self) -> bytes:
        """The next line with its end; b"" when the peer has closed."""
        try:
            return self._stream.readline()
        except ConnectionResetError:
            return b""

    def take(self, size: int) -> bytes:
        """The next `size` bytes, fewer only when the peer closes."""
        try:
            return self._stream.read(size)
        except ConnectionResetError:
            return b""

    def rest(self) -> bytes:
        """All that comes until the peer closes; TimeoutError when it does not."""
        received = []
        try:
            while data := self._stream.read1(1 << 20):
                received.append(data)
        except ConnectionResetError:
            pass
        return b"".join(received)

    def ask(self, data: bytes) -> bytes:
        """Send, and return the line that answers."""
        self.send(data)
        return self.line()
