"""One node of PySyncObj, with its journal, and the load on it: a program for an environment in which that is installed.

    python pysyncobj_node.py SELF OTHER OTHER JOURNAL

Reads lines from standard input and answers each with one JSON object: `status`, `load CLIENTS SECONDS VALUE_BYTES`.
PySyncObj has no clients: who writes is a node itself. So the load is made inside of the leader's process, CLIENTS calls
under way at a time, each followed by the next from the callback of the one before: nothing is sent over a connection
for it, and nothing parsed.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from typing import Any

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated

KEYS = 100_000


class Store(SyncObj):  # type: ignore[misc]
    """A dict that is replicated."""

    def __init__(self, self_address: str, others: list[str], journal: str) -> None:
        self.values: dict[str, str] = {}
        super().__init__(self_address, others, SyncObjConf(journalFile=journal))

    @replicated  # type: ignore[untyped-decorator]
    def set(self, key: str, value: str) -> None:
        self.values[key] = value


class Load:
    """A closed loop of sets. A first tenth of the time is not counted."""

    def __init__(self, store: Store, clients: int, seconds: float, value_bytes: int) -> None:
        self.store = store
        self.value = "x" * value_bytes
        self.count_from = time.monotonic() + seconds / 10
        self.end = self.count_from + seconds
        self.seconds = seconds
        self.times_ms: list[float] = []
        self.failed = 0
        self.busy = clients
        self.done = threading.Event()
        for _ in range(clients):
            self.send()

    def send(self) -> None:
        began = time.monotonic()
        key = f"key:{random.randrange(KEYS):012d}"
        self.store.set(key, self.value, callback=lambda result, error: self.answered(began, error))

    def answered(self, began: float, error: int) -> None:
        now = time.monotonic()
        self.failed += error != FAIL_REASON.SUCCESS
        if self.count_from <= now < self.end:
            self.times_ms.append((now - began) * 1000)
        if now < self.end:
            self.send()
            return
        self.busy -= 1
        if not self.busy:
            self.done.set()

    def result(self) -> dict[str, Any]:
        self.done.wait()
        times = sorted(self.times_ms)
        if self.failed or not times:
            return {"error": f"{self.failed} of the sets failed, {len(times)} were done"}
        at = [times[min(int(len(times) * percent / 100), len(times) - 1)] for percent in [*range(100), 99.5, 99.9, 100]]
        figures = {"p50_ms": at[50], "p95_ms": at[95], "p99_ms": at[99], "max_ms": at[-1]}
        about = {"run": "", "acknowledged": 0, "seconds": self.seconds, "per_second": len(times) / self.seconds}
        return {**about, **figures, "percentiles_ms": at}


def main() -> None:
    me, *others, journal = sys.argv[1:]
    store = Store(me, others, journal)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "status":
            answer: dict[str, Any] = {"leads": bool(store._isLeader()), "ready": bool(store.isReady())}
        else:
            answer = Load(store, int(words[1]), float(words[2]), int(words[3])).result()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
