"""The asyncio client: the twin of kvclient.client, method by method.

For one event loop; any number of tasks may share it. A cancelled call closes its connection: whether its command was
applied is not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar

from kvclient import requests
from kvclient.attempts import Attempts
from kvclient.client import IDLE_LINKS_MAX, NodeStatus, Timeouts, nodes_of
from kvclient.errors import KVError, NotApplied
from kvclient.nodes import Node, parse_nodes
from kvclient.requests import Argument, Fields, Request
from kvclient.wire import AsyncLink, ErrorReply, Lost, NotSent

T = TypeVar("T")


class AsyncKVClient:
    """A client of a cluster, for asyncio.

    `nodes`: "host:port", several of them, or one text with commas; None: KVCLIENT_NODES, else localhost 3000 to 3002.
    Connects when it first has something to send. Methods raise CommandError, NotApplied or Unknown (kvclient.errors),
    and TypeError for arguments that are neither bytes, str nor int. Keys and values come back as bytes.
    """

    def __init__(self, nodes: str | Sequence[str] | None = None, *, timeouts: Timeouts | None = None) -> None:
        self._nodes = nodes_of(nodes)
        self._timeouts = timeouts or Timeouts()
        self._current = 0
        self._idle: dict[Node, list[AsyncLink]] = {node: [] for node in self._nodes}

    def __repr__(self) -> str:
        return f"AsyncKVClient {','.join(map(str, self._nodes))} at={self.node}"

    @property
    def node(self) -> str:
        """The node that is asked first: the one that answered last."""
        return str(self._nodes[self._current])

    async def execute(self, request: Request[T], *, only: str | None = None) -> T:
        """Carry out one request; with `only`, at that node or not at all."""
        reply, _ = await self._reply(request, self._nodes if only is None else parse_nodes(only))
        return request.decode(reply)

    async def _reply(self, request: Request[Any], nodes: tuple[Node, ...]) -> tuple[Any, Node]:
        """The reply, and the node that gave it."""
        first = self._current if nodes is self._nodes else 0
        deadline = monotonic() + self._timeouts.call_s
        attempts = Attempts(nodes, first, is_read=request.reads, deadline=deadline)
        while True:
            node = attempts.next_node(monotonic())
            link = self._take(node)
            try:
                await link.open()
                reply = await link.call(request.args, attempts.time_left(monotonic(), self._timeouts.node_s))
            except NotSent as failure:
                self._move_on(node)
                attempts.not_sent(failure)
            except Lost as failure:
                self._move_on(node)
                attempts.lost(failure)
            except ErrorReply as failure:
                await self._give_back(link)
                attempts.error_reply(str(failure))
            else:
                await self._give_back(link)
                if nodes is self._nodes:
                    self._current = nodes.index(node)
                return reply, node

    def _move_on(self, node: Node) -> None:
        """The next call begins elsewhere: a node that hangs must not cost every call its time."""
        if self._nodes[self._current] == node:
            self._current = (self._current + 1) % len(self._nodes)

    def _take(self, node: Node) -> AsyncLink:
        try:
            return self._idle[node].pop()
        except (KeyError, IndexError):
            return AsyncLink(node, timeout_s=self._timeouts.node_s, connect_timeout_s=self._timeouts.connect_s)

    async def _give_back(self, link: AsyncLink) -> None:
        idle = self._idle.get(link.node)
        if idle is not None and len(idle) < IDLE_LINKS_MAX:
            idle.append(link)
        else:
            await link.close()

    async def close(self) -> None:
        """Close the idle connections. The client can be used again."""
        for links in self._idle.values():
            while links:
                await links.pop().close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    # --- any command ---

    async def command(self, *arguments: Argument) -> Any:
        """Any command, its reply as it comes: bytes, int, float, bool, None, list, dict."""
        return await self.execute(requests.command(*arguments))

    async def ping(self) -> bool:
        return await self.execute(requests.ping())

    # --- one key ---

    async def get(self, key: Argument) -> bytes | None:
        """The value, or None."""
        return await self.execute(requests.get(key))

    async def set(self, key: Argument, value: Argument, *, nx: bool = False, xx: bool = False) -> bool:
        """Create or replace. `nx`: create only; `xx`: replace only. False when that kept it from being set."""
        return await self.execute(requests.set(key, value, nx=nx, xx=xx))

    async def set_get(self, key: Argument, value: Argument, *, nx: bool = False, xx: bool = False) -> bytes | None:
        """As `set`, but returns the value before."""
        return await self.execute(requests.set_get(key, value, nx=nx, xx=xx))

    async def upd(self, key: Argument, value: Argument) -> None:
        """Replace. Raises NoSuchKey when there is none."""
        await self.execute(requests.upd(key, value))

    async def getdel(self, key: Argument) -> bytes | None:
        """Delete the key and return its value, or None."""
        return await self.execute(requests.getdel(key))

    async def append(self, key: Argument, value: Argument) -> int:
        """Add to the end of the value; its length now, in bytes."""
        return await self.execute(requests.append(key, value))

    async def strlen(self, key: Argument) -> int:
        """Length of the value in bytes, 0 for a missing key."""
        return await self.execute(requests.strlen(key))

    async def type(self, key: Argument) -> str:
        """ "string", or "none" for a missing key."""
        return await self.execute(requests.type(key))

    async def incr(self, key: Argument, by: int = 1) -> int:
        """Add to the number that the value holds, 0 when missing; the sum."""
        return await self.execute(requests.incr(key, by))

    async def decr(self, key: Argument, by: int = 1) -> int:
        """Subtract from the number that the value holds, 0 when missing; the difference."""
        return await self.execute(requests.decr(key, by))

    # --- several keys ---

    async def delete(self, *keys: Argument) -> int:
        """How many of the keys there were."""
        return await self.execute(requests.delete(*keys))

    async def exists(self, *keys: Argument) -> int:
        """How many of the keys there are."""
        return await self.execute(requests.exists(*keys))

    async def mget(self, *keys: Argument) -> list[bytes | None]:
        """The values, None for a missing key."""
        return await self.execute(requests.mget(*keys))

    async def mset(self, values: Mapping[Any, Argument]) -> None:
        """Set all of them, as one entry of the log."""
        await self.execute(requests.mset(values))

    # --- the key space ---

    async def keys(self, pattern: Argument = b"*") -> list[bytes]:
        """All keys that match a glob pattern, in one reply. For many keys: `scan`."""
        return await self.execute(requests.keys(pattern))

    async def scan(self, match: Argument | None = None, count: int | None = None) -> AsyncIterator[bytes]:
        """The keys, step by step, `count` looked at in each. A cursor holds at one node only: when that node is lost
        the scan begins again at another, and keys may come twice."""
        cursor, nodes, losses = b"0", self._nodes, 0
        while True:
            request = requests.scan(cursor, match, count)
            try:
                reply, node = await self._reply(request, nodes)
            except NotApplied:
                losses += 1
                if nodes is self._nodes or losses >= len(nodes := self._nodes):
                    raise
                cursor = b"0"
                continue
            nodes = (node,)
            cursor, keys = request.decode(reply)
            for key in keys:
                yield key
            if cursor == b"0":
                return

    async def range(
        self, start: Argument | None = None, end: Argument | None = None, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Keys in [start, end) with their values, ordered by the keys' bytes; None: from the first, past the last."""
        return await self.execute(requests.range(start, end, limit))

    async def dbsize(self) -> int:
        """The number of keys."""
        return await self.execute(requests.dbsize())

    async def flushall(self) -> None:
        """Delete every key."""
        await self.execute(requests.flushall())

    # --- the nodes ---

    async def info(self, *sections: Argument) -> Fields:
        """The fields of INFO at the node asked."""
        return await self.execute(requests.info(*sections))

    async def status(self) -> list[NodeStatus]:
        """INFO raft of every node, all asked at once."""
        return list(await asyncio.gather(*(self._status(str(node)) for node in self._nodes)))

    async def _status(self, node: str) -> NodeStatus:
        try:
            fields = await self.execute(requests.info("raft"), only=node)
            return NodeStatus(node, fields, None)
        except KVError as error:
            return NodeStatus(node, None, error.text)
