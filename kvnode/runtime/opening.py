"""Opening the log, in a thread of its own since it may be long: what comes out is a node, or one that is set aside."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from random import Random, SystemRandom
from typing import Any, Final, TypeVar

from kvnode.config import Config
from kvnode.log.errors import DamageError, DiskError, LogError
from kvnode.log.healing.damaged import DamagedLog
from kvnode.log.identity import cluster_id
from kvnode.log.recovery import Recovered, open_log
from kvnode.log.wal import LogOptions, WriteAheadLog
from kvnode.node.applying import Applier
from kvnode.node.node import Node
from kvnode.node.set_aside import SetAside
from kvnode.runtime.loop import Runtime
from kvnode.store.keyspace import KeySpace
from kvnode.store.limits import Limits

GC_THRESHOLDS = (50_000, 20, 100)
"""What the hot path allocates has no cycles: collections are for the rest, and rare."""
NICENESS: Final = 10
"""How much lower the priority of the thread is that reads the log."""

T = TypeVar("T")


class StartError(Exception):
    """The node can not start; the message is for the operator. Nothing was changed."""


async def open_machine(
    config: Config, runtime: Runtime, logger: Any
) -> tuple[Node | SetAside, WriteAheadLog | DamagedLog]:
    """Read the log: a node, or, where others can heal it, one that is set aside. Raises StartError, DiskError."""
    try:
        try:
            return await _open_node(config, runtime, logger)
        except DamageError as damage:
            if not damage.holes or not config.peers:
                raise
        return await _open_set_aside(config, runtime, logger)
    except DiskError:
        raise
    except LogError as error:
        raise StartError(str(error)) from error


async def _open_node(config: Config, runtime: Runtime, logger: Any) -> tuple[Node, WriteAheadLog]:
    began = time.monotonic()
    identity = cluster_id(config.member_ids, config.cluster_name)
    gc.unfreeze()
    gc.set_threshold(*GC_THRESHOLDS)
    keyspace = KeySpace(
        Limits(config.key_bytes_max, config.value_bytes_max, max(config.output_bytes_max, config.value_bytes_max))
    )
    applier = Applier(keyspace)

    def read() -> Recovered:
        return open_log(
            config.data,
            cluster_id=identity,
            node_id=config.id,
            members=config.member_ids,
            options=_options(config),
            on_record=applier.recover,
        )

    recovered = await below_others(read)
    gc.collect()
    gc.freeze()  # what was loaded stays: no collection needs to look at it
    _report_opened(recovered, logger)
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
        random=_random(),
        now_ms=runtime.now_ms(),
        wall_ms=time.time() * 1000,
    )
    return node, recovered.log


async def below_others(work: Callable[[], T]) -> T:
    """Do something long in a thread of its own that leaves the processors to other processes: to members that serve.

    In a thread that ends with it, since a priority can be lowered and not raised again."""
    pool = ThreadPoolExecutor(1, "log reader", _lower_priority)
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, work)
    finally:
        pool.shutdown(wait=False)


def _lower_priority() -> None:
    """Of this thread. Elsewhere than on Linux it would be the whole process."""
    if sys.platform == "linux":
        with suppress(OSError):  # it is a favour
            os.nice(NICENESS)


def _random() -> Random:
    """From the system once, not by a system call for each election deadline."""
    return Random(SystemRandom().getrandbits(256))


def _report_opened(recovered: Recovered, logger: Any) -> None:
    identity = recovered.identity
    level, event = logger.warning, "mended while the log was opened"
    if recovered.is_damaged:
        level, event = logger.error, "damage in the data directory"
    for finding in recovered.findings:
        level(event, what=finding)
    if identity.set_aside:
        logger.warning("set aside: no vote until a leader has brought this node up to date", why=identity.set_aside)
    elif not identity.may_vote:
        logger.info("no right to vote yet: waiting for all members, or to be brought up to date by a leader")


async def _open_set_aside(config: Config, runtime: Runtime, logger: Any) -> tuple[SetAside, DamagedLog]:
    identity = cluster_id(config.member_ids, config.cluster_name)
    read = partial(
        DamagedLog.open,
        config.data,
        cluster_id=identity,
        node_id=config.id,
        members=config.member_ids,
        options=_options(config),
    )
    log = await below_others(read)
    for hole in log.holes:
        logger.error("damage in the log", what=str(hole))
    logger.warning("set aside until the log is healed: asking the other members for the missing records")
    return SetAside(config, identity, tuple(log.holes), random=_random(), now_ms=runtime.now_ms()), log


def _options(config: Config) -> LogOptions:
    return LogOptions(
        segment_bytes=config.segment_bytes,
        record_bytes_max=config.record_bytes_max,
        fsync_warn_ms=config.fsync_warn_ms,
    )


def _log_counters(log: WriteAheadLog) -> Iterable[tuple[str, object]]:
    counters = log.counters
    yield "log_appends", counters.appends
    yield "log_records", counters.records
    yield "log_bytes_written", counters.bytes_written
    yield "fsyncs", counters.fsyncs
    yield "fsync_last_us", counters.fsync_last_us
    yield "fsync_max_us", counters.fsync_max_us
