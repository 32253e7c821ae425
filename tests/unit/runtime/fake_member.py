"""Something that gives records as a member does, on a real socket, and may have faults of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from kvnode.log.record import Record
from kvnode.net.frames import Frames, frame, unpack
from kvnode.node import wire
from kvnode.node.deeds import DAMAGED, DIFFERS, ENDS
from kvnode.node.wire import Fetch, Fetched
from kvnode.runtime.records_client import Address

WAIT_S = 10.0


class FakeMember:
    """Serves `records`, one in each answer, but those that hold an entry of `damaged`. Use it in a `with` block.

    After `hangs_up_after` answers on a connection it closes that. `asked`: the after_seq of every question.
    """

    def __init__(
        self,
        cluster_id: str,
        records: Sequence[Record],
        *,
        damaged: Sequence[int] = (),
        hangs_up_after: int | None = None,
    ) -> None:
        self.asked: list[int] = []
        self.hellos: list[list[Any]] = []
        self.faults: list[BaseException] = []
        self._cluster_id = cluster_id
        self._following = {(0, 0): records[0]} | {(a.last_seq, a.checksum): b for a, b in pairwise(records)}
        self._end = records[-1]
        self._damaged = set(damaged)
        self._hangs_up_after = hangs_up_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, name="fake member")
        self._is_over = False
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])

    def __enter__(self) -> FakeMember:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        assert not self.faults, self.faults

    def stop(self) -> None:
        """Nothing listens any more."""
        if not self._is_over:
            self._is_over = True
            self._listener.shutdown(socket.SHUT_RDWR)
            self._thread.join(WAIT_S)
            self._listener.close()

    def _run(self) -> None:
        links: list[socket.socket] = []
        try:
            while True:
                try:
                    link, _ = self._listener.accept()
                except OSError:
                    return
                links.append(link)
                link.settimeout(WAIT_S)
                self._serve(link)
        except BaseException as fault:
            self.faults.append(fault)
        finally:
            for link in links:
                link.close()

    def _serve(self, link: socket.socket) -> None:
        frames = Frames(1024 * 1024)
        is_open = False
        answers = 0
        while not self._is_over and (data := link.recv(65536)):
            for body in frames.feed(data):
                if not is_open:
                    is_open = self._shake_hands(link, unpack(body))
                    continue
                question = wire.decode(body)
                assert isinstance(question, Fetch)
                if answers == self._hangs_up_after:
                    link.close()
                    return
                answers += 1
                link.sendall(wire.encode(self._answer(question)))
        link.close()

    def _shake_hands(self, link: socket.socket, hello: list[Any]) -> bool:
        self.hellos.append(hello)
        if hello[2] != self._cluster_id:
            link.sendall(frame(["refused", "another cluster"]))
            return False
        link.sendall(frame(["welcome", wire.VERSION]))
        return True

    def _answer(self, question: Fetch) -> Fetched:
        self.asked.append(question.after_seq)
        place = question.after_seq, question.after_checksum
        record = self._following.get(place)
        if record is None:
            why = ENDS if place == (self._end.last_seq, self._end.checksum) else DIFFERS
            return Fetched(question.token, b"", why, False)
        if self._damaged & set(range(record.first_seq, record.last_seq + 1)):
            return Fetched(question.token, b"", DAMAGED, False)
        return Fetched(question.token, record.raw, "", False)
