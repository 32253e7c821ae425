"""No promise is weakened for a figure: every write that was acknowledged is in the logs of a majority.

Every write of the load generator has a value of its own, `RUN:NUMBER:…` (benchmarks/load/main.c). When a part of the
benchmarks is over, the nodes are killed, and their logs are read as `kvnode inspect-log` reads them: each record by its
checksum and as a link of its chain. (That what is in the files was also fsynced before the acknowledgement is held by
tests/faults, where a disk forgets what was not, and by tests/costs, which count the fsyncs.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvnode.log.viewing.listing import look_at
from kvnode.log.viewing.reader import Fault, Found, Reader

RUN_BYTES = 16
NUMBER_END = RUN_BYTES + 1 + 12
SHOWN_MAX = 5


class LostWrites(Exception):
    """An acknowledged write is not where it must be, or a log is damaged; the text names some."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How many writes were acknowledged, and how many of them were found in the logs of all nodes."""

    acknowledged: int
    everywhere: int


def prove(logs: Sequence[Path], acknowledged: Mapping[str, Collection[int]]) -> Proof:
    """Look for the acknowledged writes, by run their numbers, in the logs of all members of a cluster.

    Raises LostWrites where one is in fewer than a majority of them.
    """
    holders = {run: bytearray(max(numbers, default=-1) + 1) for run, numbers in acknowledged.items()}
    for position, log in enumerate(logs):
        note_writes(log, 1 << position, holders)
    majority = len(logs) // 2 + 1
    everywhere, lost = 0, Counter[str]()
    for run, numbers in acknowledged.items():
        found = holders[run] if len(numbers) == len(holders[run]) else bytes(map(holders[run].__getitem__, numbers))
        for held_by, count in Counter(found).items():
            everywhere += count if held_by == (1 << len(logs)) - 1 else 0
            lost[run] += count if held_by.bit_count() < majority else 0
    if lost.total():
        shown = ", ".join(f"{count} of run {run}" for run, count in lost.most_common(SHOWN_MAX) if count)
        raise LostWrites(f"acknowledged writes that are in the log of a minority alone, or of nobody: {shown}")
    return Proof(sum(map(len, acknowledged.values())), everywhere)


def note_writes(log: Path, bit: int, holders: Mapping[str, bytearray]) -> None:
    """Set `bit` for each write that is in this log. Raises LostWrites where the log is damaged."""
    by_name = {run.encode(): writes for run, writes in holders.items()}
    for item in Reader(look_at(log)):
        if isinstance(item, Fault) and not item.is_torn:
            raise LostWrites(f"a log is damaged: {item}")
        if not isinstance(item, Found):
            continue
        for entry in item.record.entries:
            if len(entry) != 3:
                continue
            value = entry[2]
            writes = by_name.get(value[:RUN_BYTES])
            if writes is not None:
                number = int(value[RUN_BYTES + 1 : NUMBER_END])
                if number < len(writes):
                    writes[number] |= bit
