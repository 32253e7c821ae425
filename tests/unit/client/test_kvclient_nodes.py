from __future__ import annotations

import pytest

from kvclient.nodes import DEFAULT_NODES, Node, default_nodes, parse_node, parse_nodes


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("localhost:4000", Node("localhost", 4000)),
        ("example.org", Node("example.org", 3000)),
        (":3001", Node("127.0.0.1", 3001)),
        ("[::1]:3000", Node("::1", 3000)),
        ("[fe80::1]", Node("fe80::1", 3000)),
        (" a:1 ", Node("a", 1)),
        ("a:65535", Node("a", 65535)),
    ],
)
def test_an_address(text: str, node: Node) -> None:
    assert parse_node(text) == node
    assert parse_node(str(node)) == node


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:0",
        "a:65536",
        "a:b",
        "a:-1",
        "a:٣",
        "::1",
        "::1:3000",
        "[::1",
        "[]:3000",
        "[::1]3000",
        "a b:1",
        "redis://a:1",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse_node(text)


def test_several_addresses_in_their_order_and_once() -> None:
    assert parse_nodes(["b:2,a:1", "b:2 c:3"]) == (Node("b", 2), Node("a", 1), Node("c", 3))
    assert parse_nodes("a:1") == (Node("a", 1),)
    with pytest.raises(ValueError, match="no address"):
        parse_nodes([])


def test_the_environment_names_the_nodes() -> None:
    assert default_nodes({"KVCLIENT_NODES": "a:1, b:2"}) == (Node("a", 1), Node("b", 2))
    assert default_nodes({"KVCLIENT_NODES": " "}) == DEFAULT_NODES
    assert default_nodes({}) == DEFAULT_NODES
