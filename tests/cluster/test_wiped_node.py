"""A member whose disk was lost comes back under its id: it does not vote until a leader has brought it up to date."""

from __future__ import annotations

import shutil
import signal

from tests.cluster.harness import Cluster, eventually
from tests.cluster.load import load


def wipe(cluster: Cluster, id: str) -> None:
    if id in cluster.running:
        cluster.kill(id)
    shutil.rmtree(cluster.data(id))


def stays(cluster: Cluster, id: str, elections: int = 2) -> None:
    """Nobody leads while at least so many election timeouts pass at a node that could vote."""
    survivor = cluster.maybe_info(id)
    assert survivor is not None
    before = cluster.info(id, "server")["uptime_in_seconds"]
    until = before + elections + 1  # an election timeout is a second at most

    def time_has_passed() -> bool:
        for each in cluster.running:
            info = cluster.maybe_info(each)
            assert info is None or info["role"] != "leader", f"{each} leads, elected by a node that forgot: {info}"
        return cluster.info(id, "server")["uptime_in_seconds"] >= until

    eventually(time_has_passed, "some election timeouts pass", 20)


def test_it_is_brought_up_to_date_and_votes(cluster: Cluster) -> None:
    client = cluster.client(cluster.wait_for_leader())
    client.mset({f"key{number}": number for number in range(500)})
    cluster.wait_until_equal()
    wiped = cluster.followers()[0]
    wipe(cluster, wiped)
    with load(cluster, "key", *cluster.running) as writers:
        writers.wait_for(100)
        cluster.start(wiped)
        cluster.wait_until_all_vote()
        writers.wait_for(100)
        told = writers.stop()
    cluster.wait_until_equal()
    info = cluster.info(wiped)
    assert info["catch_up_entries_received"] > 0
    assert cluster.client(wiped).dbsize() == 500 + len(told.acknowledged)
    # Now its vote counts: it and one other are a majority.
    cluster.kill(next(id for id in cluster.ids if id != wiped))
    cluster.wait_for_leader()
    told.check(cluster.client(wiped))


def test_the_leader_is_wiped(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    others = cluster.followers()
    with load(cluster, "key", *others) as writers:
        writers.wait_for(200)
        wipe(cluster, leader)
        cluster.start(leader)
        writers.wait_for(200)
        told = writers.stop()
    cluster.wait_until_all_vote()
    cluster.wait_until_equal()
    for id in cluster.ids:
        told.check(cluster.client(id))


def test_it_does_not_elect_who_lacks_what_it_held(cluster: Cluster) -> None:
    """X9: n1 and n3 hold what is committed, n3 is wiped, n2 and n3 meet. They must not elect: the writes are n1's."""
    leader = cluster.wait_for_leader()
    n2, n3 = cluster.followers()
    cluster.client(leader).set("key", "old")
    cluster.wait_until_equal()
    cluster.kill(n2)
    assert cluster.client(leader).set("key", "new")  # durable at n1 and n3 alone
    cluster.wait_until_equal(leader, n3)
    cluster.kill(leader, n3)
    wipe(cluster, n3)
    cluster.start(n2, n3)
    stays(cluster, n2)
    assert cluster.info(n3)["may_vote"] == 0
    local = cluster.client(n3)
    local.readonly()
    assert local.get("key") is None
    cluster.start(leader)
    cluster.wait_for_leader()
    assert cluster.client(n2).get("key") == b"new"
    cluster.wait_until_all_vote()
    cluster.wait_until_equal()


def test_its_acknowledgements_do_not_count_before(cluster: Cluster) -> None:
    """A leader and a wiped node are no majority while the third is away: nothing is acknowledged, nothing elected."""
    leader = cluster.wait_for_leader()
    wiped, other = cluster.followers()
    cluster.client(leader).set("key", "value")
    cluster.wait_until_equal()
    cluster.kill(other)
    wipe(cluster, wiped)
    cluster.start(wiped)
    eventually(lambda: cluster.info(leader)["role"] != "leader", "without a majority it does not lead")
    stays(cluster, leader)
    assert cluster.info(wiped)["may_vote"] == 0
    cluster.start(other)
    cluster.wait_for_leader()
    cluster.wait_until_all_vote()
    assert cluster.client(wiped).get("key") == b"value"


def test_wiped_while_it_is_brought_up_to_date(cluster: Cluster) -> None:
    """Killed half way: what it has is no right to vote, and it goes on where it was."""
    with load(cluster, "key", pipeline=32, value_bytes=2000) as writers:
        writers.wait_for(3000)
        told = writers.stop()
    wiped = cluster.followers()[0]
    wipe(cluster, wiped)
    cluster.start(wiped)
    eventually(lambda: cluster.info(wiped)["last_seq"] > 0, "it is sent something", poll_s=0.002)
    cluster.kill(wiped)
    cluster.start(wiped)
    cluster.wait_until_all_vote()
    cluster.wait_until_equal()
    told.check(cluster.client(wiped))


def test_two_wiped_nodes_do_not_found_a_new_cluster(cluster: Cluster) -> None:
    """Two empty members of three must not agree that all is new while the third, who knows better, is away."""
    kept = cluster.wait_for_leader()
    others = cluster.followers()
    cluster.client(kept).set("key", "value")
    cluster.wait_until_equal()
    cluster.kill(*cluster.ids)
    for id in others:
        wipe(cluster, id)
    cluster.start(*others)
    stays(cluster, others[0])
    assert all(cluster.info(id)["may_vote"] == 0 for id in others)
    assert all(cluster.info(id)["last_seq"] == 0 for id in others)
    assert cluster.stop(others[0], signal.SIGTERM) == 0
