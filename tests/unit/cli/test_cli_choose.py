"""Which entries match."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.cli.choose import Choice, UnknownVerb, parse_terms, parse_verbs, shown_effects
from kvnode.log.record import encode

TX = ["TX", [["SET", b"a", b"1"], ["DEL", b"b"], ["SET", b"b", b"2"]]]
ENTRIES = [
    ["SET", b"a", b"b"],
    ["UPD", b"a", b""],
    ["APPEND", b"b", b"a"],
    ["DEL", b"b"],
    ["FLUSHALL"],
    ["NOOP"],
    TX,
    ["LATER", b"a", 5],
]


def matches(choice: Choice, entries: list[Any] | None = None) -> list[Any]:
    return [choice.pick(entry) for entry in entries or ENTRIES]


def test_without_a_condition_everything_matches_as_it_is() -> None:
    assert matches(Choice()) == [(entry,) for entry in ENTRIES[:6]] + [TX[1], (ENTRIES[7],)]


def test_a_key_is_matched_by_what_touches_it() -> None:
    assert matches(Choice(key=b"a")) == [
        [ENTRIES[0]],
        [ENTRIES[1]],
        None,
        None,
        [["FLUSHALL"]],
        None,
        [["SET", b"a", b"1"]],
        [ENTRIES[7]],
    ]


def test_verb_and_key_must_hold_for_the_same_effect() -> None:
    assert Choice(verbs=frozenset({"DEL"})).pick(TX) == [["DEL", b"b"]]
    assert Choice(verbs=frozenset({"DEL"}), key=b"a").pick(TX) is None
    assert Choice(verbs=frozenset({"TX"})).pick(TX) == TX[1]
    assert Choice(verbs=frozenset({"TX"}), key=b"b").pick(TX) == [["DEL", b"b"], ["SET", b"b", b"2"]]
    assert Choice(verbs=frozenset({"TX"}), key=b"c").pick(TX) is None
    assert Choice(verbs=frozenset({"TX"})).pick(["SET", b"a", b"b"]) is None
    assert Choice(verbs=frozenset({"SET"}), key=b"a").pick(["FLUSHALL"]) is None


@pytest.mark.parametrize("entry", [[], 5, None, [[]], [{}], ["TX"], ["TX", 5], ["TX", [5, [], [[]]]], "SET"])
def test_what_is_no_entry_matches_only_where_nothing_is_asked(entry: Any) -> None:
    assert Choice().pick(entry) is not None
    assert Choice(key=b"a").pick(entry) is None
    assert Choice(verbs=frozenset({"SET"})).pick(entry) is None


def test_a_line_shows_the_effects_of_a_transaction_alone() -> None:
    assert shown_effects(TX, [TX[1][0]]) == [TX[1][0]]
    assert shown_effects(ENTRIES[0], [ENTRIES[0]]) is None


def test_ranges_of_seqs_and_terms() -> None:
    record = encode(0, 11, 3, 0, 0, ENTRIES)
    assert list(Choice().entries_in_range(record)) == list(range(8))
    assert list(Choice(from_seq=13, to_seq=14).entries_in_range(record)) == [2, 3]
    assert list(Choice(from_seq=19).entries_in_range(record)) == []
    assert list(Choice(to_seq=10).entries_in_range(record)) == []
    assert [Choice(terms=terms).holds(record) for terms in [(3, 3), (1, 3), (4, 9), (1, 2)]] == [
        True,
        True,
        False,
        False,
    ]
    assert Choice(from_seq=12, to_seq=12, key=b"a").holds(record)
    assert not Choice(from_seq=13, to_seq=14, key=b"a").holds(record)


@given(st.lists(st.sampled_from(ENTRIES), min_size=1, max_size=4), st.sampled_from([b"a", b"b", b"c", b""]))
def test_the_quick_look_at_a_record_overlooks_nothing(entries: list[Any], key: bytes) -> None:
    record = encode(0, 1, 1, 0, 0, entries)
    choice = Choice(key=key)
    if any(choice.pick(entry) for entry in entries):
        assert choice.may_hold(record)


def test_what_is_typed() -> None:
    assert parse_terms("3") == (3, 3)
    assert parse_terms("3-7") == (3, 7)
    for text in ("", "0", "-3", "3-", "7-3", "1-2-3", "x", "3 ", "٣"):
        with pytest.raises(ValueError, match=text or "^$"):
            parse_terms(text)
    assert parse_verbs(["set", "Noop"]) == {"SET", "NOOP"}
    with pytest.raises(UnknownVerb, match="no verb INCR; it knows SET, UPD, APPEND, DEL, FLUSHALL, NOOP, TX"):
        parse_verbs(["set", "incr"])
