"""Keeping a connection to each lane of each member."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from kvnode.config import Member
from kvnode.runtime.connections import LinkConnection

if TYPE_CHECKING:
    from kvnode.runtime.loop import Runtime

DIAL_TIMEOUT_S = 2.0
DIAL_AGAIN_S = (0.05, 0.1, 0.2, 0.4)
"""Waits between attempts to reach a member; the last one repeats."""


async def keep_dialing(runtime: Runtime, member: Member, lane: str) -> None:
    """Keep one connection to one lane of one member, for ever, while this node has a use for it."""
    loop = asyncio.get_running_loop()
    attempt = 0
    while True:
        while runtime.machine is None or lane not in runtime.machine.lanes:  # noqa: ASYNC110 - rare, and not for long
            await asyncio.sleep(DIAL_AGAIN_S[0])
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                connection = await _dial(loop, runtime, member, lane)
        except (OSError, TimeoutError):
            pass  # down, or not up yet: the node tells when members come and go
        else:
            before = loop.time()
            await connection.closed.wait()
            if loop.time() - before > 1:
                attempt = 0
        await asyncio.sleep(DIAL_AGAIN_S[min(attempt, len(DIAL_AGAIN_S) - 1)])
        attempt += 1


async def _dial(loop: asyncio.AbstractEventLoop, runtime: Runtime, member: Member, lane: str) -> LinkConnection:
    connection = LinkConnection(runtime, member, lane)
    protocol = cast(asyncio.Protocol, connection)
    await loop.create_connection(lambda: protocol, member.peer_host, member.peer_port)
    return connection
