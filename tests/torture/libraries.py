"""Recording clients that are somebody's library: each call blocks, in a thread of its own.

    redis-py    one connection to one node, its retries switched off, CLIENT REPLYSEQ ON
    kvclient    all nodes, with the retries that it makes by itself; its replies tell no seq

They are callables `(request) -> (result, seq)` that raise what the tree below says; `Caller` asks them all the time and
writes down what happens, as tests/torture/clients.py does.

Failed
├── NotSent      it never left, or no node took it: it was not applied
├── NoAnswer     it may have been applied
└── Refused      an error reply, whole
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import TracebackType
from typing import Any, Protocol, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvclient.client import KVClient, Timeouts
from kvclient.errors import CommandError, NotApplied, Unknown
from tests.checker.models import words
from tests.checker.workloads import Request
from tests.cluster.load import CERTAINLY_NOT, code_of
from tests.torture.clients import AGAIN_S, POLL_S, THREAD_STOP_S, Address, Overdue, Shared


class Failed(Exception):
    pass


class NotSent(Failed):
    pass


class NoAnswer(Failed):
    pass


class Refused(Failed):
    """`seq`: where the reply tells one."""

    def __init__(self, text: str, seq: int | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.seq = seq


class Library(Protocol):
    node: str
    """Whose fault it is if there is no answer; empty: there are several."""

    def prepare(self) -> None:
        """Connect, so that what fails from here on had been sent. Raises NotSent."""

    def ask(self, request: Request) -> tuple[Any, int | None]: ...

    def close(self) -> None: ...


class RedisPy:
    def __init__(self, node: str, address: Address, answer_s_max: float) -> None:
        self.node = node
        host, port = address
        self._options: dict[str, Any] = {
            "host": host,
            "port": port,
            "socket_timeout": answer_s_max,
            "redis_connect_func": self._connected,
            "retry": Retry(NoBackoff(), 0),
            "single_connection_client": True,
        }
        self._client: Any = None

    def __repr__(self) -> str:
        return f"redis-py at {self.node}"

    def _connected(self, connection: Any) -> None:
        connection.on_connect()
        connection.send_command("CLIENT", "REPLYSEQ", "ON")
        connection.read_response()

    def prepare(self) -> None:
        try:
            if self._client is None:
                self._client = redis.Redis(**self._options)
                self._client.response_callbacks.clear()
            self._client.ping()
        except redis.RedisError as error:
            raise NotSent(str(error)) from error

    def ask(self, request: Request) -> tuple[Any, int | None]:
        try:
            seq, reply = self._client.execute_command(*words(*request))
        except redis.ResponseError as error:
            raise Refused(_text_of(error)) from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            if code_of(error) in CERTAINLY_NOT:
                raise Refused(_text_of(error)) from error
            raise NoAnswer(str(error)) from error
        if isinstance(reply, redis.ResponseError):
            raise Refused(_text_of(reply), seq)
        return reply, seq

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client.connection_pool.disconnect()


def _text_of(error: redis.RedisError) -> str:
    """The error reply, whole: redis-py takes the code off where it has a class for it."""
    code, text = code_of(error), str(error)
    return text if text.startswith(code) else f"{code} {text}"


class KvClient:
    node = ""

    def __init__(self, addresses: Mapping[str, Address], answer_s_max: float) -> None:
        nodes = [f"{host}:{port}" for host, port in addresses.values()]
        self._client = KVClient(nodes, timeouts=Timeouts(answer_s_max, 2 * answer_s_max, 1.0))

    def __repr__(self) -> str:
        return repr(self._client)

    def prepare(self) -> None:
        """It does what is needed by itself, and tells."""

    def ask(self, request: Request) -> tuple[Any, int | None]:
        try:
            return self._client.command(*words(*request)), None
        except CommandError as error:
            raise Refused(error.text) from error
        except NotApplied as error:
            raise NotSent(error.text) from error
        except Unknown as error:
            raise NoAnswer(error.text) from error

    def close(self) -> None:
        self._client.close()


class Caller:
    """Asks with a library, in a thread that begins with `with` and ends with it."""

    def __init__(
        self,
        shared: Shared,
        make: Callable[[], Library],
        *,
        name: str,
        seed: int,
        pause_ms: float,
        answer_s_max: float,
    ) -> None:
        """`make` is called again after an answer did not come. `answer_s_max`: for `Shared.overdue`, where the node is
        known."""
        self.is_busy = False
        self._shared = shared
        self._make = make
        self._name = name
        self._random = Random(f"caller {name} {seed}")
        self._pause_s = pause_ms / 1000
        self._answer_s_max = answer_s_max
        self._processes = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __repr__(self) -> str:
        return f"Caller {self._name} busy={self.is_busy}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._shared.is_over = True
        self._thread.join(THREAD_STOP_S)
        if self._thread.is_alive():
            raise RuntimeError(f"{self!r} does not end")

    def _run(self) -> None:
        try:
            while not self._shared.is_over:
                library = self._make()
                try:
                    self._use(library)
                finally:
                    library.close()
        except BaseException as error:  # a violation, for who looks at the faults
            self._shared.faults.append(f"{self._name} has failed: {error!r}")

    def _use(self, library: Library) -> None:
        """Ask until an answer does not come."""
        self._processes += 1
        process = f"{self._name}.{self._processes}"
        while not self._shared.is_over:
            time.sleep(self._random.expovariate(1 / self._pause_s))
            if self._shared.is_paused:
                time.sleep(POLL_S)
                continue
            self.is_busy = True
            try:
                if not self._shared.is_paused and self._ask(library, process):
                    return
            finally:
                self.is_busy = False

    def _ask(self, library: Library, process: str) -> bool:
        """One call; whether its outcome is unknown."""
        try:
            library.prepare()
        except NotSent:
            time.sleep(self._random.choice(AGAIN_S))
            return False
        call = self._shared.invoke(process, self._random)
        try:
            result, seq = library.ask(call.request)
        except NotSent:
            self._shared.recorder.fail(call.ticket)
            self._shared.counts["fail"] += 1
            return False
        except Refused as refusal:
            return self._shared.error(call, refusal.text, refusal.seq)
        except NoAnswer:
            self._shared.lose(call)
            waited_s = time.monotonic() - call.asked_s
            if library.node and waited_s >= self._answer_s_max:
                self._shared.overdue.append(Overdue(library.node, call.request, call.asked_s, time.monotonic()))
            return True
        self._shared.answer(call, result, seq)
        return False


def callers(
    shared: Shared, addresses: Mapping[str, Address], *, seed: int, pause_ms: float, answer_s_max: float
) -> Sequence[Caller]:
    """One client of each library."""
    random = Random(f"callers {seed}")
    node = random.choice(sorted(addresses))
    options: dict[str, Any] = {"seed": seed, "pause_ms": pause_ms, "answer_s_max": answer_s_max}
    return (
        Caller(shared, lambda: RedisPy(node, addresses[node], answer_s_max), name="redis-py", **options),
        Caller(shared, lambda: KvClient(addresses, answer_s_max), name="kvclient", **options),
    )
