"""The same nodes over the real log: what the memory disk of the other tests takes for granted holds on files."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvnode.log.record import Record, encode
from tests.unit.node.small_cluster import Cluster


def joined(data: Path) -> Cluster:
    cluster = Cluster("ABC", data=data, may_vote=False)
    cluster.run(500)
    cluster.elect("A")
    return cluster


def test_a_member_that_was_away_is_sent_what_it_lacks_across_segments(tmp_path: Path) -> None:
    cluster = joined(tmp_path)
    cluster.client("A").ask("SET k 0")
    cluster.crash("C")
    for number in range(30):
        assert cluster.client("B").ask([b"SET", b"k%d" % number, b"x" * 600]) == b"OK"
    cluster.crash("A", "B")
    cluster.start("A", "B")
    cluster.elect("A")
    cluster.start("C")
    cluster.run(500)
    assert cluster.client("C").ask("DBSIZE") == 31
    assert cluster["C"].catch_up.entries_received == cluster["A"].raft.index.last_seq - 2
    segments = [sorted(path.name for path in (tmp_path / member).iterdir() if path.is_file()) for member in "AC"]
    assert all(len(names) > 5 for names in segments)
    cluster.crash("A", "B", "C")


def test_a_suffix_that_lost_is_cut_and_everybody_holds_the_same_after_a_restart(tmp_path: Path) -> None:
    cluster = joined(tmp_path)
    cluster.client("A").ask("SET k 1")
    cluster.hold("A")
    loser = cluster.client("A").send("SET k lost")
    cluster.settle()
    cluster.elect("B")
    assert cluster.client("B").ask("APPEND k 2") == 2
    cluster.crash("A")
    assert loser.is_closed
    cluster.heal()
    cluster.start("A")
    cluster.run(500)
    assert any((tmp_path / "A" / "discarded").iterdir())
    cluster.crash("A", "B", "C")
    cluster.start("A", "B", "C")
    cluster.run(3000)
    assert [cluster.client(member).ask("GET k") for member in "ABC"] == [b"12"] * 3
    checksums = {cluster[member].raft.index.last_checksum for member in "ABC"}
    assert len(checksums) == 1
    cluster.crash("A", "B", "C")


def forge(cluster: Cluster, member: str, seq: int) -> None:
    """Another time in the record that holds `seq`, and a log without a flaw after it."""
    log = cluster.hosts[member].log
    records: list[Record] = []
    log.recover(records.append)
    made: list[Record] = []
    for record in records:
        time_ms = record.time_ms + (record.first_seq <= seq <= record.last_seq)
        prev = made[-1].checksum if made else 0
        made.append(encode(prev, record.first_seq, record.term, time_ms, record.commit_seq, record.entries))
    log.cut(0)
    for record in made:
        log.append([record])
    log.close()


@pytest.mark.parametrize("wrong", ["A", "C"])
def test_a_log_that_differs_is_set_aside_and_healed(tmp_path: Path, wrong: str) -> None:
    cluster = joined(tmp_path)
    for number in range(30):
        assert cluster.client("B").ask([b"SET", b"k%d" % number, b"x" * 600]) == b"OK"
    cluster.run(500)
    cluster.crash("A", "B", "C")
    forge(cluster, wrong, 12)
    cluster.start("A", "B", "C")
    cluster.elect("A")
    cluster.run(3000)
    notes = [(event, fields) for _, event, fields in cluster.hosts[wrong].notes]
    assert [fields["after_seq"] for event, fields in notes if event.startswith("set aside")] == [11]
    assert any((tmp_path / wrong / "discarded").iterdir())
    cluster.crash("A", "B", "C")
    cluster.start("A", "B", "C")
    cluster.run(3000)
    assert all(cluster[member].raft.may_vote for member in "ABC")
    assert not cluster.hosts[wrong].log.identity.set_aside
    assert len({cluster[member].raft.index.last_checksum for member in "ABC"}) == 1
    assert [cluster.client(member).ask("DBSIZE") for member in "ABC"] == [30] * 3
    cluster.crash("A", "B", "C")
