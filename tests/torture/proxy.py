"""TCP proxies between members, one for each directed link, all in one process: a network that misbehaves to order.

Member A dials B at the port of A->B, and this process dials B. The rule of the link A->B holds for all bytes that go
from A to B, on the connections that A dialed and on those that B did. A new rule holds at once, also for what is
already on its way.

    python -m tests.torture.proxy '{"targets": {"B": 13001, …}, "seed": 1}'

It first prints the ports, {"A B": port, …}; then each line of standard input, {"do": name, …}, is a call of one of the
methods of Network, and is answered with one line. It ends with its standard input. tests/torture/links.py speaks with
it.

How it is unlike a network:
    - Loss, repetition and reordering concern whole frames, as over several connections in a row. The first frame of a
      stream (the handshake) is left alone, and so are forwarded commands: there exactly-once rests on the stream.
    - The sender's kernel sees its bytes acknowledged, whatever becomes of them here. So this process does what that
      kernel would do: it resets the sender's end of a connection whose bytes have not got through for `gives_up_s`
      (in kvnode TCP_USER_TIMEOUT). The other end hears nothing of it: half-open.
    - A dial is accepted at once. Where no way leads to the target it is reset after CONNECT_S.

For servers that are not kvnode: with "is_framed": false what one read brings counts as a frame; with "is_named": false
all dial a member at the same port, {" B": port, …}, and who dials is looked up in /proc, by the process ids that the
call `processes` told last. An unknown one is reset.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, cast

import uvloop

from kvnode.node import wire

HOST = "127.0.0.1"
QUEUE_BYTES_MAX = 1 << 20
"""Of one connection in one direction, and a frame; then its sender has to wait."""
RECEIVE_BUFFER_BYTES = 256 * 1024
CONNECT_S = 2.0
RECORDED_BYTES_MAX = 256 * 1024
"""What is kept of a connection that may be replayed."""
RECORDINGS = 6
REPLAY_S = 0.5
PIECES_PER_SECOND = 50
"""Into how many pieces a bandwidth cuts what is sent."""

_LENGTH = struct.Struct(">I")
_RESET = struct.pack("ii", 1, 0)
_FORWARDS = {wire._TYPES.index(kind) for kind in (wire.Forward, wire.ForwardReplies)}


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to the bytes of a directed link."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    """Up to so much more or less than `delay_ms`. Nothing overtakes within a connection."""
    bytes_per_second: int = 0
    """For each connection; 0: no limit."""
    lost: float = 0.0
    """Chance for a frame; and so for the next ones."""
    repeated: float = 0.0
    reordered: float = 0.0
    """To overtake the one before, if that still waits (so it takes a delay)."""
    cuts: float = 0.0
    """To be cut off somewhere in its middle, the connection with it."""
    held: bool = False
    """Bytes wait, and go on when this is over: a partition, where TCP sends again."""
    vanishes: bool = False
    """A connection that loses a byte delivers none ever after: a black hole. It stays open."""
    gives_up_s: float | None = 5.0
    """For the two above: when the sender's end is reset. None: never, as behind a middlebox that acknowledges."""
    refused: bool = False
    """New connections that the sender of this link dials are reset."""

    @property
    def blocks(self) -> bool:
        return self.held or self.vanishes


NOTHING = Rule()
END = b"end"
"""In the queue of a stream, told by identity: the sender has closed."""
CUT = b"cut"
"""Likewise: the connection is cut here."""


class Link:
    """From one member to another: the rule, and the streams that it holds for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rule = NOTHING
        self.streams: set[Stream] = set()
        self.recordings: deque[list[bytes]] = deque(maxlen=RECORDINGS)
        """The frames of connections that the sender dialed, and that have ended."""

    def __repr__(self) -> str:
        return f"{self.name} streams={len(self.streams)} {self.rule}"


class Side(asyncio.Protocol):
    """One end of a connection, towards a member: what comes in goes into `stream`."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.stream: Stream | None = None
        self.other_stream: Stream | None = None
        self.is_choked = True
        """It takes nothing now; not before it is connected either."""
        self.is_over = False

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.is_over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self.stream is not None:
            self.stream.take(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_over = True
        if self.stream is not None:
            self.stream.take_end()

    def pause_writing(self) -> None:
        self.is_choked = True

    def resume_writing(self) -> None:
        self.is_choked = False
        if self.other_stream is not None:
            self.other_stream.pump()

    def reset(self) -> None:
        if self.is_open and self.transport is not None:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()


class Stream:
    """One direction of a connection: frames on their way, in order, each with the time when it is due."""

    def __init__(self, network: Network, link: Link, source: Side, target: Side, *, is_dialers: bool) -> None:
        self.link = link
        self.source = source
        self.target = target
        self._network = network
        self._loop = network.loop
        self._queue: deque[tuple[float, bytes, bool]] = deque()  # due, bytes, whether another may overtake
        self._queued_bytes = 0
        self._is_waiting = False
        self._rest = bytearray()
        self._frames = 0
        self._last_due = 0.0
        self._free_at = 0.0
        self._is_lost = False
        self._timer: asyncio.TimerHandle | None = None
        self._gives_up: asyncio.TimerHandle | None = None
        self._recording: deque[bytes] | None = deque() if is_dialers else None
        self._recorded_bytes = 0
        link.streams.add(self)

    def __repr__(self) -> str:
        return f"stream {self.link.name} queued={self._queued_bytes} lost={self._is_lost}"

    # What comes in

    def take(self, data: bytes) -> None:
        if not self._network.is_framed:
            self._take_frame(data)
            self.pump()
            return
        rest = self._rest
        rest += data
        position = 0
        while len(rest) - position >= 4:
            end = position + 4 + _LENGTH.unpack_from(rest, position)[0]
            if end > len(rest):
                break
            self._take_frame(bytes(rest[position:end]))
            position = end
        del rest[:position]
        self.pump()

    def take_end(self) -> None:
        if not self._vanishes():
            if self._rest:
                self._put(bytes(self._rest), may_move=False)  # of a sender that ended in the middle of a frame
            self._put(END, may_move=False)
            self.pump()
        self._maybe_forget()

    def _vanishes(self) -> bool:
        self._is_lost = self._is_lost or self.link.rule.vanishes
        return self._is_lost

    def _take_frame(self, frame: bytes) -> None:
        rule, random, count = self.link.rule, self._network.random, self._network.counted
        self._frames += 1
        count["frames"] += 1
        if self._vanishes():
            count["vanished"] += 1
            self._arm()
            return
        may_move = self._frames > 1 and len(frame) > 5 and frame[5] not in _FORWARDS
        if self._recording is not None and (may_move or self._frames == 1):
            self._record(frame)
        if random.random() < rule.cuts and self._frames > 1:
            count["cuts"] += 1
            self._put(frame[: random.randrange(1, len(frame))], may_move=False)
            self._put(CUT, may_move=False)
        elif may_move and random.random() < rule.lost:
            count["lost"] += 1
        elif may_move and random.random() < rule.reordered and self._queue and self._queue[-1][2]:
            count["reordered"] += 1
            due, before, _ = self._queue.pop()
            self._queue.append((due, frame, True))
            self._queued_bytes += len(frame) - len(before)
            self._put(before, may_move=True)
        else:
            self._put(frame, may_move=may_move)
            if may_move and random.random() < rule.repeated:
                count["repeated"] += 1
                self._put(frame, may_move=True)

    def _record(self, frame: bytes) -> None:
        recording = self._recording
        assert recording is not None
        recording.append(frame)
        self._recorded_bytes += len(frame)
        while self._recorded_bytes > RECORDED_BYTES_MAX and len(recording) > 1:
            self._recorded_bytes -= len(recording[1])
            del recording[1]  # the first one is the handshake

    def _put(self, data: bytes, *, may_move: bool) -> None:
        rule, now = self.link.rule, self._loop.time()
        rate = rule.bytes_per_second
        size = max(1, rate // PIECES_PER_SECOND) if rate else len(data)
        for start in range(0, len(data), size) if 0 < size < len(data) else (0,):
            piece = data[start : start + size] if size < len(data) else data
            self._free_at = max(self._free_at, now) + (len(piece) / rate if rate else 0.0)
            wait_s = max(0.0, rule.delay_ms + self._network.random.uniform(-1, 1) * rule.jitter_ms) / 1000
            self._last_due = max(self._last_due, (self._free_at if rate else now) + wait_s)
            self._queue.append((self._last_due, piece, may_move and piece is data))
            self._queued_bytes += len(piece)

    # What goes out

    def pump(self) -> None:
        """Deliver what is due, if the rule and the target let it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.link.rule.held:
            if self._queue:
                self._arm()
        else:
            self._disarm()
            self._deliver()
        self._wait_or_go_on()

    def _deliver(self) -> None:
        now, queue, target = self._loop.time(), self._queue, self.target
        pieces: list[bytes] = []
        while queue and not target.is_choked:
            due, data, _ = queue[0]
            if due > now:
                self._timer = self._loop.call_at(due, self.pump)
                break
            if data is END or data is CUT:
                break
            queue.popleft()
            self._queued_bytes -= len(data)
            pieces.append(data)
        if pieces:
            if target.is_open and target.transport is not None:
                target.transport.write(b"".join(pieces))
            elif target.is_over:
                self.source.reset()  # nobody is there any more
        if queue and queue[0][0] <= now and (queue[0][1] is END or queue[0][1] is CUT):
            self._end(is_cut=queue[0][1] is CUT)

    def _end(self, *, is_cut: bool) -> None:
        self._queue.clear()
        self._queued_bytes = 0
        if is_cut:
            self._is_lost = True
            self.source.reset()
        if self.target.is_open and self.target.transport is not None:
            self.target.transport.close()  # after what was written

    def _wait_or_go_on(self) -> None:
        """Let the sender wait while too much is on its way."""
        is_much = self._queued_bytes > QUEUE_BYTES_MAX
        if is_much != self._is_waiting and self.source.is_open and self.source.transport is not None:
            self._is_waiting = is_much
            if is_much:
                self.source.transport.pause_reading()
            else:
                self.source.transport.resume_reading()

    # Ends

    def _arm(self) -> None:
        after_s = self.link.rule.gives_up_s
        if self._gives_up is None and after_s is not None:
            self._gives_up = self._loop.call_later(after_s, self._give_up)

    def _disarm(self) -> None:
        if self._gives_up is not None and not self._is_lost:
            self._gives_up.cancel()
            self._gives_up = None

    def _give_up(self) -> None:
        """What the sender's kernel does. The other end hears nothing."""
        self._network.counted["given up"] += 1
        self._is_lost = True
        self._queue.clear()
        self._queued_bytes = 0
        self.source.reset()

    def reset(self) -> None:
        self._is_lost = True
        self.source.reset()
        self.target.reset()

    def _maybe_forget(self) -> None:
        """Both ends are over: nothing will happen any more."""
        if self.source.is_over and (self.target.is_over or self.target.transport is None):
            self._forget()
            if self.target.stream is not None:
                self.target.stream._forget()

    def _forget(self) -> None:
        self.link.streams.discard(self)
        for timer in (self._timer, self._gives_up):
            if timer is not None:
                timer.cancel()
        if self._recording:
            self.link.recordings.append(list(self._recording))
            self._recording = None


class Network:
    """All links between the members. `targets`: the port at which each member listens for others."""

    def __init__(self, targets: dict[str, int], seed: int, *, is_framed: bool = True, is_named: bool = True) -> None:
        self.is_framed = is_framed
        self._is_named = is_named
        self._pids: dict[str, int] = {}
        self.loop = asyncio.get_running_loop()
        self.random = Random(f"network {seed}")
        self.counted: Counter[str] = Counter()
        self.links = {(a, b): Link(f"{a}->{b}") for a in targets for b in targets if a != b}
        self._targets = targets
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Network {len(self.links)} links {dict(self.counted)}"

    async def listen(self) -> dict[str, int]:
        """A port for each link, by its name."""
        ports = {}
        for dialer, target in self.links if self._is_named else [("", target) for target in self._targets]:
            listening = socket.create_server((HOST, 0))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            ports[f"{dialer} {target}"] = listening.getsockname()[1]
            make = partial(Dialed, self, dialer, target)
            await self.loop.create_server(make, sock=listening)
        return ports

    def join(self, near: Side, dialer: str, target: str) -> None:
        """Someone has dialed: dial the target, and let bytes pass both ways."""
        link, back = self.links[dialer, target], self.links[target, dialer]
        if link.rule.refused:
            self.counted["refused"] += 1
            near.reset()
            return
        far = Side()
        near.stream = far.other_stream = Stream(self, link, near, far, is_dialers=True)
        far.stream = near.other_stream = Stream(self, back, far, near, is_dialers=False)
        self.start(self._dial(link, back, near, far, self._targets[target]))

    def who(self, transport: asyncio.BaseTransport) -> str | None:
        """The member that is at the other end of a connection which was accepted."""
        inode = _inode_of_socket(transport.get_extra_info("peername")[1], transport.get_extra_info("sockname")[1])
        for name, pid in self._pids.items():
            with suppress(OSError):  # a process that has ended
                if any(str(each.readlink()) == f"socket:[{inode}]" for each in Path(f"/proc/{pid}/fd").iterdir()):
                    return name
        return None

    def start(self, task: Any) -> None:
        started = self.loop.create_task(task)
        self._tasks.add(started)
        started.add_done_callback(self._tasks.discard)

    async def _dial(self, link: Link, back: Link, near: Side, far: Side, port: int) -> None:
        """Connect to the target, as soon as a way leads there and back."""
        try:
            async with asyncio.timeout(CONNECT_S):
                while link.rule.blocks or back.rule.blocks:
                    await self._changed.wait()
                if near.is_over:
                    return
                await self.loop.create_connection(lambda: far, HOST, port)
        except (OSError, TimeoutError):
            near.reset()
            return
        self.counted["connections"] += 1
        if near.is_over:
            far.reset()

    # The calls

    def set(self, links: Iterable[Iterable[str]], rule: dict[str, Any]) -> None:
        """The rule of these links from now on."""
        made = Rule(**rule)
        for pair in links:
            link = self.links[tuple(pair)]  # type: ignore[index]
            link.rule = made
            for stream in list(link.streams):
                stream.pump()
        self._changed.set()
        self._changed = asyncio.Event()

    def cut(self, links: Iterable[Iterable[str]]) -> int:
        """Reset every connection that has these links; how many there were."""
        streams = {stream for pair in links for stream in self.links[tuple(pair)].streams}  # type: ignore[index]
        connections = {frozenset((stream, stream.target.stream)) for stream in streams}
        for stream in streams:
            stream.reset()
        return len(connections)

    def replay(self, links: Iterable[Iterable[str]]) -> int:
        """Send what ended connections had brought, handshake included, once more over new ones; how many frames."""
        frames = 0
        for dialer, target in links:
            for recording in self.links[dialer, target].recordings:
                frames += len(recording)
                self.start(self._replay(recording, self._targets[target]))
        self.counted["replayed"] += frames
        return frames

    async def _replay(self, recording: list[bytes], port: int) -> None:
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return
        writer.write(b"".join(recording))
        try:
            async with asyncio.timeout(REPLAY_S):
                while await reader.read(65536):
                    pass
        except (OSError, TimeoutError):
            pass
        writer.transport.abort()

    def processes(self, pids: dict[str, int]) -> None:
        """Whose connections are whose from now on, where they dial at the same port."""
        self._pids = pids

    def counts(self) -> dict[str, int]:
        """What has happened so far."""
        return dict(self.counted)

    def connections(self) -> dict[str, int]:
        """How many streams each link has now, by its name."""
        return {f"{a} {b}": len(link.streams) for (a, b), link in self.links.items()}


class Dialed(Side):
    """The end towards the member that dials. `dialer` is empty where it has to be looked up."""

    def __init__(self, network: Network, dialer: str, target: str) -> None:
        super().__init__()
        self._network, self._dialer, self._target = network, dialer, target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        dialer = self._dialer or self._network.who(transport)
        if dialer is None:
            self._network.counted["unknown dialers"] += 1
            self.reset()
        else:
            self._network.join(self, dialer, self._target)


def _inode_of_socket(port: int, to_port: int) -> str:
    """Of the local socket with this port that is connected to that one; empty if there is none."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *rest = line.split()
        if int(local.rpartition(":")[2], 16) == port and int(remote.rpartition(":")[2], 16) == to_port:
            return rest[6]
    return ""


async def serve(options: dict[str, Any]) -> None:
    network = Network(**options)
    print(json.dumps(await network.listen()), flush=True)
    calls = {name: getattr(network, name) for name in ("set", "cut", "replay", "processes", "counts", "connections")}
    lines = asyncio.StreamReader()
    await network.loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        arguments = json.loads(line)
        print(json.dumps(calls[arguments.pop("do")](**arguments)), flush=True)


if __name__ == "__main__":
    uvloop.run(serve(json.loads(sys.argv[1])))
