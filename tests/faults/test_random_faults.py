"""Any fault at any node at any time, while clients write: whatever happens, nothing acknowledged is lost, no node ends
in another way than is documented, and once the disks work again all nodes hold the same.

KVNODE_TEST_FAULT_ROUNDS sets how many rounds (the suite does a few), KVNODE_TEST_SEED what happens in them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

from tests.cluster.harness import eventually
from tests.cluster.load import Told, load
from tests.faults import damage
from tests.faults.disks import (
    EXIT_DISK_FAILED,
    EXIT_REFUSED,
    KILLED,
    WRITERS,
    FaultyCluster,
    check_everywhere,
)

ROUNDS = int(os.environ.get("KVNODE_TEST_FAULT_ROUNDS", "3"))
SEED = os.environ.get("KVNODE_TEST_SEED", "faults")

OPERATIONS = ["open", "pread", "pwrite", "fsync", "fdatasync", "sync", "ftruncate", "rename", "unlink", "mkdir", "*"]
PATHS = [".log", ".log.tmp", "mark", "ballot", "identity", "discarded", "/", "*"]
WHATS = [
    "EIO",
    "EIO lose",
    "ENOSPC",
    "EDQUOT",
    "EROFS",
    "short={n} ENOSPC",
    "delay_ms={n}",
    "delay_ms=700",
    "crash=before lose",
    "crash=after lose",
    "short={n} crash=after",
]


def random_rules(rng: random.Random) -> str:
    def rule() -> str:
        when = rng.choice(["n", "n", "from"]) + f"={rng.randrange(1, rng.choice((3, 30)))}"
        what = rng.choice(WHATS).format(n=rng.randrange(60))
        return f"{rng.choice(OPERATIONS)} {rng.choice(PATHS)} {when} {what}"

    return " | ".join(rule() for _ in range(rng.choice((1, 1, 2, 4))))


def spoil_some(directory: Path, rng: random.Random) -> str:
    """Damage that the other members can mend."""
    path = rng.choice(damage.segments(directory))
    kind = rng.choice(["bytes", "bytes", "notes", "segment", "end"])
    if kind == "bytes":
        for _ in range(rng.choice((1, 1, 10))):
            damage.flip(path, rng.randrange(path.stat().st_size))
    elif kind == "notes":
        path = directory / rng.choice(["mark", "ballot", "identity"])
        damage.flip(path, rng.randrange(path.stat().st_size))
    elif kind == "segment":
        path.unlink()
    else:
        with path.open("r+b") as file:
            file.truncate(rng.randrange(path.stat().st_size))
    return f"{kind} of {path.name} damaged"


def within(seconds: float, condition: Callable[[], object]) -> bool:
    try:
        return bool(eventually(condition, "it need not happen", seconds))
    except AssertionError:
        return False


def test_any_fault_anywhere(cluster: FaultyCluster) -> None:
    rng = random.Random(SEED)
    told = Told()
    for number in range(ROUNDS):
        happened: list[str] = []
        try:
            with load(cluster, f"round{number}:", value_bytes=rng.choice((0, 500)), **WRITERS) as writers:
                writers.wait_for(10)
                one_round(cluster, rng, happened)
                writers.wait_for(20)
                part = writers.stop()
            told.acknowledged |= part.acknowledged
            told.refused |= part.refused
            told.faults += part.faults
            cluster.wait_until_all_vote()
            check_everywhere(cluster, told)
            for id in cluster.ids:
                assert "Traceback" not in cluster.log_text(id), f"a defect at {id}"
        except BaseException as error:
            error.add_note(f"seed {SEED}, round {number}: {happened}")
            raise


def one_round(cluster: FaultyCluster, rng: random.Random, happened: list[str]) -> None:
    """Faults at some nodes. Who ended is started again: first perhaps with other faults, one of them damaged."""
    for id in rng.sample(cluster.ids, rng.choice((1, 2, 3))):
        rules = random_rules(rng)
        happened.append(f"{id}: {rules}")
        cluster.break_disk(id, rules)
    within(rng.choice((0.3, 1.0)), lambda: len(cluster.running) < 2)
    check_ended(cluster, (KILLED, EXIT_DISK_FAILED), happened)
    cluster.kill(*(id for id in rng.sample(cluster.ids, rng.choice((0, 0, 1, 2, 3))) if id in cluster.running))
    ended = [id for id in cluster.ids if id not in cluster.running]
    happened.append(f"ended: {ended}")
    if ended and rng.random() < 0.7:
        happened.append(f"{ended[0]}: {spoil_some(cluster.data(ended[0]), rng)}")
    for id in ended:
        rules = random_rules(rng)
        if rng.random() < 0.5:
            happened.append(f"{id} at start: {rules}")
            cluster.break_disk(id, rules)
        else:
            cluster.mend_disk(id)
    cluster.launch(*ended)
    within(rng.choice((0.5, 1.5)), lambda: len(cluster.running) < 3)
    for id in cluster.ids:
        cluster.mend_disk(id)
    for id in cluster.ids:  # it may be just about to end
        eventually(lambda: id not in cluster.running or cluster.maybe_info(id), f"{id} serves or ends")  # noqa: B023
    check_ended(cluster, (KILLED, EXIT_DISK_FAILED, EXIT_REFUSED), happened)
    cluster.start()


def check_ended(cluster: FaultyCluster, codes: tuple[int, ...], happened: list[str]) -> None:
    for id in cluster.ids:
        if id not in cluster.running:
            code = cluster.wait_for_exit(id)
            happened.append(f"{id} ended with {code}")
            assert code in codes, cluster.log_text(id)[-3000:]
