"""What is measured: one module for each part of the page, with a generator `measure(bench)`."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench, Measured
from benchmarks.cases import catch_up, failover, growth, missed, start, throughput

CASES: dict[str, Callable[[Bench], Measured]] = {
    "throughput": throughput.measure,
    "start": start.measure,
    "missed": missed.measure,
    "catch_up": catch_up.measure,
    "growth": growth.measure,
    "failover": failover.measure,
}
