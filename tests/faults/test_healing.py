"""Damage in the data directory of a real node: it is named, and healed from the other members, while these serve.

Afterwards `kvnode verify` finds nothing, all nodes hold the same, and no acknowledged write is lost.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from kvnode.log.mark import decode_mark
from tests.cluster.harness import ROOT, START_S, Cluster, Info, eventually, node_environment, program
from tests.cluster.load import Told, load
from tests.faults import damage
from tests.faults.conftest import MakeFaulty
from tests.faults.disks import (
    EXIT_LOST,
    KILLED,
    WRITERS,
    FaultyCluster,
    check_everywhere,
    leader_and_follower,
    wait_for_a_leader,
    who_leads,
)

KEYS = 600


def verify(cluster: Cluster, id: str) -> None:
    """`kvnode verify` of a directory that a node may be using."""
    done = subprocess.run(
        [*program("kvnode"), "verify", str(cluster.data(id))],
        capture_output=True,
        text=True,
        timeout=START_S,
        cwd=ROOT,
        env=node_environment(),
        check=False,
    )
    assert done.returncode == 0, f"{id}: {done.stdout}{done.stderr}"


def check_healed(cluster: Cluster, told: Told) -> None:
    """All vote, hold the same and every acknowledged write, and no tool finds anything."""
    cluster.wait_until_all_vote()
    check_everywhere(cluster, told)
    for id in cluster.ids:
        verify(cluster, id)


def fill(cluster: Cluster) -> Told:
    """Several segments of acknowledged writes."""
    with load(cluster, "before", clients=1, pipeline=4, value_bytes=200) as writers:
        writers.wait_for(KEYS)
        told = writers.stop()
    cluster.wait_until_equal()
    counts = {id: len(damage.segments(cluster.data(id))) for id in cluster.ids}
    assert min(counts.values()) >= 5, counts
    return told


def together(first: Told, second: Told) -> Told:
    first.acknowledged |= second.acknowledged
    first.refused |= second.refused
    first.faults += second.faults
    return first


def healed_entries(cluster: Cluster, id: str) -> list[int]:
    """How many entries were fetched, in each healing that the node tells of."""
    lines = [line for line in cluster.log_text(id).splitlines() if "healed: the log is whole again" in line]
    return [int(line.partition("entries=")[2].split()[0]) for line in lines]


def flip_one(directory: Path) -> None:
    damage.flip_records(directory, [damage.last_seq(directory) // 2])


def flip_several(directory: Path) -> None:
    end = damage.last_seq(directory)
    damage.flip_records(directory, [end * part // 8 for part in range(1, 8)])


def flip_the_first(directory: Path) -> None:
    damage.flip_records(directory, [1])


def flip_a_header(directory: Path) -> None:
    damage.flip(damage.segments(directory)[2], 20, 4)


def zero_a_block(directory: Path) -> None:
    (place,) = damage.places_of(directory, [damage.last_seq(directory) // 3])
    with place.path.open("r+b") as file:
        file.seek(place.offset // 4096 * 4096)
        file.write(bytes(4096))


def remove_a_segment(directory: Path) -> None:
    damage.segments(directory)[2].unlink()


def remove_the_first_segment(directory: Path) -> None:
    damage.segments(directory)[0].unlink()


def cut_a_segment(directory: Path) -> None:
    path = damage.segments(directory)[1]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def copy_a_record(directory: Path) -> None:
    """A record that verifies, at another one's place (D8)."""
    end = damage.last_seq(directory)
    source, target = damage.places_of(directory, [end // 4, end // 2])
    data = source.path.read_bytes()[source.offset : source.offset + source.size]
    with target.path.open("r+b") as file:
        file.seek(target.offset)
        file.write(data)


HOLES: list[Callable[[Path], None]] = [
    flip_one,
    flip_several,
    flip_the_first,
    flip_a_header,
    zero_a_block,
    remove_a_segment,
    remove_the_first_segment,
    cut_a_segment,
    copy_a_record,
]


def test_holes_are_filled_while_clients_write(cluster: FaultyCluster) -> None:
    """One damage after the other, at the leader and at followers by turns; only what is missing is fetched."""
    told = fill(cluster)
    with load(cluster, "key", **WRITERS) as writers:
        for number, spoil in enumerate(HOLES):
            leader, follower = leader_and_follower(cluster, number)
            id = leader if number % 3 == 0 else follower
            cluster.kill(id)
            spoil(cluster.data(id))
            before = len(healed_entries(cluster, id))
            cluster.start(id)
            healed = healed_entries(cluster, id)[before:]
            assert len(healed) == 1, f"{spoil.__name__}: {cluster.log_text(id)[-2000:]}"
            assert healed[0] <= KEYS / 2, spoil.__name__
            writers.wait_for(20)
        together(told, writers.stop())
    check_healed(cluster, told)


def lose_the_end(directory: Path) -> None:
    """From the record on that the mark speaks of: one that was written after it could be a torn write."""
    marked = decode_mark((directory / "mark").read_bytes()).seq
    damage.flip_records(directory, range(marked, damage.last_seq(directory) + 1))


def lose_the_last_segments(directory: Path) -> None:
    for path in damage.segments(directory)[-2:]:
        path.unlink()


def lose_all_segments(directory: Path) -> None:
    for path in damage.segments(directory):
        path.unlink()


def spoil_both_ballots(directory: Path) -> None:
    damage.flip(directory / "ballot", 12, 4)
    damage.flip(directory / "ballot", 4096 + 12, 4)


def spoil_the_mark(directory: Path) -> None:
    damage.flip(directory / "mark", 12, 4)


def empty(name: str) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        (directory / name).write_bytes(b"")

    spoil.__name__ = f"empty_{name}"
    return spoil


def remove(name: str) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        (directory / name).unlink()

    spoil.__name__ = f"remove_{name}"
    return spoil


UNKNOWN_ENDS: list[Callable[[Path], None]] = [
    lose_the_end,
    lose_the_last_segments,
    lose_all_segments,
    spoil_both_ballots,
    spoil_the_mark,
    remove("ballot"),
    remove("mark"),
    remove("identity"),
    empty("ballot"),
    empty("mark"),
    empty("identity"),
]


def test_what_a_leader_has_to_mend(cluster: FaultyCluster) -> None:
    """What this node has promised is not known any more: no vote until a leader has brought it up to date."""
    told = fill(cluster)
    with load(cluster, "key", **WRITERS) as writers:
        for number, spoil in enumerate(UNKNOWN_ENDS):
            leader, follower = leader_and_follower(cluster, number)
            id = leader if number % 3 == 0 else follower
            cluster.kill(id)
            spoil(cluster.data(id))
            before = len(cluster.log_text(id))
            cluster.start(id)
            cluster.wait_until_all_vote()
            said = cluster.log_text(id)[before:]
            assert "set aside: no vote until a leader" in said, f"{spoil.__name__}: {said}"
            assert "may vote from now on" in said, f"{spoil.__name__}: {said}"
            writers.wait_for(20)
        together(told, writers.stop())
    check_healed(cluster, told)


def test_one_copy_of_the_ballot_is_enough(cluster: FaultyCluster) -> None:
    told = fill(cluster)
    for number, offset in enumerate((12, 4096 + 12)):
        _, id = leader_and_follower(cluster, number)
        cluster.kill(id)
        damage.flip(cluster.data(id) / "ballot", offset, 4)
        before = len(cluster.log_text(id))
        cluster.start(id)
        assert "set aside" not in cluster.log_text(id)[before:]
        assert cluster.info(id)["may_vote"] == 1
    check_healed(cluster, told)


HEALING_CALLS = [
    "open .log.tmp n={n} crash=after",
    "pwrite .log.tmp n={n} short=100 crash=after",
    "pwrite .log.tmp n={n} crash=after",
    "fsync .log.tmp n={n} crash=before",
    "fsync .log.tmp n={n} crash=after",
    "rename .log n={n} crash=before",
    "rename .log n={n} crash=after",
    "fsync / n={n} crash=after",
]


def test_killed_while_it_heals(cluster: FaultyCluster) -> None:
    """Killed at every kind of call, again and again: each time it goes on with what is left."""
    told = fill(cluster)
    rng = random.Random("healing")
    with load(cluster, "key", **WRITERS) as writers:
        _, id = leader_and_follower(cluster, 0)
        cluster.kill(id)
        end = damage.last_seq(cluster.data(id))
        damage.flip_records(cluster.data(id), [end * part // 41 for part in range(1, 41)])
        for call in HEALING_CALLS:
            cluster.break_disk(id, call.format(n=rng.randrange(1, 4)) + " lose")
            cluster.launch(id)
            assert cluster.wait_for_exit(id) == KILLED, call
        cluster.mend_disk(id)
        cluster.start(id)
        assert len(healed_entries(cluster, id)) == 1
        writers.wait_for(20)
        together(told, writers.stop())
    check_healed(cluster, told)


MENDING_CALLS = [
    (lose_the_end, "rename identity crash=after"),
    (lose_the_end, "ftruncate .log crash=before"),
    (lose_all_segments, "rename .log crash=before"),
    (spoil_both_ballots, "rename ballot crash=before"),
    (spoil_the_mark, "rename mark crash=after"),
    (remove("identity"), "rename identity crash=before"),
]


def test_killed_while_it_mends(cluster: FaultyCluster) -> None:
    """Killed between the steps of what a leader has to complete: the right to vote is gone before anything else is."""
    told = fill(cluster)
    for number, (spoil, call) in enumerate(MENDING_CALLS):
        _, id = leader_and_follower(cluster, number)
        cluster.kill(id)
        spoil(cluster.data(id))
        cluster.break_disk(id, call + " lose")
        cluster.launch(id)
        assert cluster.wait_for_exit(id) == KILLED, call
        cluster.mend_disk(id)
        said_before = len(cluster.log_text(id))
        cluster.start(id)
        cluster.wait_until_all_vote()
        said = cluster.log_text(id)[said_before:]
        assert "set aside: no vote until a leader" in said, call
        assert "may vote from now on" in said, call
    check_healed(cluster, told)


def test_helix(cluster: FaultyCluster) -> None:
    """Each node has lost other entries: they heal from each other, though none can lead at first."""
    told = fill(cluster)
    cluster.kill(*cluster.ids)
    for turn, id in enumerate(cluster.ids):
        end = damage.last_seq(cluster.data(id))
        damage.flip_records(cluster.data(id), [end * (3 * part + turn + 1) // 25 for part in range(8)])
    cluster.start()
    assert all(len(healed_entries(cluster, id)) == 1 for id in cluster.ids)
    cluster.wait_for_leader()
    check_healed(cluster, told)


def test_one_other_is_enough_to_heal(cluster: FaultyCluster) -> None:
    """A damaged node and a good one, which is no majority and has no leader, while the third is away."""
    told = fill(cluster)
    cluster.kill(*cluster.ids)
    flip_several(cluster.data("A"))
    cluster.launch("A")
    eventually(lambda: "set aside until the log is healed" in cluster.log_text("A"), "A is set aside")
    assert cluster.stop("A") == 0
    cluster.start("A", "B")
    cluster.wait_for_leader()
    cluster.start("C")
    check_healed(cluster, told)


def test_lost_at_every_member(make_faulty: MakeFaulty) -> None:
    """Every node stops and names the entries. A copy of one file of one of them is enough to go on."""
    cluster = make_faulty(segment_bytes=16384, election_timeout_ms=100, election_timeout_max_ms=200, heartbeat_ms=25)
    cluster.start()
    cluster.wait_until_all_vote()
    told = fill(cluster)
    cluster.kill(*cluster.ids)
    files = {path: path.read_bytes() for path in damage.segments(cluster.data("B"))}
    seq = damage.last_seq(cluster.data("A")) // 2
    for id in cluster.ids:
        (spoilt,) = damage.flip_records(cluster.data(id), [seq])
    names = {id: {path.name: path.read_bytes() for path in damage.segments(cluster.data(id))} for id in cluster.ids}
    cluster.launch(*cluster.ids)
    for id in cluster.ids:
        assert cluster.wait_for_exit(id, START_S) == EXIT_LOST
        errors = [line for line in cluster.log_text(id).splitlines() if "level=error" in line]
        entries = f"entries {spoilt.record.first_seq} to {spoilt.record.last_seq}"
        if spoilt.record.first_seq == spoilt.record.last_seq:
            entries = f"entry {spoilt.record.first_seq}"
        assert entries in errors[-1]
        assert "lost at every member" in errors[-1]
        assert {path.name: path.read_bytes() for path in damage.segments(cluster.data(id))} == names[id]
    for path, data in files.items():
        if path.read_bytes() != data:
            path.write_bytes(data)
    cluster.start()
    cluster.wait_for_leader()
    check_healed(cluster, told)


SCRUB = {"scrub_bytes_per_second": "64MiB", "scrub_pause_ms": 20}


def test_damage_under_a_running_node(make_faulty: MakeFaulty) -> None:
    """Found by the scrub, told of in INFO, healed while the node serves; a leader hands over first."""
    cluster = make_faulty(segment_bytes=16384, **SCRUB)
    cluster.start()
    cluster.wait_until_all_vote()
    told = fill(cluster)
    pids = {id: cluster.pid(id) for id in cluster.ids}
    with load(cluster, "key", **WRITERS) as writers:
        for number, spoil in enumerate((flip_one, flip_several, flip_a_header, zero_a_block)):
            leader, follower = leader_and_follower(cluster, number)
            id = leader if number % 2 == 0 else follower
            before = cluster.info(id, "persistence")
            said_before = len(cluster.log_text(id))
            spoil(cluster.data(id))

            def is_healed(id: str = id, before: Info = before) -> bool:
                info = cluster.info(id, "persistence")
                has_more = all(info[name] > before[name] for name in ("damage_found", "damage_healed"))
                return has_more and info["damaged_entries"] == 0

            eventually(is_healed, f"{id} heals after {spoil.__name__}")
            said = cluster.log_text(id)[said_before:]
            assert ("handing over leadership" in said) == (id == leader), said
            writers.wait_for(20)
        together(told, writers.stop())
    check_healed(cluster, told)
    assert {id: cluster.pid(id) for id in cluster.running} == pids


def forge_and_start(cluster: FaultyCluster, id: str, part: float, *, rules: str = "") -> None:
    """Give a stopped node another history, and wait until it has the cluster's again."""
    damage.forge(cluster.data(id), int(damage.last_seq(cluster.data(id)) * part))
    said_before = len(cluster.log_text(id))
    if rules:
        cluster.break_disk(id, rules)
        cluster.launch(id)
        assert cluster.wait_for_exit(id) == KILLED, rules
        cluster.mend_disk(id)
    cluster.start(id)
    eventually(lambda: "may vote from now on" in cluster.log_text(id)[said_before:], f"{id} has come back")
    assert "set aside: this log is not the cluster's" in cluster.log_text(id)[said_before:]


def test_another_history_with_right_checksums(cluster: FaultyCluster) -> None:
    """What differs from the majority is not believed: the node sets itself aside, and is sent what the others have."""
    told = fill(cluster)
    with load(cluster, "key", **WRITERS) as writers:
        leader = wait_for_a_leader(cluster)
        cluster.kill(leader)
        wait_for_a_leader(cluster)
        forge_and_start(cluster, leader, 0.95)
        for rules in ("rename identity crash=after lose", "ftruncate .log crash=after lose"):
            _, id = leader_and_follower(cluster, 0)
            cluster.kill(id)
            forge_and_start(cluster, id, 0.5, rules=rules)
        writers.wait_for(20)
        together(told, writers.stop())
    check_healed(cluster, told)


def test_two_histories_and_no_third(make_faulty: MakeFaulty) -> None:
    """Of two that differ nobody can tell which is right: nothing is acknowledged until the third is back, and it is
    the majority's history that stays, whoever led."""
    cluster = make_faulty(segment_bytes=16384, request_timeout_ms=1000)
    cluster.start()
    cluster.wait_until_all_vote()
    told = fill(cluster)
    cluster.kill(*cluster.ids)
    damage.forge(cluster.data("A"), damage.last_seq(cluster.data("A")) // 2)
    cluster.start("A", "B")
    leader = eventually(lambda: who_leads(cluster), "one of the two leads")
    eventually(lambda: cluster.info(leader)["histories_differ"], "the leader tells that histories differ")
    assert cluster.ask(leader, "SET", "key", "value") in ("UNKNOWN", "CLUSTERDOWN")
    cluster.start("C")
    eventually(lambda: "may vote from now on" in cluster.log_text("A").partition("set aside: this")[2], "A is back")
    check_healed(cluster, told)


def test_read_errors_at_start(cluster: FaultyCluster) -> None:
    """A read error is no end of the file: nothing is cut, and what can not be read is fetched once a member can be
    asked."""
    told = fill(cluster)
    cluster.kill(*cluster.ids)
    name = damage.segments(cluster.data("A"))[2].name
    cluster.break_disk("A", f"pread {name} from=2 EIO")
    cluster.launch("A")
    eventually(lambda: "set aside until the log is healed" in cluster.log_text("A"), "A is set aside")
    assert "Input/output error" in cluster.log_text("A")
    cluster.mend_disk("A")
    cluster.start("B", "C")
    eventually(lambda: healed_entries(cluster, "A"), "A heals")
    cluster.wait_for_leader()
    check_healed(cluster, told)


def test_read_errors_while_another_catches_up(cluster: FaultyCluster) -> None:
    told = fill(cluster)
    leader, away = leader_and_follower(cluster, 0)
    cluster.kill(away)
    with load(cluster, "key", leader, pipeline=16, value_bytes=2000) as writers:
        writers.wait_for(1500)
        together(told, writers.stop())
    shutil.rmtree(cluster.data(away))
    cluster.restart(*cluster.running)  # what it has written itself it would have in memory
    leader = wait_for_a_leader(cluster)
    cluster.break_disk(leader, "pread .log n=2 EIO")
    cluster.start(away)
    eventually(lambda: cluster.faults(leader), "the leader reads")
    cluster.mend_disk(leader)
    eventually(lambda: cluster.info(away)["last_seq"] > KEYS, "it is sent everything")
    for id in set(cluster.ids) - set(cluster.running):
        cluster.start(id)
    check_healed(cluster, told)
