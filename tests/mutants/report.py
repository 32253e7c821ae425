"""What was found, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from tests.mutants.trial import FIRST_SEED, Verdict
from tests.simulation.report import revision

HEAD = """| mutant | what it does | caught by | s | simulator | s |
| --- | --- | --- | ---: | --- | ---: |
"""


def render(verdicts: Iterable[Verdict]) -> str:
    """The table, and the survivors below it."""
    rows = sorted(verdicts, key=lambda verdict: verdict.patch.id)
    caught = [verdict for verdict in rows if verdict.test]
    seeds = [verdict.seeds for verdict in rows if verdict.violation]
    lines = [f"Mutants of {revision()}: {len(rows)}, of which {len(caught)} are caught by the tests"]
    if seeds:
        lines[0] += f", {len(seeds)} by the simulator, in {median(seeds):.0f} seeds (median), {max(seeds)} at most"
        lines[0] += f", counted from {FIRST_SEED}"
    lines[0] += "."
    lines += ["", HEAD + "\n".join(map(_row, rows)), ""]
    survivors = [verdict for verdict in rows if verdict.survives]
    if survivors:
        lines += ["Survivors, each a missing test:", "", *(f"- {verdict}" for verdict in survivors), ""]
    instead = [verdict for verdict in rows if verdict.row.instead_of]
    if instead:
        lines += ["Not in the product yet:", ""]
        lines += [f"- {verdict.row.instead_of}: in its place {verdict.patch.id}" for verdict in instead]
        lines += [""]
    return "\n".join(lines)


def _row(verdict: Verdict) -> str:
    patch = verdict.patch
    caught = f"`{verdict.test.removeprefix('tests/')}`" if verdict.test else "**survives**"
    simulator, seeds_s = "not asked", ""
    if verdict.row.unseen is not None:
        simulator = f"does not see it: {verdict.row.unseen}"
    elif verdict.seeds:
        seeds_s = f"{verdict.seeds_s:.1f}"
        simulator = f"{verdict.seeds} seeds: {_first_line(verdict.violation)}" if verdict.violation else ""
        simulator = simulator or f"**not in {verdict.seeds} seeds**"
    cells = (f"{patch.id} {patch.name}", patch.why, caught, f"{verdict.tests_s:.1f}", simulator, seeds_s)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _first_line(text: str | None, characters_max: int = 60) -> str:
    line = (text or "").splitlines()[0]
    return line if len(line) <= characters_max else line[: characters_max - 1].rstrip() + "…"
