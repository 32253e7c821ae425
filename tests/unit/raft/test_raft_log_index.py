"""The columns of LogIndex say what a plain list of records says."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.invariant import InvariantError
from kvnode.raft import LogIndex


@dataclass(frozen=True)
class Row:
    first_seq: int
    last_seq: int
    term: int
    checksum: int
    prev_checksum: int
    size: int


class Model:
    """The same questions, answered by looking at every record."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def next_row(self, entries: int, term_step: int, size: int) -> Row:
        last = self.rows[-1] if self.rows else Row(0, 0, 1, 0, 0, 0)
        checksum = (last.checksum * 31 + entries + term_step + size + 7) % 2**32
        return Row(last.last_seq + 1, last.last_seq + entries, last.term + term_step, checksum, last.checksum, size)

    def ends(self) -> list[int]:
        return [0] + [row.last_seq for row in self.rows]

    def term_at(self, seq: int) -> int:
        return next((row.term for row in self.rows if row.first_seq <= seq <= row.last_seq), 0)

    def bytes_until(self, seq: int) -> int:
        return sum(row.size for row in self.rows if row.last_seq <= seq)

    def end_at_or_before(self, seq: int, term_max: int) -> int:
        return max([row.last_seq for row in self.rows if row.last_seq <= seq and row.term <= term_max], default=0)

    def end_of_chunk(self, after_seq: int, bytes_max: int) -> int:
        rest = [row for row in self.rows if row.first_seq > after_seq]
        fitting = [row for row in rest if self.bytes_until(row.last_seq) - self.bytes_until(after_seq) <= bytes_max]
        return (fitting or rest)[-1 if fitting else 0].last_seq


APPEND = st.tuples(st.integers(1, 4), st.sampled_from([0, 0, 0, 1, 3]), st.integers(1, 300))
DEEDS = st.lists(st.one_of(APPEND, st.floats(0, 1)), max_size=25)
"""An append as (entries, step of the term, bytes), or a cut after that share of the records."""


def build(deeds: list[tuple[int, int, int] | float]) -> tuple[LogIndex, Model]:
    index, model = LogIndex(), Model()
    for deed in deeds:
        if isinstance(deed, tuple):
            row = model.next_row(*deed)
            model.rows.append(row)
            index.append(row)
        else:
            keep = int(deed * len(model.rows))
            del model.rows[keep:]
            index.truncate_suffix(model.ends()[-1])
    return index, model


@given(DEEDS)
def test_answers_are_those_of_a_plain_list(deeds: list[tuple[int, int, int] | float]) -> None:
    index, model = build(deeds)
    last = model.rows[-1] if model.rows else Row(0, 0, 0, 0, 0, 0)
    assert (index.last_seq, index.last_term, index.last_checksum) == (last.last_seq, last.term, last.checksum)
    ends = model.ends()
    for seq in range(-1, last.last_seq + 3):
        assert index.ends_at(seq) == (seq in ends)
        for term in range(last.term + 2):
            assert index.has(seq, term) == (seq in ends and model.term_at(seq) == term)
            assert index.end_at_or_before(seq, term) == model.end_at_or_before(seq, term)
        if 0 <= seq <= last.last_seq:
            assert index.term_at(seq) == model.term_at(seq)
        if seq in ends:
            assert index.bytes_until(seq) == model.bytes_until(seq)
            assert index.checksum_at(seq) == next((row.checksum for row in model.rows if row.last_seq == seq), 0)
            if seq < last.last_seq:
                for bytes_max in (0, 1, 150, 300, 301, 900, 10**6):
                    assert index.end_of_chunk(seq, bytes_max) == model.end_of_chunk(seq, bytes_max)


@given(DEEDS)
def test_columns_of_a_recovered_log_build_the_same_index(deeds: list[tuple[int, int, int] | float]) -> None:
    built, model = build(deeds)
    starts = [
        row
        for row, before in zip(model.rows, [None, *model.rows], strict=False)
        if not before or row.term != before.term
    ]
    loaded = LogIndex(
        [row.last_seq for row in model.rows],
        [row.checksum for row in model.rows],
        [row.size for row in model.rows],
        [(row.first_seq, row.term) for row in starts],
    )
    assert repr(loaded) == repr(built)
    for seq in range(built.last_seq + 1):
        assert loaded.term_at(seq) == built.term_at(seq)
    for seq in model.ends():
        assert loaded.bytes_until(seq) == built.bytes_until(seq)
        assert loaded.checksum_at(seq) == built.checksum_at(seq)


@pytest.mark.parametrize(
    "row",
    [Row(3, 3, 1, 9, 5, 1), Row(5, 5, 1, 9, 5, 1), Row(4, 4, 0, 9, 5, 1), Row(4, 4, 1, 9, 6, 1)],
    ids=["seq twice", "gap", "older term", "broken chain"],
)
def test_what_does_not_follow_is_refused(row: Row) -> None:
    index = LogIndex([3], [5], [100], [(1, 1)])
    with pytest.raises(InvariantError):
        index.append(row)


@pytest.mark.parametrize("seq", [1, 2, 4, -1, 2**63])
def test_positions_are_ends_of_records(seq: int) -> None:
    index = LogIndex([3], [5], [100], [(1, 1)])
    with pytest.raises(InvariantError, match="no record ends"):
        index.truncate_suffix(seq)
    with pytest.raises(InvariantError, match="no record ends"):
        index.checksum_at(seq)
    with pytest.raises(InvariantError, match="no record ends"):
        index.bytes_until(seq)
    assert not index.ends_at(seq)
    assert index.end_at_or_before(seq, 9) == (3 if seq >= 3 else 0)


def test_terms_outside_of_the_log_are_not_guessed() -> None:
    index = LogIndex([3], [5], [100], [(1, 1)])
    for seq in (-1, 4):
        with pytest.raises(InvariantError, match="not in the log"):
            index.term_at(seq)


@given(DEEDS, st.integers(1, 9))
def test_ends_between_two_ends_leave_equal_gaps(deeds: list[tuple[int, int, int] | float], count_max: int) -> None:
    index, model = build(deeds)
    ends = sorted({0, *model.ends()})
    for after, before in combinations(ends, 2):
        all_between = [end for end in ends if after < end < before]
        found = index.ends_between(after, before, count_max)
        assert len(found) == min(len(all_between), count_max)
        places = [ends.index(end) for end in (after, *found, before)]
        gaps = [later - earlier for earlier, later in pairwise(places)]
        assert min(gaps) > 0
        assert max(gaps) <= -(-(len(all_between) + 1) // (len(found) + 1)) + 1
