"""A node of the tests' own, on a real socket: it answers HELLO, and everything else as the test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

HELLO = b"%2\r\n$6\r\nserver\r\n$6\r\nkvnode\r\n$5\r\nproto\r\n:3\r\n"

# Bytes to answer; b"" closes the connection; None leaves the client waiting.
Answer = Callable[[list[bytes]], bytes | None]


class FakeNode:
    """`received`: the commands in their order, HELLO left out. `greeting`: what HELLO is answered with."""

    def __init__(self, answer: Answer, greeting: bytes = HELLO) -> None:
        self.received: list[list[bytes]] = []
        self._answer = answer
        self._greeting = greeting
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            try:
                while (command := read_command(stream)) is not None:
                    if command[0].upper() == b"HELLO":
                        reply: bytes | None = self._greeting
                    else:
                        self.received.append(command)
                        reply = self._answer(command)
                    if reply == b"":
                        return
                    connection.sendall(reply or b"")
            except OSError:
                return

    def hang_up(self) -> None:
        """Close all connections, as a restart does, and wait until that has happened."""
        for connection in self._connections:
            _shut(connection)
        for thread in self._threads[1:]:
            thread.join()

    def close(self) -> None:
        _shut(self._listener)
        self._listener.close()
        self._threads[0].join()
        self.hang_up()


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def read_command(stream: BinaryIO) -> list[bytes] | None:
    head = stream.readline()
    if not head:
        return None
    words = []
    for _ in range(int(head[1:])):
        size = int(stream.readline()[1:])
        words.append(stream.read(size + 2)[:-2])
    return words


@contextmanager
def fake_node(answer: Answer, greeting: bytes = HELLO) -> Iterator[FakeNode]:
    node = FakeNode(answer, greeting)
    try:
        yield node
    finally:
        node.close()


@contextmanager
def unused_address() -> Iterator[str]:
    """An address at which connections are refused: bound, so that no one else gets it, but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)
