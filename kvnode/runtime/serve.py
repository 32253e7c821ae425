"""From a Config to an exit code: bind, then life after life read the log and take part, stop.

The ports are bound first, so that a second process on them is refused before it looks at the data, and so that clients
hear -LOADING instead of nothing while a long log is read, or healed.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import traceback
from dataclasses import replace
from typing import Any, cast

import uvloop

from kvnode.config import Config
from kvnode.invariant import InvariantError
from kvnode.log.errors import DiskError, LogError
from kvnode.node.set_aside import EntriesLost
from kvnode.node.wire import LANES
from kvnode.runtime.connections import ClientConnection, LinkConnection
from kvnode.runtime.dialing import keep_dialing
from kvnode.runtime.huge_pages import HugePages
from kvnode.runtime.loop import Runtime
from kvnode.runtime.notes import make_logger
from kvnode.runtime.opening import StartError, open_machine

BACKLOG = 1024
FILES_KEPT = 100
"""Descriptors that are not for clients: those of the log, of members, of the ports."""
EXIT_STOPPED = 0
EXIT_FAILED = 1
"""A broken invariant, or another defect. (2: it could not start, see kvnode/cli.)"""
EXIT_DISK_FAILED = 3
EXIT_ENTRIES_LOST = 4
LIVES_WITHOUT_NODE_MAX = 10
"""A log that has new damage each time that it was healed: the disk can not be used."""


def serve(config: Config) -> int:
    """Run the node until it is told to stop; the exit code. Raises StartError."""
    with _listen(*config.client_listen) as clients, _listen(*config.peer_listen) as peers:
        return uvloop.run(_serve(config, clients, peers, _raise_file_limit()))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise StartError(f"can not listen on {host}:{port}: {reason}") from error


def _raise_file_limit() -> int:
    """As far as it goes; how many files may be open then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def _serve(config: Config, clients: socket.socket, peers: socket.socket, files_max: int) -> int:
    loop = asyncio.get_running_loop()
    logger = make_logger(config.id, config.log_level, config.log_format)
    clients_max = max(1, files_max - FILES_KEPT)
    if clients_max < config.clients_max:  # else clients could take the descriptor that the log needs next
        logger.warning(
            "fewer clients than configured: this process may not open so many files", clients_max=clients_max
        )
        config = replace(config, clients_max=clients_max)
    runtime = Runtime(config, loop, logger)
    loop.set_exception_handler(lambda _, context: runtime.fail(_error_of(context)))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runtime.drain)
    client_server = runtime.client_server = await loop.create_server(
        lambda: cast(asyncio.Protocol, ClientConnection(runtime)), sock=clients, backlog=BACKLOG
    )
    peer_server = await loop.create_server(
        lambda: cast(asyncio.Protocol, LinkConnection(runtime)), sock=peers, backlog=BACKLOG
    )
    dialers = [loop.create_task(keep_dialing(runtime, member, lane)) for member in config.peers for lane in LANES]
    for dialer in dialers:
        dialer.add_done_callback(runtime.on_task_done)
    huge_pages = HugePages()
    if config.huge_pages:
        huge_pages.start()
    try:
        await _live(config, runtime, logger)
    except StartError:
        raise
    except BaseException as error:
        return _report(logger, error)
    finally:
        client_server.close()
        peer_server.close()
        for dialer in dialers:
            dialer.cancel()
        huge_pages.stop()
    try:
        await runtime.close()
    except BaseException as error:
        return _report(logger, error)
    logger.info("stopped")
    return EXIT_STOPPED


async def _live(config: Config, runtime: Runtime, logger: Any) -> None:
    """Open the log and take part, again and again, until the process is told to stop or has to."""
    lives_without_node = 0
    while True:
        opening = asyncio.ensure_future(open_machine(config, runtime, logger))
        waits: list[asyncio.Future[Any]] = [opening, runtime.stopped]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():  # stopped while reading: nothing has been changed
            runtime.stopped.result()  # or something has ended it, the last life's disk for instance
            return
        runtime.begin(*opening.result())
        lives_without_node = 0 if runtime.node else lives_without_node + 1
        if lives_without_node > LIVES_WITHOUT_NODE_MAX:
            raise DiskError("The log was healed again and again, and each time there was damage: replace the disk.")
        if runtime.node:
            me = config.me
            logger.info("serving", clients=me.client_address, members=me.peer_address, process_id=os.getpid())
        await asyncio.wait([runtime.over, runtime.stopped], return_when=asyncio.FIRST_COMPLETED)
        if runtime.stopped.done():
            runtime.stopped.result()
            return
        await runtime.end_life()


def _error_of(context: dict[str, Any]) -> BaseException:
    """What the event loop met where nobody was waiting for it: a defect, and so an end."""
    error = context.get("exception")
    return error if isinstance(error, BaseException) else RuntimeError(str(context.get("message")))


def _report(logger: Any, error: BaseException) -> int:
    """Tell why this node ends; the exit code."""
    if isinstance(error, (LogError, InvariantError, EntriesLost)):
        logger.error("this node has stopped itself", reason=str(error))
    else:
        logger.error("this node has stopped itself: a defect in kvnode", reason=repr(error))
        traceback.print_exception(error)
    if isinstance(error, EntriesLost):
        return EXIT_ENTRIES_LOST
    return EXIT_DISK_FAILED if isinstance(error, DiskError) else EXIT_FAILED
