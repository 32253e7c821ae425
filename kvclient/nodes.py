"""Addresses of nodes: "host:port", "[::1]:port", "host" (port 3000), ":port" (127.0.0.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 3000
NODES_VARIABLE = "KVCLIENT_NODES"


@dataclass(frozen=True, slots=True)
class Node:
    """The client address of one node."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


DEFAULT_NODES = tuple(Node(DEFAULT_HOST, port) for port in (3000, 3001, 3002))


def parse_node(text: str) -> Node:
    """One address. Raises ValueError with a sentence for the user."""
    host, port = text.strip(), ""
    if host.startswith("["):
        host, bracket, rest = host[1:].partition("]")
        if not bracket or not host or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not an address: expected [host]:port")
        port = rest[1:]
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    elif ":" in host:
        raise ValueError(f"{text!r} is not an address: an IPv6 host goes into brackets, [::1]:3000")
    if any(character.isspace() or character in "/,@" for character in host):
        raise ValueError(f"{text!r} is not an address: expected host:port")
    if not host and not port:
        raise ValueError("an address is empty: expected host:port")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} is not an address: the port is a number from 1 to 65535")
    return Node(host or DEFAULT_HOST, int(port) if port else DEFAULT_PORT)


def parse_nodes(texts: str | Iterable[str]) -> tuple[Node, ...]:
    """Several addresses, each text may hold more than one, parted by commas or spaces. Duplicates go."""
    if isinstance(texts, str):
        texts = [texts]
    words = [word for text in texts for word in text.replace(",", " ").split()]
    if not words:
        raise ValueError("no address of a node is given")
    return tuple(dict.fromkeys(parse_node(word) for word in words))


def default_nodes(environment: Mapping[str, str]) -> tuple[Node, ...]:
    """KVCLIENT_NODES where it is set, else the three nodes of a local cluster."""
    text = environment.get(NODES_VARIABLE, "")
    return parse_nodes(text) if text.strip() else DEFAULT_NODES
