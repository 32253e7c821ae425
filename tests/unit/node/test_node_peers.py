"""Links: who is refused at the handshake; records leave in order, whole, and in the term that asked for them."""

from __future__ import annotations

from typing import Any

import pytest

from kvnode.log.identity import cluster_id
from kvnode.log.record import encode as encode_record
from kvnode.net.frames import Frames, frame, unpack
from kvnode.node import tail as tails
from kvnode.node import wire
from kvnode.node.tail import Tail
from kvnode.raft import messages as m
from tests.unit.node.small_cluster import Cluster, led_by

OURS = cluster_id("ABC")
GOOD = [wire.MAGIC, wire.VERSION, OURS, "B", "A", "data"]


def shake_hands(hello: list[Any], *, chunks: int = 1) -> tuple[list[Any], bool]:
    """A's answer, and whether it closes the connection."""
    host = Cluster("ABC", down="BC").hosts["A"]
    host.post("on_accepted", 99, "somewhere")
    data = frame(hello)
    step = -(-len(data) // chunks)
    for start in range(0, len(data), step):
        host.post("on_link_bytes", 99, data[start : start + step])
    host.turn()
    written = b"".join(data for link, data in host.outputs.link_writes if link == 99)
    answers = [unpack(body) for body in Frames(1000).feed(written)]
    return (answers[0] if answers else []), host.outputs.link_closes == [99]


@pytest.mark.parametrize("chunks", [1, 2, 1000])
def test_a_member_is_welcome(chunks: int) -> None:
    assert shake_hands(GOOD, chunks=chunks) == (["welcome", wire.VERSION], False)


@pytest.mark.parametrize(
    ("position", "value", "reason"),
    [
        (0, "kvnode", "not a member of a kvnode cluster"),
        (0, None, "not a member of a kvnode cluster"),
        (1, 2, "protocol version 2, this node speaks 1"),
        (1, "1", "protocol version"),
        (2, cluster_id("ABC", "other name"), "another cluster"),
        (2, cluster_id("ABCD"), "another set of members"),
        (2, 7, "another cluster"),
        (3, "A", "is not another member"),
        (3, "D", "is not another member"),
        (3, 1, "is not another member"),
        (4, "C", "meant for member 'C', this is A"),
        (5, "bulk", "is not a lane"),
        (5, None, "is not a lane"),
    ],
)
def test_a_stranger_is_refused_with_the_reason(position: int, value: Any, reason: str) -> None:
    hello = [*GOOD]
    hello[position] = value
    answer, is_closed = shake_hands(hello)
    assert is_closed
    assert answer[0] == "refused"
    assert reason in answer[1]


@pytest.mark.parametrize("hello", [GOOD[:5], [], [[1]], [wire.MAGIC]])
def test_a_short_hello_is_refused(hello: list[Any]) -> None:
    answer, is_closed = shake_hands(hello)
    assert (answer[0], is_closed) == ("refused", True)


def test_a_later_version_may_say_more() -> None:
    assert shake_hands([*GOOD, "more"]) == (["welcome", wire.VERSION], False)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\0",
        b"\0\0\0\1\xc1",
        b"\0\0\0\2\x91\xc1",
        b"\xff\xff\xff\xff",
        frame([0] * 1000),
    ],
)
def test_what_is_no_handshake_closes_the_connection(data: bytes) -> None:
    host = Cluster("ABC", down="BC").hosts["A"]
    host.post("on_accepted", 99, "somewhere")
    host.post("on_link_bytes", 99, data * 3)
    host.turn()
    assert host.outputs.link_closes == [99]


def test_who_does_not_shake_hands_in_time_is_dropped() -> None:
    cluster = Cluster("ABC", down="BC")
    host = cluster.hosts["A"]
    host.post("on_accepted", 99, "somewhere")
    cluster.run(4900)
    assert [note[1] for note in host.notes].count("link dropped") == 0
    cluster.run(200)
    assert [note[1] for note in host.notes].count("link dropped") == 1


@pytest.mark.parametrize("lane", wire.LANES)
def test_a_malformed_message_drops_the_link_and_not_the_node(lane: str) -> None:
    cluster = led_by("A")
    link = cluster.links["B", "A", lane]
    link.on_its_way[cluster.hosts["A"]].append(frame([99, 1]))
    cluster.settle()
    assert ("warning", "link dropped") in [note[:2] for note in cluster.hosts["A"].notes]
    cluster.run(50)
    assert cluster.client("B").ask("SET k 1") == b"OK"


def test_a_message_on_the_wrong_lane_drops_the_link() -> None:
    cluster = led_by("A")
    link = cluster.links["B", "A", "data"]
    link.on_its_way[cluster.hosts["A"]].append(wire.encode(m.HeartbeatReply(1, 1, True, True)))
    cluster.settle()
    assert "HeartbeatReply on the data lane" in str(cluster.hosts["A"].notes)


def test_a_member_is_up_only_with_both_lanes() -> None:
    cluster = led_by("A")
    cluster.hold_link(cluster.links["A", "B", "data"])
    cluster.links["A", "B", "data"].close()
    cluster.settle()
    assert "B" not in cluster["A"].raft.links
    cluster.heal()
    assert "B" in cluster["A"].raft.links


def test_a_connection_that_replaces_another_carries_on() -> None:
    """The old one's end is noticed later: it must not take the new one with it."""
    cluster = led_by("A")
    host = cluster.hosts["A"]
    link = cluster.links["B", "A", "data"]
    host.post("on_accepted", 99, "B again")
    host.post("on_link_bytes", 99, frame(GOOD))
    host.turn()
    assert host.outputs.link_closes == [link.ids[host]]
    host.post("on_link_closed", link.ids[host])
    host.turn()
    assert cluster["A"].peers.links.accepted["B", "data"].id == 99


def test_a_connection_that_was_dialed_anew_carries_on_when_the_old_one_ends() -> None:
    cluster = led_by("A")
    host = cluster.hosts["A"]
    old = cluster.links["A", "B", "data"].ids[host]
    host.post("on_dialed", 98, "B", "data", "B again")
    host.post("on_link_bytes", 98, frame(["welcome", wire.VERSION]))
    host.post("on_link_closed", old)
    host.turn()
    assert cluster["A"].peers.is_up("B")
    assert "B" in cluster["A"].raft.links


# Records from the disk


def restarted(*, records: int = 4, missing: str = "C") -> Cluster:
    """A leads after a restart, so that nothing is in memory; C has been away and is about to return."""
    cluster = led_by("A")
    cluster.crash(missing)
    for number in range(records):
        assert cluster.client("A").ask(f"SET k{number} {number}") == b"OK"
    cluster.crash("A", "B")
    cluster.start("A", "B")
    cluster.elect("A")
    cluster.hosts["A"].reader_is_stopped = True
    cluster.start(missing)
    cluster.run(300)
    assert cluster.hosts["A"].reads
    return cluster


@pytest.mark.parametrize("records_per_read", [1, 2, 100])
def test_a_returning_member_is_sent_what_it_lacks_from_the_disk(records_per_read: int) -> None:
    cluster = restarted()
    cluster.hosts["A"].log.records_per_read = records_per_read
    cluster.hosts["A"].reader_is_stopped = False
    cluster.run(300)
    assert cluster.log("C") == cluster.log("A")
    assert cluster["C"].catch_up.entries_received == cluster["A"].raft.index.last_seq - 1


def test_nothing_overtakes_records_that_are_read_from_the_disk() -> None:
    cluster = restarted()
    cluster.client("A").ask("SET later 1")
    cluster.hold("A>C")
    cluster.run(20)
    assert [a for a in cluster.messages("A>C", m.Append) if a.last_seq > a.prev_seq] == []
    cluster.hosts["A"].reader_is_stopped = False
    cluster.settle()
    sent = [a for a in cluster.messages("A>C", m.Append) if a.last_seq > a.prev_seq]
    assert [a.prev_seq for a in sent[1:]] == [a.last_seq for a in sent[:-1]]
    assert sent[-1].last_seq == cluster["A"].raft.index.last_seq
    cluster.let_go("A>C")
    cluster.run(100)
    assert cluster.local("C", "later") == b"1"


def test_records_that_were_asked_for_in_another_term_are_not_sent() -> None:
    cluster = restarted()
    host = cluster.hosts["A"]
    old = host.reads[0]
    cluster.elect("B")
    cluster.elect("A")
    host.reads = type(host.reads)(read for read in host.reads if read.token > old.token)
    cluster.hold("A>C")
    host.events.append(old.perform(host.log))
    cluster.settle()
    for append in cluster.messages("A>C", m.Append):
        assert append.prev_seq >= 5 or append.last_seq == append.prev_seq
    cluster.let_go("A>C")
    host.reader_is_stopped = False
    cluster.run(1500)
    assert cluster.log("C") == cluster.log("A")


def test_a_read_that_comes_back_short_is_asked_again() -> None:
    cluster = restarted()
    host = cluster.hosts["A"]
    lost = host.reads.popleft()
    host.post("on_read", lost.peer, lost.token, b"")
    host.turn()
    assert "records could not be read for a member" in [note[1] for note in host.notes]
    host.reader_is_stopped = False
    cluster.run(1500)
    assert cluster.log("C") == cluster.log("A")


def test_what_a_link_was_sent_is_not_sent_on_the_next_one_by_a_late_read() -> None:
    cluster = restarted()
    host = cluster.hosts["A"]
    old = list(host.reads)
    host.reads.clear()
    cluster.lose("A>C")
    cluster.run(10)
    cluster.hold("A>C")
    for read in old:
        host.events.append(read.perform(host.log))
    cluster.settle()
    assert all(append.last_seq == append.prev_seq for append in cluster.messages("A>C", m.Append))
    cluster.let_go("A>C")
    host.reader_is_stopped = False
    cluster.run(1500)
    assert cluster.log("C") == cluster.log("A")


def test_bulk_from_the_disk_does_not_hold_up_heartbeats() -> None:
    cluster = restarted()
    cluster.hold("A>C")
    cluster.run(250)
    assert len(cluster.messages("A>C", m.Heartbeat)) >= 2


def test_what_is_read_for_a_member_does_not_pile_up_while_the_disk_is_slow() -> None:
    cluster = restarted()
    cluster.run(5000)
    assert len(cluster.hosts["A"].reads) == 1


# The tail


def fill(tail: Tail, count: int, value: bytes = b"v") -> list[Any]:
    records = []
    checksum = 0
    for seq in range(1, count + 1):
        record = encode_record(checksum, seq, 1, 0, 0, [("SET", b"k", value)])
        checksum = record.checksum
        tail.append(record)
        records.append(record)
    return records


def test_the_tail_reads_exactly_what_it_is_asked_for() -> None:
    tail = Tail(0)
    records = fill(tail, 5)
    for after in range(6):
        for last in range(after, 6):
            assert tail.read(after, last) == b"".join(record.raw for record in records[after:last])


def test_the_tail_keeps_what_is_not_durable_however_much_it_is() -> None:
    tail = Tail(0)
    records = fill(tail, 5, b"x" * (tails.TAIL_BYTES_MAX // 3))
    assert tail.begins_after() == 0
    tail.durable_seq = 4
    tail.append(encode_record(records[-1].checksum, 6, 1, 0, 0, [("NOOP",)]))
    assert tail.begins_after() == 3
    assert tail.read(2, 6) is None
    assert tail.read(3, 5) == records[3].raw + records[4].raw


def test_the_tail_forgets_what_is_cut() -> None:
    tail = Tail(5)
    records = fill(tail, 5)
    tail.truncate_suffix(3)
    assert tail.durable_seq == 3
    tail.append(encode_record(records[2].checksum, 4, 2, 0, 0, [("NOOP",)]))
    assert tail.read(3, 4) not in (None, records[3].raw)
    assert tail.read(4, 5) is None
