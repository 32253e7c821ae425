"""One mutant, tried: which test fails, and after how many seeds the simulator sees it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.mutants.patch import DoesNotApply, Patch
from tests.mutants.table import Row
from tests.mutants.tree import Children, Finished, copied_tree

FIRST_SEED = 1_000_000
"""The first of those that the test suite runs: a mutant that is seen within a thousand seeds fails the suite."""
SEEDS_MAX = 2_000
TESTS_S_MAX = 300.0
SEEDS_S_MAX = 3_600.0
FAILED = 1
"""What pytest ends with where tests have failed; any other code is a fault of the selection, or of the patch."""


class TrialError(Exception):
    """A mutant could not be tried; the message says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`test` is the first one that failed, None where none did; `violation` what the simulator saw in the last of
    `seeds`. Times in seconds. `trouble`: why it could not be tried."""

    patch: Patch
    row: Row
    test: str | None = None
    tests_s: float = 0.0
    seeds: int = 0
    violation: str | None = None
    seeds_s: float = 0.0
    trouble: str | None = None

    @property
    def survives(self) -> bool:
        """Whether a test is missing, or the simulator does not see what it could."""
        is_missed = self.row.unseen is None and self.violation is None and self.seeds >= SEEDS_MAX
        return self.test is None or is_missed

    def __str__(self) -> str:
        if self.trouble is not None:
            return f"{self.patch.id} {self.patch.name} COULD NOT BE TRIED: {self.trouble}"
        caught = f"caught by {self.test}" if self.test else "SURVIVES its tests"
        text = f"{self.patch.id} {self.patch.name}: {caught} ({self.tests_s:.1f} s)"
        if self.seeds:
            seen = f"seen in seed {self.seeds}" if self.violation else f"not seen in {self.seeds} seeds"
            text += f"; {seen} ({self.seeds_s:.1f} s)"
        return text


def try_mutant(
    children: Children, patch: Patch, row: Row, seeds_max: int, tell: Callable[[str], None] = lambda text: None
) -> Verdict:
    """`tell` is called before the seeds, which may take minutes. Raises Interrupted."""
    try:
        with copied_tree() as root:
            patch.apply(root)
            verdict = _run_tests(children, root, Verdict(patch, row))
            if seeds_max and row.unseen is None:
                tell(f"{verdict}; now its seeds")
                verdict = _run_seeds(children, root, verdict, seeds_max)
            return verdict
    except (TrialError, DoesNotApply) as error:
        return Verdict(patch, row, trouble=str(error))


def _run_tests(children: Children, root: Path, verdict: Verdict) -> Verdict:
    began = time.monotonic()
    test = first_failure(children, root, verdict.row.tests)
    return replace(verdict, test=test, tests_s=time.monotonic() - began)


def _run_seeds(children: Children, root: Path, verdict: Verdict, seeds_max: int) -> Verdict:
    began = time.monotonic()
    arguments = ["-m", "tests.mutants.seeds", str(FIRST_SEED), str(seeds_max)]
    finished = children.run(arguments, root, SEEDS_S_MAX)
    if finished.code != 0:
        raise TrialError(f"the simulator ended with {finished.code}:\n{finished.output[-2000:]}")
    found = json.loads(finished.output.splitlines()[-1])
    seeds_s = time.monotonic() - began
    return replace(verdict, seeds=found["seeds"], violation=found["violation"], seeds_s=seeds_s)


def check_unchanged(children: Children, rows: Iterable[Row]) -> None:
    """All tests that are to catch mutants pass without one. Raises TrialError."""
    tests = sorted({test for row in rows for test in row.tests})
    with copied_tree() as root:
        failed = first_failure(children, root, tests)
        if failed is not None:
            raise TrialError(f"{failed} fails without any mutant")


def first_failure(children: Children, root: Path, tests: Iterable[str]) -> str | None:
    """The first test that fails. Raises TrialError where they could not be run."""
    arguments = ["-m", "pytest", "-q", "-rfE", "--tb=no", "--maxfail=1", "-p", "no:cacheprovider", *tests]
    finished = children.run(arguments, root, TESTS_S_MAX)
    if finished.code == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+::\S.*?)(?: - .*)?$", finished.output, re.MULTILINE)
    if finished.code != FAILED or found is None:
        raise TrialError(_why(finished))
    return found[1]


def _why(finished: Finished) -> str:
    if finished.code is None:
        return f"the tests did not end within {TESTS_S_MAX:.0f} s"
    return f"pytest ended with {finished.code}:\n{finished.output[-2000:]}"
