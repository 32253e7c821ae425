from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvclient import AsyncKVClient, KVClient, requests
from kvclient.requests import Request, encode, parse_info
from kvclient.wire import pack


def sent(request: Request[Any]) -> str:
    return b" ".join(request.args).decode()


def test_what_is_sent() -> None:
    assert sent(requests.get("k")) == "GET k"
    assert sent(requests.set("k", 1)) == "SET k 1"
    assert sent(requests.set("k", b"v", nx=True)) == "SET k v NX"
    assert sent(requests.set_get("k", "v", xx=True)) == "SET k v XX GET"
    assert sent(requests.incr("n")) == "INCR n"
    assert sent(requests.incr("n", -5)) == "INCRBY n -5"
    assert sent(requests.decr("n", 2)) == "DECRBY n 2"
    assert sent(requests.mset({"a": 1, b"b": b"2"})) == "MSET a 1 b 2"
    assert sent(requests.scan(b"7", "a*", 10)) == "SCAN 7 MATCH a* COUNT 10"
    assert sent(requests.range()) == "RANGE - +"
    assert sent(requests.range("a", "b", 3)) == "RANGE a b LIMIT 3"
    assert sent(requests.info("raft")) == "INFO raft"


def test_what_a_reply_becomes() -> None:
    assert requests.set("k", "v", nx=True).decode(None) is False
    assert requests.set("k", "v").decode(b"OK") is True
    assert requests.upd("k", "v").decode(b"OK") is None
    assert requests.type("k").decode(b"none") == "none"
    assert requests.range().decode([b"a", b"1", b"b", b"2"]) == [(b"a", b"1"), (b"b", b"2")]
    assert requests.scan().decode([b"0", [b"k"]]) == (b"0", [b"k"])


def test_reads_and_writes_are_told_apart() -> None:
    assert requests.get("k").reads
    assert requests.command("get", "k").reads
    assert requests.range().reads
    assert not requests.set("k", "v").reads
    assert not requests.incr("k").reads
    assert not requests.command("SOMETHING").reads


@pytest.mark.parametrize("value", [None, True, 1.5, ["a"]])
def test_arguments_without_one_obvious_form_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="expected bytes, str or int"):
        encode(value)


def test_arguments() -> None:
    assert [encode(value) for value in (b"a", "ü", -3, bytearray(b"b"), memoryview(b"c"))] == [
        b"a", "ü".encode(), b"-3", b"b", b"c",
    ]  # fmt: skip
    with pytest.raises(TypeError, match="its name"):
        requests.command()


@given(st.lists(st.binary(), min_size=1))
def test_a_command_on_the_wire_can_be_read_back(args: list[bytes]) -> None:
    import hiredis

    reader = hiredis.Reader()
    reader.feed(pack(tuple(args)))
    assert reader.gets() == args
    assert not reader.has_data()


def test_info() -> None:
    data = b"# Raft\r\nnode:A\r\nterm:3\r\nlog_checksum:00123456\r\nlag:-1\r\nmember_B:alive=1,lag=0\r\n\r\n"
    assert parse_info(data) == {
        "node": "A",
        "term": 3,
        "log_checksum": "00123456",
        "lag": -1,
        "member_B": "alive=1,lag=0",
    }


def test_both_clients_have_the_same_methods() -> None:
    def methods(client: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(KVClient) == methods(AsyncKVClient)
    makers = {name for name, _ in inspect.getmembers(requests, inspect.isfunction) if name[0] != "_"}
    assert makers - {"encode", "parse_info", "dataclass"} <= methods(KVClient).keys()
