"""Turns: what has arrived since the last one goes into the node, what comes out is carried out.

A process can have several lives: the machine that takes the turns is a node, or one that is set aside and heals its log
first; when it says `restart`, everything of that life is closed, and the log is opened anew for the next.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Final

from kvnode.config import Config
from kvnode.log.healing.damaged import DamagedLog
from kvnode.log.wal import WriteAheadLog
from kvnode.node.deeds import Event, Outputs
from kvnode.node.node import Node
from kvnode.node.set_aside import SetAside
from kvnode.runtime.affinity import Affinity, can_bind_threads
from kvnode.runtime.connections import ClientConnection, LinkConnection
from kvnode.runtime.disk import Worker
from kvnode.runtime.loading import READING, SET_ASIDE
from kvnode.runtime.slow_fsyncs import SlowFsyncs
from kvnode.runtime.writing import Reading, Writing

_monotonic: Final = time.monotonic
_wall: Final = time.time

DRAIN_S_MAX: Final = 4.5
"""A node that was asked to stop is gone after this long, whatever is still pending."""


class Runtime:
    """One node's event loop. `machine` takes the turns, None while the log is read; `node` is it where it serves.

    `stopped` ends the process, `over` ends a life."""

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop, logger: Any) -> None:
        self.config = config
        self.loop = loop
        self.logger = logger
        self.machine: Node | SetAside | None = None
        self.node: Node | None = None
        self.why_loading = READING
        self.client_server: asyncio.Server | None = None
        self.clients: dict[int, ClientConnection] = {}
        self.links: dict[int, LinkConnection] = {}
        self.stopped: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        self._writer: Worker
        self._reader: Worker
        self._log: WriteAheadLog | DamagedLog
        self._events: list[Event] = []
        self._is_turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0.0
        self._last_id = 0
        self._is_draining = False
        self._slow_fsyncs: SlowFsyncs | None = None
        self._affinity: Affinity | None = None

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def now_ms(self) -> float:
        return _monotonic() * 1000  # the clock of the loop, but finer than its whole milliseconds

    def begin(self, machine: Node | SetAside, log: WriteAheadLog | DamagedLog) -> None:
        """The log is read: a life begins."""
        self.machine = machine
        self.node = machine if isinstance(machine, Node) else None
        self.why_loading = READING if self.node else SET_ASIDE
        self.over = self.loop.create_future()
        self._log = log
        slow = log.counters.slow_fsyncs if isinstance(log, WriteAheadLog) else None
        self._slow_fsyncs = None if slow is None else SlowFsyncs(slow, self.config.fsync_warn_ms)
        self._writer = Worker("log writer", Writing(log, self._post_from_thread), self._fail_from_thread)
        self._reader = Worker("log reader", Reading(log, self._post_from_thread), self._fail_from_thread)
        stay_ms = self.config.cpu_stay_ms
        if stay_ms and can_bind_threads():
            self._affinity = Affinity(
                threading.get_native_id(), self._writer.thread_id, self._reader.thread_id, stay_ms
            )
        for client in list(self.clients.values()) if self.node else ():
            client.loaded()
        self._turn()

    async def end_life(self) -> None:
        """Before the log is opened anew. Clients that wait for the log to be read stay."""
        self.logger.info("opening the log anew")
        self.machine = self.node = None
        self.why_loading = READING
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._affinity is not None:
            self._affinity.free()
            self._affinity = None
        for client in list(self.clients.values()):
            if client.loading is None:
                del self.clients[client.id]
                client.transport.close()
        for link in list(self.links.values()):
            link.transport.abort()
        self.links.clear()
        await asyncio.to_thread(self._close_log)
        self._events.clear()

    def _close_log(self) -> None:
        self._reader.stop()
        self._writer.stop()
        self._log.close()

    # Events

    def post(self, handler: str, *arguments: Any) -> None:
        """Let the node have an event in its next turn, which takes all that the event loop finds ready now."""
        self._events.append((handler, arguments))
        if not self._is_turn_due and self.machine is not None:
            self._is_turn_due = True
            self.loop.call_soon(self._turn)

    def _post_all(self, events: list[Event]) -> None:
        self._events += events
        if not self._is_turn_due:
            self._is_turn_due = True
            self._turn()

    def _post_from_thread(self, events: list[Event]) -> None:
        self.loop.call_soon_threadsafe(self._post_all, events)

    def _fail_from_thread(self, error: BaseException) -> None:
        self.loop.call_soon_threadsafe(self.fail, error)

    def fail(self, error: BaseException) -> None:
        """Nothing that follows could be trusted: end the process, without another word to anybody."""
        if not self.stopped.done():
            self.stopped.set_exception(error)

    def on_task_done(self, task: asyncio.Task[None]) -> None:
        """Of tasks that go on for ever: one that ends by itself has met what it does not expect."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    # Turns

    def _turn(self) -> None:
        self._is_turn_due = False
        if self.stopped.done() or self.over.done() or self.machine is None:
            return
        events, self._events = self._events, []
        try:
            now_ms = self.now_ms()
            affinity = self._affinity
            if affinity is not None and now_ms >= affinity.leave_ms:
                affinity.leave(now_ms)
            outputs = self.machine.turn(now_ms, _wall() * 1000, events)
            if affinity is not None and outputs.disk:
                affinity.stay(now_ms)
            self._carry_out(outputs)
            if self._slow_fsyncs is not None:
                self._warn_of_slow_fsync(self._slow_fsyncs, now_ms)
        except BaseException as error:
            self.fail(error)
            return
        if outputs.restart:
            self.over.set_result(None)
            return
        if outputs.wants_turn and not self._is_turn_due:
            self._is_turn_due = True
            self.loop.call_soon(self._turn)
        self._set_timer(outputs.deadline_ms)
        if self._is_draining and self.machine.is_drained and not self._events:
            self._stop()

    def _carry_out(self, outputs: Outputs) -> None:
        for deed in outputs.disk:
            self._writer.put(deed)
        for read in outputs.reads:
            self._reader.put(read)
        if outputs.client_ends:
            outputs.client_closes += self._cork(outputs.client_ends)
        links, clients = self.links, self.clients
        for link_id, data in outputs.link_writes:
            link = links.get(link_id)
            if link is not None:
                link.transport.write(data)
        for session_id, data in outputs.client_writes:
            client = clients.get(session_id)
            if client is not None:
                client.write(data)
                if len(data) > 65536:
                    self._check_backlog(client)
        if outputs.client_pauses or outputs.client_resumes:
            self._pause(outputs)
        for session_id in outputs.client_closes:
            if session_id in clients:
                clients[session_id].transport.close()
        for link_id in outputs.link_closes:
            if link_id in links:
                links[link_id].transport.close()
        for level, event, fields in outputs.notes:
            getattr(self.logger, level)(event, **fields)

    def _pause(self, outputs: Outputs) -> None:
        for session_id in outputs.client_pauses:
            if session_id in self.clients:
                self.clients[session_id].is_paused_by_node = True
                self.clients[session_id].transport.pause_reading()
        for session_id in outputs.client_resumes:
            if session_id in self.clients:
                self.clients[session_id].is_paused_by_node = False
                self.clients[session_id].transport.resume_reading()

    def _cork(self, session_ids: list[int]) -> list[int]:
        """Those on which nothing has arrived that was not read: what is sent last and the end will arrive together, so
        that their clients do not ask again before they know."""
        clients = [self.clients[session_id] for session_id in session_ids if session_id in self.clients]
        quiet = [client for client in clients if not client.transport.is_closing() and not client.unread_bytes()]
        for client in quiet:
            client.cork()
        return [client.id for client in quiet]

    def _check_backlog(self, client: ClientConnection) -> None:
        """A client that leaves so many replies unread is cut off."""
        if client.transport.get_write_buffer_size() > self.config.output_bytes_max:
            self.logger.warning("client cut off: it does not read its replies", client=client.id)
            del self.clients[client.id]
            client.transport.abort()

    def _warn_of_slow_fsync(self, slow_fsyncs: SlowFsyncs, now_ms: float) -> None:
        told = slow_fsyncs.maybe_tell(now_ms)
        if told is not None:
            sentence, took_ms = told
            self.logger.warning(sentence, ms=took_ms)

    def _set_timer(self, deadline_ms: float) -> None:
        if self._timer is not None:
            if self._timer_ms <= deadline_ms:
                return  # it will wake us, and the next turn sets it anew
            self._timer.cancel()
        self._timer_ms = deadline_ms
        self._timer = self.loop.call_at(deadline_ms / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._is_turn_due:
            self._turn()

    # Stopping

    def drain(self) -> None:
        """SIGTERM: hand over, answer what is pending, stop."""
        if self._is_draining or self.machine is None:
            self._stop()
            return
        self._is_draining = True
        self.logger.info("stopping")
        if self.client_server is not None:
            self.client_server.close()
        self.loop.call_later(DRAIN_S_MAX, self._stop)
        self.post("on_shutdown")

    def _stop(self) -> None:
        if not self.stopped.done():
            self.stopped.set_result(None)

    async def close(self) -> None:
        """After a clean stop: let replies leave, finish what the disk has begun."""
        for client in self.clients.values():
            client.transport.close()
        for link in self.links.values():
            link.transport.close()
        deadline = self.loop.time() + 0.3
        while self.clients and self.loop.time() < deadline:  # noqa: ASYNC110 - none tells that it was the last
            await asyncio.sleep(0.01)
        if self.machine is not None:
            self._close_log()
