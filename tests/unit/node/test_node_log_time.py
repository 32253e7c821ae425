"""**S** Log time = max(wall clock, last log time + time elapsed here): it never goes back, and does not run ahead."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.node.small_cluster import EPOCH_MS, Cluster, led_by

HOUR_MS = 3_600_000


def times(cluster: Cluster, member: str = "A") -> list[int]:
    return [record.time_ms - EPOCH_MS for record in cluster.hosts[member].log.records]


def write(cluster: Cluster, leader: str) -> int:
    """The log time of a write now."""
    assert cluster.client(leader).ask("SET k 1") == b"OK"
    return times(cluster, leader)[-1]


def test_it_is_the_wall_clocks() -> None:
    cluster = led_by("A")
    cluster.run(777)
    assert write(cluster, "A") == int(cluster.now_ms)


def test_a_follower_that_takes_records_for_long_and_then_leads_does_not_run_ahead() -> None:
    cluster = led_by("A")
    for _ in range(10):
        cluster.run(2_000)
        write(cluster, "A")
    cluster.elect("B")
    assert times(cluster, "B")[-1] == int(cluster.now_ms)
    cluster.run(2_000)
    assert write(cluster, "B") == int(cluster.now_ms)
    cluster.elect("A")
    assert write(cluster, "A") == int(cluster.now_ms)


def test_a_clock_that_is_set_back_does_not_take_it_back_and_it_goes_on_at_the_pace_of_time() -> None:
    cluster = led_by("A")
    before = write(cluster, "A")
    cluster.hosts["A"].wall_offset_ms = -HOUR_MS
    cluster.run(500)
    assert write(cluster, "A") == before + 500
    cluster.run(500)
    assert write(cluster, "A") == before + 1000
    cluster.hosts["A"].wall_offset_ms = HOUR_MS
    assert write(cluster, "A") == before + 1000 + HOUR_MS


def test_a_new_leader_whose_clock_is_behind_goes_on_from_the_time_of_the_log() -> None:
    cluster = led_by("A")
    cluster.hosts["A"].wall_offset_ms = HOUR_MS
    last = write(cluster, "A")
    cluster.run(300)
    cluster.elect("B")
    assert times(cluster, "B")[-1] == last + 300


def test_a_restart_goes_on_from_the_time_of_the_log() -> None:
    cluster = led_by("A")
    cluster.hosts["A"].wall_offset_ms = HOUR_MS
    last = write(cluster, "A")
    cluster.crash("A", "B", "C")
    cluster.hosts["A"].wall_offset_ms = 0
    cluster.start("A", "B", "C")
    cluster.elect("B")
    assert times(cluster, "B")[-1] >= last


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("ABC"), st.integers(-HOUR_MS, HOUR_MS), st.integers(0, 400)), min_size=1, max_size=6
    )
)
def test_it_never_goes_back_whatever_the_clocks_do_and_whoever_leads(steps: list[tuple[str, int, int]]) -> None:
    cluster = led_by("A")
    for leader, offset, wait_ms in steps:
        cluster.hosts[leader].wall_offset_ms = offset
        cluster.run(wait_ms)
        if not cluster[leader].raft.leading:
            cluster.elect(leader)
        write(cluster, leader)
    cluster.run(50)
    told = times(cluster, steps[-1][0])
    assert told == sorted(told)
    assert told[-1] <= cluster.now_ms + max(0, *(offset for _, offset, _ in steps)) + 1
