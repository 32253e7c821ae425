"""One question to one node, over a connection of its own: for `status`, and while a cluster starts.

No client library: these are asked again and again of nodes that may be down, and a whole answer within a deadline, or a
short reason why there is none, is all that is wanted.
"""

from __future__ import annotations

import socket
import time

import hiredis

ANSWER_BYTES_MAX = 1024 * 1024


class NoAnswer(Exception):
    """The node did not answer; the text says why in a few words."""


def ask(host: str, port: int, command: str, timeout: float) -> str:
    """The answer to an inline command, as text. `timeout` in seconds holds for all of it. Raises NoAnswer."""
    deadline = time.monotonic() + timeout
    reader = hiredis.Reader(replyError=NoAnswer, protocolError=NoAnswer, encoding="utf-8", errors="replace")
    received = 0
    try:
        with socket.create_connection((host, port), timeout) as link:
            link.sendall(command.encode() + b"\r\n")
            while (reply := reader.gets()) is False:
                link.settimeout(max(0.001, deadline - time.monotonic()))
                data = link.recv(65536)
                received += len(data)
                if not data or received > ANSWER_BYTES_MAX:
                    raise NoAnswer("closed the connection" if not data else "answers without end")
                reader.feed(data)
    except TimeoutError:
        raise NoAnswer(f"no answer within {timeout:g} s") from None
    except OSError as error:
        raise NoAnswer((error.strerror or str(error)).lower()) from None
    if isinstance(reply, NoAnswer):
        raise reply
    if not isinstance(reply, str):
        raise NoAnswer("answers what it was not asked")
    return reply


def ask_raft(host: str, port: int, timeout: float = 1.0) -> dict[str, str]:
    """The fields of `INFO raft`. Raises NoAnswer, also where the other side knows no such section."""
    return parse_info(ask(host, port, "INFO raft", timeout))


def ask_process(host: str, port: int, timeout: float = 1.0) -> dict[str, str]:
    """The fields of `INFO server raft`: with `process_id`, to be told from another node on the same port."""
    return parse_info(ask(host, port, "INFO server raft", timeout))


def parse_info(text: str) -> dict[str, str]:
    """The `name:value` lines of an INFO reply as they stand. Raises NoAnswer where it is not a kvnode's."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
    if "node" not in fields or "role" not in fields:
        raise NoAnswer("is not a kvnode")
    return fields
