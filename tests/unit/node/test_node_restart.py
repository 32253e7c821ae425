"""What a node takes from its disk when it begins: whom it has voted for, and what it knows to be committed."""

from __future__ import annotations

from kvnode.raft import messages as m
from tests.unit.node.small_cluster import led_by


def test_it_knows_in_which_term_it_has_voted_and_for_whom() -> None:
    cluster = led_by("A")
    cluster.crash("B")
    cluster.start("B")
    cluster.hold("B>C")
    cluster.inject("C", "B", m.VoteRequest(1, 9, 1, transfer=True))
    cluster.settle()
    assert cluster.messages("B>C", m.VoteReply) == [m.VoteReply(1, granted=False)]


def test_it_applies_what_its_records_say_is_committed_and_nothing_more() -> None:
    """The last record may be on its disk alone. A local read must not show what may never be."""
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    cluster.stop_disk("B", "C")
    cluster.client("A").send("SET k 2")
    cluster.settle()
    assert cluster.log("A")[-2:] == [("SET", b"k", b"1"), ("SET", b"k", b"2")]
    cluster.crash("A")
    cluster.hold("A")
    cluster.start("A")
    assert cluster["A"].applier.applied_seq == 2
    client = cluster.client("A")
    assert client.ask("READONLY") == b"OK"
    assert client.ask("GET k") == b"1"
