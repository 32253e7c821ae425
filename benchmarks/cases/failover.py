"""The leader ends, by SIGKILL or by SIGTERM: how long no write succeeds, and how many fail.

The writers are threads with `kvclient`, each beginning at another node, one write after the other. The
time without a successful write is the longest between two that succeeded, around the signal.
"""

from __future__ import annotations

import secrets
import signal
import threading
import time
from contextlib import ExitStack
from itertools import pairwise
from types import TracebackType

from benchmarks.bench import Bench, Measured
from benchmarks.results import Sample
from benchmarks.systems.kvnode import Kvnode
from benchmarks.systems.processes import HOST
from kvclient import KVClient, NotApplied, Unknown

PAUSE_SECONDS = 0.002
QUIET_SECONDS = 0.5
"""Before each trial, and after writes go on again."""
SIGNALS = {"sigkill": signal.SIGKILL, "sigterm": signal.SIGTERM}


def measure(bench: Bench) -> Measured:
    """Trials of both kinds in turn, at one cluster; each time the node is started again, and all is whole."""
    with bench.kvnode() as kvnode:
        kvnode.fill(100_000)
        for number in range(bench.trials):
            for work, signal_number in SIGNALS.items():
                yield Sample(work, "kvnode", number, trial(kvnode, signal_number))
        yield kvnode.prove()


def trial(kvnode: Kvnode, number: int) -> dict[str, float]:
    """One end of the leader under load, and its return."""
    kvnode.settle()
    leader = kvnode.leader()
    addresses = [f"{HOST}:{kvnode.ports[name]}" for name in kvnode.names]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(Writer(addresses[first:] + addresses[:first])) for first in range(len(addresses))
        ]
        time.sleep(QUIET_SECONDS)
        at = time.monotonic()
        kvnode.end(leader, number=number)
        ended_at = time.monotonic()
        kvnode.wait_for("writes", lambda: all(writer.goes_on(ended_at) for writer in writers))
        time.sleep(QUIET_SECONDS)
    for writer in writers:
        kvnode.acknowledged[writer.run] = writer.acknowledged
    kvnode.launch(leader)
    moments = sorted(moment for writer in writers for moment in writer.succeeded_at if moment > at - QUIET_SECONDS)
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    return {
        "gap_seconds": max(gaps),
        "not_applied": sum(writer.not_applied for writer in writers),
        "unknown": sum(writer.unknown for writer in writers),
        "writes": len(moments),
    }


class Writer:
    """One thread that writes until the context ends. What was acknowledged is known by its number."""

    def __init__(self, addresses: list[str]) -> None:
        self.run = secrets.token_hex(8)
        self.acknowledged: set[int] = set()
        self.succeeded_at: list[float] = []
        self.not_applied = self.unknown = 0
        self._addresses = addresses
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def goes_on(self, since: float) -> bool:
        """Whether some writes have succeeded since: the first may have been under way before."""
        return sum(moment > since for moment in self.succeeded_at[-3:]) == 3

    def _write(self) -> None:
        with KVClient(self._addresses) as client:
            number = 0
            while not self._is_over.wait(PAUSE_SECONDS):
                try:
                    client.set(f"key:{number % 1000}", f"{self.run}:{number:012d}:")
                except NotApplied:
                    self.not_applied += 1
                except Unknown:
                    self.unknown += 1
                else:
                    self.succeeded_at.append(time.monotonic())
                    self.acknowledged.add(number)
                number += 1

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
