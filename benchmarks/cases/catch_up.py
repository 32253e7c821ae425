"""A node fetches a million entries while others go on writing: how fast, and what it costs them.

The writers are 50 clients in a closed loop. Without: all three nodes are current. With: from the start of the node that
was away until it is current, its own start included. Entries per second are counted from its first answer on.
"""

from __future__ import annotations

import time

from benchmarks.bench import Bench, Measured
from benchmarks.load import Load
from benchmarks.results import Sample
from benchmarks.systems.kvnode import Kvnode

WRITERS = Load("set", clients=50, seconds=120)
SETTLE_SECONDS = 0.7
"""After this the load generator has begun to count."""
POLL_SECONDS = 0.01


def measure(bench: Bench) -> Measured:
    """Round after round at one cluster, whose log grows."""
    with bench.kvnode() as kvnode:
        kvnode.fill(100_000)
        for number in range(bench.rounds):
            kvnode.settle()
            quiet = kvnode.run(Load("set", clients=50, seconds=max(bench.seconds, 1.0)))
            yield Sample("quiet", "kvnode", number, quiet.figures)
            figures, writes = catch_up(kvnode, bench.keys)
            yield Sample(f"catch up/{bench.keys}", "kvnode", number, figures)
            yield Sample("meanwhile", "kvnode", number, writes)
        yield kvnode.prove()


def catch_up(kvnode: Kvnode, count: int) -> tuple[dict[str, float], dict[str, float]]:
    """What became of the node that was away, and of the writes meanwhile."""
    name = kvnode.followers()[0]
    kvnode.end(name)
    kvnode.fill(count)
    writers = kvnode.begin(WRITERS)
    try:
        time.sleep(SETTLE_SECONDS)
        wanted = int(kvnode.info(kvnode.leader())["last_seq"])
        begin = time.monotonic()
        kvnode.launch(name)
        serves = begin + kvnode.wait_for("answer", lambda: kvnode.info(name), POLL_SECONDS)
        kvnode.wait_for("current node", lambda: int(kvnode.info(name).get("applied_seq", 0)) >= wanted, POLL_SECONDS)
        end = time.monotonic()
        entries = int(kvnode.info(name)["catch_up_entries_received"])
    except BaseException:
        writers.abandon()
        raise
    answer = kvnode.note(writers.end())
    return {"per_second": entries / (end - serves), "seconds": end - begin}, answer.figures
