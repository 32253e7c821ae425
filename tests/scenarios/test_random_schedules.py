"""Random schedules: messages late, lost, twice and in any order, slow and full disks, crashes, broken links. Nothing
promised is ever broken (promises.py), and when all is well again the members come to agree.

A failure names its seed and shows the last events; KVNODE_SCHEDULES=n runs n seeds.
"""

from __future__ import annotations

import os
from functools import partial
from random import Random

import pytest

from kvnode.raft import Options, Raft
from kvnode.raft.follower import Follower
from tests.scenarios.cluster import Cluster, FixedRandom, Member
from tests.scenarios.promises import BrokenPromise

SEEDS = int(os.environ.get("KVNODE_SCHEDULES", "60"))
STEPS = 400
LETTERS_MAX = 60


class Schedule:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        count = self.random.choice([3, 3, 3, 4, 5])
        options = Options(
            window_bytes=self.random.choice([300, 10_000]),
            chunk_bytes=self.random.choice([100, 1_000]),
            trail_ms=self.random.choice([0, 20]),
        )
        self.cluster = Cluster("ABCDE"[:count], options)
        self.steps = [
            (self.deliver_any, 40),
            (self.deliver_next, 25),
            (self.pass_time, 14),
            (self.propose, 10),
            (self.finish_deed, 10),
            (self.read, 5),
            (self.drop, 3),
            (self.duplicate, 3),
            (self.hold_disk, 2),
            (self.release_disk, 2),
            (self.fill_disk, 1),
            (self.free_disk, 1.5),
            (self.start, 3),
            (self.crash, 1),
            (self.cut_link, 1),
            (self.join_link, 2),
            (self.part, 1.5),
            (self.unite, 1),
            (self.transfer, 0.5),
            (self.step_down, 0.1),
        ]

    def run(self) -> None:
        for member in self.cluster.members:
            self.cluster.start(member)
        happenings, weights = zip(*self.steps, strict=True)
        for _ in range(STEPS):
            self.random.choices(happenings, weights)[0]()

    def heal(self) -> None:
        """All run, all disks work, all links are up; in ten seconds they agree."""
        cluster = self.cluster
        self.unite()
        for member in cluster.members.values():
            self._release(member)
            if member.is_running:
                cluster.set_room(member.id, None)
            else:
                cluster.start(member.id)
        for one in cluster.members:
            for other in cluster.members:
                if one < other and other not in cluster.members[one].raft.links:
                    cluster.link(one, other, up=True)
        cluster.run(cluster.now_ms + 10_000)
        leaders = [member for member in cluster.members.values() if member.raft.leading]
        assert len(leaders) == 1, f"not one leader: {self.states()}"
        log = leaders[0].records
        for member in cluster.members.values():
            assert member.records == log, f"{member.id} has another log: {self.states()}"
            assert member.disk.records == log, f"{member.id} has something else on its disk: {self.states()}"
            assert member.raft.commit_seq == log[-1].last_seq, f"{member.id} does not commit all: {self.states()}"

    def states(self) -> str:
        return "; ".join(repr(member.raft) for member in self.cluster.members.values())

    # What may happen

    def _running(self) -> list[Member]:
        return [member for member in self.cluster.members.values() if member.is_running]

    def deliver_any(self) -> None:
        if network := self.cluster.network:
            self.cluster.deliver(network.pop(self.random.randrange(len(network))))

    def deliver_next(self) -> None:
        if network := self.cluster.network:
            del network[:-LETTERS_MAX]
            self.cluster.deliver(network.pop(0))

    def drop(self) -> None:
        if network := self.cluster.network:
            network.pop(self.random.randrange(len(network)))

    def duplicate(self) -> None:
        if network := self.cluster.network:
            network.append(self.random.choice(network))

    def pass_time(self) -> None:
        self.cluster.now_ms += self.random.choice([1, 5, 40, 100, 300, 600])
        for member in self._running():
            if member.raft.deadline_ms() <= self.cluster.now_ms:
                raft_random = member.raft.random
                assert isinstance(raft_random, FixedRandom)
                raft_random.share = self.random.random()
                self.cluster.tick(member.id)

    def propose(self) -> None:
        for member in self._running():
            if member.raft.leading and not member.raft.leading.is_handing_over:
                record = self.cluster.next_record(member, self.random.choice([1, 1, 3]))
                self.cluster.event(member.id, partial(Raft.propose, record=record))

    def read(self) -> None:
        for member in self._running():
            self.cluster.event(member.id, partial(self._ask, member))

    def _ask(self, member: Member, raft: Raft) -> None:
        ticket = raft.read()
        if ticket is not None:
            self.cluster.promises.on_read(member.id, ticket)

    def transfer(self) -> None:
        why = self.random.choice([{}, {}, {"for_room": True}, {"for_speed": True}])
        for member in self._running():
            self.cluster.event(member.id, lambda raft: raft.transfer(**why))

    def step_down(self) -> None:
        for member in self._running():
            if member.raft.leading:
                self.cluster.event(member.id, Raft.step_down)

    def hold_disk(self) -> None:
        if running := self._running():
            member = self.random.choice(running)
            member.disk.is_held = True
            member.raft.is_disk_stalled = self.random.random() < 0.5

    def fill_disk(self) -> None:
        if running := self._running():
            self.cluster.set_room(self.random.choice(running).id, self.random.choice([0, 0, 1, 3]))

    def free_disk(self) -> None:
        if running := self._running():
            self.cluster.set_room(self.random.choice(running).id, None)

    def finish_deed(self) -> None:
        waiting = [member for member in self._running() if member.disk.next_deed() is not None]
        if waiting:
            self.cluster.finish_deed(self.random.choice(waiting).id)

    def release_disk(self) -> None:
        if running := self._running():
            self._release(self.random.choice(running))

    def _release(self, member: Member) -> None:
        while member.disk.next_deed() is not None:
            self.cluster.finish_deed(member.id)
        member.disk.is_held = member.raft.is_disk_stalled = False

    def crash(self) -> None:
        if running := self._running():
            member = self.random.choice(running)
            for _ in range(self.random.randrange(len(member.disk.queue) + 1)):
                if member.disk.next_deed() is not None:
                    self.cluster.finish_deed(member.id, unseen=True)
            self.cluster.crash(member.id)

    def start(self) -> None:
        down = [member for member in self.cluster.members.values() if not member.is_running]
        if down:
            self.cluster.start(self.random.choice(down).id)

    def _pair(self) -> tuple[str, str]:
        one, other = self.random.sample(list(self.cluster.members), 2)
        return one, other

    def cut_link(self) -> None:
        self.cluster.link(*self._pair(), up=False)

    def part(self) -> None:
        """Two groups do not hear each other; they notice nothing of it but silence."""
        here = {member for member in self.cluster.members if self.random.random() < 0.4}
        self.cluster.cut_pairs = {
            (one, other)
            for one in self.cluster.members
            for other in self.cluster.members
            if (one in here) != (other in here)
        }

    def unite(self) -> None:
        self.cluster.cut_pairs = set()

    def join_link(self) -> None:
        one, other = self._pair()
        if self.cluster.members[one].is_running and self.cluster.members[other].is_running:
            self.cluster.link(one, other, up=True)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_schedule(seed: int) -> None:
    schedule = Schedule(seed)
    try:
        schedule.run()
        schedule.heal()
    except Exception as error:
        error.add_note(f"seed {seed}; the last events:\n" + "\n".join(schedule.cluster.trace[-40:]))
        raise


def run_all() -> None:
    for seed in range(SEEDS):
        Schedule(seed).run()


LIES = {
    "acknowledges what is not durable": (Follower, "acknowledged_seq", property(lambda follower: follower.matched_seq)),
    "votes for shorter logs": (Raft, "_is_up_to_date", lambda raft, last_seq, last_term: True),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_core_that_lies_is_caught(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the schedules and the promises were worth nothing."""
    monkeypatch.setattr(*LIES[lie])
    with pytest.raises(BrokenPromise):
        run_all()
