"""Clients that ask real nodes all the time, and write down what they were told: the history to check.

    shared = Shared(all_workloads("first"))
    with Clients(shared, addresses, specs(ids, Random(1)), answer_s_max=6, seed=1):
        …
    shared.recorder.history()

All of them share one thread; tests/torture/libraries.py has clients with threads of their own, and fleet.py puts both
together. What they write down has one clock, the monotonic one. Each has one connection, on which it lets each reply
tell its seq (CLIENT REPLYSEQ ON); where that ends it makes another, with another process id, and so it does after an
unknown outcome. A client whose oldest request has waited for `answer_s_max` closes the connection, and notes the call
in `overdue`: a node that lives answers in time, be it with an error.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from random import Random
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

import hiredis
import uvloop

from tests.checker.history import UNKNOWN, Recorder
from tests.checker.models import KINDS, words
from tests.checker.workloads import Bank, Counters, Lists, Registers, Request, Workload

CONNECT_S = 1.0
AGAIN_S = (0.02, 0.05, 0.2)
"""How long to wait before the next connection: one of these."""
POLL_S = 0.005
CLIENTS = 8
THREAD_STOP_S = 30.0
LEAVES = 0.002
"""Chance that a client closes its connection right after it has asked, and hears no answer."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Spec:
    """A client. `nodes`: one that it stays with, or several, another one after each lost connection."""

    nodes: tuple[str, ...]
    depth: int = 1
    """Requests in one write, at most."""
    pause_ms: float = 20.0
    """From the last reply to the next request, on average."""
    protocol: int = 2
    reads: bool = False
    """It asks for nothing else, and so does not wait for a write that can not be committed: only then does a leader
    that is none any more have occasion to answer what it should not."""
    tells_seq: bool = True
    """Whether to ask for it: others than kvnode do not know it."""


def specs(ids: Sequence[str], random: Random, count: int = CLIENTS, pause_ms: float = 20.0) -> list[Spec]:
    """Of four clients three are pinned to one node, in turn, and one goes to all; some pipeline, some speak RESP3."""
    turns = cycle(ids)
    return [
        Spec(
            nodes=tuple(random.sample(ids, len(ids))) if number % 4 == 3 else (next(turns),),
            depth=random.choice((1, 1, 4, 12)),
            pause_ms=pause_ms,
            protocol=random.choice((2, 2, 3)),
        )
        for number in range(count)
    ]


def readers(ids: Iterable[str], pause_ms: float = 20.0) -> list[Spec]:
    """One at each node."""
    return [Spec((id,), pause_ms=pause_ms, reads=True) for id in ids]


def all_workloads(name: str, width: int = 2) -> list[Workload]:
    """One of each, with keys and values of their own. `width`: keys of each that are in use at one time."""
    return [
        Registers(f"{name}.register.", width=width),
        Registers(f"{name}.mixed.", mixed=True, width=width),
        Counters(f"{name}.counter.", width=width),
        Lists(f"{name}.list.", width=width),
        Bank(f"{name}.bank.", width=width),
    ]


class Overdue(NamedTuple):
    """A call that had no answer in time: at which node, what, and since when."""

    node: str
    request: Request
    asked_s: float
    given_up_s: float


class Call(NamedTuple):
    ticket: int
    workload: Workload
    request: Request
    asked_s: float


@dataclass(slots=True)
class Shared:
    """What all clients of a run have in common, whatever thread they are in."""

    workloads: list[Workload]
    recorder: Recorder = field(default_factory=lambda: Recorder(time.monotonic))
    counts: Counter[str] = field(default_factory=Counter)
    overdue: list[Overdue] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Replies that no protocol allows, and clients that failed themselves."""
    written_s: dict[str, float] = field(default_factory=dict)
    """When a node has last acknowledged a write."""
    is_paused: bool = False
    is_over: bool = False
    guard: threading.Lock = field(default_factory=threading.Lock)

    def use(self, workloads: Iterable[Workload]) -> None:
        """Let them ask these from now on."""
        with self.guard:
            self.workloads = list(workloads)

    def _next(self, random: Random, *, reads: bool) -> tuple[Workload, Request]:
        with self.guard:
            workload = random.choice(self.workloads)
            if not reads:
                return workload, workload.next(random)
            key = workload.keys.pick(random)
            return workload, Request("MGET" if isinstance(key, tuple) else "GET", key)

    def invoke(self, process: str, random: Random, *, reads: bool = False) -> Call:
        """Draw a request, and note that it is about to be sent."""
        workload, request = self._next(random, reads=reads)
        ticket = self.recorder.invoke(process, *request)
        return Call(ticket, workload, request, time.monotonic())

    def answer(self, call: Call, result: Any, seq: int | None, node: str = "") -> None:
        self.recorder.answer(call.ticket, result, seq)
        self.counts["answered"] += 1
        if KINDS[call.request.kind].wrote is not None:
            self.written_s[node] = time.monotonic()

    def error(self, call: Call, text: str, seq: int | None) -> bool:
        """An error reply; whether it leaves the outcome unknown."""
        status = self.recorder.error(call.ticket, text, seq)
        self.counts[status.value if status is not UNKNOWN else "said to be unknown"] += 1
        if status is UNKNOWN:
            self._note_unknown(call)
        return status is UNKNOWN

    def lose(self, call: Call) -> None:
        """There will be no reply."""
        self.counts["lost"] += 1
        self._note_unknown(call)

    def _note_unknown(self, call: Call) -> None:
        if KINDS[call.request.kind].wrote is not None:
            with self.guard:
                call.workload.keys.note_unknown(call.request.key)


class Connection(asyncio.Protocol):
    """To one node: replies are matched with what was asked, in order."""

    def __init__(self, shared: Shared, node: str, *, tells_seq: bool) -> None:
        self.node = node
        self.pending: deque[Call] = deque()
        self.is_open = True
        self.has_unknown = False
        """An outcome is unknown: what is asked next is another process's."""
        self.settled = asyncio.Event()
        """Nothing is pending, or the connection is over."""
        self._shared = shared
        self._tells_seq = tells_seq
        self._reader = hiredis.Reader()
        self._greetings: list[Any] = []
        self._awaited_greetings = 0
        self.transport: asyncio.Transport

    def __repr__(self) -> str:
        return f"Connection {self.node} pending={len(self.pending)} open={self.is_open}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    async def greet(self, commands: list[bytes]) -> list[Any]:
        """Send commands whose replies tell no seq; the replies, or fewer where the connection ended."""
        self._awaited_greetings = len(commands)
        self.settled.clear()
        self.transport.write(b"".join(commands))
        await self.settled.wait()
        return self._greetings

    def ask(self, calls: list[Call]) -> None:
        self.pending += calls
        self.settled.clear()
        request = [hiredis.pack_command(tuple(words(*call.request))) for call in calls]
        self.transport.write(b"".join(request))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if self._awaited_greetings:
                self._awaited_greetings -= 1
                self._greetings.append(reply)
            elif self.pending:
                self._take(self.pending.popleft(), reply)
            elif not isinstance(reply, hiredis.ReplyError):
                self._shared.faults.append(f"a reply of {self.node} that nobody asked for: {reply!r:.200}")
        if not self.pending and not self._awaited_greetings:
            self.settled.set()

    def _take(self, call: Call, reply: Any) -> None:
        seq = None
        if self._tells_seq and not isinstance(reply, hiredis.ReplyError):
            if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[0], int):
                self._shared.faults.append(f"a reply of {self.node} that tells no seq: {call.request}: {reply!r:.200}")
                return
            seq, reply = reply
        if isinstance(reply, hiredis.ReplyError):
            self.has_unknown |= self._shared.error(call, str(reply), seq)
        else:
            self._shared.answer(call, reply, seq, self.node)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        while self.pending:
            self._shared.lose(self.pending.popleft())
        self.settled.set()


class Client:
    """One of them; see Spec."""

    def __init__(
        self, shared: Shared, addresses: Mapping[str, Address], spec: Spec, name: str, seed: int, answer_s_max: float
    ) -> None:
        self.name = name
        self._shared = shared
        self._addresses = addresses
        self._spec = spec
        self._random = Random(f"client {name} {seed}")
        self._answer_s_max = answer_s_max
        self._processes = 0
        self._nodes = 0
        self.connection: Connection | None = None

    def __repr__(self) -> str:
        return f"Client {self.name} {self._spec} {self.connection!r}"

    def _new_process(self) -> str:
        self._processes += 1
        return f"{self.name}.{self._processes}"

    async def run(self) -> None:
        while not self._shared.is_over:
            self.connection = await self._connect()
            if self.connection is not None:
                await self._use(self.connection)
                self.connection.transport.abort()
            await asyncio.sleep(self._random.choice(AGAIN_S))

    async def _connect(self) -> Connection | None:
        """A connection that is ready, or None: it may be another node's turn next time."""
        nodes = self._spec.nodes
        node = nodes[self._nodes % len(nodes)]
        self._nodes += 1
        make = lambda: Connection(self._shared, node, tells_seq=self._spec.tells_seq)  # noqa: E731
        connection = None
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await asyncio.get_running_loop().create_connection(make, *self._addresses[node])
                greetings = self._greetings()
                replies = await connection.greet(greetings) if greetings else []
        except (OSError, TimeoutError):
            replies = []
        if connection is None:
            return None
        if len(replies) < len(greetings) or any(isinstance(each, hiredis.ReplyError) for each in replies):
            connection.transport.abort()
            return None
        return connection

    def _greetings(self) -> list[bytes]:
        hello = [b"HELLO 3\r\n"] if self._spec.protocol == 3 else []
        return hello + ([b"CLIENT REPLYSEQ ON\r\n"] if self._spec.tells_seq else [])

    async def _use(self, connection: Connection) -> None:
        """Ask again and again, until the connection is lost."""
        process = self._new_process()
        while True:
            await asyncio.sleep(self._random.expovariate(1000 / self._spec.pause_ms))
            if not connection.is_open or self._shared.is_over:
                return
            if self._shared.is_paused:
                continue
            if connection.has_unknown:
                process = self._new_process()
                connection.has_unknown = False
            count = self._random.randint(1, self._spec.depth)
            connection.ask([self._shared.invoke(process, self._random, reads=self._spec.reads) for _ in range(count)])
            if self._random.random() < LEAVES:
                return
            try:
                async with asyncio.timeout(self._answer_s_max):
                    await connection.settled.wait()
            except TimeoutError:
                if not connection.pending:
                    continue  # the last answer came, or the connection ended, in the same turn of the event loop
                oldest = connection.pending[0]
                overdue = Overdue(connection.node, oldest.request, oldest.asked_s, time.monotonic())
                self._shared.overdue.append(overdue)
                return

    @property
    def is_busy(self) -> bool:
        return self.connection is not None and bool(self.connection.pending)


class Clients:
    """See the module. Its thread begins with `with` and ends with it."""

    def __init__(
        self,
        shared: Shared,
        addresses: Mapping[str, Address],
        specs: Iterable[Spec],
        *,
        answer_s_max: float,
        seed: int,
    ) -> None:
        self.shared = shared
        self._clients = [
            Client(shared, addresses, spec, f"client{number}", seed, answer_s_max) for number, spec in enumerate(specs)
        ]
        self._thread = threading.Thread(target=self._run, name="clients", daemon=True)

    def __repr__(self) -> str:
        return f"Clients {len(self._clients)} {dict(self.shared.counts)}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shared.is_over = True
        self._thread.join(THREAD_STOP_S)
        if self._thread.is_alive():
            raise RuntimeError(f"the clients do not end: {self._clients}")

    def _run(self) -> None:
        try:
            uvloop.run(self._run_all())
        except BaseException as error:  # a violation, for who looks at the faults
            self.shared.faults.append(f"the clients have failed: {error!r}")

    async def _run_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for client in self._clients:
                group.create_task(client.run())

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way."""
        return any(client.is_busy for client in self._clients)
