"""A Redis master and replicas, all with an AOF that is fsynced at every write and is not rewritten by itself.

A write is answered when the master alone has fsynced it: less than what kvnode promises. With `WAIT 1` after it, it is
at one replica too (which has received it, and may not have fsynced it).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.systems.processes import HOST, Servers, ask_line, free_ports, parse_fields
from kvnode.cli.ask import NoAnswer, ask


class Redis(Servers):
    """See the module."""

    label = "redis"
    write = "set-wait"

    def __init__(self, home: Path, tools: Path, replicas: int = 2) -> None:
        super().__init__(home, tools)
        self.names = ("master", *(f"replica{number}" for number in range(1, replicas + 1)))
        self.ports = dict(zip(self.names, free_ports(len(self.names)), strict=True))

    def command(self, name: str) -> list[str]:
        home = self.home / name
        home.mkdir(exist_ok=True)
        command = ["redis-server", "--port", str(self.ports[name]), "--bind", HOST, "--dir", str(home), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
        command += ["--repl-diskless-sync-delay", "0"]
        return command if name == "master" else [*command, "--replicaof", HOST, str(self.ports["master"])]

    def start(self) -> None:
        for name in self.names:
            self.launch(name)
        self.wait_for("master", lambda: ask_line(self.ports["master"], "PING") == b"+PONG\r\n")
        self.settle()

    def settle(self) -> None:
        """All running replicas have what the master has, and no AOF is rewritten, as is done after a transfer."""
        self.wait_for("settled replicas", lambda: all(self._is_settled(name) for name in self.processes))

    def _is_settled(self, name: str) -> bool:
        told = self.info(name, "persistence")
        is_idle = told.get("aof_rewrite_in_progress") == told.get("aof_rewrite_scheduled") == "0"
        return is_idle and (name == "master" or self.is_current(name))

    def leader(self) -> str:
        return "master"

    def info(self, name: str, section: str = "replication") -> Mapping[str, str]:
        """A section of INFO; nothing of a server that does not answer."""
        try:
            return parse_fields(ask(HOST, self.ports[name], f"INFO {section}", 5.0))
        except NoAnswer:
            return {}

    def is_current(self, replica: str) -> bool:
        """Whether a replica has all that the master has."""
        told, master = self.info(replica), self.info("master")
        is_linked = told.get("master_link_status") == "up" and told.get("loading", "0") == "0"
        return is_linked and told.get("slave_repl_offset") == master.get("master_repl_offset")

    def rewrite(self) -> None:
        """Rewrite the AOF of the master: its base is then an RDB file, which loads faster than commands."""
        ask(HOST, self.ports["master"], "BGREWRITEAOF", 5.0)
        self.settle()
