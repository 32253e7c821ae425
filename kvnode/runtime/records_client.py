"""Asking a running member for records, one question at a time, from a process that is no node: `kvnode repair`.

    dial    ["kvnode peer", version, cluster id, my id, "", "records"]     "": whichever member you are
            ["welcome", version]  or  ["refused", reason] and close
    then    Fetch(token, after_seq, after_checksum, bytes_max)  and  Fetched(token, records, why, leads), as messages of
            node/wire.py, on the same connection

What a member sends is bounded as between nodes: HELLO_BYTES_MAX until it has welcomed us, then the largest record. That
records fit is not looked at here: who puts them into a log verifies them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from kvnode.config import RECORD_BYTES_MAX
from kvnode.net.frames import FrameError, Frames, frame, unpack
from kvnode.node import wire

CONNECT_S = 5.0
SILENCE_S = 10.0
"""A member from which nothing at all came for so long is given up."""
RECEIVE_BYTES = 256 * 1024
_RESP_BEGINS = b"-+:$*"


class RecordsError(Exception):
    """The member gave no records; the text is a sentence without a full stop."""


class Unreachable(RecordsError):
    """Nothing listens there, or the connection broke: it may be tried again."""


class Refused(RecordsError):
    """The member, or what answers in its place, will not serve us: trying again does not help."""


class ClientPort(Refused):
    """What listens there speaks RESP: it is the port for clients."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a member listens for members; `host` without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class RecordsClient:
    """One connection; it ends with the first error, `close`, or the `with` block."""

    def __init__(self, address: Address, cluster_id: str, node_id: str, silence_s: float = SILENCE_S) -> None:
        """Connect and shake hands, as the member `node_id`. Raises RecordsError."""
        self.address = address
        self._frames = Frames(wire.HELLO_BYTES_MAX)
        self._bodies: list[bytes] = []
        self._last_token = 0
        try:
            self._socket = socket.create_connection((address.host, address.port), CONNECT_S)
        except TimeoutError:
            raise Unreachable(f"{address} does not answer within {CONNECT_S:.0f} s") from None
        except OSError as error:
            raise Unreachable(f"{address} can not be reached: {_reason(error)}") from None
        try:
            self._shake_hands([wire.MAGIC, wire.VERSION, cluster_id, node_id, "", wire.RECORDS])
            self._socket.settimeout(silence_s)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"records client of {self.address} asked={self._last_token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fetch(self, after_seq: int, after_checksum: int, bytes_max: int) -> wire.Fetched:
        """The records that follow (after_seq, after_checksum) at the member. Raises RecordsError."""
        self._last_token += 1
        self._send(wire.encode(wire.Fetch(self._last_token, after_seq, after_checksum, bytes_max)))
        try:
            answer = wire.decode(self._receive())
        except FrameError as error:
            raise Refused(f"{self.address} answers what no member does: {error}") from None
        if not isinstance(answer, wire.Fetched) or answer.token != self._last_token:
            raise Refused(f"{self.address} answers what it was not asked: {type(answer).__name__}")
        return answer

    def _shake_hands(self, hello: list[object]) -> None:
        self._send(frame(hello))
        try:
            answer = unpack(self._receive())
        except FrameError as error:
            raise Refused(f"{self.address} is no member of a kvnode cluster: {error}") from None
        if answer[:1] != ["welcome"]:
            reason = str(answer[1]) if answer[:1] == ["refused"] and len(answer) > 1 else "it does not say why"
            raise Refused(f"the member at {self.address} refuses: {reason:.300}")
        self._frames.frame_bytes_max = RECORD_BYTES_MAX + wire.ENVELOPE_BYTES_MAX

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Unreachable(f"the connection to {self.address} broke: {_reason(error)}") from None

    def _receive(self) -> bytes:
        """The body of the next frame."""
        is_first = self._last_token == 0
        while not self._bodies:
            data = self._receive_bytes()
            if is_first and data[:1] in _RESP_BEGINS:
                raise ClientPort(f"{self.address} is a port for clients")
            is_first = False
            self._bodies += self._frames.feed(data)
            if not self._bodies and self._frames.fault is not None:
                raise FrameError(self._frames.fault)
        return self._bodies.pop(0)

    def _receive_bytes(self) -> bytes:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except TimeoutError:
            raise Unreachable(f"nothing came from {self.address} for {self._socket.gettimeout():g} s") from None
        except OSError as error:
            raise Unreachable(f"the connection to {self.address} broke: {_reason(error)}") from None
        if not data:
            raise Unreachable(f"{self.address} closed the connection")
        return data


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
