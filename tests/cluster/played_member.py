"""A member that a test plays towards real nodes: it speaks their protocol, and says whatever the test wants said.

It listens where the member would, so the nodes dial it, and it dials their lanes. Nothing is answered by itself but the
handshake.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from kvnode.log.identity import cluster_id
from kvnode.net.frames import Frames, frame, unpack
from kvnode.node import wire
from tests.cluster.harness import Cluster, eventually
from tests.cluster.wire import Wire

T = TypeVar("T")

LARGEST = 2**30
"""Of the frames that are read: more than any node sends."""


class PlayedMember:
    """`heard`: every message that came, with the member that sent it, in order of each connection."""

    def __init__(self, cluster: Cluster, id: str) -> None:
        self.cluster = cluster
        self.id = id
        self.heard: list[tuple[str, Any]] = []
        self.heard_bytes = 0
        self._identity = cluster_id(cluster.ids, str(cluster.options.get("cluster_name", "")))
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(cluster.peer_address(id), reuse_port=False)
        self._threads = [threading.Thread(target=self._accept, name=f"{id} is played")]
        self._threads[0].start()

    def __repr__(self) -> str:
        return f"{self.id} is played, heard {len(self.heard)} messages"

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):  # it has gone already
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    # What nodes say to it

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return  # closed
            self._sockets.append(accepted)
            thread = threading.Thread(target=self._listen, args=(accepted,), name=f"{self.id} listens")
            self._threads.append(thread)
            thread.start()

    def _listen(self, connection: socket.socket) -> None:
        frames = Frames(LARGEST)
        sender = ""
        while data := _receive(connection):
            self.heard_bytes += len(data)
            for body in frames.feed(data):
                if sender:
                    self.heard.append((sender, wire.decode(body)))
                else:
                    sender = unpack(body)[3]
                    connection.sendall(frame(["welcome", wire.VERSION]))

    def hears(self, kind: type[T], since: int = 0, fits: Callable[[T], bool] = lambda message: True) -> T:
        """Wait for the first message of this kind that fits, not counting those that were heard before `since`."""

        def find() -> list[T]:
            return [each for _, each in self.heard[since:] if isinstance(each, kind) and fits(each)][:1]

        return eventually(find, f"{self.id} hears a {kind.__name__}")[0]

    def count(self, kind: type[Any], since: int = 0) -> int:
        return sum(isinstance(each, kind) for _, each in self.heard[since:])

    # What it says

    def hello(self, receiver: str, lane: str) -> bytes:
        return frame([wire.MAGIC, wire.VERSION, self._identity, self.id, receiver, lane])

    def dial(self, receiver: str, lane: str) -> Lane:
        """An open lane to a node; the caller closes it."""
        connection = Wire(self.cluster.peer_address(receiver))
        connection.send(self.hello(receiver, lane))
        opened = Lane(connection)
        assert opened.take_array()[0] == "welcome"
        return opened


class Lane:
    """One connection that a played member has dialed."""

    def __init__(self, connection: Wire) -> None:
        self.wire = connection

    def __enter__(self) -> Lane:
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()

    def send(self, *messages: Any) -> None:
        """Messages, or arrays that are to pass for messages, in one write."""
        frames = [frame(each) if isinstance(each, list) else wire.encode(each) for each in messages]
        self.wire.send(b"".join(frames))

    def is_readable(self, within_s: float) -> bool:
        """Whether something comes within this time, or the end."""
        return bool(select.select([self.wire.socket], [], [], within_s)[0])

    def take_array(self) -> list[Any]:
        """The array of the next frame."""
        size = int.from_bytes(self.wire.take(4), "big")
        return unpack(self.wire.take(size))

    def take(self) -> Any:
        """The next message."""
        size = int.from_bytes(self.wire.take(4), "big")
        return wire.decode(self.wire.take(size))


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 20)
    except OSError:
        return b""
