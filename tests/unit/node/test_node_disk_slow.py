"""A disk that does not keep up: a leader makes way for a member whose disk does, and where there is none it goes on."""

from __future__ import annotations

from typing import Any

import pytest

from kvnode.raft import messages as m
from tests.unit.node.small_cluster import Cluster, led_by

HAND_OVER = "handing over leadership"


def notes(cluster: Cluster, member_id: str, text: str) -> list[dict[str, Any]]:
    return [fields for _, event, fields in cluster.hosts[member_id].notes if event == text]


def stalled_ms(cluster: Cluster, member_id: str) -> int:
    text = cluster.client(member_id).ask("INFO persistence").decode()
    return int(text.split("disk_stalled_ms:")[1].split()[0])


def write_behind_a_stalled_disk(cluster: Cluster, at: str = "A") -> None:
    cluster.stop_disk(at)
    cluster.client(at).send("SET k 1")
    cluster.settle()


def test_a_stalled_leader_makes_way_after_an_election_timeout() -> None:
    cluster = led_by("A")
    write_behind_a_stalled_disk(cluster)
    assert cluster.client("A").ask("GET k") == b"1"  # B and C hold it
    cluster.run(480)
    assert cluster.leaders == ["A"]
    assert 470 <= stalled_ms(cluster, "A") <= 480
    cluster.run(90)
    assert cluster.leaders == ["B"]
    (told,) = notes(cluster, "A", HAND_OVER)
    assert told["to"] == "B"
    assert 500 < told["ms"] <= 560
    assert "the disk is slow" in told["because"]
    assert [cluster.client(at).ask("INCR n") for at in "ABC"] == [1, 2, 3]


def test_it_is_the_time_without_any_progress_that_counts() -> None:
    """A disk that is never idle, and always late, but finishes one thing after the other, is not stalled."""
    cluster = led_by("A")
    cluster.slow_disk(400, "A")
    for _ in range(100):
        cluster.client("A").send("INCR n")
        cluster.run(50)
    assert cluster.leaders == ["A"]
    assert cluster["A"].raft.durable_seq < cluster["A"].raft.index.last_seq


def test_an_idle_disk_is_not_stalled() -> None:
    cluster = led_by("A")
    write_behind_a_stalled_disk(cluster)
    cluster.run(400)
    cluster.start_disk("A")
    cluster.run(2000)
    cluster.stop_disk("A")
    cluster.run(2000)
    assert stalled_ms(cluster, "A") == 0
    write_behind_a_stalled_disk(cluster)
    cluster.run(400)
    assert cluster.leaders == ["A"]
    assert stalled_ms(cluster, "A") == 400


def test_followers_are_not_lost_meanwhile() -> None:
    """Their disks do not finish anything either, so there is nobody to hand over to; reads and rounds go on."""
    cluster = led_by("A")
    cluster.client("A").ask("SET k 0")
    cluster.stop_disk("A", "B", "C")
    write = cluster.client("A").send("SET other 1")
    for _ in range(30):
        cluster.run(100)
        assert [cluster.client(at).ask("GET k") for at in "ABC"] == [b"0"] * 3
    assert cluster.leaders == ["A"]
    assert cluster["A"].raft.term == 1
    assert notes(cluster, "A", HAND_OVER) == []
    cluster.start_disk("B")
    cluster.run(300)
    assert cluster.leaders == ["A"]  # without its disk, or C's, there is no majority, not even of votes
    cluster.start_disk("C")
    cluster.run(60)
    assert write.take() == [b"OK"]
    assert cluster.leaders == ["B"]


def test_commands_that_come_meanwhile_are_done_once_and_in_order() -> None:
    cluster = led_by("A")
    cluster.stop_disk("A")
    clients = [cluster.client(at) for at in "ABC"]
    for _ in range(100):
        for client in clients:
            client.send("INCR n")
        cluster.run(10)
    assert cluster.leaders == ["B"]
    replies = [client.take() for client in clients]
    assert replies == [sorted(each) for each in replies]
    assert sorted(reply for each in replies for reply in each) == list(range(1, 301))


def test_a_disk_that_stalls_again_makes_way_again() -> None:
    cluster = led_by("A")
    for _ in range(2):
        write_behind_a_stalled_disk(cluster)
        cluster.run(600)
        assert cluster.leaders == ["B"]
        cluster.start_disk("A")
        cluster.run(100)
        cluster.elect("A")
    assert len(notes(cluster, "A", HAND_OVER)) == 2
    assert notes(cluster, "A", "stepping down") == []


def test_if_handing_over_fails_it_steps_down_and_leaves_the_election_to_others() -> None:
    cluster = led_by("A")
    send = cluster["A"].peers.send

    def lossy(peer: str, message: Any) -> None:
        if not isinstance(message, m.TimeoutNow):
            send(peer, message)

    cluster["A"].peers.send = lossy  # type: ignore[method-assign]
    write_behind_a_stalled_disk(cluster)
    cluster.run(1500)
    assert cluster.leaders == ["A"]
    cluster.run(100)
    assert cluster.leaders == []
    (told,) = notes(cluster, "A", "stepping down")
    assert told["ms"] > 1500
    cluster.run(1100)
    assert cluster.leaders in (["B"], ["C"])
    assert cluster["A"].raft.term == 2
    assert cluster.client("A").ask("INCR n") == 1


@pytest.mark.parametrize("stalled", ["B", ""])
def test_a_stalled_follower_leaves_an_election_to_others(stalled: str) -> None:
    """Alone, that is without the one that leads and the other, it would be the first to campaign."""
    cluster = led_by("A")
    if stalled:
        cluster.stop_disk(stalled)
    cluster.client("A").ask("SET k 1")
    cluster.run(600)
    assert [cluster[at].raft.is_disk_stalled for at in "ABC"] == [False, bool(stalled), False]
    cluster.crash("A", "C")
    cluster.run(1100)
    assert cluster["B"].raft.role == ("follower" if stalled else "candidate")
    assert cluster["B"].raft.leader is None
    cluster.run(3100)
    assert cluster["B"].raft.role == "candidate"  # there may be nobody better


@pytest.mark.parametrize("ms", [300, 700, 1500, 3000])
@pytest.mark.parametrize("ids", ["A", "ABC", "ABCDE"])
def test_where_all_disks_are_slow_somebody_leads_and_goes_on_leading(ms: int, ids: str) -> None:
    cluster = Cluster(ids, request_timeout_ms=60_000)
    cluster.slow_disk(ms, *ids)
    cluster.run(2000 + 4 * ms)
    (leader,) = cluster.leaders
    term = cluster[leader].raft.term
    client = cluster.client(ids[-1])
    for count in range(1, 6):
        client.send("INCR n")
        cluster.run(2 * ms + 100)
        assert client.take() == [count]
    assert cluster.leaders == [leader]
    assert cluster[leader].raft.term == term
    cluster.crash(leader)
    cluster.run(6000 + 6 * ms)
    assert len(cluster.leaders) == (len(ids) > 1)


@pytest.mark.parametrize("slow", ["A", "AB", "BC", "AC"])
def test_one_fast_disk_or_two_make_nothing_worse(slow: str) -> None:
    """Leadership moves at most once, and no write takes longer than the disks that it needs."""
    cluster = led_by("A", request_timeout_ms=60_000)
    cluster.slow_disk(2000, *slow)
    for count in range(1, 8):
        client = cluster.client("A").send("INCR n")
        cluster.run(2100 if len(slow) > 1 else 600)
        assert client.take() == [count]
    assert cluster.leaders == (["B"] if slow == "A" else ["A"])
    assert cluster[cluster.leaders[0]].raft.term == 1 + (slow == "A")


def test_a_full_disk_is_not_a_slow_one() -> None:
    cluster = led_by("A")
    cluster.fill_disk("A", "B", "C")
    cluster.client("A").send("SET k 1")
    cluster.run(3000)
    assert cluster.leaders == ["A"]
    assert [stalled_ms(cluster, at) for at in "ABC"] == [0, 0, 0]
    cluster.stop_disk("A", "B", "C")
    cluster.free_disk("A", "B", "C")
    cluster.run(3000)
    assert cluster.leaders == ["A"]
