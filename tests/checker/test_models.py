"""The models agree with the product on what commands answer, which of them are logged, and what the log says."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kvnode.reply import CommandError, Status
from kvnode.store.command import Kind as CommandKind
from kvnode.store.keyspace import KeySpace
from kvnode.store.overlay import Overlay
from kvnode.store.table import resolve
from tests.checker import witness
from tests.checker.history import OK, Error, Operation
from tests.checker.models import KINDS, evaluate, may_write, words

KEYS = st.sampled_from([b"a", b"b", b"c"])
VALUES = st.sampled_from([b"", b"x", b"7", b"-3", b"9223372036854775807", b"01", b"99999999999999999999999"])
SEVERAL = st.lists(KEYS, min_size=1, max_size=3).map(tuple)
OPTIONS = [(), (b"NX",), (b"XX",), (b"GET",), (b"NX", b"GET"), (b"XX", b"GET")]
AMOUNTS = st.integers(-5, 5) | st.sampled_from([2**63 - 1, -(2**63) + 1])


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Any, Any]:
    kind = draw(st.sampled_from(sorted(KINDS)))
    if kind in ("MGET", "EXISTS", "DEL"):
        return kind, draw(SEVERAL), None
    if kind == "MSET":
        keys = draw(SEVERAL)
        return kind, keys, tuple(draw(VALUES) for _ in keys)
    if kind in ("INCRBY", "DECRBY"):
        return kind, draw(KEYS), draw(AMOUNTS)
    if kind == "SET" and draw(st.booleans()):
        return kind, draw(KEYS), (draw(VALUES), *draw(st.sampled_from(OPTIONS)))
    takes_value = kind in ("SET", "SETNX", "GETSET", "UPD", "APPEND")
    return kind, draw(KEYS), draw(VALUES) if takes_value else None


def result_of(reply: Any) -> Any:
    if isinstance(reply, Status):
        return reply.text.encode()
    if isinstance(reply, CommandError):
        return Error(reply.text.removeprefix("ERR "))
    return tuple(reply) if isinstance(reply, list) else reply


@settings(max_examples=400)
@given(st.lists(requests(), max_size=12))
def test_as_the_product(asked: list[tuple[str, Any, Any]]) -> None:
    keyspace = KeySpace()
    state: dict[bytes, bytes] = {}
    for kind, key, argument in asked:
        overlay = Overlay(keyspace)
        request = words(kind, key, argument)
        row = resolve(request)
        try:
            reply = row.evaluate(overlay, request)  # type: ignore[misc]
        except CommandError as error:
            reply = error
        is_logged = overlay.finish(0)
        operation = Operation(0, kind, key, argument, 0, 1, OK, result_of(reply))
        result, changes = evaluate(state.get, operation)
        assert result == operation.result
        assert may_write(operation) == is_logged == bool(changes)
        assert is_logged <= (row.kind is CommandKind.WRITE)
        if is_logged:
            assert witness.changes_of(overlay.effects[0], state.get) == changes
            keyspace.apply(overlay.effects)
        state = {key: value for key, value in (state | changes).items() if value is not None}
        assert {key: keyspace.get(key) for key in state} == state
        assert len(keyspace) == len(state)
