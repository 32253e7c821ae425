from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from kvclient.render import as_json, pretty, printable, raw
from kvclient.typed import Pairs, Status, Verbatim

REPLIES: list[tuple[Any, str, bytes, str]] = [
    (Status(b"OK"), "OK", b"OK\n", '"OK"'),
    (b"OK", '"OK"', b"OK\n", '"OK"'),
    (b"a\x1b[1m\n\xff", r'"a\x1b[1m\n\xff"', b"a\x1b[1m\n\xff\n", '{"b64": "YRtbMW0K/w=="}'),
    (None, "(nil)", b"\n", "null"),
    (-7, "(integer) -7", b"-7\n", "-7"),
    (1.5, "(double) 1.5", b"1.5\n", "1.5"),
    (True, "(true)", b"true\n", "true"),
    ([], "(empty array)", b"", "[]"),
    ([b"a", None], '1) "a"\n2) (nil)', b"a\n\n", '["a", null]'),
    ([[b"a", 1], b"b"], '1) 1) "a"\n   2) (integer) 1\n2) "b"', b"a\n1\nb\n", '[["a", 1], "b"]'),
    (Pairs([(b"a", 1)]), '1# "a" => (integer) 1', b"a\n1\n", '{"a": 1}'),
    (Pairs(), "(empty map)", b"", "{}"),
    (Pairs([(b"a", [1, 2])]), '1# "a" =>\n   1) (integer) 1\n   2) (integer) 2', b"a\n1\n2\n", '{"a": [1, 2]}'),
    (Verbatim(b"# A\r\nb:\x1b1\r\n"), "# A\nb:\\x1b1", b"# A\nb:\x1b1\n", '"# A\\r\\nb:\\u001b1\\r\\n"'),
    (ResponseError("ERR a\x1b"), "(error) ERR a\\x1b", b"(error) ERR a\x1b\n", '{"error": "ERR a\\u001b"}'),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "shown", "written", "encoded"), REPLIES, ids=lambda value: repr(value)[:30])
def test_a_reply_in_each_form(reply: Any, shown: str, written: bytes, encoded: str) -> None:
    assert "\n".join(pretty(reply)) == shown
    assert b"".join(line + b"\n" for line in raw(reply)) == written
    assert as_json(reply) == encoded


def test_numbers_of_a_long_array_are_aligned() -> None:
    shown = list(pretty([b"x"] * 10))
    assert shown[0] == ' 1) "x"'
    assert shown[9] == '10) "x"'


plain = st.none() | st.integers() | st.binary() | st.binary().map(Verbatim) | st.binary().map(Status)
replies = st.recursive(
    plain, lambda inner: st.lists(inner) | st.lists(st.tuples(plain, inner)).map(Pairs), max_leaves=20
)


@given(replies)
def test_nothing_stored_reaches_the_terminal_unescaped(reply: Any) -> None:
    for line in pretty(reply):
        assert line.isprintable()
    assert "\n" not in as_json(reply)
    json.loads(as_json(reply))


def test_text_of_a_node_stays_on_its_line() -> None:
    assert printable("a\r\nb\u202e") == "a\\r\\nb\\xe2\\x80\\xae"
