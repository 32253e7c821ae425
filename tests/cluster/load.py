"""Clients that write all the time and remember, for each write, what they were told.

acknowledged   answered OK: must be there, for ever
unknown        -UNKNOWN, or the connection ended before the answer: may be there
refused        -CLUSTERDOWN, -LOADING or -MISCONF: must never be there
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis

from tests.cluster.harness import POLL_S, Cluster, eventually

CERTAINLY_NOT = ("CLUSTERDOWN", "LOADING", "MISCONF")


def code_of(error: BaseException) -> str:
    """The first word of an error reply. redis-py takes it off where it has a class for it."""
    if isinstance(error, redis.exceptions.ClusterDownError):
        return "CLUSTERDOWN"
    if isinstance(error, redis.BusyLoadingError):
        return "LOADING"
    return str(error).partition(" ")[0] if isinstance(error, redis.ResponseError) else ""


@dataclass(slots=True)
class Told:
    """What the clients were told about each write, and when the acknowledged ones were: (monotonic s, write)."""

    acknowledged: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, Any] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    cut_off: int = 0
    """Connections that ended with writes under way."""
    longest_s: float = 0.0
    """The longest that a write waited for an answer."""
    faults: list[BaseException] = field(default_factory=list)

    def take(self, key: str, value: object, error: BaseException | None) -> None:
        if error is None:
            self.acknowledged[key] = value
            self.times.append(time.monotonic())
        elif code_of(error) in CERTAINLY_NOT:
            self.refused[key] = value
        elif code_of(error) == "UNKNOWN":
            self.unknown[key] = value
        elif isinstance(error, redis.ConnectionError | redis.TimeoutError):
            self.unknown[key] = value
            self.cut_off += 1
        else:
            self.faults.append(error)

    def check(self, client: redis.Redis) -> None:
        """Ask for every write: the acknowledged ones are there, the refused ones are not, the others may be."""
        assert not self.faults, self.faults[0]
        keys = [*self.acknowledged, *self.refused]
        found: dict[str, Any] = {}
        for start in range(0, len(keys), 1000):
            part = keys[start : start + 1000]
            found.update(zip(part, client.mget(part), strict=True))
        lost = [key for key, value in self.acknowledged.items() if found[key] != str(value).encode()]
        assert not lost, f"{len(lost)} of {len(self.acknowledged)} acknowledged writes are lost: {lost[:5]}"
        applied = [key for key in self.refused if found[key] is not None]
        assert not applied, f"{len(applied)} of {len(self.refused)} refused writes were applied: {applied[:5]}"


class Writer:
    """One client in one thread: SET of a new key, or a pipeline of them, again and again until `stop`."""

    def __init__(
        self, cluster: Cluster, id: str, prefix: str, told: Told, pipeline: int, value_bytes: int, pause_ms: int
    ) -> None:
        self.told = told
        self._cluster, self._id = cluster, id
        self._prefix, self._pipeline, self._value_bytes = prefix, pipeline, value_bytes
        self._pause_s = pause_ms / 1000
        self._ends = threading.Event()
        self._number = 0
        self._thread = threading.Thread(target=self._run, name=f"writer {prefix}")
        self._thread.start()

    def stop(self) -> None:
        self._ends.set()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive(), f"a write hangs at {self._id}"

    def _run(self) -> None:
        client = self._cluster.client(self._id)
        try:
            self._write(client)  # one at least, however soon it is told to stop
            while not self._ends.wait(self._pause_s):
                self._write(client)
        except BaseException as error:
            self.told.faults.append(error)

    def _write(self, client: redis.Redis) -> None:
        batch: dict[str, Any] = {}
        for _ in range(self._pipeline):
            self._number += 1
            batch[f"{self._prefix}:{self._number}"] = str(self._number).rjust(self._value_bytes, ".")
        try:
            client.ping()  # connects: what is cut off from here on had been sent
        except (redis.ConnectionError, redis.TimeoutError):
            self._ends.wait(POLL_S)
            return
        began = time.monotonic()
        for (key, value), error in zip(batch.items(), self._send(client, batch), strict=True):
            self.told.take(key, value, error)
        self.told.longest_s = max(self.told.longest_s, time.monotonic() - began)

    def _send(self, client: redis.Redis, batch: dict[str, Any]) -> list[BaseException | None]:
        pipeline = client.pipeline(transaction=False)
        for key, value in batch.items():
            pipeline.set(key, value)
        try:
            answers = pipeline.execute(raise_on_error=False)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            return [error] * len(batch)
        return [answer if isinstance(answer, BaseException) else None for answer in answers]


class Load:
    """Several writers at once, and what they were told."""

    def __init__(self, cluster: Cluster, prefix: str, ids: tuple[str, ...], clients: int, **options: int) -> None:
        settings = {"pipeline": 1, "value_bytes": 0, "pause_ms": 0, **options}
        self._told = [Told() for _ in range(clients * len(ids))]
        self._writers = [
            Writer(cluster, id, f"{prefix}{number}", told, **settings)
            for number, (id, told) in enumerate(zip(ids * clients, self._told, strict=True))
        ]

    @property
    def count(self) -> int:
        """Acknowledged writes so far."""
        return sum(len(told.acknowledged) for told in self._told)

    def last_s(self) -> float:
        """When the last write was acknowledged."""
        return max((told.times[-1] for told in self._told if told.times), default=0.0)

    def wait_for(self, more: int, timeout_s: float = 20.0) -> None:
        """Wait until so many more writes are acknowledged."""
        until = self.count + more

        def enough() -> bool:
            faults = [fault for told in self._told for fault in told.faults]
            if faults:
                raise AssertionError("a writer failed") from faults[0]
            return self.count >= until

        try:
            eventually(enough, f"{more} more writes are acknowledged", timeout_s)
        except AssertionError as error:
            error.add_note(f"{self.count - until + more} are, {self}")
            raise

    def __repr__(self) -> str:
        sums = {name: sum(len(getattr(told, name)) for told in self._told) for name in ("unknown", "refused")}
        return f"Load acknowledged={self.count} {sums} cut_off={sum(told.cut_off for told in self._told)}"

    def stop(self) -> Told:
        """Let all writers end after their present write, and put together what they were told."""
        for writer in self._writers:
            writer.stop()
        for writer in self._writers:
            writer.join()
        total = Told()
        for told in self._told:
            total.acknowledged |= told.acknowledged
            total.unknown |= told.unknown
            total.refused |= told.refused
            total.times += told.times
            total.faults += told.faults
            total.cut_off += told.cut_off
            total.longest_s = max(total.longest_s, told.longest_s)
        total.times.sort()
        return total


@contextmanager
def load(cluster: Cluster, prefix: str, *ids: str, clients: int = 2, **options: int) -> Iterator[Load]:
    """Writers at each of the nodes (all), `clients` at each; they are stopped in any case."""
    running = Load(cluster, prefix, ids or cluster.ids, clients, **options)
    try:
        yield running
    finally:
        running.stop()
