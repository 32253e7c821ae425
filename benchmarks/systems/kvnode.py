"""Three nodes of kvnode with the default configuration, as they are installed: compiled where there is a compiler."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.proof import Proof, prove
from benchmarks.systems.processes import HOST, Servers, free_ports, parse_fields
from kvnode.cli.ask import NoAnswer, ask


class Kvnode(Servers):
    """See the module."""

    label = "kvnode"

    def __init__(self, home: Path, tools: Path) -> None:
        super().__init__(home, tools)
        ports = free_ports(6)
        self.ports = dict(zip(self.names, ports, strict=False))
        addresses = zip(self.names, ports[:3], ports[3:], strict=True)
        self.cluster = ",".join(f"{name}={HOST}:{port}/{peer_port}" for name, port, peer_port in addresses)

    def command(self, name: str) -> list[str]:
        # The working directory is not the repository, so that this is the installed package, not its source.
        run = [sys.executable, "-m", "kvnode", "start", "--id", name, "--cluster", self.cluster]
        return [*run, "--data", str(self.data(name)), "--log-level", "warning"]

    def data(self, name: str) -> Path:
        """A node's data directory."""
        return self.home / name

    def start(self) -> None:
        for name in self.names:
            self.launch(name)
        self.settle()

    def settle(self) -> None:
        """All running nodes may vote, and have applied all that the leader has."""
        self.wait_for("cluster with one log", self._is_settled)

    def _is_settled(self) -> bool:
        told = [self.info(name) for name in self.processes]
        ends = {fields.get("applied_seq") for fields in told} | {fields.get("last_seq") for fields in told}
        return len(ends) == 1 and None not in ends and all(fields["may_vote"] == "1" for fields in told)

    def info(self, name: str, section: str = "raft") -> Mapping[str, str]:
        """A section of INFO; nothing of a node that does not answer, or still loads."""
        try:
            return parse_fields(ask(HOST, self.ports[name], f"INFO {section}", 5.0))
        except NoAnswer:
            return {}

    def leader(self) -> str:
        found: list[str] = []

        def is_found() -> bool:
            found[:] = [name for name in self.processes if self.info(name).get("role") == "leader"]
            return bool(found)

        self.wait_for("leader", is_found)
        return found[0]

    def followers(self) -> list[str]:
        """The running nodes that do not lead."""
        leader = self.leader()
        return [name for name in self.processes if name != leader]

    def prove(self) -> Proof:
        """Kill all nodes, and look for all that was acknowledged in what they left. Raises LostWrites."""
        self.end(*list(self.processes), number=signal.SIGKILL)
        return prove([self.data(name) for name in self.names], self.acknowledged)
