"""A member that gives records, in as many ways as one can be wrong: on a real socket, in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from kvnode.net.frames import Frames, frame, unpack
from kvnode.node import wire
from kvnode.node.deeds import ENDS
from kvnode.node.wire import Fetch, Fetched
from kvnode.runtime.records_client import Address, ClientPort, RecordsClient, RecordsError, Refused, Unreachable

WELCOME = frame(["welcome", wire.VERSION])
Behaviour = Callable[["Member"], None]


class Member:
    """The accepting side of one connection."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self._frames = Frames(1024 * 1024)
        self._bodies: list[bytes] = []

    def receive(self) -> bytes:
        while not self._bodies:
            data = self.link.recv(65536)
            assert data, "the client has gone"
            self._bodies = self._frames.feed(data)
        return self._bodies.pop(0)

    def hello(self) -> list[Any]:
        return unpack(self.receive())

    def question(self) -> Fetch:
        message = wire.decode(self.receive())
        assert isinstance(message, Fetch)
        return message

    def answer(self, data: bytes) -> None:
        self.link.sendall(data)


@contextmanager
def member(behave: Behaviour) -> Iterator[Address]:
    """Something that listens, and behaves so on the one connection that it takes."""
    faults: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            try:
                link, _ = listener.accept()
                with link:
                    link.settimeout(10)
                    behave(Member(link))
            except BaseException as fault:
                faults.append(fault)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield Address("127.0.0.1", listener.getsockname()[1])
        finally:
            thread.join(10)
            assert not faults, faults


def connect(address: Address, silence_s: float = 10.0) -> RecordsClient:
    return RecordsClient(address, "c" * 32, "B", silence_s)


def test_it_says_who_asks_and_gets_records_question_by_question() -> None:
    seen: list[Any] = []

    def behave(other: Member) -> None:
        seen.append(other.hello())
        other.answer(WELCOME)
        for records, why in ((b"first", ""), (b"second", ""), (b"", ENDS)):
            question = other.question()
            seen.append((question.after_seq, question.after_checksum, question.bytes_max))
            other.answer(wire.encode(Fetched(question.token, records, why, True)))

    with member(behave) as address, connect(address) as client:
        answers = [client.fetch(seq, seq * 10, 1000) for seq in (0, 4, 9)]
    assert seen == [
        ["kvnode peer", wire.VERSION, "c" * 32, "B", "", "records"],
        (0, 0, 1000),
        (4, 40, 1000),
        (9, 90, 1000),
    ]
    assert [(answer.records, answer.why, answer.leads) for answer in answers] == [
        (b"first", "", True),
        (b"second", "", True),
        (b"", "ends", True),
    ]


def test_an_answer_in_many_pieces_and_larger_than_any_buffer() -> None:
    records = bytes(range(256)) * 8192

    def behave(other: Member) -> None:
        other.hello()
        for byte in WELCOME:
            other.answer(bytes([byte]))
        other.answer(wire.encode(Fetched(other.question().token, records, "", False)))

    with member(behave) as address, connect(address) as client:
        assert client.fetch(0, 0, 1).records == records


def test_nothing_listens() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
    with pytest.raises(Unreachable, match=rf"{address} can not be reached: connection refused"):
        connect(address)


def test_no_such_host() -> None:
    with pytest.raises(Unreachable, match=r"no-such-host\.invalid:1 can not be reached"):
        connect(Address("no-such-host.invalid", 1))


def test_a_port_for_clients() -> None:
    def behave(other: Member) -> None:
        other.link.recv(4)
        other.answer(b"-ERR Protocol error\r\n")

    with member(behave) as address, pytest.raises(ClientPort, match="is a port for clients"):
        connect(address)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (frame(["refused", "another cluster"]), "refuses: another cluster"),
        (frame(["refused"]), "refuses: it does not say why"),
        (frame(["hello"]), "refuses: it does not say why"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is no member of a kvnode cluster"),
        (b"\x00\x00\x00\x05hello", "is no member of a kvnode cluster"),
        (b"\x00\x00\x08\x00", "is no member of a kvnode cluster"),
    ],
)
def test_what_does_not_welcome_us(answer: bytes, text: str) -> None:
    def behave(other: Member) -> None:
        other.hello()
        other.answer(answer)

    with member(behave) as address, pytest.raises(Refused, match=text):
        connect(address)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (wire.encode(Fetched(99, b"x", "", False)), "answers what it was not asked: Fetched"),
        (wire.encode(Fetch(1, 0, 0, 1)), "answers what it was not asked: Fetch"),
        (frame([99, 1]), "answers what no member does"),
        (b"\xff\xff\xff\xff", "answers what no member does"),
        (b"\x00\x00\x00\x01\xc1", "answers what no member does"),
    ],
)
def test_what_is_no_answer(answer: bytes, text: str) -> None:
    def behave(other: Member) -> None:
        other.hello()
        other.answer(WELCOME)
        other.question()
        other.answer(answer)

    with member(behave) as address, connect(address) as client, pytest.raises(Refused, match=text):
        client.fetch(0, 0, 1000)


def test_it_goes_away_in_the_middle_of_an_answer() -> None:
    def behave(other: Member) -> None:
        other.hello()
        other.answer(WELCOME)
        other.answer(wire.encode(Fetched(other.question().token, b"x" * 1000, "", False))[:500])

    with member(behave) as address, connect(address) as client, pytest.raises(Unreachable, match="closed"):
        client.fetch(0, 0, 1000)


def test_it_falls_silent() -> None:
    ended = threading.Event()

    def behave(other: Member) -> None:
        other.hello()
        other.answer(WELCOME)
        other.question()
        ended.wait(10)

    with member(behave) as address, connect(address, silence_s=0.05) as client:
        with pytest.raises(Unreachable, match=r"nothing came from .* for 0.05 s"):
            client.fetch(0, 0, 1000)
        ended.set()


def test_all_that_can_go_wrong_is_one_kind_of_error() -> None:
    assert issubclass(Unreachable, RecordsError)
    assert issubclass(ClientPort, Refused)
    assert issubclass(Refused, RecordsError)
    assert not issubclass(Refused, Unreachable)
    assert str(Address("::1", 13000)) == "[::1]:13000"
