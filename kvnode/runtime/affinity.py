"""The event loop and the log writer on one CPU at a time, while records are written (Linux).

They take turns in any case, for Python lets one thread run at a time. Where one wakes the other on another CPU, which
sleeps, that takes some 40 µs, and the caches there know nothing; on the same CPU it takes 5 µs, since the first is
about to sleep. Left alone, the kernel prefers the CPU that is idle. (Three nodes and the load on two CPUs, nothing else
on them: a sixth more SETs of one client, an eighth of ten, a twentieth to a tenth of 50. With more beside them less.)

Which CPU is for the kernel to say: after every stay both threads may go anywhere for a moment, and where the loop is
when it hands over the next record, there they stay. Where one of them had to wait for its CPU they are free for longer:
then there is none to spare, and the kernel knows better. Without records they are free, too.

It is a matter of speed alone: where the kernel refuses, both stay free. A thread that starts during a stay inherits it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final

GAP_MS: Final = 2.0
"""How long the threads are free after each stay. A thread that runs is not moved: they have to sleep meanwhile."""
CONTENDED: Final = 0.25
"""Time that one of them waited for a CPU, by all the time of a stay."""
FREE_MS: Final = 200.0
"""How long they are free after a stay like that, and where they can not stay."""
_PROCESSOR: Final = 36
"""The field of /proc/…/stat, counted from the one after the name (proc(5))."""
_CAN_NOT: Final = (OSError, ValueError, IndexError)
"""The kernel refuses, or does not tell in /proc what is read there."""


def can_bind_threads() -> bool:
    """Whether this system binds single threads to a CPU."""
    return hasattr(os, "sched_setaffinity")


class Affinity:
    """`leave_ms`: when the stay is over; inf while the threads are free. Made, and asked, by the loop's thread."""

    def __init__(self, loop_thread: int, writer_thread: int, free_thread: int, stay_ms: float) -> None:
        """The threads' ids of the kernel. `free_thread` is never bound: it shows which CPUs this process may use."""
        self.leave_ms = inf
        self._threads = (loop_thread, writer_thread)
        self._free_thread = free_thread
        self._stay_ms = stay_ms
        self._cpu = -1
        self._came_ms = 0.0
        self._waited_ms = [0.0, 0.0]
        self._free_until_ms = -inf

    def stay(self, now_ms: float) -> None:
        """A record is about to be handed over: both stay here, unless they do already or are to be free."""
        if self.leave_ms < inf or now_ms < self._free_until_ms:
            return
        try:
            allowed, own = os.sched_getaffinity(self._free_thread), os.sched_getaffinity(0)
            # Otherwise there is nothing to choose, or somebody has bound this thread by itself.
            if len(allowed) > 1 and own in (allowed, {self._cpu}):
                self._came_ms, self._waited_ms = now_ms, self._read_waited_ms()
                self._cpu = self._read_cpu()
                self.leave_ms = now_ms + self._stay_ms
                for thread in self._threads:
                    os.sched_setaffinity(thread, {self._cpu})
                return
        except _CAN_NOT:
            self.free()
        self._free_until_ms = now_ms + FREE_MS

    def leave(self, now_ms: float) -> None:
        """The stay is over."""
        try:
            waited_ms = max(now - before for now, before in zip(self._read_waited_ms(), self._waited_ms, strict=True))
        except _CAN_NOT:
            waited_ms = inf
        self.free()
        is_contended = waited_ms >= CONTENDED * (now_ms - self._came_ms)
        self._free_until_ms = now_ms + (FREE_MS if is_contended else GAP_MS)

    def free(self) -> None:
        """Let both threads go; but where somebody has said meanwhile which CPUs a thread may use, that stands."""
        if self.leave_ms < inf:
            self.leave_ms = inf
            for thread in self._threads:
                with suppress(OSError):  # one that has ended
                    if os.sched_getaffinity(thread) == {self._cpu}:
                        os.sched_setaffinity(thread, os.sched_getaffinity(self._free_thread))

    def _read_waited_ms(self) -> list[float]:
        """How long each thread has been ready to run, in all, and had to wait for a CPU. Raises ValueError where the
        kernel does not count it."""
        waited_ms = []
        for thread in self._threads:
            ran, waited, _ = Path(f"/proc/self/task/{thread}/schedstat").read_bytes().split()
            if not int(ran):
                raise ValueError("a thread that never ran")
            waited_ms.append(int(waited) / 1e6)
        return waited_ms

    def _read_cpu(self) -> int:
        """The one that the loop is on."""
        _, _, fields = Path(f"/proc/self/task/{self._threads[0]}/stat").read_bytes().rpartition(b")")
        return int(fields.split()[_PROCESSOR])
