"""The mutants themselves: each can still be made, and ten of the quickest are tried. `make mutants`: all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.mutants.patch import PATCHES, DoesNotApply, Hunk, Patch, read_patches
from tests.mutants.report import render
from tests.mutants.table import TABLE
from tests.mutants.tree import ROOT, Children
from tests.mutants.trial import FIRST_SEED, Verdict, try_mutant
from tests.simulation import test_simulation

TRIED_HERE = ("M01", "M04", "M05", "M07", "M09", "M12", "M14", "M26", "M63", "M69")
"""Ten of the quickest: one test each, of a fraction of a second."""

MUTANTS = read_patches()


def test_each_mutant_has_its_tests_and_says_what_it_does() -> None:
    assert list(MUTANTS) == list(TABLE) == [f"M{number:02}" for number in range(1, len(TABLE) + 1)]
    assert len(list(PATCHES.iterdir())) == len(MUTANTS)
    for patch in MUTANTS.values():
        assert patch.why.endswith("."), patch.id
        assert len(patch.why) > 60, patch.id


@pytest.mark.parametrize("patch", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_mutant_is_another_product_that_compiles(patch: Patch) -> None:
    """A mutant that can not be made any more is looked at by whoever changed what it takes out."""
    assert {hunk.path.partition("/")[0] for hunk in patch.hunks} == {"kvnode"}
    for path, text in patch.changed(ROOT).items():
        assert text != (ROOT / path).read_text()
        compile(text, path, "exec")


def test_the_tests_that_are_to_catch_mutants_exist() -> None:
    for id, row in TABLE.items():
        assert row.tests, id
        for test in row.tests:
            file, _, name = test.partition("::")
            source = (ROOT / file).read_text()
            function, _, parameter = name.removesuffix("]").partition("[")
            assert f"def {function}(" in source, test
            if function == "test_scenario":
                assert list((ROOT / "tests/scenarios").rglob(f"{parameter}.txt")), test


def test_ten_mutants_are_caught() -> None:
    """Really tried, each in a copy of the tree of its own."""
    children = Children()
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda id: try_mutant(children, MUTANTS[id], TABLE[id], 0), TRIED_HERE))
    assert not [str(verdict) for verdict in verdicts if verdict.survives]
    assert len(verdicts) == 10


# How a survivor is told from one that was caught, and from one that could not be tried.


def a_patch(old: str, new: str) -> Patch:
    return Patch("M99", "changes nothing", "Nothing.", (Hunk("kvnode/raft/core.py", old, new),))


def test_a_mutant_that_changes_nothing_survives() -> None:
    line = "class Role(StrEnum):\n"
    verdict = try_mutant(Children(), a_patch(line, line), TABLE["M01"], 0)
    assert verdict.test is None
    assert verdict.survives
    assert "Survivors" in render([verdict])


@pytest.mark.parametrize("old", ["    invariant(", "no such line\n"])
def test_lines_that_do_not_stand_there_exactly_once_do_not_apply(old: str) -> None:
    with pytest.raises(DoesNotApply, match=r"kvnode/raft/core.py"):
        a_patch(old, "").changed(ROOT)


def test_a_mutant_that_can_not_be_tried_counts_as_a_survivor() -> None:
    verdict = try_mutant(Children(), a_patch("no such line\n", ""), TABLE["M01"], 0)
    assert verdict.survives
    assert "COULD NOT BE TRIED" in str(verdict)


def test_a_mutant_that_can_not_be_imported_is_not_caught() -> None:
    """Its tests fail, but not because they look at the rule."""
    verdict = try_mutant(Children(), a_patch("class Role(StrEnum):\n", "raise SystemError\n"), TABLE["M01"], 0)
    assert verdict.test is None
    assert verdict.trouble is not None


def test_what_was_found_is_told_in_a_table() -> None:
    patch, row = MUTANTS["M05"], TABLE["M05"]
    text = render([Verdict(patch, row, test="tests/a.py::test_b", tests_s=1.25, seeds=7, violation="S3 | what\nwhere")])
    assert "| M05 commit old terms by count |" in text
    assert "| `a.py::test_b` | 1.2 | 7 seeds: S3 \\| what |" in text


def test_seeds_are_counted_from_the_first_one_of_the_suite() -> None:
    assert FIRST_SEED == test_simulation.FIRST_SEED


def test_no_path_leads_out_of_the_tree() -> None:
    for patch in MUTANTS.values():
        assert all(not Path(hunk.path).is_absolute() and ".." not in hunk.path for hunk in patch.hunks)
