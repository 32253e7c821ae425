"""Damage that is found while a node serves: told, healed from memory or a member, never guessed."""

from __future__ import annotations

from typing import Any

import pytest

from kvnode.log.errors import NoSpaceError
from kvnode.log.record import Record, encode
from kvnode.node import wire
from kvnode.node.tail import TAIL_BYTES_MAX
from tests.unit.node.small_cluster import Cluster, led_by

PAUSE_MS = 1000
VALUE = "v" * 900


def scrubbed(leader: str = "A", **settings: Any) -> Cluster:
    return led_by(leader, **{"scrub_pause_ms": PAUSE_MS, **settings})


def fill(cluster: Cluster, count: int = 30) -> None:
    client = cluster.client("A")
    for number in range(count):
        assert client.ask(f"SET key{number} {VALUE}") == b"OK"


def forget(cluster: Cluster, member: str) -> None:
    """Let its newest records not be in memory any more, as after some MiB of others."""
    tail = cluster[member].tail
    tail._bytes += TAIL_BYTES_MAX
    while tail._ends:
        tail._forget(tail._ends.popleft()[0])


def rot(cluster: Cluster, member: str, seq: int) -> Record:
    log = cluster.hosts[member].log
    record = next(record for record in log.records if record.first_seq <= seq <= record.last_seq)
    log.rotten.add(record.last_seq)
    return record


def events(cluster: Cluster, member: str) -> list[str]:
    return [event for _, event, _ in cluster.hosts[member].notes]


def test_a_pass_reads_the_whole_log_again_and_says_so() -> None:
    cluster = scrubbed()
    fill(cluster)
    cluster.run(3 * PAUSE_MS)
    scrubbing = cluster["B"].scrubbing
    assert scrubbing.passes >= 1
    assert scrubbing.bytes_read >= sum(record.size for record in cluster.hosts["B"].log.records)
    assert (scrubbing.found, scrubbing.damaged_entries) == (0, 0)


def test_a_rate_of_zero_reads_nothing() -> None:
    cluster = scrubbed(scrub_bytes_per_second=0)
    fill(cluster)
    rot(cluster, "B", 5)
    cluster.run(5 * PAUSE_MS)
    assert cluster["B"].scrubbing.bytes_read == 0


def test_the_rate_is_kept() -> None:
    cluster = scrubbed(scrub_bytes_per_second=4096)
    fill(cluster)
    size = sum(record.size for record in cluster.hosts["B"].log.records)
    cluster.run(PAUSE_MS + 100)
    assert cluster["B"].scrubbing.passes == 0, "one piece is read at once, the pass ends when the rate allows"
    cluster.run(1000 * size / 4096 + 200)
    assert cluster["B"].scrubbing.passes == 1


def test_newest_records_are_healed_from_memory() -> None:
    cluster = scrubbed()
    fill(cluster)
    rot(cluster, "B", 7)
    cluster.cut_off("B")
    cluster.run(2 * PAUSE_MS)
    assert not cluster.hosts["B"].log.rotten
    assert cluster["B"].scrubbing.healed == 1


def test_older_records_come_from_another_member() -> None:
    cluster = scrubbed()
    fill(cluster)
    for seq in (3, 4, 20):
        rot(cluster, "B", seq)
    forget(cluster, "B")
    cluster.run(3 * PAUSE_MS)
    assert not cluster.hosts["B"].log.rotten
    assert cluster["B"].scrubbing.found == 3
    assert "damage in the log: it is healed while this node serves" in events(cluster, "B")
    assert events(cluster, "B").count("healed: the records can be read again") == 3


def test_a_leader_with_damage_hands_over_and_heals_without_a_lost_reply() -> None:
    cluster = scrubbed()
    fill(cluster)
    rot(cluster, "A", 9)
    forget(cluster, "A")
    cluster.run(4 * PAUSE_MS)
    assert cluster["A"].raft.leading is None
    assert cluster["A"].raft.may_vote, "what it has applied it still has"
    assert not cluster.hosts["A"].log.rotten
    assert cluster.client("A").ask("GET key9") == VALUE.encode()


def test_what_a_member_gives_is_compared_with_what_this_node_remembers() -> None:
    """**S** A member whose record verifies but is another one must not be believed."""
    cluster = scrubbed()
    fill(cluster)
    cluster.run(100)
    rotten = rot(cluster, "B", 9)
    forget(cluster, "B")
    r = rotten
    forged = encode(r.prev_checksum, r.first_seq, r.term, r.time_ms, r.commit_seq, [["SET", b"key8", b"forged"]])
    cluster.cut_off("B-C")
    records = cluster.hosts["A"].log.records
    records[records.index(next(each for each in records if each.last_seq == r.last_seq))] = forged
    cluster.run(4 * PAUSE_MS)
    assert cluster.hosts["B"].log.rotten, "A gives another record, C can not be reached"
    assert "damage in the log that no member can heal now" in events(cluster, "B")
    cluster.heal()
    cluster.run(2 * PAUSE_MS)
    assert not cluster.hosts["B"].log.rotten


def test_damaged_records_are_given_to_nobody_and_looked_at() -> None:
    cluster = scrubbed()
    fill(cluster)
    for member in "BC":
        rot(cluster, member, 9)
        forget(cluster, member)
    cluster.cut_off("A")
    cluster.run(3 * PAUSE_MS)
    assert cluster.hosts["B"].log.rotten, "C has the same damage"
    assert cluster.hosts["C"].log.rotten
    cluster.heal()
    cluster.run(3 * PAUSE_MS)
    assert not cluster.hosts["B"].log.rotten
    assert not cluster.hosts["C"].log.rotten


def damaged_where_a_member_was_away() -> Cluster:
    """C is down, and what it lacks the leader A can only read from a disk with a damaged place."""
    cluster = scrubbed(scrub_pause_ms=3_600_000)
    fill(cluster)
    cluster.crash("C")
    fill(cluster)
    rot(cluster, "A", 45)
    forget(cluster, "A")
    return cluster


def test_a_leader_looks_at_what_a_follower_finds_damaged() -> None:
    """The bytes on their way to a member that was away come from the disk as they are."""
    cluster = damaged_where_a_member_was_away()
    cluster.start("C")
    cluster.run(5000)
    assert not cluster.hosts["A"].log.rotten
    assert cluster["C"].raft.index.last_seq == cluster["A"].raft.index.last_seq


def test_what_was_sent_damaged_is_sent_as_it_was_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody writes meanwhile, so that it is the same Append again, by the same leader."""
    cluster = damaged_where_a_member_was_away()
    monkeypatch.setattr(cluster["A"].raft, "transfer", lambda **_: None)  # there is nobody to hand over to
    cluster.start("C")
    cluster.run(5000)
    assert "healed: the records can be read again" in events(cluster, "A")
    assert cluster.leaders == ["A"]
    assert cluster.log("C") == cluster.log("A")


def test_a_cluster_of_one_says_that_nobody_can_heal_it() -> None:
    cluster = led_by("A", ids="A", scrub_pause_ms=PAUSE_MS)
    fill(cluster)
    rot(cluster, "A", 5)
    forget(cluster, "A")
    cluster.run(3 * PAUSE_MS)
    assert events(cluster, "A").count("damage in the log that no member can heal now") == 1
    assert cluster["A"].scrubbing.damaged_entries == 1
    assert cluster.client("A").ask("GET key4") == VALUE.encode()


def test_damage_in_what_was_cut_meanwhile_is_forgotten() -> None:
    cluster = scrubbed()
    fill(cluster, 5)
    cluster.cut_off("A")
    lonely = cluster.client("A").send("SET lost 1")
    cluster.run(50)
    last_seq = cluster["A"].raft.index.last_seq
    bad = [(last_seq - 1, last_seq, "rotten")]
    cluster["A"].scrubbing.on_scrubbed(last_seq - 1, [(last_seq, 0)], bad, 10)
    cluster.run(3000)
    cluster.heal()
    cluster.run(3000)
    assert cluster["A"].scrubbing.damaged_entries == 0
    assert lonely.replies is not None


@pytest.mark.parametrize("token", [0, 1, 2**62])
def test_an_answer_that_nobody_asked_for_has_no_effect(token: int) -> None:
    cluster = scrubbed()
    fill(cluster, 3)
    link = cluster.links["B", "A", "records"]
    before = repr(cluster["B"])
    cluster["B"].peers.on_message(
        cluster["B"].peers.links.dialed["A", "records"], wire.Fetched(token, b"junk", "", leads=True)
    )
    cluster.settle()
    assert repr(cluster["B"]) == before
    assert link is not None


def test_a_pass_ends_while_clients_write() -> None:
    """It ends where the log ended when it began."""
    cluster = scrubbed(scrub_bytes_per_second=20_000)
    fill(cluster)
    rot(cluster, "B", 3)
    forget(cluster, "B")
    client = cluster.client("A")
    for number in range(150):
        assert client.ask(f"SET more{number} {VALUE}") == b"OK"
        cluster.run(50)
    assert cluster["B"].scrubbing.passes >= 1
    assert cluster["B"].scrubbing.healed == 1


def test_a_member_has_one_question_answered_at_a_time() -> None:
    """However many it sends: answers are large."""
    cluster = scrubbed()
    fill(cluster)
    cluster.hosts["A"].reader_is_stopped = True
    for token in range(100):
        cluster.inject("B", "A", wire.Fetch(token, 0, 0, 1 << 20))
    cluster.settle()
    assert len(cluster.hosts["A"].reads) == 1


def test_what_could_not_be_healed_is_tried_again() -> None:
    cluster = scrubbed()
    fill(cluster)
    rot(cluster, "B", 7)
    log = cluster.hosts["B"].log
    heal, log.heal = log.heal, _no_room
    cluster.run(3 * PAUSE_MS)
    assert cluster["B"].scrubbing.damaged_entries == 1
    assert "damage in the log that can not be healed now" in events(cluster, "B")
    log.heal = heal
    cluster.run(2 * PAUSE_MS)
    assert not log.rotten
    assert cluster["B"].scrubbing.damaged_entries == 0


def _no_room(after_seq: int, to_seq: int, data: bytes) -> None:
    raise NoSpaceError("There is no room on the disk.")


def alone_with_damage() -> Cluster:
    """A has led, logged a record that nobody else has, and lost it; it has started anew and reads no more of it."""
    cluster = scrubbed()
    fill(cluster, 5)
    cluster.cut_off("A")
    cluster.client("A").send("SET lost 1")
    cluster.run(50)
    cluster.crash("A", "B", "C")
    rot(cluster, "A", cluster.hosts["A"].log.last_seq)
    cluster.heal()
    cluster.start("A", "B", "C")
    return cluster


def test_who_alone_has_what_it_can_not_read_makes_way() -> None:
    cluster = alone_with_damage()
    cluster.elect("A")
    cluster["A"].scrubbing.suspect(cluster["A"].raft.index.end_at_or_before(6, cluster["A"].raft.term))
    cluster.run(5000)
    assert "stepping down" in events(cluster, "A")
    (leader,) = cluster.leaders
    assert leader != "A"
    assert cluster.client("A").ask("GET lost") is None
    cluster.run(3 * PAUSE_MS)
    assert cluster["A"].scrubbing.damaged_entries == 0
    assert not cluster["A"].raft.is_unfit
    assert cluster.log("A") == cluster.log(leader)


def test_it_does_not_campaign_meanwhile_and_may_lead_again_later() -> None:
    cluster = alone_with_damage()
    cluster["A"].scrubbing.suspect(cluster["A"].raft.index.end_at_or_before(6, cluster["A"].raft.term))
    cluster.run(200)
    assert cluster["A"].raft.is_unfit
    cluster["A"].raft._role._deadline_ms = cluster.now_ms  # it is the first whose patience ends
    cluster.run(5000)
    assert len(cluster.leaders) == 1
    assert cluster.leaders != ["A"]
    assert events(cluster, "A").count("leadership won") == 1, "before the crash"
    cluster.elect("A")
    assert cluster.client("A").ask("SET later 1") == b"OK"
