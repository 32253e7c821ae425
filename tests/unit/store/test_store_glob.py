"""Glob patterns. The cases were compared with a Redis 7.0.15 (KEYS), as were 20,000 random ones."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.reply import CommandError
from kvnode.store.glob import PATTERN_BYTES_MAX, matcher


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        (b"", [b""], [b"a"]),
        (b"*", [b"", b"a", b"a\nb", b"\xff"], []),
        (b"a*", [b"a", b"ab"], [b"", b"ba"]),
        (b"a*a", [b"aa", b"aba"], [b"a", b"ab"]),
        (b"*b*?", [b"bb", b"abc"], [b"b", b"ab"]),
        (b"a**b", [b"ab", b"a*b"], [b"a"]),
        (b"h?llo", [b"hello", b"h\nllo"], [b"hllo", b"heello"]),
        (b"[ab]", [b"a", b"b"], [b"c", b"ab", b""]),
        (b"[^ab]", [b"c", b"^"], [b"a", b"b", b""]),
        (b"[a-c]x", [b"ax", b"cx"], [b"dx", b"-x"]),
        (b"[c-a]x", [b"ax", b"bx"], [b"dx"]),
        (b"[a-]", [b"a", b"]", b"^"], [b"-", b"b"]),
        (b"[a-", [b"a", b"-"], [b"b"]),
        (b"[ab", [b"a", b"b"], [b"["]),
        (b"[]a", [], [b"a", b"]a", b""]),
        (b"[^]a", [b"xa"], [b"a"]),
        (b"[\\]]", [b"]"], [b"\\"]),
        (b"[a\\-z]", [b"a", b"-", b"z"], [b"b", b"\\"]),
        (b"\\*", [b"*"], [b"a", b"\\*"]),
        (b"a\\", [b"a\\"], [b"a"]),
        (b"a.c", [b"a.c"], [b"abc"]),
        (b"a]c", [b"a]c"], []),
        (b"(a|b)+$", [b"(a|b)+$"], [b"a"]),
    ],
)
def test_as_redis(pattern: bytes, matching: list[bytes], others: list[bytes]) -> None:
    matches = matcher(pattern)
    assert [key for key in matching + others if matches(key)] == matching


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_stars_and_question_marks_as_fnmatch(pattern: str, key: str) -> None:
    assert bool(matcher(pattern.encode())(key.encode())) == fnmatch.fnmatchcase(key, pattern)


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_any_bytes_are_a_pattern(pattern: bytes, key: bytes) -> None:
    matcher(pattern)(key)


@given(st.binary(max_size=20))
def test_everything_escaped_matches_itself_alone(key: bytes) -> None:
    pattern = b"".join(b"\\" + key[i : i + 1] for i in range(len(key)))
    assert matcher(pattern)(key)
    assert not matcher(pattern)(key + b"x")


def test_no_pattern_takes_exponential_time() -> None:
    assert not matcher(b"a*" * 500 + b"b")(b"a" * 65_536)


def test_a_pattern_has_a_size_limit() -> None:
    with pytest.raises(CommandError, match="limit is 1024"):
        matcher(b"a" * (PATTERN_BYTES_MAX + 1))
