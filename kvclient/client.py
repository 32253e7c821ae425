"""The sync client: several nodes, any of which takes any command.

Safe to share between threads: each call in flight has a connection of its own, and idle ones are used again. What a
call does when a node fails is decided in kvclient.attempts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar

from kvclient import requests
from kvclient.attempts import Attempts
from kvclient.errors import KVError, NotApplied
from kvclient.nodes import Node, default_nodes, parse_nodes
from kvclient.requests import Argument, Fields, Request
from kvclient.wire import ErrorReply, Link, Lost, NotSent, SyncParser

T = TypeVar("T")

# A node ends a command within 4 s and says how; only one that hangs is given up here.
NODE_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 1.0
IDLE_LINKS_MAX = 64


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What one node says of itself: the fields of INFO raft, or why there are none."""

    node: str
    fields: Fields | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds: one try at one node, a whole call (no further node is tried after it), the TCP connect."""

    node_s: float = NODE_TIMEOUT_S
    call_s: float = CALL_TIMEOUT_S
    connect_s: float = CONNECT_TIMEOUT_S


def nodes_of(nodes: str | Sequence[str] | None) -> tuple[Node, ...]:
    return default_nodes(os.environ) if nodes is None else parse_nodes(nodes)


class KVClient:
    """A client of a cluster.

    `nodes`: "host:port", several of them, or one text with commas; None: KVCLIENT_NODES, else localhost 3000 to 3002.
    Connects when it first has something to send. Methods raise CommandError, NotApplied or Unknown (kvclient.errors),
    and TypeError for arguments that are neither bytes, str nor int. Keys and values come back as bytes.
    """

    def __init__(
        self, nodes: str | Sequence[str] | None = None, *, timeouts: Timeouts | None = None, parser: Any = SyncParser
    ) -> None:
        self._nodes = nodes_of(nodes)
        self._timeouts = timeouts or Timeouts()
        self._parser = parser
        self._current = 0
        self._idle: dict[Node, list[Link]] = {node: [] for node in self._nodes}

    def __repr__(self) -> str:
        return f"KVClient {','.join(map(str, self._nodes))} at={self.node}"

    @property
    def node(self) -> str:
        """The node that is asked first: the one that answered last."""
        return str(self._nodes[self._current])

    def execute(self, request: Request[T], *, only: str | None = None) -> T:
        """Carry out one request; with `only`, at that node or not at all."""
        reply, _ = self._reply(request, self._nodes if only is None else parse_nodes(only))
        return request.decode(reply)

    def _reply(self, request: Request[Any], nodes: tuple[Node, ...]) -> tuple[Any, Node]:
        """The reply, and the node that gave it."""
        first = self._current if nodes is self._nodes else 0
        deadline = monotonic() + self._timeouts.call_s
        attempts = Attempts(nodes, first, is_read=request.reads, deadline=deadline)
        while True:
            node = attempts.next_node(monotonic())
            link = self._take(node)
            try:
                link.open()
                reply = link.call(request.args, attempts.time_left(monotonic(), self._timeouts.node_s))
            except NotSent as failure:
                self._move_on(node)
                attempts.not_sent(failure)
            except Lost as failure:
                self._move_on(node)
                attempts.lost(failure)
            except ErrorReply as failure:
                self._give_back(link)
                attempts.error_reply(str(failure))
            else:
                self._give_back(link)
                if nodes is self._nodes:
                    self._current = nodes.index(node)
                return reply, node

    def _move_on(self, node: Node) -> None:
        """The next call begins elsewhere: a node that hangs must not cost every call its time."""
        if self._nodes[self._current] == node:
            self._current = (self._current + 1) % len(self._nodes)

    def _take(self, node: Node) -> Link:
        try:
            return self._idle[node].pop()
        except (KeyError, IndexError):
            timeouts = self._timeouts
            return Link(node, timeout_s=timeouts.node_s, connect_timeout_s=timeouts.connect_s, parser=self._parser)

    def _give_back(self, link: Link) -> None:
        idle = self._idle.get(link.node)
        if idle is not None and len(idle) < IDLE_LINKS_MAX:
            idle.append(link)
        else:
            link.close()

    def close(self) -> None:
        """Close the idle connections. The client can be used again."""
        for links in self._idle.values():
            while links:
                links.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- any command ---

    def command(self, *arguments: Argument) -> Any:
        """Any command, its reply as it comes: bytes, int, float, bool, None, list, dict."""
        return self.execute(requests.command(*arguments))

    def ping(self) -> bool:
        return self.execute(requests.ping())

    # --- one key ---

    def get(self, key: Argument) -> bytes | None:
        """The value, or None."""
        return self.execute(requests.get(key))

    def set(self, key: Argument, value: Argument, *, nx: bool = False, xx: bool = False) -> bool:
        """Create or replace. `nx`: create only; `xx`: replace only. False when that kept it from being set."""
        return self.execute(requests.set(key, value, nx=nx, xx=xx))

    def set_get(self, key: Argument, value: Argument, *, nx: bool = False, xx: bool = False) -> bytes | None:
        """As `set`, but returns the value before."""
        return self.execute(requests.set_get(key, value, nx=nx, xx=xx))

    def upd(self, key: Argument, value: Argument) -> None:
        """Replace. Raises NoSuchKey when there is none."""
        self.execute(requests.upd(key, value))

    def getdel(self, key: Argument) -> bytes | None:
        """Delete the key and return its value, or None."""
        return self.execute(requests.getdel(key))

    def append(self, key: Argument, value: Argument) -> int:
        """Add to the end of the value; its length now, in bytes."""
        return self.execute(requests.append(key, value))

    def strlen(self, key: Argument) -> int:
        """Length of the value in bytes, 0 for a missing key."""
        return self.execute(requests.strlen(key))

    def type(self, key: Argument) -> str:
        """ "string", or "none" for a missing key."""
        return self.execute(requests.type(key))

    def incr(self, key: Argument, by: int = 1) -> int:
        """Add to the number that the value holds, 0 when missing; the sum."""
        return self.execute(requests.incr(key, by))

    def decr(self, key: Argument, by: int = 1) -> int:
        """Subtract from the number that the value holds, 0 when missing; the difference."""
        return self.execute(requests.decr(key, by))

    # --- several keys ---

    def delete(self, *keys: Argument) -> int:
        """How many of the keys there were."""
        return self.execute(requests.delete(*keys))

    def exists(self, *keys: Argument) -> int:
        """How many of the keys there are."""
        return self.execute(requests.exists(*keys))

    def mget(self, *keys: Argument) -> list[bytes | None]:
        """The values, None for a missing key."""
        return self.execute(requests.mget(*keys))

    def mset(self, values: Mapping[Any, Argument]) -> None:
        """Set all of them, as one entry of the log."""
        self.execute(requests.mset(values))

    # --- the key space ---

    def keys(self, pattern: Argument = b"*") -> list[bytes]:
        """All keys that match a glob pattern, in one reply. For many keys: `scan`."""
        return self.execute(requests.keys(pattern))

    def scan(self, match: Argument | None = None, count: int | None = None) -> Iterator[bytes]:
        """The keys, step by step, `count` looked at in each. A cursor holds at one node only: when that node is lost
        the scan begins again at another, and keys may come twice."""
        cursor, nodes, losses = b"0", self._nodes, 0
        while True:
            request = requests.scan(cursor, match, count)
            try:
                reply, node = self._reply(request, nodes)
            except NotApplied:
                losses += 1
                if nodes is self._nodes or losses >= len(nodes := self._nodes):
                    raise
                cursor = b"0"
                continue
            nodes = (node,)
            cursor, keys = request.decode(reply)
            yield from keys
            if cursor == b"0":
                return

    def range(
        self, start: Argument | None = None, end: Argument | None = None, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Keys in [start, end) with their values, ordered by the keys' bytes; None: from the first, past the last."""
        return self.execute(requests.range(start, end, limit))

    def dbsize(self) -> int:
        """The number of keys."""
        return self.execute(requests.dbsize())

    def flushall(self) -> None:
        """Delete every key."""
        self.execute(requests.flushall())

    # --- the nodes ---

    def info(self, *sections: Argument) -> Fields:
        """The fields of INFO at the node asked."""
        return self.execute(requests.info(*sections))

    def status(self) -> list[NodeStatus]:
        """INFO raft of every node, one after the other."""
        return [self._status(str(node)) for node in self._nodes]

    def _status(self, node: str) -> NodeStatus:
        try:
            return NodeStatus(node, self.execute(requests.info("raft"), only=node), None)
        except KVError as error:
            return NodeStatus(node, None, error.text)
