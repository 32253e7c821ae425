"""What a seed draws for one cluster: how it is made, and which faults it will meet (swarm testing)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

MIB = 1024 * 1024
ROUNDS_PER_CLUSTER = (3, 8)
KINDS_MIN = 3


@dataclass(frozen=True, slots=True)
class Options:
    number: int
    """Of the cluster in its run."""
    ids: str
    node: dict[str, int]
    """The options of `kvnode start`."""
    kinds: tuple[str, ...]
    """The faults that are on."""
    rounds: int
    pause_ms: float
    """Of the clients, on average."""

    def __str__(self) -> str:
        node = " ".join(f"{name}={value}" for name, value in self.node.items())
        return f"cluster {self.number}: {len(self.ids)} members, {node}; faults: {' '.join(self.kinds)}"

    @property
    def answer_s_max(self) -> float:
        """When a client gives up: the node's time, and what a busy machine may take."""
        return self.node["request_timeout_ms"] / 1000 + 5.0


def draw(seed: int, number: int, kinds: list[str], members: int | None = None) -> Options:
    """The options of the cluster `number` of a seed; `kinds` are all faults that there are."""
    random = Random(f"options {seed} {number}")
    pick = random.choice
    heartbeat_ms, election_ms = pick(((29, 271), (50, 250), (101, 521), (100, 500), (100, 1000)))
    node = {
        "heartbeat_ms": heartbeat_ms,
        "election_timeout_ms": election_ms,
        "election_timeout_max_ms": 2 * election_ms,
        "request_timeout_ms": pick((1000, 2500, 4000)),
        "segment_bytes": pick((4096, 16_384, 16_384, 65_536, MIB, 64 * MIB)),
        "batch_bytes_max": pick((1024, 16_384, MIB)),
        "catch_up_window_bytes": pick((1024, 65_536, 4 * MIB)),
        "scrub_pause_ms": pick((200, 1000, 3000)),
        "scrub_bytes_per_second": pick((100_000, 4 * MIB)),
        "trail_ms": pick((0, 20, 20, 200)),
    }
    ids = "ABCDE"[: members or pick((3, 3, 3, 5))]
    on = [kind for kind in kinds if random.random() < 0.5]
    off = [kind for kind in kinds if kind not in on]
    on += random.sample(off, min(len(off), max(0, KINDS_MIN - len(on))))
    return Options(number, ids, node, tuple(on), random.randint(*ROUNDS_PER_CLUSTER), pick((10.0, 20.0, 60.0)))
