"""Finding out about a data directory, for `verify` and `repair`: reads all of it, changes nothing, takes no lock.

What a running node does meanwhile (a new segment, a cut, another ballot) can look like damage to who reads one file
after the other. So of a directory that is open, or that changed while it was read, damage is believed only when a
second look finds the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kvnode.cli.surroundings import look_around
from kvnode.cli.verdict import Facts, Verdict, judge
from kvnode.log.damage import FAILURE, Finding
from kvnode.log.directory import has_remains, owners, refuse_strange_kinds, segment_paths
from kvnode.log.errors import LogError
from kvnode.log.files import REAL
from kvnode.log.healing.survey import survey
from kvnode.log.identity import NAME as IDENTITY

LOOKS_MAX = 100
"""Of a directory in which something different looks like damage each time. Beside a writer that does nothing but create
and cut segments, while the processors are busy, ten were not enough for one of some thousand to be a quiet one."""


def examine(directory: Path, progress: Callable[[int, int], None] | None = None) -> Verdict:
    """Raises LogError where it is not a log that this program can read, OSError."""
    before: list[Finding] | None = None
    for _ in range(LOOKS_MAX - 1):
        state = _state(directory)
        try:
            facts = _look(directory, progress)
        except (LogError, FileNotFoundError) as error:
            if _is_gone(error) and _state(directory) != state:
                continue
            raise
        failures = [finding for finding in facts.survey.findings if finding.severity == FAILURE]
        is_still = facts.around.holder is None and _state(directory) == state
        if is_still or not failures or failures == before:
            return judge(facts)
        before = failures
    return judge(_look(directory, progress))


def _is_gone(error: LogError | OSError) -> bool:
    """Whether a file was there when its directory was read, and not when it was opened."""
    return isinstance(error.__cause__ if isinstance(error, LogError) else error, FileNotFoundError)


def log_bytes(directory: Path) -> int:
    """How much there is to read. Raises OSError."""
    return sum(path.stat().st_size for _, path in segment_paths(REAL, directory))


def _look(directory: Path, progress: Callable[[int, int], None] | None) -> Facts:
    refuse_strange_kinds(REAL, directory)  # to open a pipe would wait for ever
    around = look_around(directory)
    seen = survey(directory, progress=progress)
    names = REAL.listdir(directory)
    is_new = IDENTITY not in names and not has_remains(REAL, directory, names)
    return Facts(seen, around, is_new, tuple(sorted(set(owners(REAL, directory)))))


def _state(directory: Path) -> set[tuple[str, int, int, int]]:
    """What changes when something in the directory does."""
    state = set()
    for name in REAL.listdir(directory):
        try:
            status = (directory / name).lstat()
        except FileNotFoundError:
            continue
        state.add((name, status.st_ino, status.st_size, status.st_mtime_ns))
    return state
