"""Disks that fill up, stop and slow down at random, with links that are held and nodes that crash: every command is
answered once and truthfully, no read is older than what was acknowledged before it, and in the end all is well.

A failure names its seed; KVNODE_DISK_STORIES=n runs n seeds.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest

from tests.unit.node.small_cluster import Client, Host, led_by

SEEDS = int(os.environ.get("KVNODE_DISK_STORIES", "25"))
STEPS = 120
COUNTER = "count"


class Story:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.cluster = led_by(
            "A",
            self.random.choice(["ABC", "ABC", "ABCDE", "A"]),
            uncommitted_bytes_max=self.random.choice([1, 1 << 20]),
            request_timeout_ms=self.random.choice([1000, 4000]),
        )
        self.ids = list(self.cluster.hosts)
        self.writers: list[tuple[Client, list[str]]] = []  # with the keys of the replies that are due
        self.readers: list[tuple[Client, int]] = []  # with the least that they must see
        self.outcomes: list[tuple[str, Any]] = []
        self.acknowledged = 0

    def run(self) -> None:
        happenings, weights = zip(
            (self.fill, 1), (self.free, 2), (self.stop, 1), (self.restore, 2), (self.slow, 1), (self.hold, 1),
            (self.heal, 1), (self.crash, 0.3), (self.start, 1), (self.read, 2), (self.write, 6), strict=True,
        )  # fmt: skip
        for _ in range(STEPS):
            happening = self.random.choices(happenings, weights)[0]
            happening(self.cluster.hosts[self.random.choice(self.ids)])
            self.pass_time(self.random.choice([0, 1, 40, 200, 700]))

    def end_well(self) -> None:
        for host in self.cluster.hosts.values():
            self.start(host)
            self.restore(host)
            self.free(host)
        self.cluster.heal()
        self.pass_time(9000)

    def pass_time(self, ms: float) -> None:
        self.cluster.run(ms)
        for client, keys in self.writers:
            for reply in client.take():
                key = keys.pop(0)
                self.outcomes.append((key, reply))
                if key == COUNTER and isinstance(reply, int):
                    self.acknowledged = max(self.acknowledged, reply)
        for client, least in self.readers:
            for reply in client.take():
                assert isinstance(reply, str) or int(reply or 0) >= least, f"read {reply} after {least}"

    # What may happen

    def fill(self, host: Host) -> None:
        self.cluster.fill_disk(host.id, reserve=self.random.choice([0, 0, 2]))

    def free(self, host: Host) -> None:
        self.cluster.free_disk(host.id)

    def stop(self, host: Host) -> None:
        self.cluster.stop_disk(host.id)

    def slow(self, host: Host) -> None:
        self.cluster.slow_disk(self.random.choice([20, 300, 900, 2500]), host.id)

    def restore(self, host: Host) -> None:
        self.cluster.start_disk(host.id)
        self.cluster.slow_disk(0, host.id)

    def hold(self, host: Host) -> None:
        if len(self.ids) > 1:
            self.cluster.hold(f"{host.id}>{self.random.choice([id for id in self.ids if id != host.id])}")

    def heal(self, host: Host) -> None:
        self.cluster.heal()

    def crash(self, host: Host) -> None:
        up = [each for each in self.cluster.hosts.values() if each.node]
        if host in up and len(up) > len(self.ids) // 2 + 1:
            self.writers = [writer for writer in self.writers if writer[0].host is not host]
            self.cluster.crash(host.id)

    def start(self, host: Host) -> None:
        if not host.node:
            self.cluster.start(host.id)

    def read(self, host: Host) -> None:
        if host.node:
            self.readers.append((self.cluster.client(host.id).send(f"GET {COUNTER}"), self.acknowledged))

    def write(self, host: Host) -> None:
        if host.node:
            client = self.cluster.client(host.id)
            keys = [f"{client.id}-{host.id}-{i}" for i in range(self.random.choice([1, 3]))]
            client.send(*[f"SET {key} 1" for key in keys], f"INCR {COUNTER}")
            self.writers.append((client, [*keys, COUNTER]))

    # What must be true in the end

    def check(self) -> None:
        cluster = self.cluster
        assert [keys for _, keys in self.writers if keys] == [], "not all is answered"
        assert len(cluster.leaders) == 1
        counts = [reply for key, reply in self.outcomes if key == COUNTER and isinstance(reply, int)]
        assert len(set(counts)) == len(counts)
        for id in self.ids:
            assert int(cluster.client(id).ask(f"GET {COUNTER}") or 0) >= self.acknowledged
            for key, reply in self.outcomes:
                if key != COUNTER and not str(reply).startswith("-UNKNOWN"):
                    assert cluster.client(id).ask(f"EXISTS {key}") == (reply == b"OK"), f"{key} was answered {reply}"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost_and_nothing_untrue_is_said(seed: int) -> None:
    story = Story(seed)
    try:
        story.run()
        story.end_well()
        story.check()
    except Exception as error:
        error.add_note(f"seed {seed}: {story.cluster!r}")
        raise
