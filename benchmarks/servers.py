"""The systems under test: three nodes of kvnode, and three Redis servers that fsync every write.

Each is a context manager over real processes on free ports of the loopback interface, with its data in a directory of
its own. `port` is where writes are fastest: the leader's, the master's.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from kvnode.cli.ask import NoAnswer, ask, ask_raft

HOST = "127.0.0.1"
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0


class NotReady(Exception):
    """A system did not come up; the text says how far it got."""


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind((HOST, 0))
        return [int(item.getsockname()[1]) for item in sockets]


class Servers:
    """Several processes that live as long as the context."""

    name = ""
    needs_wait = False
    """Whether a write needs `WAIT 1` after it to be at two servers when it is acknowledged."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def port(self) -> int:
        """Where to send commands."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the processes and wait until they serve."""
        raise NotImplementedError

    def spawn(self, command: list[str], label: str) -> None:
        """Start one process; what it says goes to a file in the directory."""
        with (self.directory / f"{label}.out").open("ab") as output:
            self.processes.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            )

    def wait_for(self, what: str, is_ready: Callable[[], bool]) -> None:
        """Call `is_ready` until it is true. Raises NotReady after START_SECONDS_MAX or when a process has ended."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while not is_ready():
            if any(process.poll() is not None for process in self.processes):
                raise NotReady(f"{self.name}: a process has ended; see {self.directory}/*.out")
            if time.monotonic() > deadline:
                raise NotReady(f"{self.name}: no {what} within {START_SECONDS_MAX:.0f} s; see {self.directory}/*.out")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all processes, those that do not listen the hard way."""
        for process in self.processes:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS_MAX
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Kvnode(Servers):
    """Three nodes with the default configuration. `role` says whose port is measured: the leader's or a follower's."""

    name = "kvnode"

    def __init__(self, directory: Path, role: str = "leader") -> None:
        super().__init__(directory)
        self.role = role
        self.ports: list[int] = []

    @property
    def port(self) -> int:
        """The port of the first node in `role`; asked anew each time, for leadership may move."""
        found: list[int] = []

        def is_found() -> bool:
            found[:] = [port for port in self.ports if _field(port, "role") == self.role]
            return bool(found)

        self.wait_for(self.role, is_found)
        return found[0]

    def start(self) -> None:
        """Start the nodes and wait until one leads."""
        ports = free_ports(6)
        self.ports = ports[:3]
        addresses = zip("ABC", ports[:3], ports[3:], strict=True)
        cluster = ",".join(f"{name}={HOST}:{port}/{peer_port}" for name, port, peer_port in addresses)
        for name in "ABC":
            command = [sys.executable, "-m", "kvnode", "start", "--id", name, "--cluster", cluster]
            self.spawn([*command, "--data", str(self.directory / name), "--log-level", "warning"], name)
        self.wait_for("leader", lambda: any(_field(port, "role") == "leader" for port in self.ports))


class Redis(Servers):
    """A master and two replicas, all with an AOF that is fsynced at every write, without rewrites of the AOF.

    A write is answered when the master alone has fsynced it: less than what kvnode promises. With `WAIT 1` after it, it
    is at one replica too (received, not fsynced).
    """

    name = "redis"
    needs_wait = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._port = 0

    @property
    def port(self) -> int:
        """The master's."""
        return self._port

    def start(self) -> None:
        """Start the servers and wait until the replicas are in sync."""
        ports = free_ports(3)
        self._port = ports[0]
        for port in ports:
            home = self.directory / str(port)
            home.mkdir()
            command = ["redis-server", "--port", str(port), "--bind", HOST, "--dir", str(home), "--save", ""]
            command += ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
            command += ["--repl-diskless-sync-delay", "0"]
            if port != self._port:
                command += ["--replicaof", HOST, str(self._port)]
            self.spawn(command, str(port))
        self.wait_for("replicas in sync", lambda: all(_is_in_sync(port) for port in ports[1:]))


def _field(port: int, name: str) -> str:
    try:
        return ask_raft(HOST, port).get(name, "")
    except NoAnswer:
        return ""


def _is_in_sync(port: int) -> bool:
    try:
        return "master_link_status:up" in ask(HOST, port, "INFO replication", 1.0)
    except NoAnswer:
        return False


def fsync_ms(directory: Path, count: int = 200) -> float:
    """The median time of one 4 KiB append with fdatasync in this directory, in milliseconds."""
    times = []
    path = directory / "fsync.probe"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            begin = time.perf_counter()
            os.write(descriptor, b"\0" * 4096)
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - begin)
    finally:
        os.close(descriptor)
        path.unlink()
    return sorted(times)[count // 2] * 1000
