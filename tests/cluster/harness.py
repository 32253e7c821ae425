"""Real nodes for tests: processes of `python -m kvnode start` on loopback, killed and restarted by process id.

Nothing here sleeps for a fixed time: `eventually` asks until the answer is there or the deadline has passed. Ports lie
below the range from which the kernel takes those of outgoing connections: there, a client could occupy the port of a
node that is down, and a node that dials a member that is down could be connected with itself.
"""

from __future__ import annotations

import filecmp
import os
import random
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.cluster.wire import Wire

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
PORTS = range(12_000, 32_000)
START_S = 20.0
STOP_S = 10.0
POLL_S = 0.02
LOG_CHARACTERS_SHOWN = 8_000
NO_NUMBERS = {"node", "role", "leader", "log_checksum"}

Info = dict[str, Any]


def eventually(condition: Callable[[], T], what: str, timeout_s: float = 15.0, poll_s: float = POLL_S) -> T:
    """Ask until the answer is true and return it; fail with `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(poll_s)


def _own_ports() -> Iterator[int]:
    """Each once, then from the first again. Tests that run side by side have ports of their own, and none is given out
    soon again: either could be that of a node that is down for a while. The first is random, for others may test too.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = PORTS[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    first = random.randrange(len(own))
    return cycle([*own[first:], *own[:first]])


_OWN_PORTS = _own_ports()


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens."""
    ports: list[int] = []
    while len(ports) < count:
        port = next(_OWN_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            ports.append(port)
    return ports


def node_environment() -> dict[str, str]:
    """The environment of a node: ours without the variables that would configure it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KVNODE_", "PYTHONPATH"))}
    if not is_installed_as_it_stands():
        environment["PYTHONPATH"] = str(ROOT)
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def program(name: str) -> list[str]:
    """How to run kvnode or kvclient: what is installed, or the source if that has changed, from its own directory."""
    return [sys.executable, *(["-P"] if is_installed_as_it_stands() else []), "-m", name]


def huge_bytes(pid: int) -> int:
    """The memory that a process has in huge pages."""
    told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(next(line for line in told.splitlines() if line.startswith("AnonHugePages:")).split()[1])


@cache
def is_installed_as_it_stands() -> bool:
    """Whether the kvnode that is installed, compiled, was made from the source as it is now: then it is what is tested,
    and the source itself otherwise."""
    installed = Path(sysconfig.get_path("platlib"))
    for package in ("kvnode", "kvclient"):
        source, copy = ROOT / package, installed / package
        names = [path.relative_to(source) for path in source.rglob("*.py")]
        if filecmp.cmpfiles(source, copy, names, shallow=False)[0] != names:
            return False
    return any((installed / "kvnode").rglob("*.so"))


def parse_info(text: str) -> Info:
    """INFO as a dict: numbers as int, `member_A:alive=1,lag=0` as a dict of its own."""
    info: Info = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon or line.startswith("#"):
            continue
        if name.startswith("member_"):
            info[name] = {key: int(number) for key, _, number in (item.partition("=") for item in value.split(","))}
        else:
            info[name] = int(value) if value.isdigit() and name not in NO_NUMBERS else value
    return info


class Cluster:
    """The members of one cluster, their processes, and clients for them.

    `options` are those of `kvnode start` without the dashes, the same for all: {"request_timeout_ms": 1000}.
    """

    def __init__(
        self, directory: Path, ids: Iterable[str] = ("A", "B", "C"), options: Mapping[str, object] | None = None
    ) -> None:
        self.directory = directory
        self.ids = tuple(ids)
        self.options = dict(options or {})
        self.host = HOST
        ports = free_ports(2 * len(self.ids))
        self.client_ports = dict(zip(self.ids, ports[::2], strict=True))
        self.peer_ports = dict(zip(self.ids, ports[1::2], strict=True))
        self.environments: dict[str, dict[str, str]] = {}
        """What a node has in its environment beside what all have."""
        self.modules: dict[str, list[str]] = {}
        """What a node runs instead of `kvnode`, with its arguments."""
        self.prefixes: dict[str, list[str]] = {}
        """A command that becomes the node's process: `prlimit …`, `setpriv …`."""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clients: list[redis.Redis] = []
        self._probes: dict[str, redis.Redis] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        return f"Cluster {self.directory} running={','.join(self.running)} ports={self.client_ports}"

    # Where things are

    @property
    def spec(self) -> str:
        """The value of --cluster."""
        return ",".join(f"{id}={self.host}:{self.client_ports[id]}/{self.peer_ports[id]}" for id in self.ids)

    @property
    def running(self) -> list[str]:
        return [id for id, process in self._processes.items() if process.poll() is None]

    def address(self, id: str) -> tuple[str, int]:
        return self.host, self.client_ports[id]

    def peer_address(self, id: str) -> tuple[str, int]:
        return self.host, self.peer_ports[id]

    def data(self, id: str) -> Path:
        """The data directory."""
        return self.directory / id

    def log_text(self, id: str) -> str:
        """What the node has printed, in all its lives."""
        path = self.directory / f"{id}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def logs(self) -> dict[str, str]:
        """The end of what each node has printed."""
        return {id: self.log_text(id)[-LOG_CHARACTERS_SHOWN:] for id in self.ids}

    # Processes

    def command(self, id: str, **options: object) -> list[str]:
        """The command line of a node; `options` go before those of the cluster, `data` and `cluster` included."""
        merged = {"id": id, "data": self.data(id), "cluster": self.spec, **self.options, **options}
        flags = [text for name, value in merged.items() for text in ("--" + name.replace("_", "-"), str(value))]
        run = [*self.prefixes.get(id, []), sys.executable, "-m", *self.modules.get(id, ["kvnode"])]
        return [*run, "start", *flags]

    def start(self, *ids: str, **options: object) -> None:
        """Start nodes (all that do not run) and wait until each accepts connections."""
        chosen = ids or tuple(id for id in self.ids if id not in self.running)
        self.launch(*chosen, **options)
        for id in chosen:
            eventually(lambda id=id: self._accepts(id), f"{id} accepts connections", START_S)  # type: ignore[misc]

    def launch(self, *ids: str, **options: object) -> None:
        """Start processes, and wait for nothing."""
        for id in ids:
            assert id not in self.running, f"{id} runs already"
            with (self.directory / f"{id}.out").open("ab") as out:
                self._processes[id] = subprocess.Popen(
                    self.command(id, **options),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    cwd=self.directory,
                    env=self.environment(id),
                )

    def environment(self, id: str) -> dict[str, str]:
        # A module of the tests changes what it finds: it must find the source.
        path = {"PYTHONPATH": str(ROOT)} if id in self.modules else {}
        return node_environment() | path | self.environments.get(id, {})

    def _accepts(self, id: str) -> bool:
        code = self._processes[id].poll()
        assert code is None, f"{id} ended with {code} at start:\n{self.log_text(id)[-LOG_CHARACTERS_SHOWN:]}"
        return self.maybe_info(id) is not None

    def refused_start(self, id: str, **options: object) -> tuple[int, str]:
        """Run a node that is expected to end by itself: its exit code and what it printed on standard error."""
        done = subprocess.run(
            self.command(id, **options),
            capture_output=True,
            text=True,
            timeout=START_S,
            cwd=self.directory,
            env=self.environment(id),
            check=False,
        )
        return done.returncode, done.stderr

    def pid(self, id: str) -> int:
        return self._processes[id].pid

    def send_signal(self, id: str, number: int) -> None:
        self._processes[id].send_signal(number)

    def wait_for_exit(self, id: str, timeout_s: float = STOP_S) -> int:
        """The exit code: negative for a signal."""
        self._forget_probe(id)
        return self._processes[id].wait(timeout_s)

    def stop(self, id: str, number: int = signal.SIGTERM) -> int:
        """Ask a node to end, and wait for it; its exit code."""
        self.send_signal(id, number)
        return self.wait_for_exit(id)

    def kill(self, *ids: str) -> None:
        """SIGKILL, at the same moment as far as possible."""
        for id in ids:
            self._processes[id].kill()
        for id in ids:
            self.wait_for_exit(id)

    def restart(self, *ids: str, **options: object) -> None:
        """Start nodes again, killing those that run."""
        self.kill(*(id for id in ids if id in self.running))
        self.start(*ids, **options)

    def resident_bytes(self, id: str) -> int:
        """The memory that the process of a node holds."""
        pages = int(Path(f"/proc/{self.pid(id)}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def peak_bytes(self, id: str) -> int:
        """The most memory that the process of a node has ever held."""
        status = Path(f"/proc/{self.pid(id)}/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])

    def descriptors(self, id: str) -> int:
        """How many the process of a node has open."""
        return len(list(Path(f"/proc/{self.pid(id)}/fd").iterdir()))

    def close(self) -> None:
        """End every process and connection of this cluster."""
        for client in [*self._clients, *self._probes.values()]:
            client.close()
            client.connection_pool.disconnect()
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
        for process in self._processes.values():
            process.wait(STOP_S)

    # Clients

    def client(self, id: str, **options: Any) -> redis.Redis:
        """A redis-py client for one node, as it comes but for its retries, which are off. Closed with the cluster."""
        host, port = self.address(id)
        client = redis.Redis(host=host, port=port, retry=Retry(NoBackoff(), 0), **options)
        self._clients.append(client)
        return client

    def connect(self, id: str, timeout_s: float = 10.0) -> Wire:
        """A bare connection to the client port; the caller closes it."""
        return Wire(self.address(id), timeout_s)

    def connect_to_peer_port(self, id: str, timeout_s: float = 10.0) -> Wire:
        """A bare connection to the port for members; the caller closes it."""
        return Wire(self.peer_address(id), timeout_s)

    def _probe(self, id: str) -> redis.Redis:
        if id not in self._probes:
            host, port = self.address(id)
            retry: Any = Retry(NoBackoff(), 0)
            self._probes[id] = redis.Redis(host=host, port=port, retry=retry, protocol=2, socket_timeout=10)
            self._probes[id].response_callbacks.pop("INFO", None)
        return self._probes[id]

    def _forget_probe(self, id: str) -> None:
        probe = self._probes.pop(id, None)
        if probe is not None:
            probe.close()

    def info(self, id: str, section: str = "raft") -> Info:
        """One section of INFO."""
        text: Any = self._probe(id).execute_command("INFO", section)
        return parse_info(text.decode() if isinstance(text, bytes) else str(text))

    def maybe_info(self, id: str) -> Info | None:
        """INFO raft, None of a node that does not answer or still loads."""
        try:
            return self.info(id)
        except (redis.ConnectionError, redis.TimeoutError):
            self._forget_probe(id)
            return None

    def digest(self, id: str) -> str:
        """DEBUG DIGEST."""
        answer: Any = self._probe(id).execute_command("DEBUG", "DIGEST")
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    # Waiting

    def wait_for_leader(self, timeout_s: float = START_S) -> str:
        """Wait until all running nodes name the same leader, which has committed in its term; its id."""
        return eventually(self.maybe_leader, "all running nodes name one leader", timeout_s)

    def maybe_leader(self) -> str | None:
        infos = [self.maybe_info(id) for id in self.running]
        seen = {(info["leader"], info["term"]) if info else ("", 0) for info in infos}
        leader = seen.pop()[0] if len(seen) == 1 else ""
        if not leader or leader not in self.running:
            return None
        info = self.maybe_info(leader)
        return leader if info and info["role"] == "leader" and info["commit_seq"] == info["last_seq"] else None

    def wait_until_all_vote(self, timeout_s: float = START_S) -> None:
        """Wait until every running node has the right to vote."""

        def all_vote() -> bool:
            infos = [self.maybe_info(id) for id in self.running]
            return all(info and info["may_vote"] for info in infos)

        eventually(all_vote, "every running node may vote", timeout_s)

    def followers(self) -> list[str]:
        """The running nodes that do not lead."""
        leader = self.wait_for_leader()
        return [id for id in self.running if id != leader]

    def wait_until_equal(self, *ids: str, timeout_s: float = START_S) -> str:
        """Wait until the nodes (all that run) have applied the same log to its end; their digest.

        Two nodes that differ at the same applied seq fail at once: no waiting could mend that.
        """
        chosen = ids or tuple(self.running)
        before: list[Info] = []

        def all_applied() -> bool:
            nonlocal before
            infos = [self.maybe_info(id) for id in chosen]
            before = [info for info in infos if info]
            ends = {seq for info in before for seq in (info["last_seq"], info["applied_seq"])}
            return len(before) == len(chosen) and len(ends) == 1

        def settled_digest() -> str | None:
            if not all_applied():
                return None
            seq = before[0]["applied_seq"]
            digests = {id: self.digest(id) for id in chosen}
            if any(self.info(id)["applied_seq"] != seq for id in chosen):
                return None
            checksums = {info["node"]: info["log_checksum"] for info in before}
            assert len(set(checksums.values())) == 1, f"the logs differ at seq {seq}: {checksums}"
            assert len(set(digests.values())) == 1, f"the key spaces differ at seq {seq}: {digests}"
            return digests[chosen[0]]

        return eventually(settled_digest, f"{', '.join(chosen)} have applied the same log", timeout_s)
