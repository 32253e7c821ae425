"""The proxies between members: what a rule says happens to frames, and nothing else does."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from kvnode.net.frames import Frames, frame
from kvnode.node import wire
from tests.cluster.harness import HOST, eventually
from tests.torture.links import Links, away_from, both_ways, bridge, isolate, shown, split, together, towards
from tests.torture.proxy import QUEUE_BYTES_MAX, Rule

IN_TIME_S = 5.0
QUIET_S = 0.1
"""How long to listen where nothing is to come."""
HELLO = ["hello"]
A_TO_B = [("A", "B")]
FORWARD = wire._TYPES.index(wire.Forward)


class End:
    """A socket that speaks frames."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._frames = Frames(1 << 30)
        self._bodies: list[bytes] = []

    def send(self, *messages: Any) -> None:
        self.socket.sendall(b"".join(map(frame, messages)))

    def take(self, count: int = 1, timeout_s: float = IN_TIME_S) -> list[bytes]:
        """The frames of the next messages."""
        self.socket.settimeout(timeout_s)
        while len(self._bodies) < count:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionResetError("closed")
            self._bodies += self._frames.feed(data)
        taken, self._bodies = self._bodies[:count], self._bodies[count:]
        return [len(body).to_bytes(4, "big") + body for body in taken]

    def hears(self, *messages: Any) -> None:
        assert self.take(len(messages)) == list(map(frame, messages))

    def hears_nothing(self, for_s: float = QUIET_S) -> None:
        with pytest.raises(TimeoutError):
            self.take(1, for_s)

    def hears_the_end(self) -> None:
        with pytest.raises(ConnectionResetError):
            self.take()

    def rest(self) -> bytes:
        """All bytes until the end."""
        self.socket.settimeout(IN_TIME_S)
        received = b""
        try:
            while data := self.socket.recv(65536):
                received += data
        except ConnectionResetError:
            pass
        return received


class Ends:
    """Members A and B, as far as the proxies know, and the connections between them."""

    def __init__(self) -> None:
        self._listening = {id: socket.create_server((HOST, 0)) for id in "AB"}
        for each in self._listening.values():
            each.settimeout(IN_TIME_S)
        self.links = Links({id: each.getsockname()[1] for id, each in self._listening.items()})
        self._open: list[socket.socket] = []

    def dial(self, source: str = "A", target: str = "B") -> End:
        dialed = socket.create_connection((HOST, self.links.ports[source, target]), IN_TIME_S)
        self._open.append(dialed)
        return End(dialed)

    def accept(self, target: str = "B") -> End:
        accepted, _ = self._listening[target].accept()
        self._open.append(accepted)
        return End(accepted)

    def dial_in_vain(self, source: str = "A", target: str = "B") -> None:
        with pytest.raises(ConnectionResetError):  # at once, or a little later
            self.dial(source, target).take()

    def nobody_dials(self, target: str = "B") -> None:
        self._listening[target].settimeout(QUIET_S)
        with pytest.raises(TimeoutError):
            self._listening[target].accept()
        self._listening[target].settimeout(IN_TIME_S)

    def connect(self, source: str = "A", target: str = "B") -> tuple[End, End]:
        """Both ends of a connection, after the handshake."""
        near = self.dial(source, target)
        far = self.accept(target)
        near.send(HELLO)
        far.hears(HELLO)
        return near, far

    def close(self) -> None:
        for each in (*self._open, *self._listening.values()):
            each.close()
        self.links.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    try:
        yield made
    finally:
        made.close()


def test_bytes_pass_both_ways(ends: Ends) -> None:
    near, far = ends.connect()
    near.send([1], [2, b"x" * 300_000], [3])
    far.hears([1], [2, b"x" * 300_000], [3])
    far.send(["welcome"])
    near.hears(["welcome"])
    assert ends.links.streams() == {("A", "B"): 1, ("B", "A"): 1}


def test_a_closed_connection_is_closed_at_the_other_end_with_the_beginning_of_a_frame(ends: Ends) -> None:
    near, far = ends.connect()
    near.socket.sendall(frame([1]) + frame([2])[:-1])
    near.socket.close()
    assert far.rest() == frame([1]) + frame([2])[:-1]
    far.socket.close()
    eventually(lambda: not any(ends.links.streams().values()), "no connection is left")


def test_a_rule_holds_for_one_direction_on_connections_of_either_side(ends: Ends) -> None:
    dialed_by_a, dialed_by_b = ends.connect("A", "B"), ends.connect("B", "A")
    trouble = ends.links.impose(A_TO_B, held=True)
    for from_a, from_b in (dialed_by_a, reversed(dialed_by_b)):
        from_a.send([1])
        from_b.send([2])
        from_a.hears([2])
        from_b.hears_nothing()
    ends.links.lift(trouble)
    dialed_by_a[1].hears([1])
    dialed_by_b[0].hears([1])


def test_rules_add_up_and_are_lifted_one_by_one(ends: Ends) -> None:
    links = ends.links
    one = links.impose(A_TO_B, delay_ms=5, lost=0.1, bytes_per_second=1000)
    other = links.impose(links.all, delay_ms=2, repeated=0.5, bytes_per_second=500, held=True, gives_up_s=None)
    assert links.rule(("A", "B")) == Rule(5, 0, 500, 0.1, 0.5, held=True, gives_up_s=None)
    assert links.rule(("B", "A")) == Rule(2, 0, 500, 0, 0.5, held=True, gives_up_s=None)
    links.lift(one)
    assert links.rule(("A", "B")) == links.rule(("B", "A"))
    links.lift(other)
    links.lift(other)
    assert links.rule(("A", "B")) == Rule()
    links.impose(A_TO_B, held=True)
    links.heal()
    assert links.rule(("A", "B")) == Rule()


def test_the_more_impatient_of_two_blocks_gives_up() -> None:
    patient, impatient = Rule(held=True, gives_up_s=None), Rule(vanishes=True, gives_up_s=1.0)
    assert together(impatient, Rule(delay_ms=1)).gives_up_s == 1.0
    assert together(patient, Rule(delay_ms=1)).gives_up_s is None
    assert together(Rule(delay_ms=1), Rule()).gives_up_s == Rule().gives_up_s


def test_a_delay_lets_nothing_arrive_earlier(ends: Ends) -> None:
    near, far = ends.connect()
    ends.links.impose(A_TO_B, delay_ms=80, jitter_ms=30)
    began = time.monotonic()
    near.send(*([number] for number in range(20)))
    far.hears(*([number] for number in range(20)))
    assert time.monotonic() - began >= 0.05


def test_what_was_held_too_long_resets_the_sender_alone(ends: Ends) -> None:
    near, far = ends.connect()
    ends.links.impose(A_TO_B, held=True, gives_up_s=0.2)
    far.send([1])
    near.hears([1])
    near.send([2])
    near.hears_the_end()
    far.hears_nothing()
    ends.links.heal()
    far.hears_nothing()
    far.send([3])  # only now it learns that there is nobody
    far.hears_the_end()


def test_a_black_hole_swallows_a_connection_for_ever_and_leaves_it_open(ends: Ends) -> None:
    near, far = ends.connect()
    untouched, far_untouched = ends.connect()
    hole = ends.links.impose(A_TO_B, vanishes=True, gives_up_s=None)
    near.send([1])
    far.hears_nothing()
    ends.links.lift(hole)
    near.send([2])
    far.hears_nothing()
    far.send([3])
    near.hears([3])
    near.socket.close()
    far.hears_nothing()
    untouched.send([4])
    far_untouched.hears([4])


def test_a_dial_waits_for_a_way(ends: Ends) -> None:
    for rule in ({"held": True}, {"vanishes": True}):
        trouble = ends.links.impose([("B", "A")], **rule)
        near = ends.dial()
        near.send(HELLO)
        ends.nobody_dials()
        ends.links.lift(trouble)
        ends.accept().hears(HELLO)


def test_a_dial_without_a_way_or_to_nobody_is_reset(ends: Ends) -> None:
    ends.links.impose(A_TO_B, held=True)
    ends.dial_in_vain()
    ends.links.heal()
    ends._listening["B"].close()
    ends.dial_in_vain()


def test_new_connections_are_refused_and_old_ones_go_on(ends: Ends) -> None:
    near, far = ends.connect()
    ends.links.impose(A_TO_B, refused=True)
    ends.dial_in_vain()
    near.send([1])
    far.hears([1])
    ends.connect("B", "A")


def test_frames_are_lost_but_for_the_handshake_and_forwarded_commands(ends: Ends) -> None:
    ends.links.impose(ends.links.all, lost=1.0)
    near, far = ends.connect()
    near.send([1], [FORWARD, 2], [3], [FORWARD, 4])
    far.hears([FORWARD, 2], [FORWARD, 4])
    far.send(["welcome"], [5])
    near.hears(["welcome"])
    near.hears_nothing()
    assert ends.links.counts()["lost"] == 3


def test_frames_are_repeated_but_for_the_handshake_and_forwarded_commands(ends: Ends) -> None:
    ends.links.impose(A_TO_B, repeated=1.0)
    near, far = ends.connect()
    near.send([1], [FORWARD, 2], [3])
    far.hears([1], [1], [FORWARD, 2], [3], [3])


def test_frames_overtake_each_other_but_no_forwarded_command(ends: Ends) -> None:
    near, far = ends.connect()
    ends.links.impose(A_TO_B, reordered=1.0, delay_ms=50)
    near.send([1], [2], [3], [FORWARD, 4], [5])
    far.hears([2], [3], [1], [FORWARD, 4], [5])


def test_a_connection_is_cut_in_the_middle_of_a_frame(ends: Ends) -> None:
    for _ in range(5):
        near, far = ends.connect()
        trouble = ends.links.impose(A_TO_B, cuts=1.0)
        near.send([1, "a longer message"], [2])
        arrived = far.rest()
        assert frame([1, "a longer message"]).startswith(arrived)
        assert 0 < len(arrived) < len(frame([1, "a longer message"]))
        near.hears_the_end()
        ends.links.lift(trouble)


def test_all_connections_of_a_link_are_cut_at_once(ends: Ends) -> None:
    pairs = [*ends.connect(), *ends.connect("B", "A")]
    assert ends.links.cut(A_TO_B) == 2
    for end in pairs:
        end.hears_the_end()
    ends.connect()


def test_a_bandwidth_holds_back_the_sender_and_a_bounded_queue(ends: Ends) -> None:
    near, far = ends.connect()
    slow = ends.links.impose(A_TO_B, bytes_per_second=100_000)
    began = time.monotonic()
    near.send([b"x" * 30_000])
    far.hears([b"x" * 30_000])
    assert time.monotonic() - began >= 0.25
    near.socket.settimeout(2 * QUIET_S)
    with pytest.raises(TimeoutError):
        near.socket.sendall(frame([b"x" * 10_000]) * (100 * QUEUE_BYTES_MAX // 10_000))
    ends.links.lift(slow)


def test_what_ended_connections_have_brought_comes_once_more_but_no_forwarded_command(ends: Ends) -> None:
    near, far = ends.connect()
    near.send([1], [FORWARD, 2], [3])
    far.hears([1], [FORWARD, 2], [3])
    assert ends.links.replay(A_TO_B) == 0
    near.socket.close()
    assert far.rest() == b""
    far.socket.close()
    eventually(lambda: ends.links.replay(A_TO_B) == 3, "the connection is over, and is replayed")
    again = ends.accept()
    assert again.rest() == frame(HELLO) + frame([1]) + frame([3])


def test_other_protocols_pass_and_are_held_too() -> None:
    with socket.create_server((HOST, 0)) as listening, closing(Links(ports_of(listening), is_framed=False)) as links:
        near = socket.create_connection((HOST, links.ports["A", "B"]), IN_TIME_S)
        with near, listening.accept()[0] as far:
            far.settimeout(IN_TIME_S)
            near.sendall(b"PING\r\n")
            assert far.recv(100) == b"PING\r\n"
            trouble = links.impose(A_TO_B, held=True)
            near.sendall(b"\xff\xff\xff\xff\xff")
            far.settimeout(QUIET_S)
            with pytest.raises(TimeoutError):
                far.recv(100)
            links.lift(trouble)
            far.settimeout(IN_TIME_S)
            assert far.recv(100) == b"\xff\xff\xff\xff\xff"


def test_who_dials_is_looked_up_where_all_dial_at_the_same_port() -> None:
    dialer = (
        "import socket, sys; input(); s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); "
        "s.sendall(b'x'); s.settimeout(10); print(s.recv(10), flush=True)"
    )
    with (
        socket.create_server((HOST, 0)) as listening,
        closing(Links(ports_of(listening), is_framed=False, is_named=False)) as links,
        subprocess.Popen(
            [sys.executable, "-c", dialer, str(links.ports["", "B"])], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as known,
    ):
        links.processes({"A": known.pid})
        assert known.stdin is not None
        known.stdin.write(b"\n")
        known.stdin.flush()
        listening.settimeout(IN_TIME_S)
        with listening.accept()[0] as far:
            assert links.streams()["A", "B"] == 1
            with pytest.raises(ConnectionResetError):
                dial_and_listen(links.ports["", "B"])  # nobody knows us
            trouble = links.impose([("B", "A")], held=True)
            far.sendall(b"answer")
            with pytest.raises(subprocess.TimeoutExpired):
                known.wait(QUIET_S)
            links.lift(trouble)
            assert known.communicate(timeout=IN_TIME_S)[0] == b"b'answer'\n"


def dial_and_listen(port: int) -> bytes:
    with socket.create_connection((HOST, port), IN_TIME_S) as dialed:
        return dialed.recv(1)


def ports_of(listening: socket.socket) -> dict[str, int]:
    """For two members, of which one never is dialed."""
    return {"A": 1, "B": listening.getsockname()[1]}


def test_shapes() -> None:
    assert shown(isolate("ABC", "A")) == "A>B A>C B>A C>A"
    assert shown(towards("ABC", "A")) == "B>A C>A"
    assert shown(away_from("ABC", "A")) == "A>B A>C"
    assert shown(both_ways([("A", "B")])) == "A>B B>A"
    assert shown(split("AB", "C")) == "A>C B>C C>A C>B"
    assert shown(bridge("ABCDE", "C")) == "A>D A>E B>D B>E D>A D>B E>A E>B"
