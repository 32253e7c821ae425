"""A Redis master with two replicas behind the same proxies, and a client of theirs. AOF, fsync always.

Who is master is for the harness to say, as Sentinel would: it promotes the replica that has come furthest, lets the
others follow it, and tells the clients, near the old master later than the others.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.checker.models import words
from tests.checker.workloads import Request
from tests.cluster.harness import HOST, Cluster, Info, eventually, parse_info
from tests.torture.libraries import NoAnswer, NotSent
from tests.torture.links import Links

PROGRAM = "redis-server"
OPTIONS = {
    "bind": HOST,
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "repl-diskless-sync-delay": 0,
    "loglevel": "notice",
}
NEAR, FAR = "near", "far"


def is_installed() -> bool:
    return shutil.which(PROGRAM) is not None


class RedisCluster(Cluster):
    def __init__(self, directory: Path, seed: int, ids: str = "ABC") -> None:
        super().__init__(directory, ids)
        self.links = Links(self.client_ports, seed, is_framed=False)
        self.masters: Mapping[str, str] = {NEAR: self.ids[0], FAR: self.ids[0]}
        """Whom the clients of each side take for the master."""

    def command(self, id: str, **options: object) -> list[str]:
        merged = {"port": self.client_ports[id], "dir": self.data(id), **OPTIONS, **options}
        return [PROGRAM, *(text for name, value in merged.items() for text in ("--" + name, str(value)))]

    def launch(self, *ids: str, **options: object) -> None:
        for id in ids:
            self.data(id).mkdir(exist_ok=True)
        super().launch(*ids, **options)

    def info(self, id: str, section: str = "replication") -> Info:
        text: Any = self._probe(id).execute_command("INFO", section)
        info = parse_info(text.decode())
        return {**info, "node": id, "role": "leader" if info["role"] == "master" else "follower", "term": 0}

    def begin(self) -> None:
        """The first one is the master of all."""
        self.start()
        self.lead(self.ids[0])

    def lead(self, master: str) -> None:
        """It is the master from now on, and all others that run follow it; returns when they do."""
        self.promote(master)
        for id in self.running:
            if id != master:
                self.follow(id, master)
        self.wait_for_replicas(master)

    def promote(self, id: str) -> None:
        self._ask(id, "REPLICAOF", "NO", "ONE")

    def follow(self, id: str, master: str) -> None:
        self._ask(id, "REPLICAOF", HOST, str(self.links.ports[id, master]))

    def wait_for_replicas(self, master: str) -> None:
        def all_follow() -> bool:
            others = [self.info(id) for id in self.running if id != master]
            reached = self.info(master)["master_repl_offset"]
            return all(
                info.get("master_link_status") == "up" and info.get("slave_repl_offset", -1) >= reached
                for info in others
                if info["master_port"] in self.links.ports.values()
            )

        eventually(all_follow, f"all follow {master}", 30)

    def best_replica(self, *candidates: str) -> str:
        return max(candidates, key=lambda id: int(self.info(id).get("slave_repl_offset", -1)))

    def _ask(self, id: str, *command: str) -> Any:
        return self._probe(id).execute_command(*command)

    def read(self, id: str, key: bytes) -> bytes | None:
        value: bytes | None = self._probe(id).execute_command("GET", key)
        return value

    def close(self) -> None:
        super().close()
        self.links.close()


class RedisClient:
    """Redis, by redis-py: see tests/torture/libraries.py. It asks whom its side takes for the master."""

    node = ""

    def __init__(self, cluster: RedisCluster, side: str, answer_s_max: float) -> None:
        self._cluster = cluster
        self._side = side
        self._master = ""
        self._answer_s_max = answer_s_max
        self._client: Any = None

    def __repr__(self) -> str:
        return f"{self._side} client of Redis {self._master}"

    def prepare(self) -> None:
        master = self._cluster.masters[self._side]
        if self._client is None or master != self._master:
            self.close()
            host, port = self._cluster.address(master)
            retry = Retry(NoBackoff(), 0)
            self._client = redis.Redis(host=host, port=port, retry=retry, socket_timeout=self._answer_s_max)
            self._client.response_callbacks.clear()
            self._master = master
        try:
            self._client.ping()
        except redis.RedisError as error:
            raise NotSent(str(error)) from error

    def ask(self, request: Request) -> tuple[Any, int | None]:
        try:
            return self._client.execute_command(*words(*request)), None
        except (redis.ResponseError, redis.BusyLoadingError) as error:  # READONLY, LOADING
            raise NotSent(str(error)) from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise NoAnswer(str(error)) from error

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client.connection_pool.disconnect()
            self._client = None
