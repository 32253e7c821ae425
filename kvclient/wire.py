"""The wire: one connection to one node, over redis-py, whose own retries are off.

redis-py connects, says HELLO 3, and parses (with hiredis). It is told not to interpret error replies: their texts
decide whether a command was applied, so they arrive whole. Failures come in three kinds:

    NotSent     no connection; nothing left
    Lost        the command left, wholly or in part; no answer came
    ErrorReply  the node's error reply, as text

Everything that is typed loosely in redis-py is touched in this module only.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from typing import Any

import redis.asyncio.connection
import redis.connection
import redis.exceptions
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError, ResponseError
from redis.retry import Retry

from kvclient.nodes import Node

_SyncConnection: Any = redis.connection.Connection
_AsyncConnection: Any = redis.asyncio.connection.Connection
_SyncParser: Any = redis.connection.DefaultParser
_AsyncParser: Any = redis.asyncio.connection.DefaultParser

# What connecting may raise; the last two where something else than a node answers the greeting.
_CONNECT_ERRORS = (RedisError, OSError, ValueError, AttributeError)


class NotSent(Exception):
    """There is no connection to the node; nothing was sent."""


class Lost(Exception):
    """The command was sent, wholly or in part, and its answer will not come on this connection."""


class ErrorReply(Exception):
    """The node's error reply. `args[0]`: its text, without the leading '-'."""


def whole_error(text: str) -> ResponseError:
    """An error reply with its text untouched; redis-py would cut off the code and close on some."""
    return ResponseError(text)


def reason_of(error: BaseException) -> str:
    """Why the transport failed, in few words; the address is left to the caller."""
    cause = error
    while (before := cause.__cause__ or cause.__context__) is not None:
        cause = before
    if isinstance(cause, TimeoutError) or isinstance(error, redis.exceptions.TimeoutError):
        return "timed out"
    if isinstance(cause, socket.gaierror):
        return "the host's name is not known"
    if isinstance(cause, OSError) and cause.errno:
        # Not its own text: asyncio puts another one there.
        return os.strerror(cause.errno).lower()
    if isinstance(cause, InvalidResponse | ValueError | AttributeError):
        return "it does not speak the Redis protocol"
    return str(error).strip().rstrip(".").lower() or type(error).__name__


class SyncParser(_SyncParser):  # type: ignore[misc]
    parse_error = staticmethod(whole_error)


class AsyncParser(_AsyncParser):  # type: ignore[misc]
    parse_error = staticmethod(whole_error)


def pack(args: tuple[bytes, ...]) -> bytes:
    """A command in RESP: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        parts.append(b"$%d\r\n%b\r\n" % (len(arg), arg))
    return b"".join(parts)


def _options(node: Node, timeout_s: float | None, connect_timeout_s: float, parser: Any) -> dict[str, Any]:
    return {
        "host": node.host,
        "port": node.port,
        "protocol": 3,
        "parser_class": parser,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_timeout_s,
    }


class Link:
    """A connection of the sync client."""

    __slots__ = ("_connection", "node")

    def __init__(self, node: Node, *, timeout_s: float, connect_timeout_s: float, parser: Any = SyncParser) -> None:
        self.node = node
        self._connection = _SyncConnection(**_options(node, timeout_s, connect_timeout_s, parser))

    def __repr__(self) -> str:
        return f"Link {self.node} {'up' if self._connection.is_connected else 'down'}"

    def open(self) -> None:
        """Make sure that there is a connection. Raises NotSent."""
        try:
            if self._connection.is_connected:
                # The node may have closed it since; a write into it would end with an unknown outcome for nothing.
                # Unread bytes are answers to nobody, and as bad.
                try:
                    if not self._connection.can_read(0):
                        return
                except RedisError:
                    pass
                self.close()
            self._connection.connect()
        except _CONNECT_ERRORS as error:
            self.close()
            raise NotSent(reason_of(error)) from error

    def call(self, args: tuple[bytes, ...], timeout_s: float) -> Any:
        """Send a command and read its reply. Raises ErrorReply, or Lost after closing the connection."""
        try:
            self._connection.send_packed_command([pack(args)], check_health=False)
            return self._connection.read_response(timeout=timeout_s)
        except ResponseError as error:
            raise ErrorReply(str(error)) from None
        except (RedisError, OSError) as error:
            self.close()
            raise Lost(reason_of(error)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._connection.disconnect()


class AsyncLink:
    """A connection of the asyncio client."""

    __slots__ = ("_connection", "_timeout_s", "node")

    def __init__(self, node: Node, *, timeout_s: float, connect_timeout_s: float) -> None:
        self.node = node
        self._timeout_s = timeout_s
        # No timeout of redis-py's own: a read that it ends may return None, which is a reply too.
        self._connection = _AsyncConnection(**_options(node, None, connect_timeout_s, AsyncParser))

    def __repr__(self) -> str:
        return f"AsyncLink {self.node} {'up' if self._connection.is_connected else 'down'}"

    async def open(self) -> None:
        """Make sure that there is a connection. Raises NotSent."""
        try:
            if self._connection.is_connected:
                if self._is_quiet():
                    return
                await self.close()
            async with asyncio.timeout(self._timeout_s):
                await self._connection.connect()
        except _CONNECT_ERRORS as error:
            await self.close()
            raise NotSent(reason_of(error)) from error
        except BaseException:
            await self.close()
            raise

    def _is_quiet(self) -> bool:
        """Nothing to read: no end of the stream, nor an answer to nobody. redis-py's own `can_read` knows only what the
        event loop has seen so far, which is nothing when the program kept it busy."""
        descriptor = self._connection._writer.get_extra_info("socket").fileno()
        if descriptor < 0:
            return False
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return not poller.poll(0)

    async def call(self, args: tuple[bytes, ...], timeout_s: float) -> Any:
        """Send a command and read its reply. Raises ErrorReply, or Lost after closing the connection."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connection.send_packed_command([pack(args)], check_health=False)
                return await self._connection.read_response()
        except ResponseError as error:
            raise ErrorReply(str(error)) from None
        except (RedisError, OSError) as error:
            await self.close()
            raise Lost(reason_of(error)) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)
