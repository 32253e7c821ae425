"""The proof notices a write that is not in the logs of a majority."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from benchmarks.proof import LostWrites, Proof, prove
from tests.unit.cli.small_logs import append, flip, open_or_make

RUN = "00000000000000aa"
OTHER = "00000000000000bb"


def write_logs(directory: Path, *held: Collection[int]) -> list[Path]:
    """A log for each member, with these writes of RUN, one a record."""
    paths = []
    for node, numbers in zip("ABCDE", held, strict=False):
        path = directory / node
        log = open_or_make(path, node_id=node)
        append(log, ["NOOP"])
        for number in numbers:
            append(log, ["SET", b"key", f"{RUN}:{number:012d}:".encode() + b"x" * 35])
        log.close()
        paths.append(path)
    return paths


@pytest.mark.parametrize(
    ("held", "acknowledged", "proof"),
    [
        pytest.param([[0, 1], [0, 1], [0, 1]], [0, 1], Proof(2, 2), id="everywhere"),
        pytest.param([[0, 1], [0], [1]], [0, 1], Proof(2, 0), id="at two of three"),
        pytest.param([[0, 1, 2], [0, 1, 2], [0]], [0, 2], Proof(2, 1), id="not each was acknowledged"),
        pytest.param([[0, 0, 1], [1, 0], [0]], [0, 1], Proof(2, 1), id="twice, and in another order"),
        pytest.param([[0], [0], []], [], Proof(0, 0), id="none was acknowledged"),
    ],
)
def test_writes_at_a_majority(tmp_path: Path, held: list[list[int]], acknowledged: list[int], proof: Proof) -> None:
    assert prove(write_logs(tmp_path, *held), {RUN: set(acknowledged)}) == proof


@pytest.mark.parametrize(
    ("held", "acknowledged", "lost"),
    [
        pytest.param([[0, 1], [0], [0]], {RUN: range(2)}, f"1 of run {RUN}", id="at one of three"),
        pytest.param([[0], [0], [0]], {RUN: range(2)}, f"1 of run {RUN}", id="nowhere"),
        pytest.param([[0], [0], [0]], {OTHER: {0, 5}}, f"2 of run {OTHER}", id="another run"),
        pytest.param([[0], [0], [], [], []], {RUN: range(1)}, f"1 of run {RUN}", id="at two of five"),
    ],
)
def test_writes_at_a_minority(
    tmp_path: Path, held: list[list[int]], acknowledged: dict[str, Collection[int]], lost: str
) -> None:
    with pytest.raises(LostWrites, match=lost):
        prove(write_logs(tmp_path, *held), acknowledged)


def test_a_damaged_log_proves_nothing(tmp_path: Path) -> None:
    logs = write_logs(tmp_path, range(5), range(5), range(5))
    flip(next(logs[2].glob("*.log")), 300)
    with pytest.raises(LostWrites, match="a log is damaged"):
        prove(logs, {RUN: range(5)})
