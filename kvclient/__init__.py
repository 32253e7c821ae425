"""Client of kvnode: a library for sync and asyncio programs, a shell, and one-shot commands.

    with KVClient(["127.0.0.1:3000", "127.0.0.1:3001"]) as client:
        client.set("greeting", "hello")
        client.get("greeting")          # b"hello"

It talks to any node over the Redis protocol, and to another one when that can not apply a command twice.
"""

from kvclient.aio import AsyncKVClient
from kvclient.client import KVClient, NodeStatus, Timeouts
from kvclient.errors import CommandError, KVError, NoSuchKey, NotApplied, Unknown

__all__ = [
    "AsyncKVClient",
    "CommandError",
    "KVClient",
    "KVError",
    "NoSuchKey",
    "NodeStatus",
    "NotApplied",
    "Timeouts",
    "Unknown",
]
