"""Members whose log has holes, on real files: they heal from each other, and from nobody who gives other records."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvnode.log.record import Record, encode
from kvnode.log.viewing.listing import look_at
from kvnode.log.viewing.reader import Found, Reader
from kvnode.node import fetching
from kvnode.node.set_aside import EntriesLost, SetAside
from tests.unit.node.small_cluster import Cluster

VALUE = "v" * 300
WRITES = 60  # some segments of 4 KiB


def filled(tmp_path: Path) -> Cluster:
    """Three members with the same log in several segments, all stopped."""
    cluster = Cluster(data=tmp_path)
    cluster.run(3000)
    client = cluster.client("A")
    for number in range(WRITES):
        assert client.ask(f"SET key{number} {VALUE}") == b"OK"
    cluster.run(500)
    cluster.crash("A", "B", "C")
    return cluster


def found(cluster: Cluster, member: str) -> list[Found]:
    assert cluster.data is not None
    return [item for item in Reader(look_at(cluster.data / member)) if isinstance(item, Found)]


def records(cluster: Cluster, member: str) -> list[Record]:
    return [item.record for item in found(cluster, member)]


def place_of(cluster: Cluster, member: str, seq: int) -> Found:
    return next(item for item in found(cluster, member) if item.record.first_seq <= seq <= item.record.last_seq)


def flip(cluster: Cluster, member: str, seq: int) -> None:
    """One byte of the record with this seq is another one."""
    record, path, offset = place_of(cluster, member, seq)
    data = bytearray(path.read_bytes())
    data[offset + record.size // 2] ^= 0xFF
    path.write_bytes(data)


def is_set_aside(cluster: Cluster, member: str) -> bool:
    return isinstance(cluster.hosts[member].node, SetAside)


def raws(cluster: Cluster, member: str, to_seq: int) -> list[bytes]:
    return [record.raw for record in records(cluster, member) if record.last_seq <= to_seq]


def test_a_member_with_a_hole_takes_the_records_from_another_and_then_takes_part(tmp_path: Path) -> None:
    cluster = filled(tmp_path)
    before = raws(cluster, "B", 10**9)
    flip(cluster, "B", 17)
    flip(cluster, "B", 40)
    cluster.start("A", "C")
    cluster.run(3000)
    cluster.start("B")
    cluster.run(3000)
    assert not is_set_aside(cluster, "B")
    assert raws(cluster, "B", WRITES + 1)[: len(before)] == before
    assert cluster["B"].raft.may_vote
    assert cluster.local("B", "key16") == VALUE.encode()


def test_exactly_what_is_bad_is_fetched_and_there_is_no_vote_meanwhile(tmp_path: Path) -> None:
    """X8: B and C were a majority, but for one record of B, which the disk of C does not give for a while."""
    cluster = filled(tmp_path)
    before = raws(cluster, "B", 10**9)
    bad = place_of(cluster, "B", 17).record
    flip(cluster, "B", 17)
    cluster.start("C")
    cluster.hosts["C"].reader_is_stopped = True
    cluster.start("B")
    term = cluster["C"].raft.term
    cluster.run(10_000)
    assert is_set_aside(cluster, "B")
    assert not cluster["C"].raft.leading
    assert cluster["C"].raft.term == term
    assert raws(cluster, "B", 10**9) == [raw for raw in before if raw != bad.raw], "the others are where they were"
    cluster.hosts["C"].reader_is_stopped = False
    cluster.run(10_000)
    healed = [fields for _, event, fields in cluster.hosts["B"].notes if event.startswith("healed")]
    size = bad.last_seq - bad.first_seq + 1
    assert healed == [{"entries": size, "bytes": len(bad.raw), "from_members": "C"}]
    assert raws(cluster, "B", 10**9)[: len(before)] == before
    assert cluster.leaders


def test_no_leader_is_needed(tmp_path: Path) -> None:
    """Two of three are set aside, so there is no majority until they have healed each other."""
    cluster = filled(tmp_path)
    before = raws(cluster, "A", 10**9)
    flip(cluster, "A", 17)
    flip(cluster, "B", 40)
    cluster.start("A", "B")
    cluster.run(3000)
    assert not is_set_aside(cluster, "A")
    assert not is_set_aside(cluster, "B")
    assert raws(cluster, "A", WRITES + 1)[: len(before)] == raws(cluster, "B", WRITES + 1)[: len(before)] == before
    cluster.run(2000)
    assert cluster.leaders


def test_three_members_with_damage_in_three_places_heal_each_other(tmp_path: Path) -> None:
    cluster = filled(tmp_path)
    for member, seq in zip("ABC", (17, 30, 45), strict=True):
        flip(cluster, member, seq)
    cluster.start("A", "B", "C")
    cluster.run(5000)
    assert not any(is_set_aside(cluster, member) for member in "ABC")
    assert raws(cluster, "A", WRITES) == raws(cluster, "B", WRITES) == raws(cluster, "C", WRITES)


def test_while_set_aside_a_member_neither_votes_nor_acknowledges(tmp_path: Path) -> None:
    cluster = filled(tmp_path)
    flip(cluster, "A", 17)
    flip(cluster, "B", 17)
    cluster.start("A", "B")
    cluster.run(5000)
    assert is_set_aside(cluster, "A"), "the other lacks the same"
    assert is_set_aside(cluster, "B")
    cluster.start("C")
    cluster.run(5000)
    assert not is_set_aside(cluster, "A")
    assert not is_set_aside(cluster, "B")


def test_an_entry_that_no_member_has_stops_the_nodes_with_its_number(tmp_path: Path) -> None:
    cluster = filled(tmp_path)
    for member in "ABC":
        flip(cluster, member, 17)
    cluster.start("A", "B", "C")
    with pytest.raises(EntriesLost, match="entry 17"):
        cluster.run(30_000)
    assert len(records(cluster, "A")) >= 15, "nothing was cut"


def test_the_wait_for_a_member_that_is_down_has_no_end(tmp_path: Path) -> None:
    cluster = filled(tmp_path)
    for member in "AB":
        flip(cluster, member, 17)
    cluster.start("A", "B")
    cluster.run(60_000)
    assert is_set_aside(cluster, "A")
    notes = [fields for _, event, fields in cluster.hosts["A"].notes if event.startswith("no member that answers")]
    assert notes[-1]["waiting_for"] == "C"
    assert len(notes) <= 3, "it is said once"


def test_records_of_another_history_do_not_close_a_hole(tmp_path: Path) -> None:
    """**S** What continues the record before the hole must itself be continued by the one after it."""
    cluster = filled(tmp_path)
    record, path, offset = place_of(cluster, "C", 17)
    r = record
    forged = encode(r.prev_checksum, r.first_seq, r.term, r.time_ms, r.commit_seq, [["SET", b"key15", b"w" * 300]])
    assert forged.size == record.size
    data = bytearray(path.read_bytes())
    data[offset : offset + record.size] = forged.raw
    path.write_bytes(data)
    flip(cluster, "B", 17)
    cluster.start("B", "C")
    cluster.run(5000)
    assert is_set_aside(cluster, "B")
    cluster.start("A")
    cluster.run(5000)
    assert not is_set_aside(cluster, "B")
    assert cluster.local("B", "key15") == VALUE.encode()


def test_a_missing_segment_comes_back(tmp_path: Path) -> None:
    cluster = filled(tmp_path)
    names = sorted(path.name for path in (tmp_path / "B").glob("*.log"))
    assert len(names) >= 4
    (tmp_path / "B" / names[0]).unlink()
    (tmp_path / "B" / names[2]).unlink()
    cluster.start("A", "B", "C")
    cluster.run(5000)
    assert not is_set_aside(cluster, "B")
    assert raws(cluster, "B", WRITES) == raws(cluster, "A", WRITES)


def test_a_bad_segment_header_is_written_anew(tmp_path: Path) -> None:
    cluster = filled(tmp_path)
    names = sorted((tmp_path / "B").glob("*.log"))
    data = bytearray(names[1].read_bytes())
    data[5] ^= 0xFF
    names[1].write_bytes(data)
    cluster.start("B")
    cluster.run(2000)
    assert not is_set_aside(cluster, "B"), "nobody is needed for that"


def test_what_a_leader_does_not_have_was_never_committed(tmp_path: Path) -> None:
    """A leads alone and logs what nobody else gets; that part of its log rots, while the others go on without it."""
    cluster = Cluster(data=tmp_path)
    cluster.run(3000)
    cluster.elect("A")
    client = cluster.client("A")
    for number in range(10):
        assert client.ask(f"SET key{number} {VALUE}") == b"OK"
    cluster.cut_off("A")
    lonely = [cluster.client("A") for _ in range(5)]
    for number, each in enumerate(lonely):
        each.send(f"SET lonely{number} {VALUE}")
        cluster.run(5)
    last_seq = cluster["A"].raft.index.last_seq
    assert last_seq > cluster["A"].raft.commit_seq
    cluster.run(5000)
    cluster.crash("A")
    assert records(cluster, "A")[-1].last_seq > 12
    flip(cluster, "A", 12)
    cluster.heal()
    cluster.start("A")
    cluster.run(8000)
    assert not is_set_aside(cluster, "A")
    assert cluster["A"].raft.may_vote, "brought up to date by the leader"
    assert cluster.local("A", "lonely0") is None
    assert cluster["A"].raft.index.last_seq == cluster["B"].raft.index.last_seq


def test_all_of_them_stop_however_late_they_start(tmp_path: Path) -> None:
    """What a member has answered holds while it is away: it can not have got the entry from anybody."""
    cluster = filled(tmp_path)
    for member in "ABC":
        flip(cluster, member, 17)
    cluster.start("A", "B")
    cluster.run(500)
    cluster.start("C")
    cluster.run(8000)
    stopped: list[str] = []
    while len(stopped) < 3:
        try:
            cluster.run(30_000)
        except EntriesLost as lost:
            (name,) = (member for member in "ABC" if f"/{member}/" in str(lost))
            stopped.append(name)
            cluster.crash(name)
    assert sorted(stopped) == ["A", "B", "C"]


def test_a_member_with_another_history_does_not_lead_astray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C has led alone and still holds what nobody else got: it continues the record before the hole as well."""
    monkeypatch.setattr(fetching, "FETCH_BYTES_MAX", 1000)  # several answers for one hole
    cluster = Cluster(data=tmp_path, scrub_bytes_per_second=0)
    cluster.run(3000)
    cluster.elect("C")
    assert cluster.client("C").ask(f"SET before {VALUE}") == b"OK"
    cluster.run(500)
    last_seq = cluster["B"].raft.index.last_seq
    cluster.cut_off("C")
    for number in range(12):
        cluster.client("C").send(f"SET lonely{number} {VALUE}")
        cluster.run(5)
    cluster.crash("C")
    cluster.run(3000)
    cluster.elect("A")
    client = cluster.client("A")
    for number in range(20):
        assert client.ask(f"SET later{number} {VALUE}") == b"OK"
    cluster.run(500)
    cluster.crash("A", "B")
    for seq in range(last_seq + 1, last_seq + 11):
        flip(cluster, "B", seq)
    cluster.heal()
    cluster.hosts["B"].begin()
    cluster.hosts["C"].begin()
    cluster.run(15_000)
    assert is_set_aside(cluster, "B"), "C can not help, and A is waited for"
    cluster.start("A")
    cluster.run(8000)
    assert not is_set_aside(cluster, "B")
    given_up = "records cut off: they are no committed history"
    assert given_up not in [event for _, event, _ in cluster.hosts["B"].notes]
    assert cluster.local("B", "later19") == VALUE.encode()
    assert cluster.local("B", "lonely0") is None
