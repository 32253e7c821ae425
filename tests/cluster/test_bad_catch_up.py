"""X11: a member that asks for what it has missed, and asks nonsense, or a hundred times at once.

The member is played by the test, towards a leader and a follower that run. It has two ways to ask: its Position, which
a leader answers with records or with where to back up to, and Fetch, which any member answers, on the lane of records.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest

from kvnode.log.record import Record, split
from kvnode.node.deeds import DIFFERS, ENDS
from kvnode.node.fetching import FETCH_BYTES_MAX
from kvnode.node.wire import CONTROL, RECORDS, CompareQuestion, Fetch, Fetched
from kvnode.raft import messages as m
from tests.cluster.conftest import CLUSTERS
from tests.cluster.harness import Cluster, eventually
from tests.cluster.played_member import Lane, PlayedMember

MIB = 1024 * 1024
PLAYED = "C"
DROPPED = 'event="link dropped"'
VALUE = b"x" * 60_000
WRITES = 200
"""12 MB in all: more than a leader keeps in memory, so that it has to read the disk."""
HUNDRED = 100
RISE_MAX = 24 * MIB
"""How much more memory a node may hold for all that, answers on their way included."""
NO_NUMBERS = [2**63, 2**64 - 1, -1, 1.0, "1", True, None]
POSITION, FETCH = 6, 20
"""Their codes on the wire (node/wire.py)."""


@pytest.fixture(scope="module")
def _two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("bad_catch_up") / "cluster")
    try:
        cluster.start()
        cluster.wait_until_all_vote()
        cluster.wait_for_leader()
        cluster.stop(PLAYED)
        client = cluster.client(cluster.wait_for_leader())
        for number in range(WRITES):
            client.set(f"key{number}", VALUE)
        pipeline = client.pipeline(transaction=False)
        for number in range(100):
            pipeline.set(f"small{number}", "1")
        pipeline.execute()
        cluster.wait_until_equal()
        yield cluster
        cluster.start(PLAYED)  # the real one is none the worse for what was said in its name
        cluster.wait_until_equal()
    finally:
        cluster.close()


@pytest.fixture
def two(_two: Cluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The same nodes serve in the same term after the test as before it, and hold hardly more memory."""
    request.node.stash[CLUSTERS] = [_two]
    pids, term = {id: _two.pid(id) for id in _two.running}, _two.info("A")["term"]
    before = {id: _two.resident_bytes(id) for id in _two.running}
    yield _two
    assert {id: _two.pid(id) for id in _two.running} == pids
    assert _two.client("A").set("well", "1")
    assert _two.info("A")["term"] == term, "whoever led has gone on"
    for id in _two.running:
        assert _two.resident_bytes(id) - before[id] < RISE_MAX
    _two.wait_until_equal()


@pytest.fixture
def played(two: Cluster) -> Iterator[PlayedMember]:
    member = PlayedMember(two, PLAYED)
    try:
        yield member
    finally:
        member.close()


@pytest.fixture
def leader(two: Cluster) -> str:
    return two.wait_for_leader()


def ask(lane: Lane, fetch: Fetch) -> Fetched:
    lane.send(fetch)
    answer = lane.take()
    assert isinstance(answer, Fetched)
    assert answer.token == fetch.token
    return answer


def fetch_all(played: PlayedMember, node: str) -> list[Record]:
    """The node's whole log, asked for piece by piece."""
    records: list[Record] = []
    seq = checksum = 0
    with played.dial(node, RECORDS) as lane:
        for token in range(10_000):
            answer = ask(lane, Fetch(token, seq, checksum, MIB))
            if not answer.records:
                assert answer.why == ENDS
                return records
            records += split(answer.records)
            seq, checksum = records[-1].last_seq, records[-1].checksum
    raise AssertionError("a log without end")


def place(record: Record) -> tuple[int, int, int]:
    return record.last_seq, record.term, record.checksum


def dropped(cluster: Cluster, node: str) -> int:
    return cluster.log_text(node).count(DROPPED)


def check_dropped(played: PlayedMember, node: str, lane_name: str, array: list[Any]) -> None:
    """Its connection is closed, with one line in the log, and nothing else comes of it."""
    lines = dropped(played.cluster, node)
    with played.dial(node, lane_name) as lane:
        lane.send(array)
        assert lane.wire.rest() == b"", array
    eventually(lambda: dropped(played.cluster, node) > lines, f"a line about {array}", 5)
    assert dropped(played.cluster, node) == lines + 1, array


def descriptors(cluster: Cluster, node: str) -> int:
    return len(list(Path(f"/proc/{cluster.pid(node)}/fd").iterdir()))


# What makes no sense


def test_positions_that_are_not_there(played: PlayedMember, leader: str) -> None:
    """They are answered with where to back up to, or not at all; records are sent for a true one alone."""
    records = fetch_all(played, leader)
    term = played.cluster.info(leader)["term"]
    end, middle = records[-1], records[len(records) // 2]
    batch = next(record for record in records if record.last_seq > record.first_seq)
    before_batch = records[records.index(batch) - 1]
    nowhere = (0, 0)
    rows = [
        ("the largest number", (2**63 - 1, term, 1), (end.last_seq, end.term)),
        ("one beyond the end", (end.last_seq + 1, term, 1), (end.last_seq, end.term)),
        ("the right seq, a newer term", (middle.last_seq, 2**63 - 1, middle.checksum), (middle.last_seq, middle.term)),
        ("the right seq, an older term", (middle.last_seq, 0, middle.checksum), nowhere),
        ("before the first, in a term", (0, term, 0), nowhere),
        ("inside of a record", (batch.first_seq, batch.term, batch.checksum), place(before_batch)[:2]),
    ]
    with played.dial(leader, CONTROL) as lane:
        played.hears(m.Heartbeat, fits=lambda heartbeat: heartbeat.probe)
        for name, position, answer in rows:
            since = len(played.heard)
            lane.send(m.Position(term, *position, voting=True))
            back_up = played.hears(m.BackUp, since)
            assert (back_up.at_or_before, back_up.term_there) == answer, name
        since = len(played.heard)
        lane.send(m.Position(term, middle.last_seq, middle.term, middle.checksum ^ 1, voting=True))
        assert middle.last_seq in played.hears(CompareQuestion, since).seqs
        lane.send(m.Position(term - 1, 0, 0, 0, voting=True))
        lane.send(m.ReadQuestion(term, 77))
        played.hears(m.ReadAnswer)
        assert played.count(m.BackUp, since) == 0
        assert not any(isinstance(each, m.Append) and each.records for _, each in played.heard)  # or a mere question
        lane.send(m.Position(term, *place(middle), voting=True))
        append = played.hears(m.Append, fits=lambda append: bool(append.records))
        assert (append.prev_seq, append.prev_term) == (middle.last_seq, middle.term)
        expected = records[records.index(middle) + 1 :]
        assert [record.raw for record in append.records] == [record.raw for record in expected][: len(append.records)]


def test_positions_that_are_no_numbers(played: PlayedMember, leader: str) -> None:
    term = played.cluster.info(leader)["term"]
    for field in range(1, 6):
        for value in NO_NUMBERS:
            array = [POSITION, term, 0, 0, 0, True]
            if array[field] is not value:
                array[field] = value
                check_dropped(played, leader, CONTROL, array)
    check_dropped(played, leader, CONTROL, [POSITION, term, 0, 0, 0])


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_fetches_of_what_is_not_there(played: PlayedMember, leader: str, role: str) -> None:
    node = leader if role == "leader" else next(id for id in "AB" if id != leader)
    records = fetch_all(played, node)
    first, end = records[0], records[-1]
    batch = next(record for record in records if record.last_seq > record.first_seq)
    rows = [
        ("the largest number", (2**63 - 1, end.checksum, MIB), ENDS),
        ("the end", (end.last_seq, end.checksum, MIB), ENDS),
        ("beyond the end", (end.last_seq + 1, end.checksum, MIB), ENDS),
        ("another checksum", (first.last_seq, first.checksum ^ 1, MIB), DIFFERS),
        ("a checksum that is none", (first.last_seq, 2**63 - 1, MIB), DIFFERS),
        ("inside of a record", (batch.first_seq, batch.checksum, MIB), DIFFERS),
        ("no bytes", (0, 0, 0), [first]),
        ("more bytes than are given", (0, 0, 2**63 - 1), None),
    ]
    with played.dial(node, RECORDS) as lane:
        for token, (name, question, expected) in enumerate(rows):
            answer = ask(lane, Fetch(token, *question))
            if isinstance(expected, str):
                assert (answer.records, answer.why) == (b"", expected), name
                continue
            given = split(answer.records)
            assert [each.raw for each in given] == [each.raw for each in records[: len(given)]], name
            assert len(answer.records) <= FETCH_BYTES_MAX, name
            assert expected is None or len(given) == len(expected), name


def test_fetches_that_are_no_numbers(played: PlayedMember, leader: str) -> None:
    for field in range(1, 5):
        for value in NO_NUMBERS:
            array: list[Any] = [FETCH, 1, 0, 0, MIB]
            array[field] = value
            check_dropped(played, leader, RECORDS, array)
    check_dropped(played, leader, RECORDS, [FETCH, 1, 0, 0])


# A hundred at once


def test_a_hundred_positions_are_answered_by_one_stream(played: PlayedMember, leader: str) -> None:
    records = fetch_all(played, leader)
    term = played.cluster.info(leader)["term"]
    with played.dial(leader, CONTROL) as lane:
        played.hears(m.Heartbeat, fits=lambda heartbeat: heartbeat.probe)
        begins = [m.Position(term, 0, 0, 0, voting=True)] * HUNDRED
        others = [m.Position(term, *place(record), voting=True) for record in records[:HUNDRED]]
        lane.send(*begins, *others, m.ReadQuestion(term, 77))
        played.hears(m.ReadAnswer)
        played.hears(m.Append)
    heard = (each for _, each in played.heard if isinstance(each, m.Append))
    appends = list(dropwhile(lambda append: append.prev_seq, heard))  # a probe may have been under way before
    assert [append.prev_seq for append in appends] == [0, *(append.last_seq for append in appends)][:-1]
    sent = [record.raw for append in appends for record in append.records]
    assert sent == [record.raw for record in records][: len(sent)]


def test_a_hundred_fetches_in_one_write(played: PlayedMember, leader: str) -> None:
    """Some are not heard, as node/giving.py says; all that are have the right answer, and then it goes on."""
    records = fetch_all(played, leader)
    asked = [Fetch(token, *place(records[token])[::2], MIB) for token in range(HUNDRED)]
    answered: list[int] = []
    with played.dial(leader, RECORDS) as lane:
        lane.send(*asked)
        while HUNDRED not in answered:
            if not lane.is_readable(0.2):
                lane.send(Fetch(HUNDRED, 0, 0, 1))
            answer = lane.take()
            answered.append(answer.token)
            if answer.token < HUNDRED:
                assert split(answer.records)[0].first_seq == records[answer.token].last_seq + 1
    assert answered[:-1] == sorted(set(answered[:-1]))
    assert answered[0] == 0


def let_turns_pass(cluster: Cluster, node: str) -> None:
    """The node has taken what was sent, and most likely has read what that asks for."""
    until = cluster.info(node, "stats")["turns"] + 2
    eventually(lambda: cluster.info(node, "stats")["turns"] >= until, "turns pass")


def test_a_hundred_fetches_and_no_answer_is_read(played: PlayedMember, leader: str) -> None:
    """Each is asked when the one before may have been answered already; the answers do not pile up."""
    cluster = played.cluster
    before = cluster.resident_bytes(leader)
    with played.dial(leader, RECORDS) as lane:
        for token in range(HUNDRED):
            lane.send(Fetch(token, 0, 0, MIB))
            let_turns_pass(cluster, leader)
        assert cluster.resident_bytes(leader) - before < RISE_MAX
        assert split(lane.take().records)[0].first_seq == 1


@pytest.mark.parametrize("lane_name", [CONTROL, RECORDS])
def test_a_hundred_connections_that_ask_at_once(played: PlayedMember, leader: str, lane_name: str) -> None:
    """The last one stays, the others are closed."""
    cluster, node = played.cluster, leader
    term = cluster.info(node)["term"]
    played.hears(m.Heartbeat)
    before = descriptors(cluster, node)
    question = Fetch(1, 0, 0, MIB) if lane_name == RECORDS else m.Position(term, 0, 0, 0, voting=True)
    lanes = [Lane(cluster.connect_to_peer_port(node)) for _ in range(HUNDRED)]
    try:
        for lane in lanes:
            lane.wire.send(played.hello(node, lane_name))
            lane.send(question)
        for lane in lanes[:-1]:
            lane.wire.rest()
        eventually(lambda: descriptors(cluster, node) <= before + 2, "connections that were replaced are closed")
        if lane_name == RECORDS:
            assert lanes[-1].take_array() == ["welcome", 1]
            assert split(lanes[-1].take().records)[0].first_seq == 1
        else:
            lanes[-1].send(m.ReadQuestion(term, 77))
            played.hears(m.ReadAnswer)
    finally:
        for lane in lanes:
            lane.wire.close()
