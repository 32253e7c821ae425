"""What was measured: samples, by part of the page, in one JSON file; and how samples become one figure.

Parts that were measured at different times stand beside each other; a part that is measured again replaces its own.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: what was done, by whom, in which round (or trial), and what came out.

    The name of a figure ends with its unit: per_second, p99_ms, bytes. `percentiles_ms`: as load/main.c has them.
    """

    work: str
    system: str
    round: int
    figures: Mapping[str, float]
    percentiles_ms: Sequence[float] = ()

    def __str__(self) -> str:
        figures = " ".join(f"{name}={value:,.4g}" for name, value in self.figures.items())
        return f"round {self.round + 1} {self.work:16} {self.system:16} {figures}"


@dataclass(slots=True)
class Part:
    """All samples of one case. `taken`: when, of which revision, on what. `proof`: of the writes of kvnode, in all."""

    taken: dict[str, str]
    samples: list[Sample] = field(default_factory=list)
    proof: dict[str, int] = field(default_factory=dict)

    def of(self, work: str, system: str) -> list[Sample]:
        """In the order of their rounds."""
        found = [sample for sample in self.samples if (sample.work, sample.system) == (work, system)]
        return sorted(found, key=lambda sample: sample.round)

    def values(self, work: str, system: str, figure: str) -> list[float]:
        """One figure of all rounds that have it."""
        return [sample.figures[figure] for sample in self.of(work, system) if figure in sample.figures]

    def median(self, work: str, system: str, figure: str) -> float | None:
        """Of all rounds; None where nothing was measured."""
        values = self.values(work, system, figure)
        return statistics.median(values) if values else None

    def ratio(self, figure: str, ours: tuple[str, str], theirs: tuple[str, str]) -> float | None:
        """The median of the ratios of the rounds, each of what was measured in turn in that round; None without any.

        `ours` and `theirs`: work and system.
        """
        pairs = [{sample.round: sample.figures[figure] for sample in self.of(*who)} for who in (ours, theirs)]
        ratios = [pairs[0][at] / pairs[1][at] for at in pairs[0].keys() & pairs[1].keys() if pairs[1][at]]
        return statistics.median(ratios) if ratios else None

    def curve(self, work: str, system: str) -> list[float]:
        """The percentiles, each the median of the rounds."""
        curves = [sample.percentiles_ms for sample in self.of(work, system) if sample.percentiles_ms]
        return [statistics.median(values) for values in zip(*curves, strict=True)]

    def sizes(self, kind: str) -> list[int]:
        """The numbers N for which there is work called `kind/N`, ascending."""
        words = {sample.work.partition("/") for sample in self.samples}
        return sorted(int(number) for name, _, number in words if name == kind and number.isdigit())

    def systems(self) -> Iterator[str]:
        """In the order in which they were first measured."""
        yield from dict.fromkeys(sample.system for sample in self.samples)


def load(path: Path) -> dict[str, Part]:
    """The parts in a file; none where there is no file."""
    if not path.exists():
        return {}
    told: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return {
        name: Part(part["taken"], [Sample(**sample) for sample in part["samples"]], part["proof"])
        for name, part in told.items()
    }


def save(path: Path, name: str, part: Part) -> None:
    """Put a part into a file, in the place of one of the same name."""
    parts = {**load(path), name: part}
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps({key: asdict(value) for key, value in parts.items()}, separators=(",", ":")) + "\n")
    new.replace(path)
