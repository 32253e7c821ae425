"""Simulated clusters, a thousand seeds at least; or as many as five minutes allow.

`make sim SEED=1 RUNS=50000` runs more. A failure names its seed; with it the run is repeated exactly.
"""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest

from kvnode.node import applying, leading, tail
from tests.simulation.faults import plan
from tests.simulation.options import draw
from tests.simulation.report import describe
from tests.simulation.run import Simulation, run
from tests.simulation.world import Violation

SEEDS = int(os.environ.get("KVNODE_TEST_SEEDS", "1000"))
SECONDS_MAX = 300
FIRST_SEED = 1_000_000
SEEDS_WITH_A_PAST = (16, 40, 67, 4_004_024, 5_000_312)
"""Each found a defect once."""


def test_a_thousand_seeds() -> None:
    began = time.monotonic()
    done = events = 0
    with multiprocessing.Pool(os.cpu_count() or 1, maxtasksperchild=50) as pool:
        for result in pool.imap_unordered(run, range(FIRST_SEED, FIRST_SEED + SEEDS)):
            assert result.violation is None, describe(result)
            done += 1
            events += result.events
            if time.monotonic() - began > SECONDS_MAX:
                break
    seconds = time.monotonic() - began
    print(f"{done} seeds, {events:,} events, {events / seconds:,.0f} events/s")
    assert done > 0


@pytest.mark.parametrize("seed", SEEDS_WITH_A_PAST)
def test_a_seed_with_a_past(seed: int) -> None:
    assert run(seed).violation is None


def test_a_seed_runs_the_same_way_each_time() -> None:
    one, other = run(7), run(7)
    assert one.events == other.events
    assert one.trace == other.trace


def test_the_checks_see_what_they_are_for() -> None:
    """A canary: a node that claims more to be committed than is."""
    options = draw(3)
    simulation = Simulation(options, plan(options))
    host = simulation.hosts[0]
    simulation.world.at(2000.0, lambda: setattr(host, "watch", lambda host: _claim(simulation, host)))
    with pytest.raises(Violation, match="S"):
        simulation.run()


def _claim(simulation: Simulation, host: object) -> None:
    node = host.node  # type: ignore[attr-defined]
    if node is not None:
        node.raft.commit_seq = node.raft.index.last_seq
        simulation.checks.after_turn(host)  # type: ignore[arg-type]


def test_a_run_leaves_the_limits_of_the_node_as_they_were() -> None:
    before = (leading.RECORDS_IN_FLIGHT_MAX, tail.TAIL_BYTES_MAX, applying.ENTRIES_PER_TURN)
    assert run(7).violation is None
    assert before == (leading.RECORDS_IN_FLIGHT_MAX, tail.TAIL_BYTES_MAX, applying.ENTRIES_PER_TURN)
