"""Clients of a simulated cluster, and the record of all that they asked and heard.

Each value that is written is unique, so that a reply tells where in history it belongs (verdict.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hiredis

from tests.simulation.host import Host
from tests.simulation.network import Connection, Network
from tests.simulation.world import Violation, World

REGISTERS = (b"r0", b"r1", b"r2", b"r3")
LISTS = (b"l0", b"l1")
COUNTERS = (b"c0", b"c1", b"c2")
ANY = REGISTERS + LISTS + COUNTERS
ANSWER_MS_MAX = 4400.0
"""A node answers within 4 s; the rest is the way there and the turns."""


@dataclass(slots=True)
class Request:
    """One command. `invoked`, `returned`: the world's order of what clients do; `returned` None: no answer came."""

    command: list[bytes]
    token: bytes | None
    client: int
    connection: int
    member: str
    reads_locally: bool
    is_mode: bool
    invoked: int
    returned: int | None = None
    reply: Any = None
    seq: int | None = None

    def __str__(self) -> str:
        text = b" ".join(self.command)[:80].decode("ascii", "replace")
        return f"client {self.client}.{self.connection} at {self.member}: {text} -> {self.reply!r:.80} seq={self.seq}"


class Client:
    """Sends pipelines of commands to one member after the other."""

    id = "client"

    def __init__(self, world: World, network: Network, hosts: list[Host], number: int, history: list[Request]) -> None:
        self.world = world
        self.network = network
        self.hosts = hosts
        self.number = number
        self.history = history
        self.random = world.random(f"client {number}")
        self.pending: list[Request] = []
        self.is_done = False
        self._connection: Connection | None = None
        self._connections = 0
        self._requests_left = world.options.requests_max
        self._only_reads = self.random.random() < 0.3
        self._depth = self.random.choice((1, 1, 2, 3))
        self._reader = hiredis.Reader()
        self._tells_seq = self._reads_locally = False
        self._number_of_value = 0
        self.on_seq: Callable[[Request], None] = lambda request: None
        """Called for each reply that tells a seq."""

    @property
    def has_asked_all(self) -> bool:
        return self._requests_left <= 0 and not self.pending

    def connect(self) -> None:
        if self._connection is not None or self.is_done:
            return
        up = [host for host in self.hosts if host.node is not None and not host.is_paused]
        if not up:
            self.world.after(300, self.connect)
            return
        host = self.random.choice(up)
        connection = self._connection = Connection(self.network, (self, host), (0, host.next_id()), "")
        self._connections += 1
        self._reader = hiredis.Reader()
        host.on_client(connection)
        self._tells_seq = self.random.random() < 0.5
        self._reads_locally = self.random.random() < 0.15
        modes = [[b"HELLO", b"3"]] if self.random.random() < 0.3 else []
        modes += [[b"CLIENT", b"REPLYSEQ", b"ON"]] if self._tells_seq else []
        modes += [[b"READONLY"]] if self._reads_locally else []
        self._send([(command, None) for command in modes], is_mode=True)
        self.step()

    def step(self) -> None:
        options = self.world.options
        if self._connection is None or self.is_done or self._requests_left <= 0:
            return
        if len(self.pending) < options.pipeline * self._depth:
            count = self.random.randint(1, options.pipeline)
            self._requests_left -= 1
            self._send([self._make() for _ in range(count)])
            self._maybe_leave()
        if self._depth > 1 and self.random.random() < 0.5:
            self.world.after(self.random.expovariate(1 / options.think_ms), self.step)

    def go_on(self, requests: int) -> None:
        """So many more and no others, now that all is healed."""
        self._requests_left = requests
        self.step()

    def _maybe_leave(self) -> None:
        if self.world.is_faulty and self.random.random() < 0.03:
            self.world.after(self.random.random() * 1000, self._leave, self._connection)

    def _leave(self, connection: Connection) -> None:
        if connection is self._connection:
            self.network.close(connection, 0)
            self._lose()

    def _make(self) -> tuple[list[bytes], bytes | None]:
        random = self.random
        self._number_of_value += 1
        token = b"t%d.%d." % (self.number, self._number_of_value)
        value = token + random.choice((b"", b"", b"x" * random.choice((10, 100, 700))))
        register, other = random.sample(REGISTERS, 2)
        choice = random.uniform(0.53, 0.95) if self._only_reads else random.random()
        table: tuple[tuple[float, list[bytes], bytes | None], ...] = (
            (0.10, [b"INCR", random.choice(COUNTERS)], None),
            (0.20, [b"APPEND", random.choice(LISTS), token], token),
            (0.30, [b"SET", register, value], value),
            (0.36, [b"SET", register, value, b"NX"], value),
            (0.40, [b"UPD", register, value], value),
            (0.43, [b"SET", register, value, b"GET"], value),
            (0.47, [b"DEL", register], None),
            (0.49, [b"DEL", register, other], None),
            (0.53, [b"MSET", register, value, other, value], value),
            (0.75, [b"GET", random.choice(ANY)], None),
            (0.85, [b"MGET", *random.sample(ANY, 3)], None),
            (0.89, [b"DBSIZE"], None),
            (0.92, [b"KEYS", b"*"], None),
            (0.95, [b"EXISTS", register], None),
            (0.96, [b"PING"], None),
            (0.97, [b"WAIT", b"1", b"50"], None),
            (0.975, [b"FLUSHALL"] if self.world.options.flushes else [b"PING"], None),
            (1.0, [b"GET", register], None),
        )
        _, command, unique = next(row for row in table if choice <= row[0])
        return command, unique

    def _send(self, commands: list[tuple[list[bytes], bytes | None]], *, is_mode: bool = False) -> None:
        connection = self._connection
        if connection is None or not commands:
            return
        data = b""
        for command, token in commands:
            request = Request(
                command,
                token,
                self.number,
                self._connections,
                connection.ends[1].id,
                self._reads_locally,
                is_mode,
                self.world.tick(),
            )
            self.pending.append(request)
            self.history.append(request)
            data += hiredis.pack_command(tuple(command))
        self.network.write(connection, 0, data)
        self.world.after(ANSWER_MS_MAX, self._check_answered, connection, self.pending[-1])

    def _check_answered(self, connection: Connection, request: Request) -> None:
        """No command hangs: a node that lives answers in time, be it with an error."""
        host: Host = connection.ends[1]
        is_same_life = host.is_up and host.life == connection.lives[1] and all(connection.is_open)
        if request.returned is None and connection is self._connection and is_same_life:
            if connection.was_held or host.paused_ms or host.is_paused or host.stopping_since_ms is not None:
                return  # its time stood still, or it hears no more
            raise Violation(f"a command hangs: {request} [{host!r}]")

    def on_data(self, connection: Connection, data: bytes) -> None:
        if connection is not self._connection:
            return
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if not self.pending:
                if isinstance(reply, hiredis.ReplyError):
                    continue  # too many clients, or shutting down
                raise Violation(f"a reply that nobody asked for: client {self.number}: {reply!r}")
            self._take(self.pending.pop(0), reply)
        if not self.pending or self._depth > 1:
            self.world.after(self.random.expovariate(1 / self.world.options.think_ms), self.step)

    def _take(self, request: Request, reply: Any) -> None:
        request.returned = self.world.tick()
        request.reply = reply
        if self._tells_seq and not request.is_mode:
            if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[0], int):
                request.seq, request.reply = reply
                self.on_seq(request)
            elif not isinstance(reply, hiredis.ReplyError):
                raise Violation(f"a reply without its seq: {request}")

    def on_closed(self, connection: Connection) -> None:
        if connection is self._connection:
            self._lose()

    def _lose(self) -> None:
        """What was not answered stays unknown for ever."""
        self.pending = []
        self._connection = None
        self.world.after(self.random.choice((1, 20, 200)), self.connect)
