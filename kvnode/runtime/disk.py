"""The threads that wait for the disk, so that the event loop never does.

The writer performs deeds in order. Appends that queued up while it waited for the disk are made one: one write, one
fdatasync (group commit). The reader serves members that catch up. Whatever goes wrong in either is given to
`on_failure` and ends the process: after a failed write or fsync nobody knows what is on the disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from kvnode.log.wal import WriteAheadLog
from kvnode.node.deeds import AppendRecords, Deed, Event, ReadRecords

IDLE_S = 0.25
"""After this long without work the log counts as idle, and its mark is made durable."""


class Worker:
    """A thread that performs deeds and posts the events that they answer with, until `stop`."""

    def __init__(
        self,
        name: str,
        log: WriteAheadLog,
        post_all: Callable[[list[Event]], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._log = log
        self._post_all = post_all
        self._on_failure = on_failure
        self._queue: SimpleQueue[Deed | ReadRecords | None] = SimpleQueue()
        self._is_dirty = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, deed: Deed | ReadRecords) -> None:
        self._queue.put(deed)

    def stop(self) -> None:
        """Perform what is queued, then end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (deeds := self._take()) is not None:
                if deeds:
                    self._post_all([deed.perform(self._log) for deed in deeds])
                    self._is_dirty = True
        except BaseException as error:  # no thread above this one could handle it
            self._on_failure(error)

    def _take(self) -> list[Deed | ReadRecords] | None:
        """All that is queued, appends in a row made one; waits for the first. None: the end."""
        try:
            deed = self._queue.get(timeout=IDLE_S if self._is_dirty else None)
        except Empty:
            self._log.idle()
            self._is_dirty = False
            return []
        deeds: list[Deed | ReadRecords] = []
        while deed is not None:
            last = deeds[-1] if deeds else None
            if isinstance(deed, AppendRecords) and isinstance(last, AppendRecords):
                last.records.extend(deed.records)
            else:
                deeds.append(deed)
            if self._queue.empty():
                break
            deed = self._queue.get()
        if deed is None:
            if not deeds:
                return None
            self._queue.put(None)
        return deeds
