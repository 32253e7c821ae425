"""A short torture run of a fixed seed, and canaries: what the run is there to find is found.

KVNODE_TEST_TORTURE_ROUNDS and KVNODE_TEST_SEED choose another one; `make torture` runs for as long as one likes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from kvnode.log.mark import Mark, encode_mark
from tests.checker import linearizable
from tests.checker.history import OK
from tests.checker.models import may_write
from tests.checker.simulated import plant_stale_read
from tests.cluster.harness import ROOT, eventually, node_environment
from tests.faults import damage
from tests.torture import judge, rot
from tests.torture.clients import Clients, Shared, Spec, all_workloads
from tests.torture.cluster import TorturedCluster
from tests.torture.faults import FAULTS
from tests.torture.judge import Violation
from tests.torture.liar import Liar
from tests.torture.nemesis import Fault, Nemesis
from tests.torture.options import draw
from tests.torture.run import Run

ROUNDS = int(os.environ.get("KVNODE_TEST_TORTURE_ROUNDS", "3"))
SEED = int(os.environ.get("KVNODE_TEST_SEED", "1"))


def test_a_tortured_cluster_keeps_its_promises(tmp_path: Path, library: Path) -> None:
    totals = Run(tmp_path, library, SEED, rounds=ROUNDS, say=print).run()
    print(totals)
    assert totals.violations == []
    assert totals.rounds == ROUNDS
    assert totals.operations > 100 * ROUNDS
    assert not [each for each in tmp_path.iterdir() if each.name.startswith("cluster")]


def test_every_fault_happens_and_heals(tmp_path: Path, library: Path) -> None:
    """Two at a time, each line of the table."""
    kinds = sorted(FAULTS)
    cluster = TorturedCluster(tmp_path / "cluster", "ABC", draw(1, 1, sorted(FAULTS)).node, library)
    try:
        cluster.start()
        cluster.wait_until_all_vote()
        nemesis = Nemesis(cluster, 1)
        for number, pair in enumerate([kinds[start : start + 2] for start in range(0, len(kinds), 2)]):
            cluster.wait_for_leader()
            cluster.client(cluster.ids[0]).set(f"key{number}", number)
            faults = [Fault(0.3 * place, kind, 0.2, number) for place, kind in enumerate(pair)]
            nemesis.carry_out(faults, 0.6)
            nemesis.heal()
            judge.converge(cluster)
        assert nemesis.counts == dict.fromkeys(FAULTS, 1)
        entries = judge.read_logs(cluster)
        judge.check_values(cluster, entries)
        judge.check_processes(cluster)
        assert {entry[1] for _, entry in entries if entry[0] == "SET"} == {
            b"key%d" % n for n in range((len(kinds) + 1) // 2)
        }
    finally:
        cluster.close()


def test_rot_hits_what_is_known_durable_and_nothing_above_it(cluster: TorturedCluster, tmp_path: Path) -> None:
    client = cluster.client("A")
    for number in range(200):
        client.set(f"key{number}", "x" * 50)
    cluster.wait_until_equal()
    cluster.kill("A")
    places = list(damage.places(cluster.data("A")))
    middle = next(place for place in places if place.record.last_seq >= 100)
    mark = Mark(middle.record.last_seq, middle.record.term, middle.record.checksum)
    (cluster.data("A") / "mark").write_bytes(encode_mark(mark))
    seen = set()
    for seed in range(60):
        copy = tmp_path / "copy"
        shutil.copytree(cluster.data("A"), copy)
        what = rot.spoil(copy, Random(seed), is_running=False)
        assert what is not None
        seen.add(what.split()[1])
        before = {path.name: path.read_bytes() for path in cluster.data("A").glob("*.log")}
        for name, data in before.items():
            after = (copy / name).read_bytes() if (copy / name).exists() else b""
            limit = middle.offset + middle.size if name == middle.path.name else len(data)
            assert after[limit:] in (data[limit:], b""), f"seed {seed}: {what}"
        shutil.rmtree(copy)
    assert seen == {"bytes", "byte", "is", "ends"}
    (cluster.data("A") / "mark").write_bytes(bytes(128))
    assert rot.spoil(cluster.data("A"), Random(1), is_running=False) is None


# Canaries


def test_a_node_that_ends_without_a_reason_is_found(cluster: TorturedCluster) -> None:
    nemesis = Nemesis(cluster, 1)
    nemesis.kill("A", restart_s=None)
    nemesis.note_ended()
    os.kill(cluster.pid("B"), signal.SIGKILL)
    with pytest.raises(Violation, match="B ended with -9, which nobody made it do"):
        nemesis.carry_out([], 1.0)


def test_a_node_that_prints_a_traceback_is_found(cluster: TorturedCluster) -> None:
    judge.check_processes(cluster)
    with (cluster.directory / "B.out").open("a") as out:
        out.write("Traceback (most recent call last):\n")
    with pytest.raises(Violation, match="a traceback in what B printed"):
        judge.check_processes(cluster)


def test_two_leaders_of_one_term_are_found_in_the_files(cluster: TorturedCluster) -> None:
    cluster.client("A").set("key", "value")
    cluster.wait_until_equal()
    judge.check_terms(cluster)
    cluster.kill("B")
    damage.forge(cluster.data("B"), 1)
    with pytest.raises(Violation, match="different records of one term"):
        judge.check_terms(cluster)
    with pytest.raises(Violation, match="files of B and A differ"):
        judge.read_logs(cluster)


def wire_clients(cluster: TorturedCluster, shared: Shared, liar: Liar | None = None) -> Clients:
    """Two at each node, the liar in the place of the first one."""
    addresses = {id: cluster.address(id) for id in cluster.ids}
    if liar is not None:
        addresses[cluster.ids[0]] = liar.address
    return Clients(shared, addresses, [Spec((id,), 4, 5.0) for id in cluster.ids] * 2, answer_s_max=6.0, seed=1)


def test_a_node_that_answers_from_a_stale_cache_is_found_with_and_without_the_seqs(cluster: TorturedCluster) -> None:
    shared = Shared(all_workloads("test"))
    with Liar(cluster.address("A")) as liar, wire_clients(cluster, shared, liar):
        eventually(lambda: liar.lies >= 20, "it has lied")
    judge.converge(cluster)
    history, entries = shared.recorder.history(), judge.read_logs(cluster)
    assert shared.faults == []
    with pytest.raises(Violation, match="C1"):
        judge.check_history(history, 0, entries, [])
    assert not linearizable.check(history).is_linearizable
    judge.check_written(history, entries)  # of the writes it has told the truth


def test_stale_reads_and_lost_writes_that_are_planted_into_a_real_history_are_found(cluster: TorturedCluster) -> None:
    shared = Shared(all_workloads("test"))
    with wire_clients(cluster, shared):
        eventually(lambda: shared.counts["answered"] >= 1500, "some history")
    judge.converge(cluster)
    history, entries = shared.recorder.history(), judge.read_logs(cluster)
    judge.check_history(history, 0, entries, shared.workloads)
    for seed in range(20):
        stale = plant_stale_read(Random(seed), history)
        assert stale is not None
        with pytest.raises(Violation, match="C1"):
            judge.check_history(stale, 0, entries, [])
        assert not linearizable.check(stale).is_linearizable
    # A write that nobody was told of is no promise, and no loss.
    untold = [operation.argument for operation in history if operation.status is not OK and may_write(operation)]
    told = [place for place, (_, entry) in enumerate(entries) if entry[0] != "NOOP" and entry[-1] not in untold]
    for seed in range(20):
        lost = Random(seed).choice(told)
        with pytest.raises(Violation, match="C1"):
            judge.check_history(history, 0, [*entries[:lost], (lost + 1, ("NOOP",)), *entries[lost + 1 :]], [])


def test_a_failure_is_kept_with_all_that_is_needed_to_look_at_it(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(*_: object) -> None:
        raise Violation("found")

    monkeypatch.setattr(judge, "check_values", find)
    (violation,) = Run(tmp_path, library, 7, minutes=2, kinds=["kill the leader"]).run().violations
    assert violation.startswith("seed 7, cluster 1, round 1: Violation: found")
    assert "kill the leader" in violation
    assert "python -m tests.torture --seed 7 --cluster 1 --rounds 1" in violation
    kept = {each.name for each in (tmp_path / "cluster1").iterdir()}
    assert {"what.txt", "history.jsonl", "log.txt", "A", "A.out"} <= kept
    assert "SIGKILL to" in (tmp_path / "cluster1" / "what.txt").read_text()


def test_ctrl_c_ends_a_run_with_its_summary(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.torture", "--minutes", "5", "--seed", "3", "--directory", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=node_environment(),
        start_new_session=True,  # the nodes are to hear it too, as they would in a terminal
    )
    assert process.stdout is not None
    printed = process.stdout.readline()
    assert printed.startswith("cluster 1: ")
    printed += process.stdout.readline()  # the first round
    os.killpg(process.pid, signal.SIGINT)
    printed += process.communicate(timeout=60)[0]
    assert process.returncode == 0, printed
    assert "interrupted\nminutes " in printed
    assert printed.endswith("violations: 0\n")
    assert not (tmp_path / "run").exists()
