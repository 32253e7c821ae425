"""Replies as RESP2 and RESP3."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.invariant import InvariantError
from kvnode.net.replies import RESP2, RESP3, encode, encode_error
from kvnode.reply import OK, CommandError, Reply, Status, Verbatim

ENCODED: list[tuple[Reply, bytes, bytes]] = [
    (OK, b"+OK\r\n", b"+OK\r\n"),
    (Status("PONG"), b"+PONG\r\n", b"+PONG\r\n"),
    (Status("a\r\nb"), b"+a  b\r\n", b"+a  b\r\n"),
    (CommandError("ERR no\n-OK"), b"-ERR no -OK\r\n", b"-ERR no -OK\r\n"),
    (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
    (b"a\r\nb", b"$4\r\na\r\nb\r\n", b"$4\r\na\r\nb\r\n"),
    ("é", b"$2\r\n\xc3\xa9\r\n", b"$2\r\n\xc3\xa9\r\n"),
    (None, b"$-1\r\n", b"_\r\n"),
    (0, b":0\r\n", b":0\r\n"),
    (255, b":255\r\n", b":255\r\n"),
    (256, b":256\r\n", b":256\r\n"),
    (-1, b":-1\r\n", b":-1\r\n"),
    (2**63 - 1, b":9223372036854775807\r\n", b":9223372036854775807\r\n"),
    (-(2**63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
    (True, b":1\r\n", b":1\r\n"),
    ([], b"*0\r\n", b"*0\r\n"),
    (
        [b"a", None, [1, OK]],
        b"*3\r\n$1\r\na\r\n$-1\r\n*2\r\n:1\r\n+OK\r\n",
        b"*3\r\n$1\r\na\r\n_\r\n*2\r\n:1\r\n+OK\r\n",
    ),
    ([7, CommandError("ERR x")], b"*2\r\n:7\r\n-ERR x\r\n", b"*2\r\n:7\r\n-ERR x\r\n"),
    ({}, b"*0\r\n", b"%0\r\n"),
    (
        {"proto": 3, b"k": None},
        b"*4\r\n$5\r\nproto\r\n:3\r\n$1\r\nk\r\n$-1\r\n",
        b"%2\r\n$5\r\nproto\r\n:3\r\n$1\r\nk\r\n_\r\n",
    ),
    (Verbatim("é\n"), b"$3\r\n\xc3\xa9\n\r\n", b"=7\r\ntxt:\xc3\xa9\n\r\n"),
]


@pytest.mark.parametrize(("reply", "resp2", "resp3"), ENCODED, ids=lambda value: repr(value)[:30])
def test_encoding(reply: Reply, resp2: bytes, resp3: bytes) -> None:
    assert encode(reply, RESP2) == resp2
    assert encode(reply, RESP3) == resp3


def test_an_error_is_one_line_whatever_it_quotes() -> None:
    assert encode_error("ERR unknown command 'a\r\n+OK\r\n'") == b"-ERR unknown command 'a  +OK  '\r\n"
    assert encode_error("ERR \udcff") == b"-ERR ?\r\n"


def test_what_is_no_reply_is_a_bug() -> None:
    with pytest.raises(InvariantError, match="not a reply"):
        encode(1.5, RESP2)  # type: ignore[arg-type]


scalars = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.binary(), st.text())
replies = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.binary(), st.integers(0, 9)), inner)
    ),
    max_leaves=12,
)


def as_client_sees(reply: Any, protocol: int) -> Any:
    if isinstance(reply, str):
        return reply.encode("utf-8", "replace")
    if isinstance(reply, list):
        return [as_client_sees(element, protocol) for element in reply]
    if isinstance(reply, dict):
        pairs = [(as_client_sees(key, protocol), as_client_sees(value, protocol)) for key, value in reply.items()]
        return dict(pairs) if protocol == RESP3 else [part for pair in pairs for part in pair]
    return reply


@given(st.lists(replies, max_size=5), st.sampled_from([RESP2, RESP3]))
def test_a_client_reads_what_was_encoded(sent: list[Any], protocol: int) -> None:
    reader = hiredis.Reader()
    reader.feed(b"".join(encode(reply, protocol) for reply in sent))
    for reply in sent:
        assert reader.gets() == as_client_sees(reply, protocol)
    assert reader.gets() is False
    assert not reader.has_data()
