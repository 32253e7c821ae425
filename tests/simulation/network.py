"""Connections between simulated members and clients: streams of bytes, each direction with its own fate.

A stream delivers what was written in order and whole, as TCP does, until it breaks: then a part of what is on its way,
cut anywhere, still arrives. A direction between two members can be blocked: bytes wait, and the connection breaks when
they have waited too long (TCP_USER_TIMEOUT), as it does when nothing comes back.

Beyond what TCP does, frames between members may be lost, come twice or overtake each other, as they would over several
connections in a row. Forwarded commands are left out: there exactly-once rests on the stream.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from kvnode.node import wire
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.host import Host

USER_TIMEOUT_MS = 5000.0
DIAL_AGAIN_MS = (50.0, 100.0, 200.0, 400.0)
CONNECT_TIMEOUT_MS = 2000.0
_FORWARDS = {wire._TYPES.index(kind) for kind in (wire.Forward, wire.ForwardReplies)}


class End(Protocol):
    """Who has an end of a connection."""

    id: str

    def on_data(self, connection: Connection, data: bytes) -> None: ...
    def on_closed(self, connection: Connection) -> None: ...


class Stream:
    """One direction."""

    __slots__ = ("last_due_ms", "stalled_since_ms", "waits")

    def __init__(self) -> None:
        self.waits: deque[tuple[float, bytes]] = deque()
        self.last_due_ms = 0.0
        self.stalled_since_ms: float | None = None


class Connection:
    """Between `ends[0]`, who dialed, and `ends[1]`. `ids[k]` is its number at that end; `lives[k]` the life of the
    process there when it was made."""

    def __init__(self, network: Network, ends: tuple[Any, Any], ids: tuple[int, int], lane: str) -> None:
        self.network = network
        self.ends = ends
        self.ids = ids
        self.lane = lane
        self.lives = tuple(getattr(end, "life", 0) for end in ends)
        self.is_open = [True, True]
        self.is_broken = False
        self.was_held = False
        """Whether its bytes had to wait before the node: a client's requests are younger there than they are."""
        self.streams = (Stream(), Stream())
        self.writes = [0, 0]
        self.since_ms = network.world.now_ms

    def __repr__(self) -> str:
        return f"{self.ends[0].id}->{self.ends[1].id} {self.lane}"

    @property
    def is_between_members(self) -> bool:
        return self.lane != ""

    def side_of(self, end: Any) -> int:
        return 0 if self.ends[0] is end else 1


class Network:
    """All connections of a world. `blocked` holds the directed pairs of members that can not reach each other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.options = world.options
        self.random = world.random("network")
        self.blocked: set[tuple[str, str]] = set()
        self.connections: list[Connection] = []

    # Making connections

    def dial(self, host: Host, life: int, peer: Host, lane: str, attempt: int = 0) -> None:
        """As the runtime does: keep one connection to each lane of each member."""
        world = self.world
        if not host.is_up or host.life != life:
            return
        again_ms = DIAL_AGAIN_MS[min(attempt, len(DIAL_AGAIN_MS) - 1)]
        is_blocked = (host.id, peer.id) in self.blocked or (peer.id, host.id) in self.blocked
        if host.is_paused or lane not in host.lanes:
            world.after(50, self.dial, host, life, peer, lane, attempt)
        elif is_blocked:
            world.after(CONNECT_TIMEOUT_MS + again_ms, self.dial, host, life, peer, lane, attempt + 1)
        elif not peer.is_up:
            world.after(again_ms, self.dial, host, life, peer, lane, attempt + 1)
        else:
            connection = Connection(self, (host, peer), (host.next_id(), peer.next_id()), lane)
            self.connections.append(connection)
            host.on_dialed(connection)
            peer.on_accepted(connection)

    def redial(self, connection: Connection) -> None:
        host, peer = connection.ends
        lasted = self.world.now_ms - connection.since_ms > 1000
        attempt = 0 if lasted else 1
        wait_ms = DIAL_AGAIN_MS[attempt]
        self.world.after(wait_ms, self.dial, host, connection.lives[0], peer, connection.lane, attempt)

    # Bytes

    def write(self, connection: Connection, side: int, data: bytes) -> None:
        if not connection.is_open[side] or connection.is_broken:
            return
        stream = connection.streams[side]
        connection.writes[side] += 1
        copies = [data]
        if connection.is_between_members and connection.writes[side] > 1 and self.world.is_faulty:
            copies = self._misfortune(stream, data)
        for copy in copies:
            self._send(connection, side, stream, copy)

    def _misfortune(self, stream: Stream, data: bytes) -> list[bytes]:
        options, random = self.options, self.random
        if len(data) > 5 and data[5] in _FORWARDS:
            return [data]
        chance = random.random()
        if chance < options.frames_lost_chance:
            self.world.count("frames lost")
            return []
        if random.random() < options.frames_repeated_chance:
            self.world.count("frames repeated")
            return [data, data]
        if random.random() < options.frames_reordered_chance and stream.waits:
            due_ms, before = stream.waits[-1]
            if len(before) > 5 and before[5] not in _FORWARDS and before[:4] == (len(before) - 4).to_bytes(4, "big"):
                self.world.count("frames reordered")
                stream.waits[-1] = (due_ms, data)
                return [before]
        return [data]

    def _send(self, connection: Connection, side: int, stream: Stream, data: bytes) -> None:
        if connection.is_between_members:
            wait_ms = self.options.network_ms * (0.5 + self.random.random())
            wait_ms += self.random.expovariate(1 / self.options.network_jitter_ms)
        else:
            wait_ms = self.random.uniform(0.05, 1)
        stream.last_due_ms = max(stream.last_due_ms, self.world.now_ms + wait_ms)
        stream.waits.append((stream.last_due_ms, data))
        self.world.at(stream.last_due_ms, self._deliver, connection, side)

    def _deliver(self, connection: Connection, side: int) -> None:
        stream = connection.streams[side]
        if not stream.waits or stream.waits[0][0] > self.world.now_ms:
            return
        sender, receiver = connection.ends[side], connection.ends[1 - side]
        if connection.is_between_members:
            if (sender.id, receiver.id) in self.blocked:
                self._stall(connection, side)
                return
            if (receiver.id, sender.id) in self.blocked:
                self._stall(connection, side)  # nothing comes back to say that it arrived
        _, data = stream.waits.popleft()
        if not data:
            return
        if connection.is_open[1 - side]:
            receiver.on_data(connection, data)
        elif connection.is_open[side]:
            self._close_side(connection, side)  # the answer is a reset

    def _stall(self, connection: Connection, side: int) -> None:
        stream = connection.streams[side]
        if stream.stalled_since_ms is None:
            stream.stalled_since_ms = self.world.now_ms
            self.world.after(USER_TIMEOUT_MS, self._give_up, connection, side)

    def _give_up(self, connection: Connection, side: int) -> None:
        since_ms = connection.streams[side].stalled_since_ms
        if since_ms is not None and self.world.now_ms - since_ms >= USER_TIMEOUT_MS - 1:
            connection.streams[side].waits.clear()
            self._close_side(connection, side)

    # Ends of connections

    def close(self, connection: Connection, side: int) -> None:
        """This end closes: the other one hears of it after everything that is on its way."""
        if not connection.is_open[side]:
            return
        connection.is_open[side] = False
        due_ms = max(connection.streams[side].last_due_ms, self.world.now_ms) + 0.5
        self.world.at(due_ms, self._hear_of_end, connection, 1 - side)
        if side == 0 and connection.is_between_members:
            self.redial(connection)

    def abandon(self, connection: Connection, side: int, *, silently: bool, whole: bool) -> None:
        """The process at this end is gone. `silently`: so is its machine, and nobody says so; `whole`: what it wrote
        still arrives, else a part of it does."""
        if not whole:
            self._cut_short(connection.streams[side])
        connection.is_open[side] = False
        wait_ms = self.random.choice((100.0, 1000.0, 5000.0)) if silently else 0.5
        self.world.after(wait_ms, self._hear_of_end, connection, 1 - side)

    def break_one(self, connection: Connection) -> None:
        """The connection breaks in the middle: of each direction a part arrives."""
        connection.is_broken = True
        for side in (0, 1):
            self._cut_short(connection.streams[side])
            self.world.after(self.random.choice((0, 1, 20, 300)), self._hear_of_end, connection, side)

    def _cut_short(self, stream: Stream) -> None:
        left = self.random.randint(0, sum(len(data) for _, data in stream.waits))
        kept: deque[tuple[float, bytes]] = deque()
        for due_ms, data in stream.waits:
            kept.append((due_ms, data[:left]))
            left = max(0, left - len(data))
        stream.waits = kept

    def _hear_of_end(self, connection: Connection, side: int) -> None:
        if not connection.is_open[side]:
            return
        source, receiver = connection.ends[1 - side], connection.ends[side]
        stream = connection.streams[1 - side]
        if connection.is_between_members and (source.id, receiver.id) in self.blocked:
            self.world.after(self.random.choice((500, 3000)), self._hear_of_end, connection, side)
        elif stream.waits:
            due_ms = max(stream.waits[-1][0], self.world.now_ms) + 0.1
            self.world.at(due_ms, self._hear_of_end, connection, side)
        else:
            self._close_side(connection, side)

    def _close_side(self, connection: Connection, side: int) -> None:
        if not connection.is_open[side]:
            return
        connection.is_open[side] = False
        connection.streams[side].waits.clear()
        connection.ends[side].on_closed(connection)
        if side == 0 and connection.is_between_members:
            self.redial(connection)

    # Partitions

    def block(self, pairs: set[tuple[str, str]]) -> None:
        self.blocked |= pairs

    def unblock(self, pairs: set[tuple[str, str]]) -> None:
        """What waited arrives now, in order."""
        self.blocked -= pairs
        self.connections = [each for each in self.connections if any(each.is_open)]
        for connection in self.connections:
            for side in (0, 1):
                sender, receiver = connection.ends[side].id, connection.ends[1 - side].id
                stream = connection.streams[side]
                if (sender, receiver) in self.blocked:
                    continue
                if (receiver, sender) not in self.blocked:
                    stream.stalled_since_ms = None
                due_ms = self.world.now_ms
                stream.waits = deque((max(due_ms, at_ms), data) for at_ms, data in stream.waits)
                for at_ms, _ in stream.waits:
                    self.world.at(at_ms, self._deliver, connection, side)
