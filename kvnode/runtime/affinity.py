"""The event loop and the log writer on one CPU at a time, while records are written (Linux).

They take turns in any case, for Python lets one thread run at a time. Where one wakes the other on another CPU, which
sleeps, that takes some 40 µs, and the caches there know nothing; on the same CPU it takes 5 µs, since the first is
about to sleep. Left alone, the kernel prefers the CPU that is idle. (Three nodes and the load on two CPUs, nothing else
on them: a sixth more SETs of one client, an eighth of ten, a twentieth to a tenth of 50. With more beside them less: 5,
10 and 0 percent.)

Which CPU is for the kernel to say: after every stay both threads may go anywhere, and where the loop is when it hands
over the next record, there they stay. Where the loop had to wait for its CPU they are free for a while: then there is
no CPU to spare, and the kernel knows better. Without records they are free, too.

It is a matter of speed alone: where the kernel refuses, both stay free. A thread that starts during a stay inherits
it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final

CONTENDED: Final = 0.25
"""Time that the loop waited for a CPU, by all the time of a stay."""
FREE_MS: Final = 200.0
"""For how long the threads are free after a stay like that, and where they can not stay."""


def is_possible() -> bool:
    """Whether this system binds single threads to a CPU, and says which one they run on."""
    return hasattr(os, "sched_setaffinity") and hasattr(ctypes.CDLL(None), "sched_getcpu")


class Affinity:
    """`leave_ms`: when the stay is over; inf while the threads are free. Made, and asked, by the loop's thread."""

    def __init__(self, loop_thread: int, writer_thread: int, stay_ms: float) -> None:
        """The threads' ids of the kernel."""
        self.leave_ms = inf
        self._threads = (loop_thread, writer_thread)
        self._stay_ms = stay_ms
        self._times = Path(f"/proc/self/task/{loop_thread}/schedstat")
        self._current_cpu: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
        self._cpu = -1
        self._allowed: set[int] = set()
        self._came_ms = 0.0
        self._waited_ms = 0.0
        self._free_until_ms = -inf

    def stay(self, now_ms: float) -> None:
        """A record is about to be handed over: both stay here, unless they do already or are to be free."""
        if self.leave_ms < inf or now_ms < self._free_until_ms:
            return
        try:
            self._allowed = os.sched_getaffinity(0)
            self._cpu = self._current_cpu()
            if len(self._allowed) > 1 and self._cpu in self._allowed:  # it is -1 where the system does not say
                self._came_ms, self._waited_ms = now_ms, self._read_waited_ms()
                self.leave_ms = now_ms + self._stay_ms
                for thread in self._threads:
                    os.sched_setaffinity(thread, {self._cpu})
                return
        except OSError:
            self.free()
        self._free_until_ms = now_ms + FREE_MS

    def leave(self, now_ms: float) -> None:
        """The stay is over."""
        try:
            waited_ms = self._read_waited_ms() - self._waited_ms
        except OSError:
            waited_ms = inf
        self.free()
        if waited_ms >= CONTENDED * (now_ms - self._came_ms):
            self._free_until_ms = now_ms + FREE_MS

    def free(self) -> None:
        """Let both threads go; but where somebody has said meanwhile which CPUs a thread may use, that stands."""
        if self.leave_ms < inf:
            self.leave_ms = inf
            for thread in self._threads:
                with suppress(OSError):  # one that has ended
                    if os.sched_getaffinity(thread) == {self._cpu}:
                        os.sched_setaffinity(thread, self._allowed)

    def _read_waited_ms(self) -> float:
        """How long the loop has been ready to run, in all, and had to wait for a CPU."""
        return int(self._times.read_bytes().split()[1]) / 1e6
