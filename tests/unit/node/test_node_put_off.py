"""What others wait for leaves before what is committed is applied, and nobody can tell: when it is put off, and who
still sees all that is committed."""

from __future__ import annotations

from kvnode.node.leading import HOPE_MS
from kvnode.node.node import APPLY_PUT_OFF_ENTRIES_MIN, APPLY_PUT_OFF_MS_MAX
from tests.unit.node.small_cluster import Client, Cluster, led_by

MANY = APPLY_PUT_OFF_ENTRIES_MIN


def committed_and_not_applied(cluster: Cluster, *requests: str) -> Client:
    """Its writes are answered, and its leader A has not applied them yet."""
    client = cluster.client("A").send(*requests)
    while not client.replies:
        assert cluster._step()
    node = cluster["A"]
    assert node.applier.applied_seq < node.raft.commit_seq
    return client


def sets(count: int = MANY) -> list[str]:
    return [f"SET k{number} {number}" for number in range(count)]


def test_much_is_answered_before_it_is_applied_and_applied_soon_after() -> None:
    cluster = led_by("A")
    client = committed_and_not_applied(cluster, *sets())
    assert client.take() == [b"OK"] * MANY
    cluster.run(APPLY_PUT_OFF_MS_MAX)
    assert cluster.local("A", "k3") == b"3"


def test_little_is_applied_at_once() -> None:
    cluster = led_by("A")
    client = cluster.client("A").send(*sets(MANY - 1))
    while not client.replies:
        assert cluster._step()
    assert cluster.local("A", "k3") == b"3"


def test_a_leader_applies_while_the_next_record_is_under_way() -> None:
    cluster = led_by("A")
    committed_and_not_applied(cluster, *sets())
    cluster.hold("A>B A>C")
    cluster.client("A").send("SET other 1")
    cluster.settle()
    cluster.run(HOPE_MS / 4)
    node = cluster["A"]
    assert node.raft.commit_seq < node.raft.index.last_seq
    assert node.applier.applied_seq == node.raft.commit_seq


def test_commands_of_the_leader_build_on_what_is_not_applied_yet() -> None:
    cluster = led_by("A")
    committed_and_not_applied(cluster, *["INCR n"] * MANY)
    client = cluster.client("A").send("GET n", "INCR n")
    cluster.settle()
    cluster.run(HOPE_MS)
    assert client.take() == [b"%d" % MANY, MANY + 1]


def test_local_reads_see_all_that_is_committed() -> None:
    cluster = led_by("A")
    client = committed_and_not_applied(cluster, *sets())
    client.take()
    client.send("READONLY", "GET k3", "DBSIZE")
    cluster.hosts["A"].turn()
    assert client.take() == [b"OK", b"3", MANY]


def test_what_a_reply_tells_of_the_log_does_not_go_back() -> None:
    cluster = led_by("A")
    client = cluster.client("A")
    client.ask("CLIENT REPLYSEQ ON")
    client.send(*sets())
    while not client.replies:
        assert cluster._step()
    node = cluster["A"]
    assert node.applier.applied_seq < node.raft.commit_seq
    told = [reply[0] for reply in client.take()]
    client.send("PING")
    cluster.hosts["A"].turn()
    assert client.take()[0][0] >= told[-1] == node.raft.commit_seq


def test_the_disk_of_a_follower_has_the_records_first() -> None:
    cluster = led_by("A")
    cluster.client("A").send(*sets())
    cluster.settle()
    cluster.client("A").send(*sets())
    cluster.stop_disk("B")
    for _ in range(20):
        cluster._step()
    node = cluster["B"]
    assert node.raft.durable_seq < node.raft.index.last_seq, "its disk is at work"
    assert node.applier.applied_seq < node.raft.commit_seq
    cluster.run(APPLY_PUT_OFF_MS_MAX)
    assert node.applier.applied_seq == node.raft.commit_seq, "but not for long"


def test_a_read_at_a_follower_does_not_wait_for_its_disk() -> None:
    cluster = led_by("A")
    cluster.client("A").send(*sets())
    cluster.settle()
    cluster.stop_disk("B")
    cluster.client("A").send(*sets())
    reader = cluster.client("B").send("GET k3")
    cluster.settle()  # no time passes
    assert reader.take() == [b"3"]


def test_a_large_batch_waits_for_nobody_and_follows_one_that_is_under_way() -> None:
    cluster = led_by("A")
    cluster.hold("A>B A>C")
    node = cluster["A"]
    cluster.client("A").send("SET k 1")
    cluster.settle()
    last_seq = node.raft.index.last_seq
    cluster.client("A").send("SET small 1")
    cluster.settle()
    assert node.raft.index.last_seq == last_seq
    cluster.client("A").send(f"SET large {'v' * 40_000}")
    cluster.settle()
    assert node.raft.index.last_seq == last_seq + 2
    cluster.client("A").send(f"SET large {'w' * 40_000}")
    cluster.settle()
    assert node.raft.index.last_seq == last_seq + 2, "two are enough"
