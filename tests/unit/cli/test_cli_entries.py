"""How entries look, for people and as JSON."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kvnode.cli.entries import HEADING, BadEscape, as_json, cut, escape, line, time_text, unescape

TIME = 1_700_000_000_123
SHOWN = "2023-11-14T22:13:20.123Z"


@pytest.mark.parametrize(
    ("entry", "rest"),
    [
        (["SET", b"testKey", b"testValue"], "SET      testKey testValue"),
        (["DEL", b"k"], "DEL      k"),
        (["NOOP"], "NOOP"),
        (["FLUSHALL"], "FLUSHALL"),
        (["SET", b"k", b""], "SET      k"),
        (["APPEND", b"k", b"a\nb\x00\xff\x1b[2J"], "APPEND   k a\\nb\\x00\\xff\\x1b[2J"),
        (["SET", "grün".encode(), b"a\\b"], "SET      grün a\\\\b"),
        (["TX", [["SET", b"a", b"1"], ["DEL", b"b"]]], "TX       SET a 1; DEL b"),
        (["LATER", b"k", 5, None], "LATER    k 5 None"),
        ([7, [b"x"]], "7        [b'x']"),
        (["TX", 5], "TX       5"),
        ([], "?        []"),
        (5, "?        5"),
    ],
)
def test_a_line(entry: list[Any], rest: str) -> None:
    assert line(42, 3, SHOWN, entry) == f"      42    3  {SHOWN}  {rest}"


def test_the_heading_stands_above_its_columns() -> None:
    text = line(42, 3, SHOWN, ["SET", b"k", b"v"])
    assert HEADING.index("verb") == text.index("SET")
    assert HEADING.index("key") == text.index("k v")
    assert HEADING.index("time") == text.index(SHOWN)
    assert HEADING.index("seq") + 3 == text.index("42") + 2


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        (["SET", b"k", b"v"], {"verb": "SET", "key": "k", "value": "v"}),
        (["SET", b"k", b"\xff"], {"verb": "SET", "key": "k", "value": {"base64": "/w=="}}),
        (["DEL", b"k"], {"verb": "DEL", "key": "k"}),
        (["NOOP"], {"verb": "NOOP"}),
        (
            ["TX", [["UPD", b"a", b"1"], ["FLUSHALL"]]],
            {"verb": "TX", "effects": [{"verb": "UPD", "key": "a", "value": "1"}, {"verb": "FLUSHALL"}]},
        ),
        (["SET", b"k"], {"verb": "SET", "args": ["k"]}),
        (["TX", 5], {"verb": "TX", "args": [5]}),
        ([{}], {"verb": [], "args": []}),
        (5, {"verb": "?", "args": [5]}),
        (["LATER", {b"a": 1}, [True, None]], {"verb": "LATER", "args": [[["a", 1]], [True, None]]}),
    ],
)
def test_json(entry: list[Any], shown: dict[str, Any]) -> None:
    assert json.loads(as_json(42, 3, TIME, entry)) == {"seq": 42, "term": 3, "time_ms": TIME, **shown}


@given(st.binary(max_size=40))
def test_json_keeps_every_byte(value: bytes) -> None:
    shown = json.loads(as_json(1, 1, 0, ["SET", b"k", value]))["value"]
    assert (base64.b64decode(shown["base64"]) if isinstance(shown, dict) else shown.encode()) == value


@given(st.binary(max_size=60), st.integers(1, 100))
def test_a_line_is_printable_and_no_wider_than_the_terminal(value: bytes, width: int) -> None:
    text = line(1, 1, SHOWN, ["SET", value, value], width)
    assert text.isprintable()
    assert cell_len(text) <= width
    assert line(1, 1, SHOWN, ["SET", value, value]).isprintable()


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_different_values_look_different(one: bytes, other: bytes) -> None:
    assert (escape(one) == escape(other)) == (one == other)


@given(st.binary(max_size=40))
def test_what_was_escaped_can_be_typed(value: bytes) -> None:
    assert unescape(escape(value)) == value


@given(st.text(alphabet="\\xuU0afn\udcff\ud800 ", max_size=12))
def test_a_typed_escape_is_understood_or_refused(text: str) -> None:
    with suppress(BadEscape):
        assert isinstance(unescape(text), bytes)


def test_only_the_chosen_effects_of_a_transaction_and_how_many_they_are() -> None:
    effects = [["SET", b"a", b"1"], ["DEL", b"b"]]
    assert line(1, 1, SHOWN, ["TX", effects], effects=effects[1:]).endswith("TX 1/2   DEL b")
    assert line(1, 1, SHOWN, ["TX", effects], effects=effects).endswith("TX       SET a 1; DEL b")


def test_what_is_cut_says_so() -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdef", 5) == "abcd…"
    assert cut("漢字漢字", 7) == "漢字漢…"
    assert line(1, 1, SHOWN, ["SET", b"k", b"v" * 1000], 80).endswith("v…")


def test_a_time_beyond_the_calendar_stays_a_number() -> None:
    assert time_text(TIME) == SHOWN
    assert time_text(0) == "1970-01-01T00:00:00.000Z"
    assert time_text(2**60) == f"{2**60:<24}"
