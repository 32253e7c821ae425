"""What a seed draws: how the world is, which faults are on, and how small the node's limits are (swarm testing).

Every choice is made from the seed alone and printed with a failure, so that a run can be repeated exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from random import Random

from kvnode.node import applying, following, leading, node, reads, tail
from kvnode.raft import Options as RaftOptions

DAMAGE_NONE = 1e18
"""A mean time between faults that never comes."""


@dataclass(frozen=True, slots=True)
class Options:
    """Times in virtual milliseconds; `…_every_ms` is the mean time between two faults of a kind."""

    seed: int
    members: int
    # the world
    network_ms: float
    network_jitter_ms: float
    disk_ms: float
    disk_stall_chance: float
    frames_lost_chance: float
    frames_repeated_chance: float
    frames_reordered_chance: float
    # the faults
    crash_every_ms: float
    restarts_quickly: bool
    pause_every_ms: float
    partition_every_ms: float
    break_every_ms: float
    stop_every_ms: float
    clock_every_ms: float
    wipe_every_ms: float
    rot_every_ms: float
    disk_failure_every_ms: float
    fill_every_ms: float
    # the load
    safety_ms: float
    clients: int
    pipeline: int
    think_ms: float
    requests_max: int
    flushes: bool
    # the node's limits
    heartbeat_ms: int
    election_ms: int
    segment_bytes: int
    reserve_bytes: int
    batch_bytes_max: int
    uncommitted_bytes_max: int
    window_bytes: int
    chunk_bytes: int
    tail_bytes_max: int
    forward_bytes_max: int
    reply_bytes_max: int
    session_queue_bytes_max: int
    records_in_flight_max: int
    commands_per_turn: int
    entries_per_turn: int
    scrub_pause_ms: int
    # faults that came later: drawn last, so that older seeds draw what they drew
    forge_every_ms: float
    clock_drift: float
    """The monotonic clock of a member is wrong by up to this share, and begins anywhere."""
    trail_ms: int

    def __str__(self) -> str:
        return " ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While it lasts the limits of the node, which are constants of its modules, are what was drawn."""
        reply_bytes_max = self.reply_bytes_max
        limits = (
            (tail, "TAIL_BYTES_MAX", self.tail_bytes_max),
            (following, "FORWARD_BYTES_MAX", self.forward_bytes_max),
            (reads, "REPLY_BYTES_MAX", reply_bytes_max),
            (leading, "REPLY_BYTES_MAX", reply_bytes_max),
            (node, "REPLY_BYTES_MAX", reply_bytes_max),
            (node, "SESSION_QUEUE_BYTES_MAX", self.session_queue_bytes_max),
            (node, "COMMANDS_PER_TURN", self.commands_per_turn),
            (leading, "RECORDS_IN_FLIGHT_MAX", self.records_in_flight_max),
            (applying, "ENTRIES_PER_TURN", self.entries_per_turn),
        )
        before = [(place, name, getattr(place, name)) for place, name, _ in limits]
        try:
            for place, name, value in limits:
                setattr(place, name, value)
            yield
        finally:
            for place, name, value in before:
                setattr(place, name, value)

    def raft_options(self, options: RaftOptions) -> RaftOptions:
        from dataclasses import replace

        return replace(options, chunk_bytes=self.chunk_bytes)


def draw(seed: int) -> Options:
    """The options of a seed."""
    random = Random(f"options {seed}")
    pick = random.choice
    election_ms = pick((250, 500, 500, 1000))
    return Options(
        seed=seed,
        members=pick((1, 3, 3, 3, 3, 5, 5)),
        network_ms=pick((0.1, 0.5, 2, 10, 30)),
        network_jitter_ms=pick((0.1, 1, 5, 20)),
        disk_ms=pick((0.2, 1, 5, 20, 60)),
        disk_stall_chance=pick((0, 0, 0.002, 0.02)),
        frames_lost_chance=pick((0, 0, 0.01, 0.1)),
        frames_repeated_chance=pick((0, 0, 0.02, 0.2)),
        frames_reordered_chance=pick((0, 0, 0.02, 0.2)),
        crash_every_ms=pick((DAMAGE_NONE, 500, 1000, 2500, 5000)),
        restarts_quickly=random.random() < 0.3,
        pause_every_ms=pick((DAMAGE_NONE, DAMAGE_NONE, 1000, 4000)),
        partition_every_ms=pick((DAMAGE_NONE, 700, 2000, 5000)),
        break_every_ms=pick((DAMAGE_NONE, 200, 800, 3000)),
        stop_every_ms=pick((DAMAGE_NONE, DAMAGE_NONE, 2000, 5000)),
        clock_every_ms=pick((DAMAGE_NONE, 1000)),
        wipe_every_ms=pick((DAMAGE_NONE, DAMAGE_NONE, 3000)),
        rot_every_ms=pick((DAMAGE_NONE, DAMAGE_NONE, 1000, 3000)),
        disk_failure_every_ms=pick((DAMAGE_NONE, DAMAGE_NONE, 3000)),
        fill_every_ms=pick((DAMAGE_NONE, DAMAGE_NONE, 2500)),
        safety_ms=pick((3000, 5000, 8000)),
        clients=pick((2, 4, 8)),
        pipeline=pick((1, 4, 12)),
        think_ms=pick((5, 20, 80)),
        requests_max=pick((30, 80, 160)),
        flushes=random.random() < 0.15,
        heartbeat_ms=election_ms // pick((5, 10)),
        election_ms=election_ms,
        segment_bytes=pick((4096, 4096, 16384, 1 << 20)),
        reserve_bytes=pick((0, 4096, 20_000)),
        batch_bytes_max=pick((1024, 1024, 1 << 20)),
        uncommitted_bytes_max=pick((2048, 20_000, 64 << 20)),
        window_bytes=pick((1024, 8192, 4 << 20)),
        chunk_bytes=pick((200, 2000, 256 * 1024)),
        tail_bytes_max=pick((0, 300, 3000, 8 << 20)),
        forward_bytes_max=pick((100, 1 << 20)),
        reply_bytes_max=pick((50, 1000, 1 << 20)),
        session_queue_bytes_max=pick((200, 1 << 20)),
        records_in_flight_max=pick((1, 1, 2, 4)),
        commands_per_turn=pick((1, 3, 20, 5000, 5000)),
        entries_per_turn=pick((3, 50, 20_000)),
        scrub_pause_ms=pick((200, 1000, 3_600_000)),
        forge_every_ms=pick((DAMAGE_NONE, DAMAGE_NONE, 3000)),
        clock_drift=pick((0, 0, 0.01, 0.05)),
        trail_ms=pick((0, 20, 20, 200)),
    )
