"""The rows of the network: links that are cut, one way or both, that are slow, lose, repeat, or lead into nothing.

Real loss of packets, N9: test_packet_loss.py.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection
from contextlib import ExitStack
from random import Random

import hiredis
import pytest

from tests.checker.history import OK
from tests.cluster.harness import eventually
from tests.faults.disks import QUICK
from tests.matrix.conftest import MakeNetwork
from tests.matrix.rounds import (
    NOISE_MS,
    PATIENT,
    SLOWER,
    USUAL,
    lasts,
    leader_among,
    others_than,
    p99,
    scaled,
    under_traffic,
    wait_for_leader_among,
)
from tests.torture import links
from tests.torture.cluster import TorturedCluster

ELECTION_S = 1.0
"""Of USUAL, the longest."""
FAILOVER_S = 2 * ELECTION_S
FAILOVER_S_MAX = 5.0


def answers_no(reply: object) -> bool:
    """Not applied, or perhaps: certainly no answer from a leader that is none."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith(("CLUSTERDOWN", "UNKNOWN"))


def terms(cluster: TorturedCluster, ids: Collection[str] | None = None) -> set[int]:
    return {cluster.info(id)["term"] for id in ids or cluster.ids}


@pytest.mark.alone
def test_n01_leader_isolated(make_network: MakeNetwork) -> None:
    """Another one leads within two election timeouts; the old one steps down, and answers nobody as if it led."""
    cluster, rng = make_network("n01", **USUAL), Random("n01")
    took_s = []
    with under_traffic(cluster, "n01") as traffic:
        for number in range(scaled(2, 20)):
            traffic.wait_for(50)
            old = cluster.wait_for_leader()
            others = others_than(cluster, old)
            with traffic.asker(old) as asker:
                cluster.links.impose(links.isolate(cluster.ids, old), held=True)
                began_s = time.monotonic()
                for _ in range(3):
                    asker.send("GET", b"n01.%d" % number)
                    asker.send("SET", b"n01.%d" % number, b"old")
                wait_for_leader_among(cluster, others)
                took_s.append(time.monotonic() - began_s)
                with traffic.asker(others[0]) as writer:
                    assert writer.ask("SET", b"n01.%d" % number, b"new") == b"OK"
                eventually(lambda: cluster.info(old)["role"] != "leader", "it steps down")  # noqa: B023
                assert all(answers_no(asker.receive()) for _ in range(6))
            lasts(rng.uniform(0, scaled(1, 8)))
            cluster.links.heal()
    assert max(took_s) < FAILOVER_S_MAX, took_s
    assert statistics.median(took_s) < FAILOVER_S, took_s


def test_n02_follower_isolated_again_and_again(make_network: MakeNetwork) -> None:
    """Each time for longer than it waits for a leader. It is no candidate when it is back: nothing changes."""
    cluster = make_network("n02", **PATIENT)
    with under_traffic(cluster, "n02") as traffic:
        leader, (one, _) = cluster.wait_for_leader(), cluster.followers()
        for _ in range(scaled(2, 50)):
            cluster.links.impose(links.isolate(cluster.ids, one), held=True)
            eventually(lambda: not cluster.info(one)["leader"], "it misses its leader")
            lasts(1)
            cluster.links.heal()
            eventually(lambda: cluster.info(one)["leader"] == leader, "it has its leader again")
            traffic.wait_for(20)
        assert terms(cluster) == {1}


def test_n03_leader_hears_nobody(make_network: MakeNetwork) -> None:
    """All hear it, so nobody would call an election; it steps down by itself."""
    cluster = make_network("n03", **USUAL)
    with under_traffic(cluster, "n03") as traffic:
        traffic.wait_for(50)
        deaf = cluster.wait_for_leader()
        cluster.links.impose(links.towards(cluster.ids, deaf), held=True)
        eventually(lambda: cluster.info(deaf)["role"] != "leader", "it steps down")
        wait_for_leader_among(cluster, others_than(cluster, deaf))
        traffic.wait_for(100)
        cluster.links.heal()


def test_n04_follower_hears_nobody(make_network: MakeNetwork) -> None:
    """It asks for votes and is heard: the term stays, and the leader."""
    cluster = make_network("n04", **PATIENT)
    with under_traffic(cluster, "n04") as traffic:
        leader, (deaf, _) = cluster.wait_for_leader(), cluster.followers()
        cluster.links.impose(links.towards(cluster.ids, deaf), held=True)
        eventually(lambda: not cluster.info(deaf)["leader"], "it misses its leader")
        traffic.wait_for(100)
        lasts(scaled(2, 20))
        assert terms(cluster) == {1}
        cluster.links.heal()
        eventually(lambda: cluster.info(deaf)["leader"] == leader, "it has its leader again")
        assert terms(cluster) == {1}


@pytest.mark.parametrize("ids", ["ABC", "ABCDE"])
def test_n05_partial_partition(make_network: MakeNetwork, ids: str) -> None:
    """The leader and another one do not reach each other, all others reach both; of five, two halves and one between.
    There is a leader after five seconds at most, and it stays."""
    row = f"n05.{len(ids)}"
    cluster = make_network(row, ids, **USUAL)
    with under_traffic(cluster, row) as traffic:
        traffic.wait_for(50)
        leader, (one, *_) = cluster.wait_for_leader(), cluster.followers()
        shape = links.between(leader, one) if len(ids) == 3 else links.bridge(ids, one)
        cluster.links.impose(shape, held=True)
        lasts(3)
        leads = wait_for_leader_among(cluster, ids, 5)
        term = cluster.info(leads)["term"]
        traffic.wait_for(50)
        lasts(scaled(2, 20))
        assert leader_among(cluster, ids) == leads
        assert cluster.info(leads)["term"] == term
        cluster.links.heal()


def test_n06_no_majority(make_network: MakeNetwork) -> None:
    """Five nodes, in groups of two, two and one: nobody answers anything but no, and that in time."""
    cluster = make_network("n06", "ABCDE", **QUICK)
    with under_traffic(cluster, "n06") as traffic:
        traffic.wait_for(100)
        cluster.links.impose(links.split("AB", "CD", "E"), held=True)
        split_s = time.monotonic()
        for _ in range(scaled(1, 10)):
            with ExitStack() as stack:
                askers = [stack.enter_context(traffic.asker(id)) for id in cluster.ids]
                for asker in askers:
                    asker.send("SET", b"n06", b"x")
                    asker.send("GET", b"n06")
                replies = [asker.receive() for asker in askers * 2]
            assert all(map(answers_no, replies)), replies
        assert leader_among(cluster, cluster.ids) is None
        healed_s = time.monotonic()
        cluster.links.heal()
    served = [
        operation
        for operation in traffic.fleet.history
        if operation.status is OK and split_s < operation.invoked and operation.returned < healed_s
    ]
    assert not served, [*map(str, served[:5])]


def test_n07_flapping_links(make_network: MakeNetwork) -> None:
    """All links of the leader, 100 ms on and off: there is progress, and the leader changes seldom."""
    cluster = make_network("n07", **USUAL)
    seconds = scaled(4, 60)
    with under_traffic(cluster, "n07") as traffic:
        traffic.wait_for(50)
        flapping = links.isolate(cluster.ids, cluster.wait_for_leader())
        answered = traffic.answered
        for _ in range(5 * seconds):
            trouble = cluster.links.impose(flapping, held=True)
            lasts(0.1)
            cluster.links.lift(trouble)
            lasts(0.1)
        assert traffic.answered > answered + 20 * seconds
        assert max(terms(cluster)) <= 1 + seconds / 5


def test_n08_slow_links(make_network: MakeNetwork) -> None:
    """No stale read, whoever leads by then. With 75 ms there is progress; at twice the time of an election, and more,
    at least afterwards."""
    cluster = make_network("n08", **USUAL)
    with under_traffic(cluster, "n08") as traffic:
        traffic.wait_for(50)
        cluster.links.impose(cluster.links.all, delay_ms=75, jitter_ms=50)
        traffic.wait_for(scaled(100, 2000), 120)
        cluster.links.heal()
        cluster.links.impose(cluster.links.all, delay_ms=500, jitter_ms=500)
        lasts(scaled(3, 60))
        cluster.links.heal()


def test_n09_lost_frames(make_network: MakeNetwork) -> None:
    """Thirty of a hundred, which TCP loses at no time but with the connection. Packets: test_packet_loss.py."""
    cluster = make_network("n09", **USUAL)
    with under_traffic(cluster, "n09") as traffic:
        cluster.links.impose(cluster.links.all, lost=0.3)
        traffic.wait_for(scaled(20, 500), scaled(60, 600))
        cluster.links.heal()
        assert cluster.links.counts()["lost"] > 0


def test_n10_repeated_reordered_and_replayed(make_network: MakeNetwork) -> None:
    """Messages twice and in another order; what ended connections had brought comes once more over new ones."""
    cluster = make_network("n10", **USUAL)
    with under_traffic(cluster, "n10") as traffic:
        cluster.links.impose(cluster.links.all, repeated=0.3, reordered=0.3, delay_ms=5, jitter_ms=5)
        for number in range(scaled(4, 40)):
            traffic.wait_for(100)
            if number % 2:
                cluster.restart(cluster.followers()[0])  # so that what is replayed is of another life
            cluster.links.cut(cluster.links.all)
            traffic.wait_for(20)
            assert cluster.links.replay(cluster.links.all) > 0
        traffic.wait_for(100)
        counts = cluster.links.counts()
        assert min(counts[name] for name in ("repeated", "reordered", "replayed")) > 0, counts
        cluster.links.heal()


def test_n11_black_hole(make_network: MakeNetwork) -> None:
    """No byte and no reset gets to the leader or from it: the others do without long before any connection ends. Then
    there are new connections, and the old ones are gone."""
    cluster = make_network("n11", **USUAL)
    with under_traffic(cluster, "n11") as traffic:
        traffic.wait_for(50)
        old = cluster.wait_for_leader()
        others = others_than(cluster, old)
        cluster.links.impose(links.isolate(cluster.ids, old), vanishes=True, gives_up_s=scaled(3, 5))
        began_s = time.monotonic()
        wait_for_leader_among(cluster, others)
        assert time.monotonic() - began_s < FAILOVER_S_MAX
        traffic.wait_for(100)
        lasts(scaled(1, 60))
        cluster.links.heal()
        cluster.wait_for_leader()


def test_n12_cut_in_the_middle_of_a_frame(make_network: MakeNetwork) -> None:
    """What has come of a frame is dropped with its connection: nobody takes a part for the whole."""
    cluster = make_network("n12", **USUAL)
    with under_traffic(cluster, "n12") as traffic:
        cluster.links.impose(cluster.links.all, cuts=0.02)
        cuts = scaled(20, 500)
        eventually(lambda: cluster.links.counts().get("cuts", 0) > cuts, "many are cut", scaled(60, 600))
        traffic.wait_for(50)
        cluster.links.heal()
    for id in cluster.ids:
        assert "damage" not in cluster.log_text(id)
        assert "link dropped" not in cluster.log_text(id)


@pytest.mark.alone
def test_n13_narrow_link_to_a_follower(make_network: MakeNetwork) -> None:
    """32 kB a second, less than what there is to send: the others are as fast as before, and the leader keeps no more
    for it than it may."""
    cluster = make_network("n13", **PATIENT, catch_up_window_bytes=65536)
    with under_traffic(cluster, "n13", pause_ms=5) as traffic:
        traffic.wait_for(500)
        leader, (narrow, other) = cluster.wait_for_leader(), cluster.followers()
        before_s = time.monotonic()
        lasts(1)
        size = cluster.resident_bytes(leader)
        cluster.links.impose(links.towards(cluster.ids, narrow), bytes_per_second=32_000)
        narrow_s = time.monotonic()
        lasts(scaled(3, 60))
        until_s = time.monotonic()
        lag = cluster.info(leader)[f"member_{narrow}"]["lag"]
        assert lag > 100, "the link is not narrow"
        assert cluster.resident_bytes(leader) < size + 32 * 1024 * 1024
        cluster.links.heal()
        before = p99(traffic.latencies_ms([leader, other], before_s, narrow_s))
        during = p99(traffic.latencies_ms([leader, other], narrow_s, until_s))
        assert during < SLOWER * max(before, NOISE_MS), f"p99 {before:.0f} ms, then {during:.0f} ms"


def test_n14_healed_in_the_middle_of_an_election(make_network: MakeNetwork) -> None:
    """The old leader comes back just when somebody asks for votes."""
    cluster = make_network("n14", **QUICK)
    with under_traffic(cluster, "n14") as traffic:
        for _ in range(scaled(3, 30)):
            traffic.wait_for(30)
            old = wait_for_leader_among(cluster, cluster.ids)
            others = others_than(cluster, old)
            cluster.links.impose(links.isolate(cluster.ids, old), held=True)
            eventually(
                lambda: any(cluster.info(id)["role"] != "follower" for id in others),  # noqa: B023
                "an election begins",
                poll_s=0.001,
            )
            cluster.links.heal()


def test_n14_swizzle(make_network: MakeNetwork) -> None:
    """Links stop one by one, and go on one by one in another order."""
    cluster, rng = make_network("n14.swizzle", "ABCDE", **QUICK), Random("n14")
    with under_traffic(cluster, "n14.swizzle") as traffic:
        for _ in range(scaled(2, 20)):
            traffic.wait_for(30)
            pairs = rng.sample(sorted(cluster.links.all), len(cluster.links.all) // 2)
            imposed = []
            for pair in pairs:
                imposed.append(cluster.links.impose([pair], held=True))
                lasts(rng.uniform(0, 0.2))
            for trouble in rng.sample(imposed, len(imposed)):
                cluster.links.lift(trouble)
                lasts(rng.uniform(0, 0.2))
