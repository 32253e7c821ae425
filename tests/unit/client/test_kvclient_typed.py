from __future__ import annotations

from typing import Any

import pytest
from fake_node import bulk, fake_node
from redis.exceptions import ResponseError

from kvclient.client import KVClient
from kvclient.errors import Unknown
from kvclient.typed import Pairs, Status, TypedParser, Verbatim


def reply_to(data: bytes, parser: Any = TypedParser) -> Any:
    with fake_node(lambda _: data) as node, KVClient(node.address, parser=parser) as client:
        return client.command("X")


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"+OK\r\n", Status(b"OK")),
        (bulk(b"OK"), b"OK"),
        (bulk(b""), b""),
        (bulk(b"\r\n" * 70_000), b"\r\n" * 70_000),
        (b"=7\r\ntxt:a\nb\r\n", Verbatim(b"a\nb")),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"_\r\n", None),
        (b":-3\r\n", -3),
        (b"(123456789012345678901234567890\r\n", 123456789012345678901234567890),
        (b",1.5\r\n", 1.5),
        (b"#t\r\n", True),
        (b"#f\r\n", False),
        (b"*2\r\n*1\r\n:1\r\n~1\r\n+a\r\n", [[1], [Status(b"a")]]),
        (b"%1\r\n*1\r\n:1\r\n%0\r\n", Pairs([([1], Pairs())])),
        (b">2\r\n+message\r\n+x\r\n:1\r\n", 1),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_each_type(data: bytes, reply: Any) -> None:
    found = reply_to(data)
    assert found == reply
    assert type(found) is type(reply)


def test_an_error_within_an_array_is_a_value() -> None:
    found = reply_to(b"*2\r\n-ERR a b\r\n!5\r\nERR c\r\n")
    assert [(type(item), str(item)) for item in found] == [(ResponseError, "ERR a b"), (ResponseError, "ERR c")]


@pytest.mark.parametrize("data", [b"?3\r\n", b":x\r\n", b"$x\r\n", b"*\r\n", b"\r\n", b""])
def test_what_is_no_reply_leaves_the_outcome_unknown(data: bytes) -> None:
    with pytest.raises(Unknown, match="may have been applied"):
        reply_to(data)
