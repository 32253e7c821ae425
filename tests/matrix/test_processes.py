"""The rows of processes: killed, paused, told to stop, restarted; one, all at once, in turn, again and again.

P7, killed at each failpoint: test_failpoints.py.
"""

from __future__ import annotations

import signal
import statistics
import time
from random import Random

import hiredis
import pytest

from kvnode.log.mark import decode_mark
from tests.cluster.conftest import started
from tests.cluster.harness import eventually
from tests.faults import damage
from tests.faults.disks import KILLED, QUICK
from tests.matrix.conftest import MakeCluster
from tests.matrix.defective import PLACES
from tests.matrix.rounds import (
    IS_FULL,
    NOISE_MS,
    PATIENT,
    SLOWER,
    USUAL,
    lasts,
    others_than,
    p99,
    scaled,
    stopped,
    under_traffic,
    wait_for_leader_among,
)

EXIT_FAILED = 1
FAILOVER_S = 2.0
FAILOVER_S_MAX = 5.0
SIGTERM_S = 5.0


@pytest.mark.alone
def test_p01_leader_killed(make_cluster: MakeCluster) -> None:
    """Somebody else takes writes within two seconds, mostly, and within five in any case."""
    cluster = make_cluster("p01", **USUAL)
    took_s = []
    with under_traffic(cluster, "p01") as traffic:
        for number in range(scaled(3, 40)):
            traffic.wait_for(50)
            leader = cluster.wait_for_leader()
            with traffic.asker(others_than(cluster, leader)[number % 2]) as asker:
                cluster.kill(leader)
                killed_s = time.monotonic()
                eventually(lambda: asker.ask("SET", b"p01.%d" % number, b"x") == b"OK", "a write is taken")  # noqa: B023
                took_s.append(time.monotonic() - killed_s)
            cluster.start(leader)
    assert max(took_s) < FAILOVER_S_MAX, took_s
    usual_s = statistics.quantiles(took_s, n=20)[-1] if IS_FULL else statistics.median(took_s)
    assert usual_s < FAILOVER_S, took_s


@pytest.mark.alone
def test_p02_follower_killed(make_cluster: MakeCluster) -> None:
    """At the other nodes there are no fewer answers than half of what there were."""
    cluster = make_cluster("p02", **PATIENT)
    with under_traffic(cluster, "p02") as traffic:
        traffic.wait_for(100)
        killed = cluster.followers()[0]
        others = others_than(cluster, killed)
        before_s = time.monotonic()
        lasts(1)
        cluster.kill(killed)
        killed_s = time.monotonic()
        lasts(1)
        until_s = time.monotonic()
        cluster.start(killed)
        traffic.wait_for(50)
    before, after = (
        len(traffic.latencies_ms(others, began_s, ended_s)) / (ended_s - began_s)
        for began_s, ended_s in ((before_s, killed_s), (killed_s, until_s))
    )
    assert after > before / SLOWER, f"{before:.0f} calls a second, then {after:.0f}"
    assert cluster.wait_for_leader() in others
    assert all(cluster.info(id)["term"] == 1 for id in cluster.ids)


def test_p03_all_killed_at_once(make_cluster: MakeCluster) -> None:
    """Started again in any order, some later than others. Clients ask from the first moment on: nothing is empty or
    stale."""
    cluster, rng = make_cluster("p03"), Random("p03")
    with under_traffic(cluster, "p03", pause_ms=5) as traffic:
        for _ in range(scaled(3, 100)):
            traffic.wait_for(rng.randrange(20, 200))
            cluster.kill(*cluster.ids)
            for id in rng.sample(cluster.ids, 3):
                cluster.launch(id)
                lasts(rng.choice((0, rng.uniform(0, scaled(1, 5)))))


def test_p04_majority_killed(make_cluster: MakeCluster) -> None:
    """Once the leader and a follower, once both followers; the one that is left serves nothing."""
    cluster = make_cluster("p04", **QUICK | {"request_timeout_ms": 1000})
    with under_traffic(cluster, "p04") as traffic:
        for number in range(2):
            traffic.wait_for(100)
            leader, (first, second) = cluster.wait_for_leader(), cluster.followers()
            killed, left = ((leader, first), second) if number == 0 else ((first, second), leader)
            cluster.kill(*killed)
            with traffic.asker(left) as asker:
                for _ in range(3):
                    asker.send("SET", b"p04.refused", b"x")
                    asker.send("GET", b"p04.refused")
                replies = [asker.receive() for _ in range(6)]
            assert all(str(reply).startswith(("CLUSTERDOWN", "UNKNOWN")) for reply in replies), replies
            cluster.start(*killed)
            cluster.wait_for_leader()


PAUSES_S = (0.2, 0.6, 3.0) if not IS_FULL else (0.2, 0.6, 1.0, 3.0, 5.0, 10.0, 30.0)


def test_p05_paused_leader_answers_no_stale_read(make_cluster: MakeCluster) -> None:
    """Reads wait for it, which were asked after others had written something newer; also from before it was paused."""
    cluster = make_cluster("p05", **USUAL)
    with under_traffic(cluster, "p05") as traffic:
        for number, pause_s in enumerate(PAUSES_S):
            traffic.wait_for(50)
            key, newest = b"p05.%d" % number, b"old"
            leader = cluster.wait_for_leader()
            others = others_than(cluster, leader)
            with traffic.asker(others[0]) as writer, traffic.asker(leader) as first, traffic.asker(leader) as second:
                assert writer.ask("SET", key, newest) == b"OK"
                with stopped(traffic, leader):
                    first.send("GET", key)
                    lasts(pause_s)
                    if pause_s >= 3:
                        wait_for_leader_among(cluster, others)
                        newest = b"new"
                        assert writer.ask("SET", key, newest) == b"OK"
                    for asker in (first, second, second):
                        asker.send("GET", key)
                read = [asker.receive() for asker in (first, first, second, second)]
                late = [value for value in read[1:] if not isinstance(value, hiredis.ReplyError)]
                assert set(late) <= {newest}, f"stale: {read}"
                assert eventually(lambda: first.ask("GET", key), "it answers again") == newest  # noqa: B023


@pytest.mark.alone
def test_p06_paused_follower_holds_up_nobody(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("p06", **PATIENT)
    with under_traffic(cluster, "p06") as traffic:
        traffic.wait_for(100)
        paused = cluster.followers()[0]
        others = others_than(cluster, paused)
        before_s = time.monotonic()
        lasts(1)
        with stopped(traffic, paused):
            paused_s = time.monotonic()
            lasts(scaled(4, 60))
            until_s = time.monotonic()
        goal = cluster.info(others[0])["last_seq"]
        eventually(lambda: cluster.info(paused)["applied_seq"] >= goal, "it catches up")
        before = p99(traffic.latencies_ms(others, before_s, paused_s))
        during = p99(traffic.latencies_ms(others, paused_s, until_s))
        assert during < SLOWER * max(before, NOISE_MS), f"p99 {before:.0f} ms, then {during:.0f} ms"
    assert all(cluster.info(id)["term"] == 1 for id in cluster.ids), "it disturbs nobody when it is back"


def test_p08_crash_loop(make_cluster: MakeCluster) -> None:
    """One node after the other is killed, every two seconds; whenever two are up there is progress."""
    cluster = make_cluster("p08")
    with under_traffic(cluster, "p08") as traffic:
        ends_s = time.monotonic() + scaled(6, 300)
        number = 0
        while time.monotonic() < ends_s:
            killed = cluster.ids[number % 3]
            number += 1
            next_s = time.monotonic() + 2
            cluster.kill(killed)
            traffic.wait_for(30)
            cluster.start(killed)
            lasts(max(0, next_s - time.monotonic()))


RECOVERIES = [
    "fsync .log crash=before lose",
    "fsync / crash=after lose",
    "open .log n=2 crash=after lose",
    "pwrite .log$ n=2 crash=before lose",
    "pwrite .log$ n=2 short=40 crash=after",  # and now there is a torn write to mend
    "pwrite discarded short=20 crash=after",
    "rename discarded crash=before",
    "rename discarded crash=after",
    "ftruncate .log crash=before",
    "fdatasync .log n=2 crash=after lose",
    "pwrite .log.tmp short=20 crash=after lose",
    "rename .log crash=after lose",
    "pwrite mark n=3 crash=after lose",
]
"""At each start the next one, of its calls that read the log, mend it, or catch up."""


def test_p09_killed_while_it_recovers_and_catches_up(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("p09", segment_bytes=16384)
    with under_traffic(cluster, "p09") as traffic:
        killed = cluster.followers()[0]
        cluster.kill(killed)
        traffic.wait_for(1000)
        for rules in RECOVERIES:
            cluster.break_disk(killed, rules)
            cluster.launch(killed)
            assert cluster.wait_for_exit(killed) == KILLED, rules
            traffic.wait_for(10)
        assert "were cut off" in cluster.log_text(killed), "it has mended a torn write"
        cluster.mend_disk(killed)
        cluster.start(killed)
        eventually(lambda: "caught up" in cluster.log_text(killed), "it catches up")


def test_p11_sigterm_under_load(make_cluster: MakeCluster) -> None:
    """To the leader and to followers: what they have read from clients is answered, their log is durable to its end,
    and they exit with 0."""
    cluster = make_cluster("p11", **USUAL)
    with under_traffic(cluster, "p11") as traffic:
        for turn, told in enumerate((cluster.wait_for_leader(), *cluster.ids)):
            traffic.wait_for(50)
            with traffic.asker(told) as asker:
                for number in range(200):
                    asker.send("SET", b"p11.%d.%d" % (turn, number), b"x")
                replies = [asker.receive()]
                began_s = time.monotonic()
                cluster.send_signal(told, signal.SIGTERM)
                replies += [asker.receive() for _ in range(199)]
            assert cluster.wait_for_exit(told) == 0
            assert time.monotonic() - began_s < SIGTERM_S
            assert replies == [b"OK"] * 200
            *_, last = damage.places(cluster.data(told))
            assert decode_mark((cluster.data(told) / "mark").read_bytes()).seq == last.record.last_seq
            traffic.wait_for(50)
            cluster.start(told)
            cluster.wait_until_all_vote()


def test_p12_unexpected_exception_ends_the_process(make_cluster: MakeCluster) -> None:
    """Wherever it is raised, in a thread or in the event loop: no leader goes on half alive."""
    cluster = make_cluster("p12", is_started=False, scrub_pause_ms=100, **QUICK)
    file = cluster.directory / "defect"
    cluster.modules = {id: ["tests.matrix.defective", str(file)] for id in cluster.ids}
    started(cluster)
    with under_traffic(cluster, "p12", has_defects=True) as traffic:
        for where in PLACES:
            leader = cluster.wait_for_leader()
            said_before = len(cluster.log_text(leader))
            file.write_text(where)
            cluster.send_signal(leader, signal.SIGUSR1)
            if where == "dialer":  # it has nothing to do otherwise
                cluster.restart(others_than(cluster, leader)[0])
            assert cluster.wait_for_exit(leader) == EXIT_FAILED, where
            said = cluster.log_text(leader)[said_before:]
            assert "this node has stopped itself: a defect in kvnode" in said, where
            assert "Planted" in said, where
            traffic.wait_for(30)
            cluster.start(leader)


def test_p13_rolling_restarts(make_cluster: MakeCluster) -> None:
    """Nobody who asks a node that is up is told no, or left in doubt."""
    cluster = make_cluster("p13", **USUAL)
    with under_traffic(cluster, "p13") as traffic:
        for _ in range(scaled(2, 20)):
            for id in cluster.ids:
                traffic.wait_for(50)
                assert cluster.stop(id) == 0
                traffic.wait_for(50)
                cluster.start(id)
                cluster.wait_until_all_vote()
        counts = dict(traffic.fleet.shared.counts)
    assert (counts.get("fail", 0), counts.get("said to be unknown", 0)) == (0, 0), counts
