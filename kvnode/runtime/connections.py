"""Connections as asyncio sees them: bytes in become events, bytes out are written, and nothing is decided.

These have the methods of asyncio.Protocol and do not inherit from it: a class that does can not be compiled.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import termios
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from kvnode.config import Member
from kvnode.runtime.loading import LoadingClient

if TYPE_CHECKING:
    from kvnode.node.node import Node
    from kvnode.runtime.loop import Runtime

UNANSWERED_MS_MAX: Final = 5000
"""A connection on which sent bytes are not acknowledged for so long is given up (TCP_USER_TIMEOUT)."""


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    if not peer:
        return "?"
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ClientConnection:
    """A client. While the node loads its log, `loading` answers instead.

    `node` is the one that knows of it. That may be gone before the connection is: no later one hears of it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.id = runtime.next_id()
        self.transport: asyncio.Transport
        self.write: Callable[[bytes], None]
        """Of the transport: looked up once, for it is called for every answer."""
        self.loading: LoadingClient | None = None
        self.node: Node | None = None
        self.is_paused_by_node = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write = self.transport.write
        self.runtime.clients[self.id] = self
        if self.runtime.node is None and len(self.runtime.clients) > self.runtime.config.clients_max:
            self.transport.abort()
        elif self.runtime.node is None:
            self.loading = LoadingClient(self.runtime.config.request_bytes_max)
        else:
            self.node = self.runtime.node
            self._post("on_client", _address(transport))

    def _post(self, handler: str, *arguments: object) -> None:
        if self.node is not None and self.node is self.runtime.node:
            self.runtime.post(handler, self.id, *arguments)

    def data_received(self, data: bytes) -> None:
        if self.loading is None:
            if self.node is self.runtime.node:
                self.runtime.post("on_client_bytes", self.id, data)
            return
        self.transport.write(self.loading.answer(data, self.runtime.why_loading))
        if self.loading.requests.fault is not None:
            self.transport.close()

    def loaded(self) -> None:
        """The node can answer now: it goes on with the parser as it is."""
        if self.loading is not None:
            self.node = self.runtime.node
            self._post("on_client", _address(self.transport), self.loading.requests)
            self.loading = None

    def unread_bytes(self) -> int:
        """What has arrived and was not read yet."""
        count = array("i", [0])
        fcntl.ioctl(self._socket().fileno(), termios.FIONREAD, count)
        return count[0]

    def cork(self) -> None:
        """Keep what is written until the connection is closed (TCP_CORK)."""
        self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)

    def _socket(self) -> socket.socket:
        found: socket.socket = self.transport.get_extra_info("socket")
        return found

    def eof_received(self) -> bool:
        if self.loading is not None:
            return False
        self._post("on_client_eof")
        return True  # it may still read

    def connection_lost(self, error: Exception | None) -> None:
        self.runtime.clients.pop(self.id, None)
        self._post("on_client_gone")

    def pause_writing(self) -> None:
        self._post("on_client_backed_up", True)
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._post("on_client_backed_up", False)
        if not self.is_paused_by_node:
            self.transport.resume_reading()


class LinkConnection:
    """A connection with a member, dialed (`member` and `lane` are known) or accepted."""

    def __init__(self, runtime: Runtime, member: Member | None = None, lane: str = "") -> None:
        self.runtime = runtime
        self.id = runtime.next_id()
        self.member = member
        self.lane = lane
        self.transport: asyncio.Transport
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.runtime.machine is None:
            self.transport.abort()  # between two lives: whoever dials tries again
            return
        self.runtime.links[self.id] = self
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS_MAX)
        if self.member is None:
            self.runtime.post("on_accepted", self.id, _address(transport))
        else:
            self.runtime.post("on_dialed", self.id, self.member.id, self.lane, _address(transport))

    def data_received(self, data: bytes) -> None:
        if self.id in self.runtime.links:
            self.runtime.post("on_link_bytes", self.id, data)

    def pause_writing(self) -> None:
        """Who leaves its answers unread is not read from, or it could ask for ever more. Answers go to those who have
        dialed; on what this node has dialed nothing comes in that could wait."""
        if self.member is None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.member is None and not self.transport.is_closing():
            self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self.runtime.links.pop(self.id, None) is not None:
            self.runtime.post("on_link_closed", self.id)
        self.closed.set()
