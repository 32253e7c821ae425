"""From a Config to an exit code: bind, read the log, take part, stop.

The ports are bound first, so that a second process on them is refused before it looks at the data, and so that clients
hear -LOADING instead of nothing while a long log is read (in a thread of its own).
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import time
import traceback
from collections.abc import Iterable
from random import SystemRandom
from typing import Any

import uvloop

from kvnode.config import Config
from kvnode.invariant import InvariantError
from kvnode.log.errors import LogError
from kvnode.log.identity import cluster_id
from kvnode.log.record import Record
from kvnode.log.recovery import Recovered, open_log
from kvnode.log.wal import LogOptions, WriteAheadLog
from kvnode.node.applying import Applier
from kvnode.node.node import Node
from kvnode.node.wire import LANES
from kvnode.runtime.connections import ClientConnection, LinkConnection, keep_dialing
from kvnode.runtime.loop import Runtime
from kvnode.runtime.notes import make_logger
from kvnode.store.keyspace import KeySpace
from kvnode.store.limits import Limits

BACKLOG = 1024
EXIT_STOPPED = 0
EXIT_FAILED = 1
GC_THRESHOLDS = (50_000, 20, 100)
"""What the hot path allocates has no cycles: collections are for the rest, and rare."""


class StartError(Exception):
    """The node can not start; the message is one sentence for the operator. Nothing was changed."""


def serve(config: Config) -> int:
    """Run the node until it is told to stop; the exit code. Raises StartError."""
    with _listen(*config.client_listen) as clients, _listen(*config.peer_listen) as peers:
        _raise_file_limit()
        return uvloop.run(_serve(config, clients, peers))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise StartError(f"can not listen on {host}:{port}: {reason}") from error


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(config: Config, clients: socket.socket, peers: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    logger = make_logger(config.id, config.log_level, config.log_format)
    runtime = Runtime(config, loop, logger)
    loop.set_exception_handler(lambda _, context: runtime.fail(_error_of(context)))
    client_server = runtime.client_server = await loop.create_server(
        lambda: ClientConnection(runtime), sock=clients, backlog=BACKLOG
    )
    loading = loop.create_task(_load(config, runtime, logger))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runtime.drain)
    await asyncio.wait([loading, runtime.stopped], return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():  # stopped while reading: nothing has been changed
        return EXIT_STOPPED
    loading.result()
    peer_server = await loop.create_server(lambda: LinkConnection(runtime), sock=peers, backlog=BACKLOG)
    dialers = [loop.create_task(keep_dialing(runtime, member, lane)) for member in config.peers for lane in LANES]
    me = config.me
    logger.info("serving", clients=me.client_address, members=me.peer_address, process_id=os.getpid())
    try:
        await runtime.stopped
    except BaseException as error:
        _report(logger, error)
        return EXIT_FAILED
    finally:
        client_server.close()
        peer_server.close()
        for dialer in dialers:
            dialer.cancel()
    await runtime.close()
    logger.info("stopped")
    return EXIT_STOPPED


def _error_of(context: dict[str, Any]) -> BaseException:
    """What the event loop met where nobody was waiting for it: a defect, and so an end."""
    error = context.get("exception")
    return error if isinstance(error, BaseException) else RuntimeError(str(context.get("message")))


def _report(logger: Any, error: BaseException) -> None:
    if isinstance(error, (LogError, InvariantError)):
        logger.error("this node has stopped itself", reason=str(error))
    else:
        logger.error("this node has stopped itself: a defect in kvnode", reason=repr(error))
        traceback.print_exception(error)


async def _load(config: Config, runtime: Runtime, logger: Any) -> None:
    """Read the log, and begin."""
    began = time.monotonic()
    identity = cluster_id(config.member_ids, config.cluster_name)
    keyspace = KeySpace(
        Limits(config.key_bytes_max, config.value_bytes_max, max(config.output_bytes_max, config.value_bytes_max))
    )
    applier = Applier(keyspace)

    def take(record: Record) -> None:
        applier.append(record)
        applier.apply(record.commit_seq, entries_max=1 << 62)

    def read() -> Recovered:
        return open_log(
            config.data,
            cluster_id=identity,
            node_id=config.id,
            members=config.member_ids,
            options=LogOptions(segment_bytes=config.segment_bytes, record_bytes_max=config.record_bytes_max),
            on_record=take,
        )

    try:
        recovered = await asyncio.to_thread(read)
    except LogError as error:
        raise StartError(str(error)) from error
    gc.collect()
    gc.freeze()  # what was loaded stays: no collection needs to look at it
    gc.set_threshold(*GC_THRESHOLDS)
    if recovered.cut is not None:
        logger.warning("a torn write was cut off the end of the log", what=str(recovered.cut))
    logger.info(
        "log read",
        directory=str(config.data),
        entries=recovered.entries,
        last_seq=recovered.last_seq,
        applied_seq=applier.applied_seq,
        term=recovered.ballot.term,
        keys=len(keyspace),
        bytes=recovered.bytes,
        ms=round((time.monotonic() - began) * 1000),
    )
    node = Node(
        config,
        identity,
        recovered,
        applier,
        log_counters=lambda: _log_counters(recovered.log),
        random=SystemRandom(),
        now_ms=runtime.now_ms(),
        wall_ms=time.time() * 1000,
    )
    if not recovered.identity.may_vote:
        logger.info("no right to vote yet: waiting for all members, or to be brought up to date by a leader")
    runtime.begin(node, recovered.log)


def _log_counters(log: WriteAheadLog) -> Iterable[tuple[str, object]]:
    counters = log.counters
    yield "log_appends", counters.appends
    yield "log_records", counters.records
    yield "log_bytes_written", counters.bytes_written
    yield "fsyncs", counters.fsyncs
    yield "fsync_last_us", counters.fsync_last_us
    yield "fsync_max_us", counters.fsync_max_us
