"""One run of a row of the fault matrix: real nodes under traffic, a fault, its end, and what must hold then.

    with under_traffic(cluster, "p02") as traffic:
        traffic.wait_for(100)
        cluster.kill("A")
        …
        cluster.start("A")          the fault is over when the block ends

Then every node takes a write again, nobody asks any more, and all of this is checked (tests/torture/judge.py):

    I1  the history is linearizable: C1 with the log on the disk, C2 without believing it
    I2  every acknowledged write is in the log of every node, and every node answers what that log says
    I3  the logs are the same, byte for byte; no term has had two leaders
    I4  nothing was applied twice, and I5, nothing that failed was applied: C1 again
    I7  all nodes serve and are equal within CONVERGE_S
    I8  no traceback; all nodes run, within limits of memory, and with as few descriptors as before
    I9  every call was answered in time, unless its node stood still

I6, that a minority serves nothing, is part of I1; rows that cut off a minority ask it themselves.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import hiredis

from tests.checker.history import OK, History, Recorder, write
from tests.checker.models import words
from tests.cluster.harness import Cluster, eventually
from tests.torture import judge
from tests.torture.clients import all_workloads
from tests.torture.fleet import Fleet
from tests.torture.judge import Spell

IS_FULL = os.environ.get("KVNODE_TEST_MATRIX", "") == "full"
"""Rows that last long are scaled down otherwise."""
CONVERGE_S = 20.0
"""The matrix says 10 s; the machine may do other things, too."""
ANSWER_S = 2.0
"""request_timeout_ms of these clusters."""
BUSY_S = 3.0
"""What a busy machine may add to that."""
TIMEOUTS = ((29, 271, 542), (101, 521, 1042), (100, 1000, 2000))
"""Heartbeat, least and greatest election timeout: those of etcd's tests, one for each row."""
PATIENT: dict[str, object] = {"heartbeat_ms": 100, "election_timeout_ms": 1000, "election_timeout_max_ms": 2000}
"""For rows in which nobody may call an election, however busy the machine is."""
USUAL: dict[str, object] = {"heartbeat_ms": 100, "election_timeout_ms": 500, "election_timeout_max_ms": 1000}
"""The defaults: those that the promise of two seconds is for."""
SLOWER = 2.0
"""How much slower what is not concerned may become."""
NOISE_MS = 50.0
"""What the machine adds to the slowest calls now and then, by itself."""
DESCRIPTORS_MORE_MAX = 10
"""A connection may be just about to be closed or made."""


def scaled(quick: int, full: int) -> int:
    """How often or how long: in `make test`, and with KVNODE_TEST_MATRIX=full."""
    return full if IS_FULL else quick


def options_for(row: str) -> dict[str, object]:
    """Of the nodes: timeouts that are drawn by the row's name, segments that are sealed now and then."""
    heartbeat, least, greatest = Random(row).choice(TIMEOUTS)
    return {
        "heartbeat_ms": heartbeat,
        "election_timeout_ms": least,
        "election_timeout_max_ms": greatest,
        "request_timeout_ms": int(ANSWER_S * 1000),
        "segment_bytes": 65536,
    }


def lasts(seconds: float) -> None:
    """How long a fault lasts is part of it. Nothing else here waits for a fixed time."""
    time.sleep(seconds)


class Asker:
    """A connection of its own for what a row has to ask at a certain moment; what it asks is part of the history."""

    def __init__(self, traffic: Traffic, id: str) -> None:
        self._traffic = traffic
        self._wire = traffic.cluster.connect(id, ANSWER_S + BUSY_S)
        self._reader = hiredis.Reader()
        self._tickets: list[int] = []
        self._wire.send(b"CLIENT REPLYSEQ ON\r\n")
        self._process = traffic.new_process()
        self.is_ready = isinstance(self._next(), list)

    def send(self, kind: str, key: Any, argument: Any = None) -> None:
        self._tickets.append(self._traffic.recorder.invoke(self._process, kind, key, argument))
        self._wire.send(hiredis.pack_command(tuple(words(kind, key, argument))))

    def receive(self) -> Any:
        """The next reply: what it says, a hiredis.ReplyError, or None where the connection has ended."""
        ticket = self._tickets.pop(0)
        reply = self._next()
        if isinstance(reply, hiredis.ReplyError):
            self._traffic.recorder.error(ticket, str(reply))
            self._process = self._traffic.new_process()
            return reply
        if not isinstance(reply, list):
            return None  # unknown, for ever
        seq, result = reply
        if isinstance(result, hiredis.ReplyError):
            self._traffic.recorder.error(ticket, str(result), seq)
        else:
            self._traffic.recorder.answer(ticket, result, seq)
        return result

    def ask(self, kind: str, key: Any, argument: Any = None) -> Any:
        self.send(kind, key, argument)
        return self.receive()

    def _next(self) -> Any:
        while (reply := self._reader.gets()) is False:
            try:
                data = self._wire.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self._reader.feed(data)
        return reply

    def close(self) -> None:
        self._wire.close()


@dataclass
class Traffic:
    """Eight clients that ask all the time: six with one node each, two with all. `stood_still`: see judge.Spell."""

    cluster: Cluster
    row: str
    fleet: Fleet
    stood_still: list[Spell] = field(default_factory=list)
    _processes: int = 0

    @property
    def recorder(self) -> Recorder:
        return self.fleet.shared.recorder

    @property
    def answered(self) -> int:
        return self.fleet.shared.counts["answered"]

    def new_process(self) -> str:
        self._processes += 1
        return f"{self.row}.{self._processes}"

    def wait_for(self, more: int, timeout_s: float = CONVERGE_S) -> None:
        """Wait until so many more calls have been answered."""
        until = self.answered + more
        try:
            eventually(lambda: self.answered >= until, f"{more} more calls are answered", timeout_s)
        except AssertionError as error:
            error.add_note(f"{self.fleet!r}; running: {self.cluster.running}")
            raise

    @contextmanager
    def asker(self, id: str) -> Iterator[Asker]:
        asker = Asker(self, id)
        try:
            yield asker
        finally:
            asker.close()

    def latencies_ms(self, ids: Collection[str], began_s: float, ended_s: float) -> list[float]:
        """Of the calls that were asked in this time at these nodes, by clients that stay with one; in order."""
        specs = enumerate(self.fleet.specs)
        names = {f"client{number}" for number, spec in specs if len(spec.nodes) == 1 and spec.nodes[0] in ids}
        return sorted(
            (operation.returned - operation.invoked) * 1000
            for operation in self.fleet.history
            if operation.status is OK
            and str(operation.process).partition(".")[0] in names
            and began_s <= operation.invoked < ended_s
        )


def p99(latencies_ms: list[float]) -> float:
    return latencies_ms[len(latencies_ms) * 99 // 100]


@contextmanager
def under_traffic(
    cluster: Cluster, row: str, *, pause_ms: float = 20.0, has_defects: bool = False
) -> Iterator[Traffic]:
    """See the module. The cluster runs already, and has a leader. `has_defects`: some were planted in nodes."""
    descriptors = max(map(cluster.descriptors, cluster.running))
    addresses = {id: cluster.address(id) for id in cluster.ids}
    workloads = all_workloads(row)
    options: dict[str, Any] = {"seed": Random(row).randrange(1 << 30), "pause_ms": pause_ms, "has_libraries": False}
    with Fleet(addresses, workloads, answer_s_max=ANSWER_S + BUSY_S, **options) as fleet:
        traffic = Traffic(cluster, row, fleet)
        yield traffic
        assert cluster.running == list(cluster.ids), "a node has ended, or was not started again"
        for id in cluster.ids:
            _takes_a_write(traffic, id)
        fleet.pause()
        judge.converge(cluster, CONVERGE_S)
        entries = judge.read_logs(cluster, CONVERGE_S)
    history = fleet.history
    try:
        assert not fleet.shared.faults, fleet.shared.faults
        judge.check_overdue(fleet.shared.overdue, traffic.stood_still)
        judge.check_history(history, 0, entries, workloads)
        judge.check_values(cluster, entries)
        check_terms(cluster)
        if not has_defects:
            judge.check_processes(cluster)
        for id in cluster.ids:
            eventually(
                lambda id=id: cluster.descriptors(id) <= descriptors + DESCRIPTORS_MORE_MAX,  # type: ignore[misc]
                f"{id} has closed what it had opened: {descriptors} descriptors before",
            )
    except AssertionError as error:
        error.add_note(f"row {row}, {len(history)} operations: {_write_down(history, cluster.directory / row)}")
        raise


def _takes_a_write(traffic: Traffic, id: str) -> None:
    """I7, at one node."""
    attempts = 0

    def is_written() -> bool:
        nonlocal attempts
        attempts += 1
        try:
            with traffic.asker(id) as asker:
                key = f"{traffic.row}.healed.{id}.{attempts}".encode()
                return asker.is_ready and asker.ask("SET", key, b"healed") == b"OK"
        except OSError:
            return False

    eventually(is_written, f"{id} takes a write again", CONVERGE_S)


@contextmanager
def stopped(traffic: Traffic, id: str) -> Iterator[None]:
    """SIGSTOP, and SIGCONT in any case."""
    began_s = time.monotonic()
    traffic.cluster.send_signal(id, signal.SIGSTOP)
    try:
        yield
    finally:
        traffic.cluster.send_signal(id, signal.SIGCONT)
        traffic.stood_still.append(Spell(id, began_s, time.monotonic()))


def check_terms(cluster: Cluster) -> None:
    """No two nodes have led the same term, by what they say."""
    led: dict[str, str] = {}
    for id in cluster.ids:
        for line in cluster.log_text(id).splitlines():
            if 'event="leadership won"' in line:
                term = next(word for word in line.split() if word.startswith("term="))
                assert led.setdefault(term, id) == id, f"{led[term]} and {id} have both led {term}"


def _write_down(history: History, path: Path) -> Path:
    """For a look at it, and for the checkers again."""
    with path.with_suffix(".jsonl").open("w") as file:
        write(history, file)
    return path.with_suffix(".jsonl")


# Who leads


def others_than(cluster: Cluster, *ids: str) -> list[str]:
    return [id for id in cluster.ids if id not in ids]


def leader_among(cluster: Cluster, ids: Collection[str]) -> str | None:
    """The one of these nodes that leads the latest term, if one does; no other is asked: it may not answer."""
    infos = [info for id in ids if (info := cluster.maybe_info(id)) and info["role"] == "leader"]
    return str(max(infos, key=lambda info: info["term"])["node"]) if infos else None


def wait_for_leader_among(cluster: Cluster, ids: Collection[str], timeout_s: float = CONVERGE_S) -> str:
    return eventually(lambda: leader_among(cluster, ids), f"one of {', '.join(ids)} leads", timeout_s)
