"""The leader is killed, frozen or asked to stop, or the majority is gone: what clients then see."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import redis

from kvclient import KVClient
from tests.cluster.conftest import started
from tests.cluster.harness import Cluster, eventually
from tests.cluster.load import CERTAINLY_NOT, code_of, load

FAILOVER_S = 3.0
REQUEST_S = 4.0
"""request_timeout_ms, unless a test sets another."""
BUSY_S = 1.0
"""What a busy machine may add."""
SHORT_S = 1.5
SIGTERM_S = 5.0
CLOSED_LOOPS = 8


# The leader goes


def test_the_leader_is_killed(cluster: Cluster) -> None:
    """Writes go on within 3 s, as slow replies; only what was in flight at that moment may be unknown."""
    leader = cluster.wait_for_leader()
    followers = cluster.followers()
    with load(cluster, "key", *followers, clients=4) as writers:
        writers.wait_for(500)
        cluster.kill(leader)
        killed_s = time.monotonic()
        writers.wait_for(500)
        told = writers.stop()
    told.check(cluster.client(followers[0]))
    gap_s = max(after - before for before, after in zip(told.times, told.times[1:], strict=False))
    assert gap_s < FAILOVER_S, f"no write for {gap_s:.2f} s"
    assert min(moment for moment in told.times if moment > killed_s + 0.1) - killed_s < FAILOVER_S
    assert len(told.unknown) <= 8, "one per client may have been in flight"
    assert told.cut_off == 0, "a follower has closed connections"
    assert not told.refused
    assert told.longest_s < FAILOVER_S + 0.5
    assert set(cluster.maybe_info(followers[0]) or {}) >= {"leader"}
    assert cluster.wait_for_leader() in followers


def test_what_is_sent_while_nobody_leads_waits(cluster: Cluster) -> None:
    """A plain redis-py client at a follower, reading and writing on one connection."""
    leader = cluster.wait_for_leader()
    client = cluster.client(cluster.followers()[0])
    client.set("before", "1")
    cluster.kill(leader)
    began = time.monotonic()
    assert client.get("before") == b"1"
    assert client.set("after", "2") is True
    assert client.incr("before") == 2
    assert time.monotonic() - began < FAILOVER_S
    assert client.info("raft")["leader"] != leader


@dataclass(slots=True)
class Contest:
    """Clients that increment one counter, and race for keys with SET NX; what they were told."""

    counts: list[int] = field(default_factory=list)
    unknown_counts: int = 0
    winners: dict[str, str] = field(default_factory=dict)
    unknown_sets: dict[str, set[str]] = field(default_factory=dict)
    refused_sets: dict[str, set[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def increment(self, client: redis.Redis) -> None:
        try:
            number = int(client.incr("counter"))
        except redis.ResponseError as error:
            self._note(error)
            with self.lock:
                self.unknown_counts += code_of(error) == "UNKNOWN"
        except (redis.ConnectionError, redis.TimeoutError):
            with self.lock:
                self.unknown_counts += 1
        else:
            with self.lock:
                self.counts.append(number)

    def create(self, client: redis.Redis, key: str, name: str) -> None:
        try:
            won = client.set(key, name, nx=True)
        except redis.ResponseError as error:
            self._note(error)
            target = self.unknown_sets if code_of(error) == "UNKNOWN" else self.refused_sets
            with self.lock:
                target.setdefault(key, set()).add(name)
        except (redis.ConnectionError, redis.TimeoutError):
            with self.lock:
                self.unknown_sets.setdefault(key, set()).add(name)
        else:
            if won:
                with self.lock:
                    if key in self.winners:
                        self.faults.append(f"{name} and {self.winners[key]} have both created {key}")
                    self.winners[key] = name

    def _note(self, error: redis.ResponseError) -> None:
        if code_of(error) not in ("UNKNOWN", *CERTAINLY_NOT):
            self.faults.append(str(error))

    def check(self, client: redis.Redis, keys: list[str]) -> None:
        assert not self.faults, self.faults
        doubled = [number for number, count in Counter(self.counts).items() if count > 1]
        assert not doubled, f"two increments have made the same number: {doubled[:5]}"
        total = int(client.get("counter") or 0)
        assert len(self.counts) <= total <= len(self.counts) + self.unknown_counts
        assert max(self.counts) <= total
        for key, value in zip(keys, client.mget(keys), strict=True):
            owner = value.decode() if value else None
            if key in self.winners:
                assert owner == self.winners[key], key
            elif owner is not None:
                assert owner in self.unknown_sets.get(key, ()), f"{key} is owned by {owner}, who was told otherwise"


def contest(cluster: Cluster, ids: list[str], disturb: Callable[[], None]) -> Contest:
    """Run the contest at the nodes while `disturb` runs, and a little longer; its outcome, checked."""
    result, ends = Contest(), threading.Event()
    keys: list[str] = []

    def run(id: str, name: str) -> None:
        client = cluster.client(id, socket_timeout=10)
        number = 0
        while not ends.is_set():
            result.increment(client)
            number += 1
            key = f"race{number}"
            if name.endswith("0"):
                keys.append(key)
            result.create(client, key, name)

    threads = [threading.Thread(target=run, args=(id, f"{id}{count}")) for id in ids for count in range(4)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(result.counts) > 200, "increments run")
        disturb()
        more = len(result.counts) + 200
        eventually(lambda: len(result.counts) > more, "increments go on")
    finally:
        ends.set()
        for thread in threads:
            thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "a command hangs"
    result.check(cluster.client(ids[0]), sorted(set(keys)))
    return result


def test_increments_and_creations_survive_takeovers(cluster: Cluster) -> None:
    """None is lost and none is doubled, whoever leads."""

    def kill_leaders() -> None:
        for _ in range(3):
            leader = cluster.wait_for_leader()
            cluster.kill(leader)
            cluster.wait_for_leader()
            cluster.start(leader)
            cluster.wait_until_all_vote()

    contest(cluster, list(cluster.ids), kill_leaders)
    cluster.wait_until_equal()


def test_a_frozen_leader_wakes_up_deposed(cluster: Cluster) -> None:
    """What it reads after that is not stale, and what it was about to write is not doubled."""
    frozen = cluster.wait_for_leader()
    others = [id for id in cluster.ids if id != frozen]
    seen: list[tuple[int, int]] = []

    def freeze() -> None:
        cluster.send_signal(frozen, signal.SIGSTOP)
        try:
            reader = cluster.client(frozen, socket_timeout=10, protocol=2)
            answers: list[int] = []
            with cluster.connect(frozen) as late:
                late.send(b"GET counter\r\n" * 3)  # read when it wakes up, asked now
                eventually(lambda: cluster.client(others[0]).info("raft")["leader"] in others, "another leads")
                before = int(cluster.client(others[0]).get("counter") or 0)
                cluster.send_signal(frozen, signal.SIGCONT)
                for _ in range(3):
                    head = late.line()
                    assert head[:1] == b"$" or head.startswith(b"-CLUSTERDOWN"), head
                    if head[:1] == b"$":
                        answers.append(int(late.line()))
                answers.append(int(reader.get("counter") or 0))
            seen.extend((before, answer) for answer in answers[-1:])
        finally:
            cluster.send_signal(frozen, signal.SIGCONT)

    contest(cluster, others, freeze)
    assert seen
    assert all(answer >= before for before, answer in seen), f"stale: {seen}"
    cluster.wait_until_equal()


# The majority goes


@pytest.fixture
def hasty(make_cluster: Callable[..., Cluster]) -> Cluster:
    """Three nodes that give a request less time than usual."""
    return started(make_cluster(options={"request_timeout_ms": int(SHORT_S * 1000)}))


def refused_in_time(call: Callable[[], object]) -> None:
    """The call must be answered -CLUSTERDOWN, when the request's time has passed and not long after."""
    began = time.monotonic()
    with pytest.raises(redis.ResponseError) as caught:
        call()
    took_s = time.monotonic() - began
    assert code_of(caught.value) == "CLUSTERDOWN"
    assert SHORT_S - 0.1 < took_s < SHORT_S + BUSY_S


def test_two_of_three_killed_a_follower_survives(hasty: Cluster) -> None:
    cluster = hasty
    leader = cluster.wait_for_leader()
    survivor, other = cluster.followers()
    cluster.client(survivor).set("key", "value")
    cluster.wait_until_equal()
    cluster.kill(leader, other)
    local = cluster.client(survivor)
    local.readonly()
    assert local.get("key") == b"value"
    client = cluster.client(survivor, socket_timeout=10)
    refused_in_time(lambda: client.set("refused", "1"))
    refused_in_time(lambda: client.get("key"))
    with load(cluster, "refused", survivor, clients=20) as writers:
        began = time.monotonic()
        assert local.mget("key", "refused") == [b"value", None]
        assert local.dbsize() == 1
        assert local.keys("*") == [b"key"]
        assert time.monotonic() - began < 1
        assert client.ping()
        assert cluster.info(survivor)["role"] != "leader"
        told = writers.stop()
    assert (len(told.refused), len(told.unknown), told.cut_off) == (20, 0, 0)
    assert SHORT_S - 0.1 < told.longest_s < SHORT_S + BUSY_S
    cluster.start(leader, other)
    cluster.wait_for_leader()
    assert client.get("key") == b"value"
    told.check(client)
    assert client.dbsize() == 1


def test_two_of_three_killed_the_leader_survives(hasty: Cluster) -> None:
    cluster = hasty
    leader = cluster.wait_for_leader()
    followers = cluster.followers()
    client = cluster.client(leader, socket_timeout=10)
    client.set("key", "value")
    with load(cluster, "key", leader, clients=10) as writers:
        writers.wait_for(200)
        cluster.kill(*followers)
        killed_s = time.monotonic()
        eventually(lambda: cluster.info(leader)["role"] != "leader", "it notices that it has no majority")
        told = writers.stop()
    assert time.monotonic() - killed_s < SHORT_S + 2 * BUSY_S
    assert len(told.unknown) + len(told.refused) == 10, "each client has had one answer"
    assert told.unknown, "it had logged some as leader"
    assert told.cut_off == 0
    assert told.longest_s < SHORT_S + BUSY_S
    refused_in_time(lambda: client.set("refused", "1"))
    refused_in_time(lambda: client.get("key"))
    local = cluster.client(leader)
    local.readonly()
    assert local.get("key") == b"value"
    cluster.start(*followers)
    cluster.wait_for_leader()
    told.check(client)
    assert client.get("refused") is None
    cluster.wait_until_equal()


def test_nothing_hangs_while_nobody_leads(cluster: Cluster) -> None:
    """Every command of a long pipeline is answered in its place, within the time of the request."""
    cluster.client("A").set("key", "value")
    survivor = cluster.followers()[0]
    cluster.wait_until_equal()
    cluster.kill(*(id for id in cluster.ids if id != survivor))
    eventually(lambda: not cluster.info(survivor)["leader"], "it misses its leader")
    client = cluster.client(survivor, socket_timeout=10)
    pipeline = client.pipeline(transaction=False)
    for number in range(1000):
        pipeline.ping()
        pipeline.get("key")
        pipeline.set(f"key{number}", number)
        pipeline.execute_command("WAIT", 1, 0)
    began = time.monotonic()
    answers = pipeline.execute(raise_on_error=False)
    assert time.monotonic() - began < REQUEST_S + BUSY_S
    assert all(answer is True for answer in answers[::4])
    others = answers[1::4] + answers[2::4] + answers[3::4]
    assert all(code_of(answer) == "CLUSTERDOWN" for answer in others)


# The leader is asked to stop


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_sigterm_under_load(cluster: Cluster, who: str) -> None:
    stopped = cluster.wait_for_leader() if who == "leader" else cluster.followers()[0]
    others = [id for id in cluster.ids if id != stopped]
    with load(cluster, "key", *others, clients=4) as writers, load(cluster, "gone", stopped, clients=4) as cut_off:
        writers.wait_for(300)
        cut_off.wait_for(100)
        began = time.monotonic()
        assert cluster.stop(stopped) == 0
        assert time.monotonic() - began < SIGTERM_S
        writers.wait_for(300)
        told, told_by_stopped = writers.stop(), cut_off.stop()
    assert not told.unknown, "handing over leaves nothing in doubt"
    assert not told.refused
    gap_s = max(after - before for before, after in zip(told.times, told.times[1:], strict=False))
    assert gap_s < 1.5, f"no write for {gap_s:.2f} s although leadership was handed over"
    assert ("handing over leadership" in cluster.log_text(stopped)) == (who == "leader")
    told.check(cluster.client(others[0]))
    told_by_stopped.check(cluster.client(others[1]))
    cluster.start(stopped)
    cluster.wait_until_equal()


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_sigterm_fails_no_request(cluster: Cluster, who: str) -> None:
    """Clients of the node that stops: each hears of its end with the last answer, and asks another one."""
    stopped = cluster.wait_for_leader() if who == "leader" else cluster.followers()[0]
    ids = [stopped, *(id for id in cluster.ids if id != stopped)]
    nodes = [f"127.0.0.1:{cluster.client_ports[id]}" for id in ids]
    counts = [0] * CLOSED_LOOPS
    faults: list[BaseException] = []
    is_over = threading.Event()

    def write(number: int) -> None:
        try:
            with KVClient(nodes) as client:
                while not is_over.is_set():
                    client.set(f"key{number}", counts[number])
                    counts[number] += 1
        except BaseException as error:  # whatever it is fails the test
            faults.append(error)

    def all_went_on(more: int) -> None:
        wanted = [count + more for count in counts]
        eventually(lambda: faults or all(map(int.__ge__, counts, wanted)), "all write")

    writers = [threading.Thread(target=write, args=(number,)) for number in range(CLOSED_LOOPS)]
    for writer in writers:
        writer.start()
    all_went_on(50)
    assert cluster.stop(stopped) == 0
    all_went_on(50)
    is_over.set()
    for writer in writers:
        writer.join()
    assert not faults
    client = cluster.client(ids[1])
    assert [int(client.get(f"key{number}") or -1) for number in range(CLOSED_LOOPS)] == [count - 1 for count in counts]


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_sigterm_answers_what_it_has_read(cluster: Cluster, who: str) -> None:
    stopped = cluster.wait_for_leader() if who == "leader" else cluster.followers()[0]
    count = 500
    with cluster.connect(stopped) as connection:
        connection.send(b"".join(b"SET key%d value\r\n" % number for number in range(count)))
        first = connection.line()
        cluster.send_signal(stopped, signal.SIGTERM)
        replies = [first, *connection.rest().splitlines(keepends=True)]
    assert cluster.wait_for_exit(stopped, SIGTERM_S) == 0
    assert replies == [b"+OK\r\n"] * count
    other = cluster.running[0]
    assert cluster.client(other).dbsize() == count


def test_sigterm_without_a_majority(hasty: Cluster) -> None:
    """Nobody to hand over to, and writes that can not be committed: they are answered, and it ends in time."""
    cluster = hasty
    leader = cluster.wait_for_leader()
    cluster.kill(*cluster.followers())
    before = cluster.info(leader)["last_seq"]
    with cluster.connect(leader) as connection:
        connection.send(b"SET key value\r\nGET key\r\n")
        eventually(lambda: cluster.info(leader)["last_seq"] > before, "it has read them")
        began = time.monotonic()
        assert cluster.stop(leader) == 0
        assert time.monotonic() - began < SIGTERM_S
        replies = connection.rest().splitlines()
    assert len(replies) == 2
    assert all(reply.startswith((b"-UNKNOWN", b"-CLUSTERDOWN")) for reply in replies), replies


def test_ctrl_c_is_sigterm(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster("A")
    cluster.start()
    cluster.wait_for_leader()
    assert cluster.stop("A", signal.SIGINT) == 0


def test_rolling_restart_under_load(cluster: Cluster) -> None:
    """Each node in turn is stopped and started while clients write at the other two."""
    for stopped in cluster.ids:
        others = [id for id in cluster.ids if id != stopped]
        with load(cluster, f"without{stopped}", *others) as writers:
            writers.wait_for(100)
            assert cluster.stop(stopped) == 0
            writers.wait_for(100)
            cluster.start(stopped)
            cluster.wait_until_all_vote()
            writers.wait_for(100)
            told = writers.stop()
        assert not told.unknown
        assert not told.refused
        told.check(cluster.client(stopped))
    cluster.wait_until_equal()
