"""Some servers that belong together, as processes that live as long as a context."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.load import Answer, Load, Running, build

HOST = "127.0.0.1"
START_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 30.0
POLL_SECONDS = 0.02
REST_SECONDS_MAX = 600.0
"""Three nodes that put ten million keys in order have two cores for it."""
AT_REST_CORES_MAX = 0.15
"""What three servers may take of a core: three nodes that nobody asks anything take 0.05."""
FILL = {"clients": 50, "pipeline": 128}


class NotReady(Exception):
    """A system did not come up, or not as it should; the text says how far it got."""


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind((HOST, 0))
        return [int(item.getsockname()[1]) for item in sockets]


class Servers:
    """See the module. `names` are those of the servers; `processes` has those that run."""

    label = ""
    """What the system is called in results and on the page."""
    write = "set"
    """The command of benchmarks.load whose answer says that a write is at two servers."""
    names: Sequence[str] = ("A", "B", "C")

    def __init__(self, home: Path, tools: Path) -> None:
        """`home`: a directory that is not there yet, for data and output; `tools`: where programs are built."""
        self.home = home
        self.tools = tools
        self.processes: dict[str, subprocess.Popen[Any]] = {}
        self.ports: dict[str, int] = {}
        self.acknowledged: dict[str, Collection[int]] = {}
        """By run of the load generator, the numbers of the writes that were acknowledged to it."""

    # What each system says of itself.

    def start(self) -> None:
        """Start the processes and wait until they serve."""
        raise NotImplementedError

    def command(self, name: str) -> list[str]:
        """What starts one server."""
        raise NotImplementedError

    def leader(self) -> str:
        """The server where writes are fastest."""
        raise NotImplementedError

    def settle(self) -> None:
        """Wait until all servers have all that was written, and nothing goes on in the background."""

    # What is the same for all.

    def launch(self, name: str) -> None:
        """Start one process; what it says goes to a file beside its data."""
        with (self.home / f"{name}.out").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                self.command(name), cwd=self.home, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def end(self, *names: str, number: int = signal.SIGTERM) -> None:
        """Send a signal to servers and wait until they have ended; the hard way where they do not listen."""
        ending = {name: self.processes.pop(name) for name in names if name in self.processes}
        for process in ending.values():
            process.send_signal(number)
        deadline = time.monotonic() + STOP_SECONDS_MAX
        for process in ending.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait_for(
        self,
        what: str,
        is_ready: Callable[[], object],
        poll_seconds: float = POLL_SECONDS,
        seconds_max: float = START_SECONDS_MAX,
    ) -> float:
        """Ask until the answer is true; the seconds that took. Raises NotReady when it takes too long or one ends."""
        begin = time.monotonic()
        while not is_ready():
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            if ended:
                raise NotReady(f"{self.label}: {', '.join(ended)} has ended: {self.said(ended[0])}")
            if time.monotonic() > begin + seconds_max:
                raise NotReady(f"{self.label}: no {what} within {seconds_max:.0f} s")
            time.sleep(poll_seconds)
        return time.monotonic() - begin

    def said(self, name: str) -> str:
        """The end of what a server has printed."""
        return (self.home / f"{name}.out").read_text(errors="replace")[-500:].strip()

    def run(self, load: Load, *names: str) -> Answer:
        """A load at these servers, or at the leader. Raises LoadError where a command is refused."""
        return self.note(self.begin(load, *names).wait())

    def begin(self, load: Load, *names: str) -> Running:
        """The same without waiting for it: `note` its answer."""
        return Running(build(self.tools), load, [self.ports[name] for name in names or (self.leader(),)])

    def note(self, answer: Answer) -> Answer:
        """Remember what was acknowledged."""
        if answer.acknowledged:
            self.acknowledged[answer.run] = range(answer.acknowledged)
        return answer

    def fill(self, count: int, first: int = 0) -> None:
        """SET of `count` keys, once each, in large pipelines; at the end all servers have them."""
        self.run(Load("set", count=count, first=first, **FILL))
        self.settle()

    def rest(self) -> None:
        """Wait until the servers do next to nothing: what they put off while there is work is done as well."""
        self.wait_for("rest", self._is_at_rest, seconds_max=REST_SECONDS_MAX)

    def _is_at_rest(self) -> bool:
        begin, before = time.monotonic(), self._cpu_seconds()
        time.sleep(1.0)
        return self._cpu_seconds() - before < AT_REST_CORES_MAX * (time.monotonic() - begin)

    def _cpu_seconds(self) -> float:
        """What the servers' processes have taken so far, in user mode and in the kernel."""
        ticks = 0
        for process in self.processes.values():
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self, name: str) -> int:
        """What a server's process holds of memory: its share of what it shares (PSS), or RSS where that is not told."""
        process = Path(f"/proc/{self.processes[name].pid}")
        for file, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
            try:
                lines = (process / file).read_text().splitlines()
            except OSError:
                continue
            return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])
        raise NotReady(f"{self.label}: {name} does not tell its memory")

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True)
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
        """End all processes."""
        self.end(*list(self.processes))


def parse_fields(text: str) -> Mapping[str, str]:
    """The `name:value` lines of an INFO reply."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


def ask_line(port: int, command: str, timeout_s: float = 5.0) -> bytes:
    """The first line of the reply to an inline command, b"" where there is none: for one who waits for a server."""
    try:
        with socket.create_connection((HOST, port), timeout_s) as link:
            link.sendall(command.encode() + b"\r\n")
            return link.makefile("rb").readline()
    except OSError:
        return b""
