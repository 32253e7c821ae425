"""The clients of a torture run: eight, as etcd has them, of which two are libraries that people use; and a reader at
each node.

with Fleet(addresses, all_workloads("first"), seed=1, answer_s_max=6) as fleet:
    …
    fleet.pause()                   nothing is under way any more
    fleet.use(all_workloads("second"))
    fleet.go_on()
fleet.shared.recorder.history()
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from random import Random
from types import TracebackType
from typing import Self

from tests.checker.history import History
from tests.checker.workloads import Workload
from tests.torture.clients import CLIENTS, POLL_S, Address, Clients, Shared, readers, specs
from tests.torture.libraries import callers

PAUSE_S = 20.0
QUIET_LOOKS = 3


class Fleet:
    """`pause_ms`: from a client's last reply to its next request, on average. `answer_s_max`: see clients.py."""

    def __init__(
        self,
        addresses: Mapping[str, Address],
        workloads: Iterable[Workload],
        *,
        seed: int,
        answer_s_max: float,
        pause_ms: float = 20.0,
        count: int = CLIENTS,
        has_libraries: bool = True,
    ) -> None:
        self.shared = Shared(list(workloads))
        ids, random = sorted(addresses), Random(f"fleet {seed}")
        count -= 2 if has_libraries else 0
        self.specs = specs(ids, random, count, pause_ms) + readers(ids, pause_ms)
        self._clients = Clients(self.shared, addresses, self.specs, answer_s_max=answer_s_max, seed=seed)
        options = {"pause_ms": pause_ms, "answer_s_max": answer_s_max}
        self._callers = callers(self.shared, addresses, seed=seed, **options) if has_libraries else ()
        self._stack = ExitStack()

    def __repr__(self) -> str:
        return f"Fleet {dict(self.shared.counts)}"

    def __enter__(self) -> Self:
        for each in (self._clients, *self._callers):
            self._stack.enter_context(each)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shared.is_over = True
        self._stack.__exit__(kind, error, at)

    @property
    def is_busy(self) -> bool:
        return self._clients.is_busy or any(caller.is_busy for caller in self._callers)

    def pause(self) -> None:
        """Nobody asks any more; returns when nothing is under way."""
        self.shared.is_paused = True
        deadline = time.monotonic() + PAUSE_S
        quiet = 0
        while quiet < QUIET_LOOKS:  # one look could fall between a client's decision to ask and its asking
            quiet = 0 if self.is_busy else quiet + 1
            if time.monotonic() > deadline:
                raise RuntimeError(f"calls do not end: {self._clients!r}, {self._callers}")
            time.sleep(POLL_S)

    def go_on(self) -> None:
        self.shared.is_paused = False

    def use(self, workloads: Iterable[Workload]) -> None:
        """Ask these from now on; while paused, so that none is split between two."""
        self.shared.use(workloads)

    @property
    def history(self) -> History:
        return self.shared.recorder.history()
