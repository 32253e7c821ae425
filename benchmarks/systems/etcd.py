"""Three members of etcd with their defaults, asked over gRPC (benchmarks/load/etcd.c), at the leader.

Clients share connections, as those of gRPC do: that makes etcd 15 percent faster than a connection for each.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.load import Load, Running
from benchmarks.systems.processes import HOST, Servers, free_ports

CLIENTS_PER_CONNECTION = 5


class Etcd(Servers):
    """See the module."""

    label = "etcd"
    write = "put"

    def __init__(self, home: Path, tools: Path) -> None:
        super().__init__(home, tools)
        ports = free_ports(6)
        self.ports = dict(zip(self.names, ports, strict=False))
        self._peers = dict(zip(self.names, ports[3:], strict=True))

    def command(self, name: str) -> list[str]:
        client, peer = (f"http://{HOST}:{ports[name]}" for ports in (self.ports, self._peers))
        members = ",".join(f"{other}=http://{HOST}:{port}" for other, port in self._peers.items())
        command = ["etcd", "--name", name, "--data-dir", str(self.home / name), "--log-level", "error"]
        command += ["--logger", "zap", "--initial-cluster", members, "--initial-cluster-state", "new"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        return [*command, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]

    def start(self) -> None:
        for name in self.names:
            self.launch(name)
        self.leader()

    def leader(self) -> str:
        found: list[str] = []

        def is_found() -> bool:
            told = {name: self._status(name) for name in self.names}
            found[:] = [
                name
                for name, status in told.items()
                if status and status["header"]["member_id"] == status.get("leader")
            ]
            return bool(found) and all(told.values())

        self.wait_for("leader", is_found)
        return found[0]

    def begin(self, load: Load, *names: str) -> Running:
        shared = min(load.clients, CLIENTS_PER_CONNECTION)
        return super().begin(replace(load, clients=load.clients // shared, pipeline=load.pipeline * shared), *names)

    def _status(self, name: str) -> dict[str, Any]:
        url = f"http://{HOST}:{self.ports[name]}/v3/maintenance/status"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=5) as answer:
                told: dict[str, Any] = json.load(answer)
                return told
        except (urllib.error.URLError, OSError, ValueError):
            return {}
