from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvclient.render import quoted
from kvclient.words import QuoteError, lines, split, typed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("set key value", [b"set", b"key", b"value"]),
        ("  get\t key  ", [b"get", b"key"]),
        (r'set k "a b\n\x00\"\\\q"', [b"set", b"k", b'a b\n\x00"\\q']),
        (r"set k 'it\'s \n'", [b"set", b"k", b"it's \\n"]),
        ('set k ""', [b"set", b"k", b""]),
        ('set k pre"post"', [b"set", b"k", b"prepost"]),
        (r'"\xzz"', [b"xzz"]),
        ("get ü\udcff", [b"get", b"\xc3\xbc\xff"]),
    ],
)
def test_the_words_of_a_command(text: str, words: list[bytes]) -> None:
    assert split(text) == [words]


@pytest.mark.parametrize("text", ['get "a', "get 'a", 'get "a"b', 'get "', 'get "\\', "set k don't"])
def test_broken_quotes(text: str) -> None:
    with pytest.raises(QuoteError, match="quote"):
        split(text)


def test_several_commands_and_line_feeds_within_quotes() -> None:
    text = 'set a "1\n2"\n\n  get a\r\nping'
    assert split(text) == [[b"set", b"a", b"1\n2"], [b"get", b"a"], [b"ping"]]
    assert lines(text) == ['set a "1\n2"', "get a", "ping"]
    assert lines('get a\nget "b\nget c') == ["get a", 'get "b\nget c']
    assert split("\n \0\n") == []


@given(st.lists(st.binary(), min_size=1))
@example([b"\\", b'"', b"\x1b[31m", "\u202e".encode(), b"\xff\xc3"])
def test_what_is_shown_in_quotes_can_be_typed_again(words: list[bytes]) -> None:
    text = " ".join(map(quoted, words))
    assert text.isprintable()
    assert split(text) == [words]


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        commands = split(text)
    except QuoteError:
        return
    assert all(commands)
    assert [command for line in lines(text) for command in split(line)] == commands


def test_what_is_being_typed() -> None:
    assert typed("") == ([], "")
    assert typed("set  k va") == (["set", "k"], "va")
    assert typed("get a\nset ") == (["set"], "")
