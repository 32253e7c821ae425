"""What must hold once everything is healed. Each check raises Violation, whose text is for people.

converge(cluster)                   all nodes vote, one leads, all have applied the same log; its last seq
read_logs(cluster)                  the same records in all files, nothing damaged; the entries
check_history(...)                  C1 over all, C2 key by key, what the workloads say
check_values(cluster, entries)      every node answers what the log says
check_processes(cluster)            no traceback, nothing that grows without end
check_overdue(...)                  every call was answered in time, if the node could
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from kvnode.log.discard import DISCARDED
from kvnode.log.record import Record
from kvnode.log.viewing.listing import look_at
from kvnode.log.viewing.reader import Found, Item, Reader
from tests.checker import linearizable, witness
from tests.checker.history import OK, UNKNOWN, History, Operation
from tests.checker.models import may_write
from tests.checker.workloads import Workload
from tests.cluster.harness import Cluster, Info, eventually
from tests.torture.clients import Overdue

CONVERGE_S = 60.0
"""Twenty times what it takes on an idle machine; I7 of the fault matrix (10 s) is measured, and reported."""
SECONDS_PER_KEY_MAX = 60.0
RESIDENT_BYTES_MAX = 512 * 1024 * 1024
FILES_MAX = 200
"""Of a node with a dozen clients and four other members: some 60 are open."""
KEYS_PER_QUESTION = 500
FAULTS_SHOWN = 5

Entries = list[tuple[int, Sequence[Any]]]


class Violation(AssertionError):
    """Something happened that never may."""


def require(condition: object, text: str) -> None:
    if not condition:
        raise Violation(text)


# Convergence


def converge(cluster: Cluster, timeout_s: float = CONVERGE_S) -> int:
    """Wait until all is well again, and durable everywhere; the last seq."""
    try:
        cluster.wait_until_all_vote(timeout_s)
        leader = cluster.wait_for_leader(timeout_s)
        cluster.wait_until_equal(timeout_s=timeout_s)
        eventually(lambda: all(map(_is_durable, map(cluster.info, cluster.ids))), "all is durable", timeout_s)
        return int(cluster.info(leader)["last_seq"])
    except AssertionError as error:
        states = {id: cluster.maybe_info(id) for id in cluster.running}
        raise Violation(f"no convergence: {error}; running {cluster.running}; {states}") from error


def _is_durable(info: Info) -> bool:
    return bool(info["durable_seq"] == info["last_seq"])


# Logs


def items_of(directory: Path) -> list[Item]:
    """What the files hold now."""
    return list(Reader(look_at(directory)))


def whole_log(directory: Path) -> list[Record] | None:
    """The records, None where there is still something else in the files: a scrub may be about to mend it."""
    items = items_of(directory)
    return [item.record for item in items if isinstance(item, Found)] if all(map(_is_found, items)) else None


def _is_found(item: Item) -> bool:
    return isinstance(item, Found)


def read_logs(cluster: Cluster, timeout_s: float = CONVERGE_S) -> Entries:
    """Every entry, from the files of all nodes, which agree byte for byte. Nobody writes meanwhile."""
    logs: dict[str, list[Record]] = {}
    for id in cluster.ids:
        try:
            found = eventually(lambda id=id: whole_log(cluster.data(id)), "", timeout_s, 0.2)  # type: ignore[misc]
        except AssertionError:
            faults = [str(item) for item in items_of(cluster.data(id)) if not _is_found(item)]
            raise Violation(f"{id} still has damage in its log: {faults}") from None
        logs[id] = found
    first = logs[cluster.ids[0]]
    for id, records in logs.items():
        if [record.raw for record in records] != [record.raw for record in first]:
            pairs = zip(records, first, strict=False)
            parts = next((f"{one} and {other}" for one, other in pairs if one.raw != other.raw), "one is longer")
            raise Violation(f"the files of {id} and {cluster.ids[0]} differ: {parts}")
    return [(record.first_seq + place, entry) for record in first for place, entry in enumerate(record.entries)]


def check_terms(cluster: Cluster) -> None:
    """A record is known by its place and term. What lost an election is kept in discarded/: it is another record, of
    another term, or the very one that is in the log."""
    seen: dict[tuple[int, int], tuple[bytes, Path]] = {}
    for id in cluster.ids:
        directory = cluster.data(id)
        for path in (directory, *sorted((directory / DISCARDED).glob("*.log"))):
            for record in (item.record for item in items_of(path) if isinstance(item, Found)):
                raw, where = seen.setdefault((record.first_seq, record.term), (record.raw, path))
                require(raw == record.raw, f"{where} and {path} have different records of one term: {record}")


# Histories


def check_history(history: History, new_from: int, entries: Entries, workloads: Iterable[Workload]) -> None:
    """`history`: everything that clients ever did to this cluster, for C1. From `new_from` on its operations have keys
    of their own: those are for C2, and for the workloads that made them."""
    verdict = witness.check(told(history), entries)
    require(verdict.is_linearizable, f"C1 {verdict}")
    check_written(history, entries)
    recent = history[new_from:]
    for keys, operations in linearizable.parts(recent):
        verdict = linearizable.check(operations, seconds_max=SECONDS_PER_KEY_MAX)
        require(verdict.is_linearizable, f"C2 {keys}: {verdict}")
    for workload in workloads:
        name = workload.keys.name.encode()
        faults = workload.faults(operation for operation in recent if operation.keys[0].startswith(name))
        require(not faults, f"{type(workload).__name__}: {faults[:FAULTS_SHOWN]}")


def told(history: History) -> History:
    """For C1, which goes by the seqs that replies tell: a library that asks for none leaves open what it has done."""
    return [operation for each in history for operation in _told(each)]


def _told(operation: Operation) -> Iterator[Operation]:
    if operation.status is not OK or operation.seq is not None:
        yield operation
    elif may_write(operation):
        yield operation._replace(status=UNKNOWN, returned=inf, result=None)


def check_written(history: History, entries: Entries) -> None:
    """Every acknowledged write whose value is its own is in the log: that needs no seq to look for."""
    written = {pair for _, entry in entries for pair in _pairs(entry)}
    lost = [operation for operation in history if operation.status is OK and not set(_left(operation)) <= written]
    require(not lost, f"{len(lost)} acknowledged writes are lost: {[*map(str, lost[:FAULTS_SHOWN])]}")


def _pairs(entry: Sequence[Any]) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) or (key, what was appended)."""
    match entry:
        case ["SET" | "UPD" | "APPEND", key, value]:
            yield key, value
        case ["TX", effects]:
            for effect in effects:
                yield from _pairs(effect)


def _left(operation: Operation) -> Iterator[tuple[bytes, bytes]]:
    """What an acknowledged write must have left in the log."""
    if not may_write(operation):
        return
    if operation.kind == "INCR":
        yield operation.key, b"%d" % operation.result
    elif operation.kind == "MSET":
        yield from zip(operation.key, operation.argument, strict=True)
    elif isinstance(operation.argument, bytes):
        yield operation.key, operation.argument


# Nodes


def state_after(entries: Entries) -> dict[bytes, bytes]:
    """The key space that a log comes to."""
    state: dict[bytes, bytes] = {}
    for _, entry in entries:
        for key, value in witness.changes_of(entry, state.get).items():
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
    return state


def check_values(cluster: Cluster, entries: Entries) -> None:
    """Each node, asked for what it has itself, answers what the log says."""
    state = state_after(entries)
    keys = sorted(state)
    for id in cluster.ids:
        client: Any = cluster.client(id)
        client.readonly()
        require(client.dbsize() == len(keys), f"{id} has {client.dbsize()} keys, {len(keys)} are in the log")
        for start in range(0, len(keys), KEYS_PER_QUESTION):
            part = keys[start : start + KEYS_PER_QUESTION]
            found = client.mget(part)
            others = [key for key, value in zip(part, found, strict=True) if value != state[key]]
            require(not others, f"{id} answers something else than the log says for {others[:FAULTS_SHOWN]}")
        client.close()


def check_processes(cluster: Cluster) -> None:
    for id in cluster.ids:
        require("Traceback" not in cluster.log_text(id), f"a traceback in what {id} printed")
    for id in cluster.running:
        resident_bytes = cluster.resident_bytes(id)
        require(resident_bytes < RESIDENT_BYTES_MAX, f"{id} holds {resident_bytes:,} bytes of memory")
        files = len(list(Path(f"/proc/{cluster.pid(id)}/fd").iterdir()))
        require(files < FILES_MAX, f"{id} has {files} open files")


class Spell(NamedTuple):
    """When a node could not answer: it was stopped, killed, or its disk made it wait."""

    node: str
    began_s: float
    ended_s: float


def check_overdue(overdue: Iterable[Overdue], spells: Iterable[Spell]) -> None:
    """A call that was not answered in time had reached a node that could not answer, for some of that time."""
    spells = list(spells)
    hung = [
        call
        for call in overdue
        if not any(
            spell.node == call.node and spell.began_s < call.given_up_s and spell.ended_s > call.asked_s
            for spell in spells
        )
    ]
    require(not hung, f"{len(hung)} calls hung: {hung[:FAULTS_SHOWN]}")
