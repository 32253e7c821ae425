"""A stopped node's log is forged: one record is another one, and every checksum and the chain hold. Once it runs again
the others find out by comparing checksums, and it heals in the same process, whoever leads, under load."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from kvnode.log.identity import cluster_id
from kvnode.log.record import Record, encode
from kvnode.log.recovery import open_log
from tests.cluster.harness import Cluster, eventually
from tests.cluster.load import load


def forge(data: Path, id: str, ids: tuple[str, ...], seq: int) -> None:
    """Another value in the entry `seq`, or in the first SET after it."""
    records: list[Record] = []
    log = open_log(data, cluster_id=cluster_id(ids), node_id=id, members=ids, on_record=records.append).log
    made: list[Record] = []
    is_forged = False
    for record in records:
        entries = [list(entry) for entry in record.entries]
        place = next((k for k, entry in enumerate(entries) if entry[0] == "SET" and record.first_seq + k >= seq), None)
        if place is not None and not is_forged:
            entries[place][2] = b"forged"
            is_forged = True
        prev = made[-1].checksum if made else 0
        made.append(encode(prev, record.first_seq, record.term, record.time_ms, record.commit_seq, entries))
    assert is_forged
    log.cut(0)
    log.append(made)
    log.close()


def was_set_aside(cluster: Cluster, id: str) -> bool:
    return "set aside: this log is not the cluster's" in cluster.log_text(id)


def wait_until_healed(cluster: Cluster, id: str) -> None:
    eventually(lambda: was_set_aside(cluster, id), f"{id} sets itself aside")
    cluster.wait_until_all_vote()


def test_a_node_whose_log_differs_heals_while_the_others_serve(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    wrong, right = cluster.followers()
    with load(cluster, "key", leader, right) as writers:
        writers.wait_for(300)
        cluster.stop(wrong)
        forge(cluster.data(wrong), wrong, cluster.ids, 100)
        cluster.start(wrong)
        pid = cluster.pid(wrong)
        wait_until_healed(cluster, wrong)
        writers.wait_for(100)
        told = writers.stop()
    cluster.wait_until_equal()
    assert cluster.pid(wrong) == pid
    assert pid
    assert "histories differ" in cluster.log_text(leader)
    assert any((cluster.data(wrong) / "discarded").iterdir())
    told.check(cluster.client(wrong))
    assert not any(was_set_aside(cluster, id) for id in (leader, right))


@pytest.mark.parametrize("wrong", ["A", "B", "C"])
def test_whoever_differs_after_all_were_stopped(cluster: Cluster, wrong: str) -> None:
    client = cluster.client(cluster.wait_for_leader())
    for number in range(200):
        client.set(f"key{number}", number)
    digest = cluster.wait_until_equal()
    for id in cluster.ids:
        cluster.stop(id, signal.SIGKILL)
    forge(cluster.data(wrong), wrong, cluster.ids, 50)
    cluster.start()
    wait_until_healed(cluster, wrong)
    assert cluster.wait_until_equal() == digest
    assert [was_set_aside(cluster, id) for id in cluster.ids] == [id == wrong for id in cluster.ids]
