"""How fast the checkers are, in CPU time: `.venv/bin/python -m tests.checker.speed [OPERATIONS | short]`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from random import Random

from tests.checker import linearizable, unique, witness
from tests.checker.simulated import plant_stale_read, simulate
from tests.checker.verdict import Verdict
from tests.checker.workloads import Bank, Counters, Lists, Registers, Workload


def timed(name: str, operations: int, check: Callable[[], Verdict]) -> None:
    start = time.process_time()
    verdict = check()
    seconds = time.process_time() - start
    rate = operations / seconds
    print(f"{name:50} {operations:>9,} operations {seconds:8.3f} s {rate:>9,.0f}/s  {verdict.outcome.value}")


def long_runs(operations: int) -> None:
    for name, workload in (("registers", Registers()), ("mixed", Registers(mixed=True)), ("bank", Bank())):
        history, log = simulate(Random(1), workload.next, 50, operations, unknown=0.01, failing=0.01)
        timed(f"C1 {name}", operations, partial(witness.check, history, log))
        if name == "registers":
            timed(f"C3 {name}", operations, partial(unique.check, history))


def single_keys() -> None:
    """One key, 200 operations by 8 clients that never pause."""
    workloads: dict[str, Callable[[], Workload]] = {
        "registers": lambda: Registers(width=1),
        "mixed": lambda: Registers(width=1, mixed=True),
        "counters": lambda: Counters(width=1),
        "lists": lambda: Lists(width=1),
        "bank": lambda: Bank(width=1),
    }
    for name, workload in workloads.items():
        for unknown in (0, 0.025):
            runs = [simulate(Random(seed), workload().next, 8, 200, unknown, pause_max=1) for seed in range(20)]
            stale = [plant_stale_read(Random(seed), run.history) or run.history for seed, run in enumerate(runs)]
            for kind, histories in (("valid", [run.history for run in runs]), ("stale", stale)):
                seconds = []
                for history in histories:
                    start = time.process_time()
                    verdict = linearizable.check(history)
                    seconds.append(time.process_time() - start)
                    assert verdict.is_linearizable == (kind == "valid"), verdict
                seconds.sort()
                title = f"C2 {name}, {kind}, {unknown:.1%} unknown"
                print(f"{title:50} median {seconds[10] * 1000:8.1f} ms, slowest of 20 {seconds[-1] * 1000:8.1f} ms")


if __name__ == "__main__":
    single_keys()
    if "short" not in sys.argv:
        long_runs(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
