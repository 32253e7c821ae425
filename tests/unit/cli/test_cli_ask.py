"""One question to a server that may answer anything, or nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from kvnode.cli.ask import NoAnswer, ask, parse_info


@contextmanager
def server(*parts: bytes, close: bool = True) -> Iterator[tuple[int, list[bytes]]]:
    """Reads one request, sends `parts`, then closes or waits. Yields its port and what it read."""
    requests: list[bytes] = []
    done = threading.Event()

    def serve() -> None:
        link, _ = listener.accept()
        with link:
            requests.append(link.recv(1000))
            with suppress(ConnectionError):  # who has heard enough hangs up
                for part in parts:
                    link.sendall(part)
            if not close:
                done.wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], requests
        finally:
            done.set()
            thread.join()


def test_an_answer_in_pieces_is_put_together() -> None:
    with server(b"$1", b"3\r\nnode:A\r\n", b"x:y\r\n\r", b"\n") as (port, requests):
        assert ask("127.0.0.1", port, "INFO raft", 5.0) == "node:A\r\nx:y\r\n"
    assert requests == [b"INFO raft\r\n"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed the connection"),
        (b"$5\r\nab", "closed the connection"),
        (b"-LOADING the log is being read\r\n", "LOADING the log is being read"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "Protocol error"),
        (b":5\r\n", "answers what it was not asked"),
        (b"$2000000\r\n" + b"x" * 2_000_000, "answers without end"),
    ],
)
def test_what_is_no_answer_is_told(answer: bytes, reason: str) -> None:
    with server(answer) as (port, _), pytest.raises(NoAnswer) as caught:
        ask("127.0.0.1", port, "PING", 5.0)
    assert reason in str(caught.value)


def test_silence_ends_at_the_deadline() -> None:
    with server(b"$5\r\n", close=False) as (port, _), pytest.raises(NoAnswer) as caught:
        ask("127.0.0.1", port, "PING", 0.05)
    assert str(caught.value) == "no answer within 0.05 s"


def test_nobody_there() -> None:
    with pytest.raises(NoAnswer) as caught:
        ask("127.0.0.1", 1, "PING", 1.0)
    assert str(caught.value) == "connection refused"


def test_info_is_read_as_it_stands() -> None:
    text = "# Raft\r\nnode:A\r\nrole:leader\r\nlog_checksum:1e500000\r\nmember_B:alive=1,lag=0\r\n"
    assert parse_info(text) == {
        "node": "A",
        "role": "leader",
        "log_checksum": "1e500000",
        "member_B": "alive=1,lag=0",
    }


def test_the_info_of_another_server_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match="is not a kvnode"):
        parse_info("# Server\r\nredis_version:7.0.15\r\nrole:master\r\n")
