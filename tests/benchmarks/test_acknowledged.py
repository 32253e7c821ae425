"""Every write that is acknowledged to the load generator of the benchmarks is in the logs of a majority: with the code
that `make bench` runs after each part, at nodes that are killed.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.load import Answer, Load, LoadError, Running
from benchmarks.proof import Proof, prove
from tests.cluster.harness import Cluster, eventually

LOADS = (
    Load("set", clients=3, seconds=0.3),
    Load("set", clients=50, pipeline=16, seconds=0.5),
    Load("set", clients=5, seconds=0.3, value_bytes=16 * 1024),
    Load("set", clients=10, pipeline=16, count=1000),
)


def begin(cluster: Cluster, program: Path, load: Load, *nodes: str) -> Running:
    """At these nodes, or at the leader."""
    return Running(program, load, [cluster.client_ports[id] for id in nodes or (cluster.wait_for_leader(),)])


def kill_and_prove(cluster: Cluster, answers: Sequence[Answer]) -> Proof:
    cluster.kill(*cluster.running)
    acknowledged = {answer.run: range(answer.acknowledged) for answer in answers}
    return prove([cluster.data(id) for id in cluster.ids], acknowledged)


def test_all_kinds_of_load(cluster: Cluster, program: Path) -> None:
    answers = [begin(cluster, program, load).wait() for load in LOADS]
    answers.append(begin(cluster, program, LOADS[1], *cluster.ids).wait())
    proof = kill_and_prove(cluster, answers)
    assert proof.acknowledged == sum(answer.acknowledged for answer in answers) > 1000


def test_while_a_follower_is_away_and_comes_back(cluster: Cluster, program: Path) -> None:
    follower = cluster.followers()[0]
    load = begin(cluster, program, Load("set", clients=20, seconds=60))
    cluster.stop(follower, signal.SIGKILL)
    cluster.start(follower)
    answer = load.end()
    assert kill_and_prove(cluster, [answer]).acknowledged == answer.acknowledged > 0


def test_all_nodes_are_killed_under_load(cluster: Cluster, program: Path) -> None:
    """What was acknowledged before is there; the load generator itself tells of no write of a run that broke."""
    leader = cluster.wait_for_leader()
    before = begin(cluster, program, LOADS[0], leader).wait()
    last_seq = cluster.info(leader)["last_seq"]
    load = begin(cluster, program, Load("set", clients=20, seconds=60), leader)
    eventually(lambda: cluster.info(leader)["last_seq"] > last_seq, "the load has begun")
    assert kill_and_prove(cluster, [before]).acknowledged == before.acknowledged
    with pytest.raises(LoadError, match=r"connection|send"):
        load.wait()


def test_a_load_that_is_refused_fails(cluster: Cluster, program: Path) -> None:
    leader = cluster.wait_for_leader()
    cluster.kill(*cluster.followers())
    with pytest.raises(LoadError, match=r"refused: -(CLUSTERDOWN|UNKNOWN)"):
        begin(cluster, program, Load("set", clients=1, seconds=60), leader).wait()


def test_each_key_once_and_the_last_pipeline_is_shorter(cluster: Cluster, program: Path) -> None:
    answer = begin(cluster, program, Load("set", clients=7, pipeline=16, count=1001, first=5)).wait()
    assert answer.acknowledged == 1001
    assert cluster.client(cluster.wait_for_leader()).dbsize() == 1001
