"""What a checker says of a history."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Outcome(Enum):
    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNDECIDED = "undecided"


class Verdict(NamedTuple):
    """`text` is for people: empty, or why not. Undecided is a failure too, until someone has looked at it."""

    outcome: Outcome
    text: str = ""

    @property
    def is_linearizable(self) -> bool:
        return self.outcome is Outcome.LINEARIZABLE

    def __str__(self) -> str:
        return f"{self.outcome.value}: {self.text}" if self.text else self.outcome.value


LINEARIZABLE = Verdict(Outcome.LINEARIZABLE)


def by_faults(faults: list[str]) -> Verdict:
    """Linearizable if nothing was found."""
    return Verdict(Outcome.NOT_LINEARIZABLE, "\n".join(faults)) if faults else LINEARIZABLE
