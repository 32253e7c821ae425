"""What is needed to look at a failure: the seed, the commit, what it drew, the fewest faults, the end of the trace."""

from __future__ import annotations

import subprocess

from tests.simulation.run import Result, run, shrink

TRACE_LINES_SHOWN = 40


def describe(result: Result) -> str:
    """Some lines about a run with a violation. The run is repeated, with fewer and fewer faults."""
    seed = result.options.seed
    shorter = shrink(seed, result.faults)
    lines = [
        f"\nseed {seed} of {revision()}: {result.violation}",
        f"  options: {result.options}",
        f"  faults ({len(result.faults)}, shrunk to {len(shorter)}): {', '.join(map(str, shorter))}",
        *(f"  {line}" for line in run(seed, shorter).trace[-TRACE_LINES_SHOWN:]),
        f"  again: python -m tests.simulation --seed {seed} --trace",
    ]
    return "\n".join(lines)


def revision() -> str:
    """The commit, as far as git knows one: a seed is a run again only with the same code."""
    asked = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"
