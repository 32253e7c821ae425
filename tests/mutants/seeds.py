"""Run seeds of the simulator one after the other, up to the first violation: python -m tests.mutants.seeds FIRST COUNT.

Prints one line of JSON: how many were run, and the violation of the last one, or null. It is a process of its own, in a
copy of the tree, since what it runs is a mutant.
"""

from __future__ import annotations

import json
import signal
import sys
from types import FrameType

from tests.simulation.run import run

SEED_S_MAX = 120
"""A seed takes a part of a second. One that does not end is a violation as well."""


class Overtime(Exception):
    """The run has not ended."""


def main(first: int, count: int) -> None:
    signal.signal(signal.SIGALRM, _on_alarm)
    violation = None
    done = 0
    while done < count and violation is None:
        signal.alarm(SEED_S_MAX)
        violation = run(first + done).violation
        signal.alarm(0)
        done += 1
    print(json.dumps({"seeds": done, "violation": violation}))


def _on_alarm(number: int, frame: FrameType | None) -> None:
    raise Overtime(f"a seed did not end within {SEED_S_MAX} s")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
