"""The words of an inline command, quoted as in redis-cli."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.net.inline import split_words

WORDS = {
    b"": [],
    b"  \t ": [],
    b"PING": [b"PING"],
    b"  GET   key  ": [b"GET", b"key"],
    b'SET k "a b"': [b"SET", b"k", b"a b"],
    b"SET k ''": [b"SET", b"k", b""],
    b'""': [b""],
    rb'"\n\r\t\b\a\\\"\q"': [b'\n\r\t\b\a\\"q'],
    rb'"\x00\xfF\xg1\x4"': [b"\x00\xffxg1x4"],
    rb"'\n\x41\\'": None,  # the last quote is escaped
    rb"'\n\x41\' \\ '": [rb"\n\x41' \\ "],
    b'pre"fix ed"': [b"prefix ed"],
    b"it's' x": [b"its", b"x"],
    b"it's x": None,
    b'"a"b': None,
    b'"a""b"': None,
    b"'a''b'": None,
    b'"': None,
    b"'": None,
    b'"abc\\': None,
    b'a "b c': None,
    b"\xff\x00 \xc3\xa4": [b"\xff\x00", b"\xc3\xa4"],
}


@pytest.mark.parametrize(("line", "words"), WORDS.items(), ids=repr)
def test_words(line: bytes, words: list[bytes] | None) -> None:
    assert split_words(line) == words


def quoted(word: bytes) -> bytes:
    return b'"' + b"".join(b"\\x%02x" % byte for byte in word) + b'"'


@given(st.lists(st.binary(max_size=20)))
def test_any_word_can_be_quoted(words: list[bytes]) -> None:
    assert split_words(b" ".join(map(quoted, words))) == words


@given(st.text(alphabet="\"'\\x4a \t", max_size=30))
def test_any_line_has_words_or_unbalanced_quotes(line: str) -> None:
    words = split_words(line.encode())
    assert words is None or all(len(word) <= len(line) for word in words)


@pytest.mark.parametrize(
    "line", [b'"' + b"\\" * 65000, b"'" + b"\\'" * 32000, b'a"b" ' * 15000 + b'"', b'"a"b' * 16000]
)
def test_a_hostile_line_takes_linear_time(line: bytes) -> None:
    assert split_words(line) is None  # exponential or quadratic matching would not end within the suite's time
