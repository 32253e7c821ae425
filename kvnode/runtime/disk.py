"""The threads that wait for the disk, so that the event loop never does.

The writer performs deeds in order. Appends that queued up while it waited for the disk are made one: one write, one
fdatasync (group commit). The reader serves members that catch up. Whatever goes wrong in either is given to
`on_failure` and ends the process: after a failed write or fsync nobody knows what is on the disk. A full disk is no
failure: see writing.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from kvnode.node.deeds import AppendRecords
from kvnode.runtime.writing import Performable, Reading, Writing

GROUP_BYTES: Final = 256 * 1024
"""Appends that are written and synced together, unless one alone is larger. A member that catches up has megabytes of
them, and an fsync of other nodes at the same disk waits until they are written: the p99 of writes meanwhile was a sixth
higher without this limit, and nothing was quicker."""


class Worker:
    """A thread that gives `performer` the deeds that are put, until `stop`."""

    def __init__(self, name: str, performer: Reading | Writing, on_failure: Callable[[BaseException], None]) -> None:
        self._performer = performer
        self._on_failure = on_failure
        self._queue: SimpleQueue[Performable | None] = SimpleQueue()
        self._runner = threading.Thread(target=self._run, name=name, daemon=True)
        self._runner.start()

    @property
    def thread_id(self) -> int:
        """The kernel's."""
        return self._runner.native_id or 0

    def put(self, deed: Performable) -> None:
        self._queue.put(deed)

    def stop(self) -> None:
        """Perform what is queued, then end. What there is no room for is dropped: it was never acknowledged."""
        self._queue.put(None)
        self._runner.join()

    def _run(self) -> None:
        performer = self._performer
        try:
            performer.begin()
            while (deeds := self._take()) is not None:
                if deeds:
                    performer.perform(deeds)
                    if performer.rest_s:
                        time.sleep(performer.rest_s)
                else:
                    performer.pause()
        except BaseException as error:  # no thread above this one could handle it
            self._on_failure(error)

    def _take(self) -> list[Performable] | None:
        """What is queued, up to GROUP_BYTES, appends in a row made one. Waits for the first, [] if in vain. None: the
        end."""
        try:
            deed = self._queue.get(timeout=self._performer.pause_s)
        except Empty:
            return []
        deeds: list[Performable] = []
        size = 0
        while deed is not None:
            last = deeds[-1] if deeds else None
            if isinstance(deed, AppendRecords):
                size += sum([record.size for record in deed.records])
            if isinstance(deed, AppendRecords) and isinstance(last, AppendRecords):
                last.add(deed.records, is_missed=deed.is_missed)
            else:
                deeds.append(deed)
            if self._queue.empty() or size >= GROUP_BYTES:
                break
            deed = self._queue.get()
        if deed is None:
            if not deeds:
                return None
            self._queue.put(None)
        return deeds
