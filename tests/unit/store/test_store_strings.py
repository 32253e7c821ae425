"""Refusals and corners of the commands on values. Texts as Redis 7.0.15 answers, where it has the command."""

from __future__ import annotations

import pytest

from kvnode.reply import CommandError, Reply
from kvnode.store.keyspace import KeySpace
from kvnode.store.limits import Limits
from kvnode.store.overlay import Overlay
from kvnode.store.table import resolve


def run(overlay: Overlay, request: str) -> Reply:
    args = request.encode().split()
    command = resolve(args)
    assert command.evaluate is not None
    return command.evaluate(overlay, args)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ("SET k v NX XX", "ERR syntax error"),
        ("SET k v WHAT", "ERR syntax error"),
        ("SET k v EX 10", "ERR EX is not supported yet"),
        ("SET k v nx px 10", "ERR PX is not supported yet"),
        ("SET k v KEEPTTL", "ERR KEEPTTL is not supported yet"),
        ("UPD k v", "ERR no such key"),
        ("MSET a 1 b", "ERR wrong number of arguments for 'mset' command"),
        ("INCRBY k 1.5", "ERR value is not an integer or out of range"),
        ("INCRBY k 99999999999999999999", "ERR value is not an integer or out of range"),
        ("DECRBY k -9223372036854775808", "ERR decrement would overflow"),
        ("FLUSHALL NOW", "ERR syntax error"),
        ("FLUSHDB ASYNC SYNC", "ERR syntax error"),
        ("SET k 12345678", "ERR value is too long (8 bytes, the limit is 7: value_bytes_max)"),
        ("SET 1234 v", "ERR key is too long (4 bytes, the limit is 3: key_bytes_max)"),
        ("MSET a 1 1234 2", "ERR key is too long (4 bytes, the limit is 3: key_bytes_max)"),
        ("INCR 1234", "ERR key is too long (4 bytes, the limit is 3: key_bytes_max)"),
        ("APPEND k 12345678", "ERR value is too long (8 bytes, the limit is 7: value_bytes_max)"),
        ("APPEND old 678", "ERR value is too long (8 bytes, the limit is 7: value_bytes_max)"),
        ("INCR old", "ERR value is not an integer or out of range"),
    ],
)
def test_a_refusal_changes_nothing(request_: str, text: str) -> None:
    overlay = Overlay(KeySpace(Limits(key_bytes_max=3, value_bytes_max=7)))
    overlay.set(b"old", b"x2345")
    overlay.seal(1)
    with pytest.raises(CommandError) as error:
        run(overlay, request_)
    assert error.value.text == text
    assert overlay.is_open_empty


def test_an_option_of_set_may_be_a_value() -> None:
    overlay = Overlay(KeySpace())
    run(overlay, "SET EX NX")
    assert run(overlay, "GET EX") == b"NX"


def test_mget_has_a_reply_limit() -> None:
    overlay = Overlay(KeySpace(Limits(reply_bytes_max=7)))
    run(overlay, "SET a 1234")
    assert run(overlay, "MGET a b") == [b"1234", None]
    with pytest.raises(CommandError, match=r"reply is too long \(8 bytes, the limit is 7: reply_bytes_max\)"):
        run(overlay, "MGET a a")


def test_flush_modes() -> None:
    overlay = Overlay(KeySpace())
    for request in ("FLUSHALL", "flushdb async", "FLUSHALL SYNC"):
        run(overlay, "SET a 1")
        run(overlay, request)
        assert run(overlay, "EXISTS a") == 0
