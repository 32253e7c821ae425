"""A full disk: another member leads, or this one leads for reads alone; nothing is lost, nothing untrue is said."""

from __future__ import annotations

from typing import Any

import pytest

from kvnode.node.disk_state import FULL, HAND_OVER_PAUSE_MS, ROOM, ROOM_STEADY_MS
from kvnode.raft import messages as m
from tests.unit.node.small_cluster import Client, Cluster, led_by

UNKNOWN = "-UNKNOWN the command may have been applied or not: the leader was lost before it was known"
NODE_A_FULL = (
    "-MISCONF Errors writing to the log: the disk of node A is full and no member with room can lead; "
    "the command was not applied"
)
ALL_FULL = (
    "-MISCONF Errors writing to the log: the disks of nodes A, B, C are full, and without them there is no majority; "
    "the command was not applied"
)


def fill_all(cluster: Cluster, **settings: Any) -> Client:
    """No disk has room for the next record, and the members know of each other. The client whose write is in it."""
    cluster.fill_disk("A", "B", "C", **settings)
    client = cluster.client("A").send("SET stuck new")
    cluster.run(150)
    return client


def all_full(**settings: Any) -> tuple[Cluster, Client]:
    cluster = led_by("A", **settings)
    assert cluster.client("A").ask("MSET stuck old k 1") == b"OK"
    return cluster, fill_all(cluster)


def notes(cluster: Cluster, member_id: str, text: str) -> list[dict[str, object]]:
    return [fields for _, event, fields in cluster.hosts[member_id].notes if event == text]


def info(cluster: Cluster, member_id: str, section: str) -> dict[str, str]:
    text = cluster.client(member_id).ask(f"INFO {section}").decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


# Another member can lead


def test_a_leader_without_room_hands_over_and_nobody_notices() -> None:
    cluster = led_by("A")
    clients = [cluster.client(member_id) for member_id in "AABC"]
    cluster.fill_disk("A")
    for _ in range(5):
        for client in clients:
            client.send("INCR n", "GET n")
        cluster.run(20)
    assert cluster.leaders in (["B"], ["C"])
    replies = [client.take() for client in clients]
    assert sorted(reply for of_client in replies for reply in of_client[::2]) == list(range(1, 21))
    assert all(int(read) >= wrote for of_client in replies for wrote, read in zip(*[iter(of_client)] * 2, strict=True))
    assert notes(cluster, "A", FULL) == [{"reason": "No space left on device"}]
    assert notes(cluster, "A", "handing over leadership") == [{"to": cluster.leaders[0], "because": "the disk is full"}]


def test_what_is_evaluated_but_in_no_record_is_the_successors() -> None:
    """The first write is in the record that has no room; the others were evaluated on top of it."""
    cluster = led_by("A")
    cluster.hold("A>B A>C")
    cluster.stop_disk("A")
    clients = [cluster.client("A").send("INCR n")]
    cluster.settle()
    clients += [cluster.client("A").send("INCR n") for _ in range(3)]
    cluster.settle()
    assert cluster["A"].leading.overlay.open_count == 3
    cluster.fill_disk("A")
    cluster.start_disk("A")
    cluster.settle()
    assert cluster["A"].leading.overlay.open_count == 0
    cluster.heal()
    cluster.run(20)
    assert cluster.leaders != ["A"]
    assert [client.take() for client in clients] == [[1], [2], [3], [4]]
    assert [entry[2] for entry in cluster.log("B") if entry[0] == "SET"] == [b"1", b"2", b"3", b"4"]


def test_a_member_is_chosen_that_has_room() -> None:
    cluster = led_by("A", "ABCDE")
    cluster.fill_disk("B")
    cluster.client("A").ask("SET k 1")
    cluster.run(150)
    cluster.fill_disk("A")
    assert cluster.client("A").ask("SET k 2") == b"OK"
    assert cluster.leaders == ["C"]


def test_a_successor_that_fills_up_as_well_is_not_waited_for() -> None:
    """B is chosen since it had room, and has none for the very record that it lacks."""
    cluster = led_by("A", "ABCDE")
    cluster.fill_disk("A", "B")
    clients = [cluster.client(at).send("SET k 1") for at in "AE"]
    cluster.run(300)
    assert [fields["to"] for fields in notes(cluster, "A", "handing over leadership")] == ["B", "C"]
    assert cluster.leaders == ["C"]
    assert [client.take() for client in clients] == [[b"OK"]] * 2


def test_while_it_hands_over_writes_wait() -> None:
    """B and C have room, and do not know yet that one of them is to lead."""
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    cluster.fill_disk("A")
    cluster.hold("A>B A>C")
    cluster.client("A").send("SET stuck 1")
    cluster.settle()
    write = cluster.client("A").send("SET k 2")
    cluster.run(500)
    assert write.replies == []
    cluster.let_go("A>B A>C")
    cluster.run(10)
    assert write.take() == [b"OK"]


def test_after_a_failure_it_is_tried_again_but_not_at_once() -> None:
    cluster = led_by("A")
    drop_timeout_now(cluster)
    cluster.fill_disk("A")
    stuck = cluster.client("A").send("SET stuck 1")
    cluster.run(1100)
    assert stuck.take() == [b"OK"]  # the others have it
    assert cluster.leaders == ["A"]
    assert cluster.client("B").ask("SET k 1") == NODE_A_FULL
    cluster.run(HAND_OVER_PAUSE_MS - 500)
    assert len(notes(cluster, "A", "handing over leadership")) == 1
    assert cluster.client("A").ask("SET k 1") == NODE_A_FULL
    del cluster["A"].peers.send  # type: ignore[attr-defined]
    cluster.run(500)
    assert cluster.leaders == ["B"]
    assert cluster.client("A").ask("SET k 2") == b"OK"
    assert len(notes(cluster, "A", "writes are refused")) == 1


def test_while_it_is_tried_again_writes_wait_again() -> None:
    cluster = led_by("A")
    drop_timeout_now(cluster)
    cluster.fill_disk("A")
    cluster.client("A").send("SET stuck 1")
    cluster.run(1100 + HAND_OVER_PAUSE_MS)
    write = cluster.client("A").send("SET k 1")
    cluster.run(500)
    assert write.replies == []
    cluster.run(600)
    assert write.take() == [NODE_A_FULL]


def test_in_another_term_it_is_tried_at_once() -> None:
    cluster = led_by("A")
    drop_timeout_now(cluster)
    cluster.fill_disk("A", reserve=0)
    cluster.client("A").send("SET stuck 1")
    cluster.run(1200)
    assert cluster.client("A").ask("SET k 1") == NODE_A_FULL
    del cluster["A"].peers.send  # type: ignore[attr-defined]
    cluster.elect("B")
    cluster.campaign("A")
    cluster.settle()
    assert cluster.leaders == ["B"]
    assert cluster["B"].raft.term == 4


def test_a_leader_that_fills_up_again_hands_over_again() -> None:
    cluster = led_by("A")
    for _ in range(2):
        cluster.fill_disk("A")
        assert cluster.client("A").ask("INCR n")
        assert cluster.leaders == ["B"]
        cluster.free_disk("A")
        cluster.run(ROOM_STEADY_MS + 200)
        cluster.elect("A")
        cluster.run(120)
    assert notes(cluster, "A", "writes are refused") == []


def test_what_was_refused_in_an_earlier_term_is_taken_in_another() -> None:
    cluster, _ = all_full()
    assert cluster.client("A").ask("SET k 2") == ALL_FULL
    cluster.elect("B")
    cluster.free_disk("A", "B", "C")
    cluster.run(ROOM_STEADY_MS + 100)
    cluster.campaign("A")
    while not cluster["A"].raft.leading:
        cluster._step()
    cluster.hold("B>A C>A")
    write = cluster.client("A").send("SET k 2")
    cluster.settle()
    assert write.replies == []
    cluster.heal()
    assert write.take() == [b"OK"]


def test_a_leader_that_lacks_room_logs_nothing_before_it_knows_what_to_do() -> None:
    cluster = led_by("A")
    cluster["A"].raft.set_room(has_room=False)
    write = cluster.client("A").send("SET k 1")
    cluster.settle()
    assert (write.replies, cluster["A"].raft.index.last_seq) == ([], 1)
    cluster.run(60)
    assert cluster.leaders == ["B"]
    assert write.take() == [b"OK"]


def drop_timeout_now(cluster: Cluster) -> None:
    send = cluster["A"].peers.send

    def lossy(peer: str, message: Any) -> None:
        if not isinstance(message, m.TimeoutNow):
            send(peer, message)

    cluster["A"].peers.send = lossy  # type: ignore[method-assign]


# Nobody has room


@pytest.mark.parametrize("at", ["A", "B"])
@pytest.mark.parametrize("request_", ["SET k 2", "DEL missing", "INCR n", "FLUSHALL", "UPD missing 1", "MSET a 1 b 2"])
def test_without_room_anywhere_every_write_is_refused_at_once(at: str, request_: str) -> None:
    cluster, _ = all_full()
    assert cluster.client(at).ask(request_) == ALL_FULL
    assert cluster.leaders == ["A"]


@pytest.mark.parametrize("at", ["A", "B"])
@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("GET k", b"1"),
        ("GET stuck", b"old"),
        ("MGET stuck k", [b"old", b"1"]),
        ("DBSIZE", 2),
        ("KEYS *", [b"k", b"stuck"]),
        ("PING", b"PONG"),
        ("WAIT 1 0", 2),
    ],
)
def test_without_room_anywhere_all_else_is_answered(at: str, request_: str, reply: object) -> None:
    """Also reads of what is in the record that has no room: what is committed is the truth until that is."""
    cluster, stuck = all_full()
    assert cluster.client(at).ask(request_) == reply
    assert stuck.replies == []


def test_reads_without_room_are_linearizable() -> None:
    """A leader that was cut off must not answer them, room or not."""
    cluster, _ = all_full()
    cluster.hold("A>B A>C")
    client = cluster.client("A").send("GET k", "DBSIZE")
    cluster.settle()
    assert client.replies == []
    cluster.let_go("A>B A>C")
    cluster.run(10)
    assert client.take() == [b"1", 2]


def test_a_pipeline_is_answered_in_order() -> None:
    cluster, _ = all_full()
    requests = ["GET k", "SET k 2", "GET k", "PING", "INCR k", "NOSUCH", "CLIENT REPLY SKIP", "SET k 3", "GET k"]
    for at in "AB":
        client = cluster.client(at).send(*requests)
        cluster.settle()
        replies = client.take()
        assert replies[:5] == [b"1", ALL_FULL, b"1", b"PONG", ALL_FULL]
        assert replies[5].startswith("-ERR unknown command")
        assert replies[6:] == [b"1"]


def test_what_is_in_a_record_is_in_doubt_at_its_deadline() -> None:
    cluster, stuck = all_full()
    cluster.run(3700)
    assert stuck.replies == []
    cluster.run(250)
    assert stuck.take() == [UNKNOWN]
    cluster.free_disk("A", "B", "C")
    cluster.run(ROOM_STEADY_MS + 200)
    assert cluster.client("A").ask("GET stuck") == b"new"
    assert stuck.replies == []


def test_what_is_in_a_record_is_answered_when_there_is_room_in_time() -> None:
    cluster, stuck = all_full()
    cluster.run(2000)
    cluster.free_disk("B", "C")
    cluster.run(10)
    assert stuck.take() == [b"OK"]


def test_what_is_in_no_record_is_refused_and_certainly_not_applied() -> None:
    """It was evaluated behind the record that has no room: writes, what read them, and what was sent behind them."""
    cluster = led_by("A", request_timeout_ms=2000)
    cluster.client("A").ask("SET n 10")
    cluster.stop_disk("A", "B", "C")
    first = cluster.client("A").send("INCR n")
    cluster.settle()
    same = first.send("INCR n", "GET n")
    other = cluster.client("A").send("INCR n", "GET n", "WAIT 0 0")
    reader = cluster.client("A").send("GET n")
    remote = cluster.client("B").send("INCR n")
    cluster.settle()
    fill_all(cluster)
    cluster.start_disk("A", "B", "C")
    cluster.run(150)
    assert first.replies == []
    assert other.take() == [ALL_FULL, b"10", 2]
    assert reader.take() == [b"10"]
    assert remote.take() == [ALL_FULL]
    cluster.free_disk("A", "B", "C")
    cluster.run(ROOM_STEADY_MS + 200)
    assert same.take() == [11, ALL_FULL, b"11"]
    assert cluster.client("A").ask("GET n") == b"11"


def test_what_waited_for_too_much_uncommitted_is_refused_too() -> None:
    cluster = led_by("A", uncommitted_bytes_max=1)
    cluster.stop_disk("A", "B", "C")
    cluster.client("A").send("SET a 1")
    cluster.settle()
    waiting = cluster.client("A").send("SET b 1")
    cluster.settle()
    fill_all(cluster)
    cluster.start_disk("A", "B", "C")
    cluster.run(150)
    assert waiting.take() == [ALL_FULL]


def test_told_seqs_are_committed_and_never_go_back() -> None:
    cluster, stuck = all_full()
    client = cluster.client("A").send("CLIENT REPLYSEQ ON", "SET k 2", "GET stuck")
    cluster.settle()
    assert client.take()[1:] == [[2, ALL_FULL], [2, b"old"]]
    cluster.free_disk("A", "B", "C")
    cluster.run(ROOM_STEADY_MS + 100)
    assert (stuck.take(), client.ask("SET k 3"), client.ask("GET k")) == ([b"OK"], [4, b"OK"], [4, b"3"])


def test_seqs_of_what_was_taken_back_are_not_told_when_others_have_them() -> None:
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    client = cluster.client("A").send("CLIENT REPLYSEQ ON")
    cluster.stop_disk("A", "B", "C")
    cluster.client("A").send("SET stuck 1")
    cluster.settle()
    client.send("INCR n", "GET n")  # evaluated: seq 4
    cluster.settle()
    fill_all(cluster)
    cluster.start_disk("A", "B", "C")
    cluster.run(150)
    assert client.take()[1:] == [[2, ALL_FULL], [2, None]]
    cluster.free_disk("A", "B", "C")
    cluster.run(ROOM_STEADY_MS + 200)
    cluster.stop_disk("B", "C")
    cluster.client("A").send("SET other 1")  # has seq 5, and is not committed
    cluster.settle()
    assert cluster["A"].raft.index.last_seq == cluster["A"].raft.commit_seq + 1
    assert client.ask("GET k") == [cluster["A"].raft.commit_seq, b"1"]


def test_a_wait_that_was_taken_back_waits_once() -> None:
    cluster = led_by("A")
    cluster.stop_disk("A", "B", "C")
    cluster.client("A").send("SET stuck 1")
    cluster.settle()
    client = cluster.client("A").send("INCR n", "WAIT 2 0")
    cluster.settle()
    fill_all(cluster)
    cluster.start_disk("A", "B", "C")
    cluster.run(150)
    assert client.take() == [ALL_FULL, 2]
    assert cluster["A"].leading._waits == []


def test_an_expired_write_behind_one_in_doubt_says_why() -> None:
    """It can not be refused before its turn, and by then its time is up."""
    cluster = led_by("A")
    cluster.fill_disk("A", "B", "C")
    client = cluster.client("A").send("SET stuck 1")
    cluster.settle()
    client.send("SET k 2", "GET k")
    cluster.run(4200)
    replies = client.take()
    assert replies[:2] == [UNKNOWN, ALL_FULL]


# There is room again


def test_writes_go_on_by_themselves() -> None:
    cluster, _ = all_full()
    cluster.free_disk("A", "B", "C")
    cluster.run(ROOM_STEADY_MS - 50)
    assert cluster.client("A").ask("SET k 2") == ALL_FULL
    cluster.run(200)
    assert [cluster.client(at).ask("INCR n") for at in "ABC"] == [1, 2, 3]
    assert len(notes(cluster, "A", FULL)) == len(notes(cluster, "A", ROOM)) == 1
    assert notes(cluster, "A", "writes are taken again") == [{}]


def test_leadership_goes_to_members_that_have_room_again() -> None:
    """With one of them there is no majority yet, and a leader could not even begin."""
    cluster, _ = all_full()
    cluster.free_disk("B")
    cluster.run(ROOM_STEADY_MS + 200)
    assert cluster.leaders == ["A"]
    assert cluster.client("A").ask("GET k") == b"1"
    assert "the disks of nodes A, C are full" in cluster.client("C").ask("SET k 2")
    cluster.free_disk("C")
    cluster.run(ROOM_STEADY_MS + 200)
    assert cluster.leaders in (["B"], ["C"])
    assert cluster.client("A").ask("SET k 2") == b"OK"


def test_room_that_does_not_last_moves_nothing() -> None:
    cluster, _ = all_full()
    for _ in range(10):
        cluster.free_disk("A", "B", "C")
        cluster.run(250)
        cluster.fill_disk("A", "B", "C")
        for host in cluster.hosts.values():
            host.post("on_disk_full", "again")
        cluster.run(100)
    assert cluster.leaders == ["A"]
    assert cluster["A"].raft.term == 1
    assert cluster.client("A").ask("SET k 2") == ALL_FULL
    assert len(notes(cluster, "B", FULL)) == 1
    assert notes(cluster, "B", ROOM) == []


def test_in_a_cluster_of_one() -> None:
    cluster = Cluster("A")
    cluster.run(100)
    cluster.client("A").ask("SET k 1")
    cluster.fill_disk("A")
    stuck = cluster.client("A").send("SET stuck 1")
    cluster.run(10)
    refused = "-MISCONF Errors writing to the log: the disk of node A is full; the command was not applied"
    assert cluster.client("A").ask("SET k 2") == refused
    assert cluster.client("A").ask("MGET k stuck") == [b"1", None]
    cluster.free_disk("A")
    cluster.run(ROOM_STEADY_MS + 100)
    assert stuck.take() == [b"OK"]
    assert cluster.client("A").ask("SET k 2") == b"OK"


# Followers


def test_a_follower_without_room_votes_and_confirms_but_holds_nothing() -> None:
    cluster = led_by("A")
    cluster.fill_disk("B")
    assert cluster.client("B").ask("SET k 1") == b"OK"  # A and C hold it
    cluster.run(150)
    cluster.hold("C")
    assert cluster.client("A").ask("GET k") == b"1"  # B confirms that A leads
    write = cluster.client("A").send("SET k 2")
    cluster.run(100)
    assert write.replies == []  # and does not acknowledge what it can not write
    cluster.heal()
    cluster.run(100)
    assert write.take() == [b"OK"]
    cluster.crash("A")
    cluster.run(2500)
    assert cluster.leaders == ["C"]  # with B's vote: ballots have room
    cluster.free_disk("B")
    cluster.run(50)
    assert cluster.client("B").ask("GET k") == b"2"


def test_a_majority_without_room_refuses_writes_at_a_leader_with_room() -> None:
    cluster = led_by("A")
    cluster.client("A").ask("SET k 1")
    cluster.stop_disk("B", "C")
    stuck = cluster.client("A").send("SET stuck 1")
    cluster.settle()
    open_batch = cluster.client("A").send("SET open 1", "GET k")
    cluster.settle()
    cluster.fill_disk("B", "C")
    cluster.start_disk("B", "C")
    cluster.run(10)
    refused = (
        "-MISCONF Errors writing to the log: the disks of nodes B, C are full, and without them there is no majority; "
        "the command was not applied"
    )
    assert open_batch.take() == [refused, b"1"]
    assert [cluster.client(at).ask("SET k 2") for at in "AB"] == [refused] * 2
    assert [cluster.client(at).ask("MGET k stuck") for at in "AB"] == [[b"1", None]] * 2
    assert notes(cluster, "A", "writes are refused") == [{"answer": refused[1:]}]
    cluster.free_disk("C")
    cluster.run(ROOM_STEADY_MS + 200)
    assert stuck.take() == [b"OK"]
    assert cluster.client("B").ask("SET k 2") == b"OK"
    assert cluster.leaders == ["A"]


def test_who_is_silent_does_not_hold_anything_either() -> None:
    """But a link that is down for a moment makes nobody refuse."""
    cluster = led_by("A")
    cluster.fill_disk("B")
    cluster.client("A").ask("SET k 1")
    cluster.run(150)
    cluster.cut_off("C")
    write = cluster.client("A").send("SET k 2")
    cluster.run(500)
    cluster.heal()
    cluster.run(50)
    assert write.take() == [b"OK"]
    cluster.crash("C")
    cluster.run(1100)
    assert "the disk of node B is full, and without it there is no majority" in cluster.client("A").ask("SET k 3")
    assert cluster.client("A").ask("GET k") == b"2"
    cluster.start("C")
    cluster.run(300)
    assert cluster.client("A").ask("SET k 3") == b"OK"


def test_who_has_no_right_to_vote_does_not_hold_anything_either() -> None:
    """D's disk is a new one, and E would have to be asked before it may vote."""
    cluster = led_by("A", "ABCDE")
    cluster.crash("D", "E")
    cluster.wipe("D")
    cluster.start("D")
    cluster.run(1100)
    assert cluster.client("A").ask("SET k 1") == b"OK"
    cluster.fill_disk("B")
    cluster.client("A").send("INCR n")
    cluster.run(200)
    assert "the disk of node B is full" in cluster.client("A").ask("SET k 2")


def test_silence_alone_is_no_want_of_room() -> None:
    cluster = led_by("A")
    cluster.cut_off("B C")
    write = cluster.client("A").send("SET k 1")
    cluster.run(4100)
    assert write.take() == [UNKNOWN]


# A new leader


def test_a_new_leader_without_room_commits_its_no_op_and_hands_over() -> None:
    cluster = led_by("A", "ABCDE")
    cluster.fill_disk("B", reserve=1)
    cluster.hosts["B"].post("on_disk_full", "No space left on device")
    cluster.run(150)
    client = cluster.client("A").send("SET k 1")
    cluster.settle()
    assert client.take() == [b"OK"]
    cluster.fill_disk("B", reserve=1)
    cluster.crash("A")
    waiting = [cluster.client(at).send("SET k 2") for at in "BC"]
    cluster.campaign("B")
    cluster.run(100)
    assert cluster.leaders == ["C"]
    assert [client.take() for client in waiting] == [[b"OK"]] * 2
    of_b = [record for record in cluster.hosts["C"].log.records if record.term == 2]
    assert [tuple(entry) for record in of_b for entry in record.entries] == [("NOOP",)]


def test_a_new_leader_without_room_hears_the_members_out_but_not_for_ever() -> None:
    cluster = led_by("A", "ABCDE")
    cluster.fill_disk("B", reserve=1)
    cluster.hosts["B"].post("on_disk_full", "No space left on device")
    cluster.crash("A")
    cluster.hold("C>B D>B E>B")
    cluster.campaign("B")
    cluster.settle()
    cluster.let_go("C>B D>B E>B")
    while not cluster["B"].raft.leading:
        cluster._step()
    cluster.hold("C>B D>B E>B")
    write = cluster.client("B").send("SET k 1")
    cluster.run(400)
    assert write.replies == []
    cluster.run(200)
    assert write.take() == [NODE_A_FULL.replace("node A", "node B")]
    cluster.heal()
    cluster.run(200)
    assert cluster.leaders == ["C"]


def test_a_new_leader_without_room_where_nobody_has_any_reads() -> None:
    cluster, _ = all_full()
    cluster.fill_disk("B", "C", reserve=3)
    cluster.crash("A")
    cluster.run(2500)
    assert cluster.client("C").ask("GET k") == b"1"
    assert cluster.client("C").ask("SET k 2").startswith("-MISCONF ")


# What it says


def test_info_tells_of_room() -> None:
    cluster = led_by("A")
    cluster.fill_disk("B")
    cluster.client("A").ask("SET k 1")
    cluster.run(150)
    assert [info(cluster, at, "persistence")["disk_full"] for at in "ABC"] == ["0", "1", "0"]
    raft = info(cluster, "A", "raft")
    assert [raft[f"member_{at}"].split("room=")[1] for at in "ABC"] == ["1", "0", "1"]
    raft = info(cluster, "B", "raft")
    assert raft["member_B"].endswith("room=0")
    assert "room" not in raft["member_A"]
