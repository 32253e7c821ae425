"""Three members of etcd behind the same proxies, and a client: its JSON gateway over HTTP, with linearizable reads.

They know each other by one address each, so that all dial a member at the same port; who it was that dialed, the
proxies look up.
"""

from __future__ import annotations

import base64
import http.client
import json
import shutil
from pathlib import Path
from typing import Any

from tests.checker.workloads import Request
from tests.cluster.harness import HOST, Cluster, Info, eventually
from tests.torture.clients import Address
from tests.torture.libraries import NoAnswer, NotSent
from tests.torture.links import Links

PROGRAM = "etcd"
HEARTBEAT_MS = 50
ELECTION_MS = 500
STATUS_S = 2.0
LEADER_S = 30.0


def is_installed() -> bool:
    return shutil.which(PROGRAM) is not None


def post(connection: http.client.HTTPConnection, path: str, **fields: Any) -> dict[str, Any]:
    """The answer to a call of the gateway. Raises OSError, HTTPException, or NoAnswer with what it says."""
    connection.request("POST", path, json.dumps(fields), {"Content-Type": "application/json"})
    response = connection.getresponse()
    body = response.read()
    if response.status != http.client.OK:
        raise NoAnswer(f"{response.status} {body.decode(errors='replace')}")
    answer: dict[str, Any] = json.loads(body)
    return answer


class EtcdCluster(Cluster):
    def __init__(self, directory: Path, seed: int, ids: str = "ABC") -> None:
        super().__init__(directory, ids)
        self.links = Links(self.peer_ports, seed, is_framed=False, is_named=False)

    def command(self, id: str, **options: object) -> list[str]:
        peers = {other: f"http://{HOST}:{self.links.ports['', other]}" for other in self.ids}
        clients = f"http://{HOST}:{self.client_ports[id]}"
        merged = {
            "name": id,
            "data-dir": self.data(id),
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            "listen-peer-urls": f"http://{HOST}:{self.peer_ports[id]}",
            "initial-advertise-peer-urls": peers[id],
            "initial-cluster": ",".join(f"{other}={url}" for other, url in peers.items()),
            "initial-cluster-token": self.directory.name,
            "heartbeat-interval": HEARTBEAT_MS,
            "election-timeout": ELECTION_MS,
            "logger": "zap",
            "log-level": "error",
            **options,
        }
        return [PROGRAM, *(f"--{name}={value}" for name, value in merged.items())]

    def launch(self, *ids: str, **options: object) -> None:
        super().launch(*ids, **options)
        self.links.processes({id: self.pid(id) for id in self.running})

    def info(self, id: str, section: str = "") -> Info:
        connection = http.client.HTTPConnection(*self.address(id), timeout=STATUS_S)
        try:
            status = post(connection, "/v3/maintenance/status")
        finally:
            connection.close()
        leads = status.get("leader", "0") == status["header"]["member_id"]
        return {"node": id, "role": "leader" if leads else "follower", "term": int(status.get("raftTerm", 0))}

    def maybe_info(self, id: str) -> Info | None:
        try:
            return self.info(id)
        except (OSError, http.client.HTTPException, NoAnswer):
            return None

    def maybe_leader(self) -> str | None:
        infos = [self.maybe_info(id) for id in self.running]
        return next((str(info["node"]) for info in infos if info and info["role"] == "leader"), None)

    def read(self, id: str, key: bytes) -> bytes | None:
        """What this member answers in the end."""
        client = EtcdClient(id, self.address(id), LEADER_S)

        def answer() -> tuple[bytes | None] | None:
            try:
                client.prepare()
                return (client.ask(Request("GET", key))[0],)
            except (NoAnswer, NotSent):
                client.close()
                return None

        try:
            return eventually(answer, f"{id} answers", LEADER_S)[0]  # type: ignore[index]
        finally:
            client.close()

    def close(self) -> None:
        super().close()
        self.links.close()


class EtcdClient:
    """SET and GET as calls of a library: see tests/torture/libraries.py."""

    def __init__(self, node: str, address: Address, answer_s_max: float) -> None:
        self.node = ""  # etcd gives up by itself later than we do
        self._connection = http.client.HTTPConnection(*address, timeout=answer_s_max)
        self._name = node

    def __repr__(self) -> str:
        return f"client of etcd {self._name}"

    def prepare(self) -> None:
        try:
            if self._connection.sock is None:
                self._connection.connect()
        except OSError as error:
            raise NotSent(str(error)) from error

    def ask(self, request: Request) -> tuple[Any, int | None]:
        key = base64.b64encode(request.key).decode()
        try:
            if request.kind == "SET":
                post(self._connection, "/v3/kv/put", key=key, value=base64.b64encode(request.argument).decode())
                return b"OK", None
            values = post(self._connection, "/v3/kv/range", key=key).get("kvs", [])
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(str(error)) from error
        return (base64.b64decode(values[0].get("value", "")) if values else None), None

    def close(self) -> None:
        self._connection.close()
