from __future__ import annotations

import pytest

from kvclient.attempts import Attempts
from kvclient.errors import CommandError, KVError, NoSuchKey, NotApplied, Unknown, from_reply
from kvclient.nodes import Node

A, B, C = Node("a", 1), Node("b", 2), Node("c", 3)


def attempts(*, is_read: bool = False, first: int = 0) -> Attempts:
    return Attempts((A, B, C), first, is_read=is_read, deadline=10.0)


def test_each_node_is_tried_once_beginning_with_the_current_one() -> None:
    call = attempts(first=1)
    for node in (B, C, A):
        assert call.next_node(0.0) == node
        call.not_sent("connection refused")
    with pytest.raises(NotApplied) as caught:
        call.next_node(0.0)
    assert caught.value.text == (
        "no node took the command: "
        "b:2: connection refused; c:3: connection refused; a:1: connection refused"
    )  # fmt: skip
    assert caught.value.code == ""


def test_no_further_node_after_the_deadline_but_always_a_first() -> None:
    call = attempts()
    assert call.next_node(11.0) == A
    call.not_sent("timed out")
    with pytest.raises(NotApplied):
        call.next_node(11.0)
    assert call.time_left(8.0, at_most=5.0) == 2.0
    assert call.time_left(1.0, at_most=5.0) == 5.0


@pytest.mark.parametrize("text", ["LOADING starting", "CLUSTERDOWN no leader"])
@pytest.mark.parametrize("is_read", [True, False])
def test_another_node_after_an_error_that_rules_out_application(text: str, is_read: bool) -> None:
    call = attempts(is_read=is_read)
    assert call.next_node(0.0) == A
    call.error_reply(text)
    assert call.next_node(0.0) == B


def test_a_lost_write_is_unknown() -> None:
    call = attempts()
    call.next_node(0.0)
    with pytest.raises(Unknown, match="a:1 \\(timed out\\): the command may have been applied"):
        call.lost("timed out")


def test_a_lost_read_goes_to_another_node() -> None:
    call = attempts(is_read=True)
    call.next_node(0.0)
    call.lost("timed out")
    assert call.next_node(0.0) == B
    call.error_reply("UNKNOWN leadership was lost")
    assert call.next_node(0.0) == C


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ("ERR syntax error", CommandError, "ERR"),
        ("ERR no such key", NoSuchKey, "ERR"),
        ("UNKNOWN it may have been applied", Unknown, "UNKNOWN"),
        ("MISCONF the disk is full", NotApplied, "MISCONF"),
        ("CLUSTERDOWN no leader", NotApplied, "CLUSTERDOWN"),
    ],
)
def test_error_replies(text: str, kind: type[KVError], code: str) -> None:
    error = from_reply(text)
    assert type(error) is kind
    assert (error.text, error.code) == (text, code)


@pytest.mark.parametrize("text", ["ERR syntax error", "UNKNOWN it may have been applied", "MISCONF the disk is full"])
def test_a_write_ends_with_any_other_error(text: str) -> None:
    call = attempts()
    call.next_node(0.0)
    with pytest.raises(KVError) as caught:
        call.error_reply(text)
    assert caught.value.text == text
