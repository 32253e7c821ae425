"""A log that is whole in itself and not the cluster's: found by checksums, set aside where a majority has another one.

A forged log has one record changed, and all later ones made anew so that every checksum and the chain hold.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from kvnode.log.record import Record, encode
from kvnode.node.comparing import Comparing
from kvnode.node.deeds import GrantRightToVote, SetAsideLog
from kvnode.node.wire import CompareAnswer, CompareQuestion, StandAside
from kvnode.raft import messages as m
from tests.unit.node.small_cluster import Cluster, Host, led_by

MANY = 5000


def forged(records: list[Record], seq: int, value: str = "forged") -> list[Record]:
    """The records with another value in the entry `seq`."""
    made: list[Record] = []
    for record in records:
        entries = [list(entry) for entry in record.entries]
        if record.first_seq <= seq <= record.last_seq:
            entries[seq - record.first_seq] = ["SET", b"k", value.encode()]
        prev = made[-1].checksum if made else 0
        fields = (record.first_seq, record.term, record.time_ms, record.commit_seq, entries, record.origins)
        made.append(encode(prev, *fields))
    return made


def forge(cluster: Cluster, member: str, seq: int, value: str = "forged") -> None:
    """While it is down."""
    log = cluster.hosts[member].log
    assert 0 < seq <= log.last_seq
    log.records = forged(log.records, seq, value)


def notes(host: Host, event: str) -> list[dict[str, Any]]:
    return [fields for _, name, fields in host.notes if name == event]


def errors(host: Host, event: str = "histories differ") -> list[dict[str, Any]]:
    assert {level for level, name, _ in host.notes if name == event} <= {"error"}
    return notes(host, event)


def was_set_aside(cluster: Cluster, member: str) -> bool:
    return bool(errors(cluster.hosts[member], "set aside: this log is not the cluster's"))


def agree(cluster: Cluster, *members: str) -> bool:
    """All these hold the same records durably, know all of them committed, and may vote."""
    logs = [[record.raw for record in cluster.hosts[member].log.records] for member in members]
    return all(
        log == logs[0]
        and cluster[member].raft.may_vote
        and not cluster.hosts[member].log.identity.set_aside
        and cluster[member].applier.applied_seq == cluster.hosts[member].log.last_seq
        for member, log in zip(members, logs, strict=True)
    )


def cluster_of(count: int, ids: str = "ABC", **settings: Any) -> Cluster:
    """All down, with the same log of `count` records, each one SET."""
    cluster = Cluster(ids, down=ids, **settings)
    records: list[Record] = []
    for seq in range(1, count + 1):
        prev = records[-1].checksum if records else 0
        records.append(encode(prev, seq, 1, 1_700_000_000_000 + seq, seq - 1, [["SET", b"k", b"%d" % seq]]))
    for host in cluster.hosts.values():
        host.log.records = list(records)
        host.log.term = 1
    return cluster


# Who is wrong


def test_a_follower_that_differs_sets_itself_aside_and_heals() -> None:
    cluster = led_by("A")
    client = cluster.client("A")
    for number in range(9):
        client.ask(f"SET k {number}")
    cluster.crash("C")
    forge(cluster, "C", 4)
    cluster.start("C")
    cluster.run(1000)
    (error,) = errors(cluster.hosts["A"])
    assert (error["member"], error["seq"], error["record_ends_at"]) == ("C", 4, 4)
    assert error["verdict"] == "C differs from the majority (A, B) and is set aside"
    assert len(set(error["checksums"].split())) == 3
    (aside,) = errors(cluster.hosts["C"], "set aside: this log is not the cluster's")
    assert aside == {"after_seq": 3, "reason": "the log differs from that of A, B from seq 4 on"}
    assert agree(cluster, "A", "B", "C")
    assert cluster.local("C", "k") == b"8"
    assert cluster.leaders == ["A"]
    client.ask("SET k last")
    cluster.run(10)
    assert cluster.local("C", "k") == b"last"


def test_a_leader_that_differs_sets_itself_aside_and_another_is_elected() -> None:
    cluster = cluster_of(20)
    forge(cluster, "A", 7)
    cluster.start("A", "B", "C")
    cluster.elect("A")
    cluster.run(3000)
    (error,) = errors(cluster.hosts["A"])
    assert error["verdict"] == "A, which leads, differs from the majority (B, C) and sets itself aside"
    assert error["seq"] == 7
    assert not was_set_aside(cluster, "B")
    assert not was_set_aside(cluster, "C")
    assert not notes(cluster.hosts["A"], "handing over leadership")
    assert len(cluster.leaders) == 1
    assert agree(cluster, "A", "B", "C")
    assert cluster.local("A", "k") == b"20"


@pytest.mark.parametrize("wrong", ["A", "C"])
def test_while_no_majority_is_known_nothing_is_cut(wrong: str) -> None:
    cluster = cluster_of(20)
    forge(cluster, wrong, 7)
    before = {member: list(cluster.hosts[member].log.records) for member in "AC"}
    cluster.start("A", "C")
    cluster.elect("A")
    cluster.run(20_000)
    assert not was_set_aside(cluster, "A")
    assert not was_set_aside(cluster, "C")
    assert cluster.leaders == ["A"]
    assert cluster.hosts["C"].log.records == before["C"]
    assert cluster.hosts["A"].log.records[:20] == before["A"]
    (error,) = errors(cluster.hosts["A"])
    assert error["seq"] == 7
    assert error["verdict"] == "no majority can be named, nothing is cut; B does not answer"
    cluster.run(60_000)
    assert len(errors(cluster.hosts["A"])) == 2  # repeated, and rarely

    cluster.start("B")
    cluster.run(3000)
    assert was_set_aside(cluster, wrong)
    assert not was_set_aside(cluster, {"A": "C", "C": "A"}[wrong])
    assert agree(cluster, "A", "B", "C")
    assert cluster.local("B", "k") == b"20"


def test_three_different_logs_have_no_majority() -> None:
    cluster = cluster_of(20)
    forge(cluster, "A", 7, "one")
    forge(cluster, "B", 7, "other")
    cluster.start("A", "B", "C")
    cluster.elect("A")
    cluster.run(10_000)
    assert not any(was_set_aside(cluster, member) for member in "ABC")
    assert {error["member"] for error in errors(cluster.hosts["A"])} == {"B", "C"}
    assert all("no majority can be named" in error["verdict"] for error in errors(cluster.hosts["A"]))
    assert {cluster.hosts[member].log.last_seq for member in "BC"} == {20}


def test_two_of_five_that_differ_both_heal() -> None:
    cluster = cluster_of(20, "ABCDE")
    forge(cluster, "D", 7)
    forge(cluster, "E", 12)
    cluster.start(*"ABCDE")
    cluster.elect("A")
    cluster.run(3000)
    assert {(error["member"], error["seq"]) for error in errors(cluster.hosts["A"])} == {("D", 7), ("E", 12)}
    assert agree(cluster, *"ABCDE")
    assert [was_set_aside(cluster, member) for member in "ABCDE"] == [False, False, False, True, True]


def test_a_leader_and_a_member_that_differ_from_the_rest_and_each_other() -> None:
    cluster = cluster_of(20, "ABCDE")
    forge(cluster, "A", 7)
    forge(cluster, "E", 12)
    cluster.start(*"ABCDE")
    cluster.elect("A")
    cluster.run(5000)
    assert agree(cluster, *"ABCDE")
    assert [was_set_aside(cluster, member) for member in "ABCDE"] == [True, False, False, False, True]


def test_one_of_two_can_not_be_judged() -> None:
    cluster = cluster_of(5, "AB")
    forge(cluster, "B", 2)
    cluster.start("A", "B")
    cluster.elect("A")
    cluster.run(5000)
    assert [error["verdict"] for error in errors(cluster.hosts["A"])] == [
        "no majority can be named, nothing is cut; all members have answered"
    ]
    assert cluster.hosts["B"].log.last_seq == 5


# Where logs part


@pytest.mark.parametrize("wrong", ["A", "C"])
@pytest.mark.parametrize("seq", [1, 2, 2500, MANY - 1, MANY])
def test_the_place_is_found_with_few_questions(wrong: str, seq: int) -> None:
    cluster = cluster_of(MANY)
    forge(cluster, wrong, seq)
    cluster.hosts["A"].log.records_per_read = 1000
    cluster.start("A", "B", "C")
    cluster.elect("A")
    asker = cluster["A"].comparing
    asked = 0
    for _ in range(100):
        before = asker._nonce
        cluster.run(10)
        asked += asker._nonce - before
        if cluster["A"].comparing is not asker or was_set_aside(cluster, wrong):
            break
    assert was_set_aside(cluster, wrong)
    assert {error["seq"] for error in errors(cluster.hosts["A"])} == {seq}
    # A search of one member takes three questions, then everybody is asked; two members differ from a wrong leader.
    assert asked <= (2 if wrong == "A" else 1) * (3 + 2)
    cluster.run(4000)
    assert agree(cluster, "A", "B", "C")


def test_records_are_indivisible() -> None:
    cluster = led_by("A")
    client = cluster.client("A")
    cluster.stop_disk("A", "B", "C")
    client.send("SET a 1", *(["SET k 1"] * 10))
    client.send(*(["SET k 2"] * 10))
    cluster.start_disk("A", "B", "C")
    cluster.run(10)
    ends = [record.last_seq for record in cluster.hosts["C"].log.records]
    place = next(record for record in cluster.hosts["C"].log.records if len(record.entries) > 5)
    cluster.crash("C")
    forge(cluster, "C", place.last_seq - 1)
    cluster.start("C")
    cluster.run(1000)
    (error,) = errors(cluster.hosts["A"])
    assert (error["seq"], error["record_ends_at"]) == (place.first_seq, place.last_seq)
    assert place.last_seq in ends
    assert agree(cluster, "A", "B", "C")


def test_other_ends_of_records_are_a_difference_too() -> None:
    """Two records made one, where the rest has two; and the other way round."""
    cluster = cluster_of(10)
    records = cluster.hosts["C"].log.records
    first, second = records[3:5]
    joined = encode(records[2].checksum, 4, 1, first.time_ms, 3, [*first.entries, *second.entries])
    made = [*records[:3], joined]
    for record in records[5:]:
        fields = (record.first_seq, record.term, record.time_ms, record.commit_seq, record.entries)
        made.append(encode(made[-1].checksum, *fields))
    for joined_at in ("C", "A", "AB", "BC"):
        cluster = cluster_of(10)
        for member in joined_at:
            cluster.hosts[member].log.records = list(made)
        cluster.start("A", "B", "C")
        cluster.elect("A")
        cluster.run(4000)
        assert [was_set_aside(cluster, member) for member in "ABC"] == [
            (member in joined_at) == (len(joined_at) == 1) for member in "ABC"
        ]
        assert errors(cluster.hosts["A"])[0]["seq"] == 4
        assert agree(cluster, "A", "B", "C")


def test_who_has_the_record_where_logs_part_is_a_witness() -> None:
    """Also if it does not have the one yet at which the difference was seen."""
    cluster = led_by("A")
    client = cluster.client("A")
    for number in range(5):
        client.ask(f"SET k {number}")
    cluster.hold_link(cluster.links["A", "B", "data"])
    for number in range(5):
        client.ask(f"SET k {number}")
    cluster.crash("C")
    forge(cluster, "C", 3)
    cluster.start("C")
    cluster.run(1000)
    assert cluster["B"].raft.index.last_seq == 6
    assert was_set_aside(cluster, "C")
    assert cluster.hosts["C"].log.last_seq == 11
    cluster.heal()
    cluster.run(1000)
    assert agree(cluster, "A", "B", "C")


def test_what_another_term_replaces_is_no_difference() -> None:
    cluster = led_by("A")
    cluster.cut_off("A")
    cluster.client("A").send("SET k lost")
    cluster.settle()
    cluster.elect("B")
    cluster.client("B").ask("SET k kept")
    cluster.heal()
    cluster.run(3000)
    assert agree(cluster, "A", "B", "C")
    assert notes(cluster.hosts["A"], "conflicting suffix cut")
    assert not any(errors(host) for host in cluster.hosts.values())


def test_a_member_that_only_lags_is_no_difference() -> None:
    cluster = led_by("A")
    cluster.crash("C")
    for number in range(5):
        cluster.client("A").ask(f"SET k {number}")
    cluster.start("C")
    cluster.run(1000)
    assert agree(cluster, "A", "B", "C")
    assert not errors(cluster.hosts["A"])


# How a difference shows


def test_a_difference_shows_in_the_heartbeat() -> None:
    """In a member that follows well and has not been asked where it is."""
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    cluster.run(200)
    index = cluster["C"].raft.index
    index._checksums[-1] ^= 1
    index.last_checksum ^= 1
    cluster.run(101)
    assert errors(cluster.hosts["A"])[0]["seq"] == 2
    cluster.run(1000)
    assert was_set_aside(cluster, "C")
    assert agree(cluster, "A", "B", "C")


def test_what_is_not_true_any_more_is_forgotten() -> None:
    """A Position that was late, or wrong: the member is asked, and then sent to as before."""
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    cluster.inject("C", "A", m.Position(1, 2, 1, 12345, True))
    cluster.settle()
    assert not errors(cluster.hosts["A"])
    assert not cluster["A"].comparing._differences
    cluster.client("A").ask("SET k 2")
    cluster.run(200)
    assert agree(cluster, "A", "B", "C")


def test_a_member_that_does_not_have_the_record_yet_does_not_differ() -> None:
    """It has said otherwise, in an earlier life perhaps."""
    cluster = led_by("A")
    cluster.hold_link(cluster.links["A", "C", "data"])
    cluster.client("A").ask("SET k 1")
    cluster.inject("C", "A", m.Position(1, 2, 1, 12345, True))
    cluster.run(1000)
    assert cluster["C"].raft.index.last_seq == 1
    assert not errors(cluster.hosts["A"])
    assert not cluster["A"].comparing._differences


def test_a_difference_is_forgotten_when_its_member_is_away() -> None:
    cluster = cluster_of(5, "ABCDE")
    forge(cluster, "C", 2)
    forge(cluster, "D", 2, "other")  # so there is no majority
    cluster.start("A", "B", "C", "D")
    cluster.elect("A")
    cluster.run(5000)
    difference = cluster["A"].comparing._differences["C"]
    assert cluster["A"].comparing.told() == "C@2,D@2"
    assert b"histories_differ:C@2" in cluster.client("A").ask("INFO raft")
    cluster.run(5000)
    assert cluster["A"].comparing._differences["C"] is difference
    cluster.crash("C")
    cluster.run(4000)
    assert cluster.leaders == ["A"]
    assert cluster["A"].comparing.told() == "D@2"


def test_who_leads_no_more_forgets_differences() -> None:
    cluster = cluster_of(5)
    forge(cluster, "C", 2)
    cluster.start("A", "C")
    cluster.elect("A")
    cluster.run(1000)
    assert cluster["A"].comparing.told() == "C@2"
    cluster.cut_off("A")
    cluster.run(1500)
    assert cluster.leaders == []
    assert not cluster["A"].comparing._differences
    assert not cluster["A"].comparing._asked


def test_a_leader_tells_others_only_when_it_has_committed() -> None:
    """**S** Before, nobody knows that a majority holds its records durably."""
    cluster = cluster_of(20)
    forge(cluster, "C", 7)
    cluster.start("A", "B", "C")
    link = cluster.links["A", "B", "data"]
    cluster.hold_link(link)
    cluster.elect("A")
    cluster.run(3000)
    (error,) = errors(cluster.hosts["A"])
    assert error["verdict"] == "C differs from the majority (A, B)"
    assert not was_set_aside(cluster, "C")
    assert cluster.hosts["C"].log.last_seq == 20
    cluster.let_go_link(link)
    cluster.run(2000)
    assert was_set_aside(cluster, "C")
    assert agree(cluster, "A", "B", "C")


def asked_of_c() -> tuple[Cluster, Comparing]:
    """The leader A has asked C, whose answers do not reach it."""
    cluster = cluster_of(20)
    forge(cluster, "C", 7)
    cluster.start("A", "B", "C")
    cluster.hold("C>A")
    cluster.campaign("A")
    cluster.run(300)
    assert cluster.leaders == ["A"]
    cluster.let_go("C>A")
    comparing = cluster["A"].comparing
    while not comparing._asked:
        assert cluster._step()
    cluster.hold("C>A")
    return cluster, comparing


def test_lost_questions_are_asked_again() -> None:
    cluster, _ = asked_of_c()
    cluster.let_go("C>A")
    cluster.lose("A-C")
    cluster.run(4000)
    assert agree(cluster, "A", "B", "C")


def test_an_order_is_given_once_in_a_while() -> None:
    cluster, comparing = asked_of_c()
    cluster.hold("B>A")
    cluster.let_go("C>A")
    while "C" not in comparing._differences["C"].answers:
        assert cluster._step()
    cluster.hold("A>C")
    cluster.let_go("B>A")
    cluster.run(900)
    assert len(cluster.messages("A>C", StandAside)) == 1


def test_an_answer_to_a_question_that_was_asked_again_is_not_heard() -> None:
    cluster, comparing = asked_of_c()
    ((late, (_, _, seqs)),) = comparing._asked.items()
    cluster.run(1500)
    assert len(comparing._asked) == 1
    assert late not in comparing._asked
    before = repr(comparing)
    comparing.on_message("C", CompareAnswer(late, [1] * len(seqs), True))
    assert repr(comparing) == before


# Setting aside


def told_to_stand_aside() -> Cluster:
    """C has been told, its disk has not done it yet."""
    cluster = cluster_of(20)
    forge(cluster, "C", 7)
    cluster.start("A", "B", "C")
    cluster.elect("A")
    cluster.stop_disk("C")
    for _ in range(100):
        cluster.run(10)
        if cluster["C"].is_aside:
            return cluster
    raise AssertionError("C was not told")


def said_by(cluster: Cluster, member: str) -> int:
    """How many writes are on their way from a member."""
    links = cluster.hosts[member].links.values()
    return sum(len(queue) for link in links for host, queue in link.on_its_way.items() if host.id != member)


def test_a_member_that_stands_aside_takes_part_in_nothing() -> None:
    cluster = told_to_stand_aside()
    host = cluster.hosts["C"]
    assert isinstance(host.deeds[-1], SetAsideLog)
    cluster.hold("C>A C>B")
    before = said_by(cluster, "C")
    term = cluster["A"].raft.term
    client = cluster.client("C")
    client.send("PING", "GET k", "SET k 9")
    last = cluster["A"].raft.index
    for message in (
        m.Heartbeat(term, 0, 99, True, 0),
        m.PreVoteRequest(term + 1, last.last_seq, last.last_term),
        m.VoteRequest(term + 1, last.last_seq, last.last_term, True),
        m.Heartbeat(term + 2, 0, 99, True, 0),
        CompareQuestion(1, term, [1]),
    ):
        cluster.inject("A", "C", message)
    deeds = len(host.deeds)
    cluster.run(1000)
    assert said_by(cluster, "C") == before
    assert host.outputs.deadline_ms >= cluster.now_ms + 500  # it waits for its disk alone
    cluster.lose("A-C B-C")
    cluster.run(2000)
    assert said_by(cluster, "C") == 0
    assert client.take() == []
    assert len(host.deeds) == deeds
    assert not cluster["C"].raft.may_vote
    assert cluster.client("A").ask("SET k 10") == b"OK"  # the others go on
    cluster.start_disk("C")
    cluster.settle()
    assert cluster.hosts["C"].life == 2
    cluster.heal()
    cluster.run(2000)
    assert agree(cluster, "A", "B", "C")


def test_what_comes_with_the_order_is_not_heard_and_not_answered() -> None:
    cluster = cluster_of(20)
    cluster.start("A", "B", "C")
    cluster.elect("A")
    cluster.run(200)
    forge_in_memory(cluster, "C")
    cluster.stop_disk("C")
    cluster.hold("A>C C>A")
    term, index = cluster["A"].raft.term, cluster["A"].raft.index
    order = StandAside(term, 2, index.checksum_at(2), 20, index.checksum_at(20), "because")
    for message in (
        CompareQuestion(1, term, [1]),
        m.Heartbeat(term, 0, 98, True, 0),
        order,
        m.Heartbeat(term, 0, 99, True, 0),
        m.VoteRequest(term + 1, 99, term, True),
        m.Heartbeat(term + 2, 0, 99, True, 0),
    ):
        cluster.inject("A", "C", message)
    link = cluster.links["A", "C", "control"]
    queue = link.on_its_way[cluster.hosts["C"]]
    together = b"".join(queue)
    queue.clear()
    queue.append(together)
    before = said_by(cluster, "C")
    cluster.let_go("A>C")
    cluster.settle()
    assert cluster["C"].is_aside
    assert said_by(cluster, "C") == before
    assert [type(deed) for deed in cluster.hosts["C"].deeds] == [SetAsideLog]


def forge_in_memory(cluster: Cluster, member: str) -> None:
    """The index of a running member says something else of its last record."""
    index = cluster[member].raft.index
    row = len(index._ends) - 1
    assert index._ends[row] == index.last_seq
    for position in range(4, row + 1):
        index._checksums[position] ^= 1
    index.last_checksum ^= 1


def test_what_the_disk_would_release_is_not_said() -> None:
    """Neither a vote that waits for the ballot nor the acknowledgement of what is being written."""
    cluster = cluster_of(20)
    cluster.start("A", "B", "C")
    cluster.elect("A")
    cluster.run(200)
    cluster.stop_disk("C")
    cluster.client("A").ask("SET k 21")  # C has it in its memory, and on its way to the disk
    cluster.elect("B")  # C was asked for its vote too
    assert [type(deed).__name__ for deed in cluster.hosts["C"].deeds].count("SaveBallot") == 2
    assert cluster["C"].raft.leader == "B"
    forge_in_memory(cluster, "C")
    cluster.hold("C>A C>B")
    before = said_by(cluster, "C")
    term, index = cluster["B"].raft.term, cluster["B"].raft.index
    cluster.inject("B", "C", StandAside(term, 2, index.checksum_at(2), 20, index.checksum_at(20), "because"))
    cluster.settle()
    assert cluster["C"].is_aside
    host = cluster.hosts["C"]
    while not isinstance(host.deeds[0], SetAsideLog):
        host.work_on_disk(1)
        cluster.settle()
        assert said_by(cluster, "C") == before
    assert host.log.term == term  # the ballot is kept: it votes in no term twice
    cluster.start_disk("C")
    cluster.heal()
    cluster.run(3000)
    assert agree(cluster, "A", "B", "C")


def test_clients_of_a_leader_that_stands_aside_are_answered_truthfully() -> None:
    cluster = cluster_of(20)
    forge(cluster, "A", 7)
    cluster.start("A", "B", "C")
    cluster.elect("A")
    write, read, far = cluster.client("A"), cluster.client("A"), cluster.client("B")
    write.send("SET k 21", "GET k")
    read.send("GET k")
    far.send("SET far 1")
    cluster.run(300)
    assert was_set_aside(cluster, "A")
    assert [reply.split()[0] for reply in write.replies] == ["-CLUSTERDOWN", "-CLUSTERDOWN"]
    assert [reply.split()[0] for reply in read.replies] == ["-CLUSTERDOWN"]
    assert write.is_closed
    assert read.is_closed
    cluster.run(3000)
    assert far.replies == [b"OK"]
    assert agree(cluster, "A", "B", "C")


def test_what_a_leader_has_logged_is_in_doubt_and_the_rest_was_not_applied() -> None:
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    cluster.run(200)
    cluster.stop_disk("B", "C")
    logged, batched, far = cluster.client("A"), cluster.client("A"), cluster.client("B")
    logged.send("SET k 2")
    cluster.settle()
    batched.send("SET k 3", "GET k")
    far.send("SET far 1")
    cluster.settle()
    assert logged.replies == batched.replies == far.replies == []
    cluster["A"].raft.index._checksums[1] ^= 1  # that of the last committed record, in memory
    cluster.run(300)
    assert was_set_aside(cluster, "A")
    assert [reply.split()[0] for reply in logged.replies] == ["-UNKNOWN"]
    assert [reply.split()[0] for reply in batched.replies] == ["-CLUSTERDOWN", "-CLUSTERDOWN"]
    cluster.start_disk("B", "C")
    cluster.run(3000)
    assert agree(cluster, "A", "B", "C")
    assert cluster.local("A", "k") == b"2"  # the others had it, and it was committed
    assert far.replies == [b"OK"]  # B was told that it was not logged, and had it done by the next leader


def test_it_may_be_killed_before_its_disk_has_done_it() -> None:
    cluster = told_to_stand_aside()
    cluster.crash("C")
    assert cluster.hosts["C"].log.identity.may_vote
    cluster.start("C")
    cluster.run(2000)
    assert was_set_aside(cluster, "C")
    assert agree(cluster, "A", "B", "C")


def test_it_may_be_killed_between_the_two_steps_of_its_disk() -> None:
    """The right to vote is gone, the log is not cut yet: it is told again, since it counts for no majority anyway."""
    cluster = told_to_stand_aside()
    deed = cluster.hosts["C"].deeds[-1]
    cluster.crash("C")
    log = cluster.hosts["C"].log
    log.set_aside(log.last_seq, deed.reason)
    assert len(log.records) == 20
    cluster.start("C")
    assert not cluster["C"].raft.may_vote
    cluster.stop_disk("C")
    cluster.run(1500)
    assert cluster["C"].is_aside
    cluster.hold("C>A C>B")
    cluster.run(1000)
    assert said_by(cluster, "C") == 0  # not even a question about joining
    cluster.start_disk("C")
    cluster.settle()
    cluster.heal()
    cluster.run(2000)
    assert agree(cluster, "A", "B", "C")


def test_it_may_be_killed_before_it_has_joined_again() -> None:
    cluster = told_to_stand_aside()
    cluster.cut_off("C>A A>C")  # no leader speaks with it
    cluster.start_disk("C")
    cluster.settle()
    for _ in range(3):
        log = cluster.hosts["C"].log
        assert (log.last_seq, log.identity.may_vote) == (6, False)
        assert log.identity.set_aside == "the log differs from that of A, B from seq 7 on"
        cluster.crash("C")
        cluster.start("C")
        cluster.run(500)
        assert not cluster["C"].raft.may_vote
    cluster.heal()
    cluster.run(2000)
    assert agree(cluster, "A", "B", "C")


def test_a_member_that_is_set_aside_elects_nobody() -> None:
    """**S** It has forgotten what commits may rest on: without it two of three are needed."""
    cluster = told_to_stand_aside()
    cluster.start_disk("C")
    cluster.settle()
    cluster.cut_off("C>A A>C")
    cluster.crash("A")
    cluster.run(5000)
    assert cluster.leaders == []
    assert not cluster["C"].raft.may_vote
    cluster.start("A")
    cluster.heal()
    cluster.run(5000)
    assert agree(cluster, "A", "B", "C")
    assert cluster.local("B", "k") == b"20"


def test_nobody_is_set_aside_while_another_has_no_right() -> None:
    """**S** Else one of three would be left, and nobody could bring the others up to date."""
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    cluster.client("A").ask("SET k 2")
    cluster.crash("B", "C")
    cluster.wipe("C")
    forge(cluster, "B", 2)
    cluster.start("B")
    cluster.stop_disk("C")
    cluster.start("C")
    host = cluster.hosts["C"]
    while not (host.deeds and isinstance(host.deeds[0], GrantRightToVote)):
        cluster.run(10)
        while host.deeds and not isinstance(host.deeds[0], GrantRightToVote):
            host.work_on_disk(1)
    cluster.run(1500)
    assert cluster.leaders == ["A"]  # it has committed in its term
    assert not cluster["C"].raft.may_vote
    assert cluster["C"].raft.index.last_seq == 3  # and has the record in question
    assert not was_set_aside(cluster, "B")
    assert "C has no right to vote" in errors(cluster.hosts["A"])[-1]["verdict"]
    cluster.start_disk("C")
    cluster.run(3000)
    assert was_set_aside(cluster, "B")
    assert agree(cluster, "A", "B", "C")


# Messages that are late, wrong or hostile


@pytest.mark.parametrize(
    ("sender", "changes"),
    [
        ("B", {}),
        ("A", {"term": -1}),
        ("A", {"term": +1}),
        ("A", {"after_seq": +1}),
        ("A", {"after_seq": 20}),
        ("A", {"after_seq": 500}),
        ("A", {"after_checksum": +1}),
        ("A", {"seq": -18}),
        ("A", {"seq": +500}),
        ("A", {"checksum": None}),
    ],
)
def test_an_order_that_is_not_meant_for_this_log_does_nothing(sender: str, changes: dict[str, Any]) -> None:
    cluster = cluster_of(20)
    cluster.start("A", "B", "C")
    cluster.elect("A")
    cluster.run(200)
    term, index = cluster["A"].raft.term, cluster["C"].raft.index
    good = {
        "term": term,
        "after_seq": 2,
        "after_checksum": index.checksum_at(2),
        "seq": 20,
        "checksum": index.checksum_at(20) ^ 1,
        "reason": "because",
    }
    wrong: dict[str, Any] = dict(good)
    for name, change in changes.items():
        wrong[name] = index.checksum_at(20) if change is None else good[name] + change  # type: ignore[operator]
    cluster.inject(sender, "C", StandAside(**wrong))
    cluster.run(500)
    assert not was_set_aside(cluster, "C")
    assert agree(cluster, "A", "B", "C")
    cluster.inject("A", "C", StandAside(**good))  # type: ignore[arg-type]
    cluster.settle()
    assert was_set_aside(cluster, "C")


def test_an_order_to_a_leader_does_nothing() -> None:
    cluster = cluster_of(20)
    cluster.start("A", "B", "C")
    cluster.elect("A")
    index = cluster["A"].raft.index
    order = StandAside(cluster["A"].raft.term, 2, index.checksum_at(2), 20, index.checksum_at(20) ^ 1, "because")
    cluster.inject("B", "A", order)
    cluster.run(500)
    assert not was_set_aside(cluster, "A")


@pytest.mark.parametrize("late", [CompareAnswer(1, [1], True), CompareAnswer(1, [None] * 64, False)])
def test_answers_to_no_question_are_not_heard(late: CompareAnswer) -> None:
    cluster = cluster_of(20)
    forge(cluster, "C", 7)
    cluster.start("A", "C")
    cluster.elect("A")
    cluster.run(1000)
    before = repr(cluster["A"].comparing)
    cluster.inject("C", "A", late)
    cluster.settle()
    assert repr(cluster["A"].comparing) == before


@pytest.mark.parametrize("how", ["another member", "too few", "too many"])
def test_answers_that_do_not_fit_the_question_are_not_heard(how: str) -> None:
    cluster, comparing = asked_of_c()
    ((nonce, (whom, _, seqs)),) = comparing._asked.items()
    assert whom == "C"
    before = repr(comparing)
    extra = {"another member": 0, "too few": -1, "too many": 1}[how]
    comparing.on_message("B" if how == "another member" else "C", CompareAnswer(nonce, [1] * (len(seqs) + extra), True))
    assert repr(comparing) == before
    assert nonce in comparing._asked
    cluster.let_go("C>A")
    cluster.run(2000)
    assert agree(cluster, "A", "B", "C")


def test_a_question_about_seqs_that_are_not_there_is_answered() -> None:
    cluster = cluster_of(3)
    cluster.start("A", "B", "C")
    cluster.elect("A")
    cluster.hold("C>A")
    cluster.inject("A", "C", CompareQuestion(7, cluster["A"].raft.term, [0, 1, 3, 500, 2**63 - 1]))
    cluster.inject("A", "C", CompareQuestion(8, cluster["A"].raft.term + 1, [1]))
    cluster.inject("B", "C", CompareQuestion(9, cluster["A"].raft.term, [1]))
    cluster.settle()
    index = cluster["A"].raft.index
    (answer,) = cluster.messages("C>A", CompareAnswer)
    assert answer == CompareAnswer(7, [0, index.checksum_at(1), index.checksum_at(3), None, None], True)


# All at once


@pytest.mark.parametrize("seed", range(25))
def test_whoever_is_wrong_wherever_all_agree_in_the_end_and_nothing_is_lost(seed: int) -> None:
    random = Random(seed)
    ids = random.choice(["ABC", "ABC", "ABCDE"])
    cluster = cluster_of(random.randrange(1, 200), ids)
    wrong = random.sample(ids, random.randrange(1, (len(ids) + 1) // 2))
    for member in wrong:
        forge(cluster, member, random.randrange(1, cluster.hosts[member].log.last_seq + 1), f"forged by {member}")
    right = cluster.hosts[next(member for member in ids if member not in wrong)].log.records
    expected = [record.raw for record in right]
    for member in random.sample(ids, len(ids)):
        cluster.start(member)
        cluster.run(random.choice([0, 20, 700]))
    for _ in range(random.randrange(12)):
        cluster.run(random.randrange(400))
        member = random.choice(ids)
        if random.random() < 0.5:
            cluster.hosts[member].disk_is_stopped = not cluster.hosts[member].disk_is_stopped
        elif cluster.hosts[member].node:
            cluster.crash(member)
        else:
            cluster.start(member)
    for member, host in cluster.hosts.items():
        host.disk_is_stopped = False
        if not host.node:
            cluster.start(member)
    cluster.run(20_000)
    assert agree(cluster, *ids), f"{cluster!r}"
    assert [record.raw for record in cluster.hosts["A"].log.records[: len(expected)]] == expected
    assert [was_set_aside(cluster, member) for member in ids] == [member in wrong for member in ids]


def test_a_member_that_comes_back_with_yet_another_log_is_searched_anew() -> None:
    """The leader still remembers where the one before had parted."""
    cluster = cluster_of(20)
    cluster.start("A", "B")
    cluster.run(3000)
    forge(cluster, "C", 5)
    (leader,) = cluster.leaders
    comparing = cluster[leader].comparing
    comparing.on_difference("C", 20)
    remembered = comparing._differences["C"]
    remembered.equal_seq, remembered.parted_seq, remembered.is_found = 14, 15, True
    cluster.start("C")
    cluster.run(2000)
    assert was_set_aside(cluster, "C")
    assert agree(cluster, "A", "B", "C")
