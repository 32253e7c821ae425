"""Partitions: a mapping like any other, in dicts of which none grows large."""

from __future__ import annotations

from sys import getsizeof

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.store.partitions import PARTITIONS, Partitions

KEYS = [b"key:%d" % number for number in range(1000 * PARTITIONS)]


def filled() -> tuple[Partitions, list[dict[bytes, bytes]]]:
    """With all KEYS, and the dicts that have them."""
    partitions = Partitions()
    for key in KEYS:
        partitions.of(key)[key] = b""
    return partitions, list({id(each): each for each in map(partitions.of, KEYS)}.values())


@given(st.dictionaries(st.binary(max_size=2), st.binary()), st.lists(st.binary(max_size=2)))
def test_a_mapping(pairs: dict[bytes, bytes], others: list[bytes]) -> None:
    partitions = Partitions()
    for key, value in pairs.items():
        partitions.of(key)[key] = value
    assert len(partitions) == len(pairs)
    assert bool(partitions) == bool(pairs)
    for key in [*pairs, *others]:
        assert (key in partitions) == (key in pairs)
        assert partitions.get(key) == pairs.get(key)
    assert [partitions[key] for key in pairs] == list(pairs.values())
    for left in reversed(range(len(pairs))):
        partitions.pop()
        assert len(partitions) == left
    with pytest.raises(IndexError):
        partitions.pop()


def test_no_dict_gets_more_than_its_share() -> None:
    """Room is taken for one at a time, so that is all that is copied at once."""
    _, dicts = filled()
    assert len(dicts) == PARTITIONS
    assert sum(map(len, dicts)) == len(KEYS)
    assert max(map(len, dicts)) < 1300, "6 standard deviations are 190"
    assert 30 * max(map(getsizeof, dicts)) < sum(map(getsizeof, dicts))


def test_keys_of_a_dict_are_not_in_each_others_way() -> None:
    """A dict begins to look for a key at the place that the lower bits of its hash name."""
    _, dicts = filled()
    for each in dicts:
        assert len({hash(key) % 128 for key in each}) > 100, "all but one in 2,500 are expected"
