"""A torture run: clusters of real nodes, each with what the seed draws for it, tortured round after round until it is
old, then a fresh one. A round:

    traffic, faults, traffic, everything heals, every node takes writes again, nobody asks any more, converge, check

What a round is to do is drawn from the seed, the number of the cluster and that of the round; when exactly what meets
what is not. A failed round leaves the data directories, the output of the nodes, the history and what was done in a
directory of its own.
"""

from __future__ import annotations

import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from tests.checker import history as histories
from tests.checker.history import OK, History
from tests.cluster.harness import eventually
from tests.torture import judge
from tests.torture.clients import all_workloads
from tests.torture.cluster import TorturedCluster
from tests.torture.faults import FAULTS
from tests.torture.fleet import Fleet
from tests.torture.judge import Violation, require
from tests.torture.nemesis import Nemesis, plan
from tests.torture.options import Options, draw

BEFORE_S = 1.0
PLAN_S = 2.0
"""Faults begin within so long …"""
FAULTS_S = 4.0
"""… and traffic goes on for so long with what they have done."""
WRITES_S = 60.0
"""After the healing every node acknowledges a write within this time."""
SLOW_S = 10.0
"""What the fault matrix asks for (I7). On a machine that does other things too it is counted, and no violation."""
START_S = 60.0


@dataclass(slots=True)
class Totals:
    """What a run has done so far."""

    rounds: int = 0
    clusters: int = 0
    operations: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    links: Counter[str] = field(default_factory=Counter)
    longest_gap_s: float = 0.0
    """Without any answer, while there were faults."""
    longest_recovery_s: float = 0.0
    """From the healing until every node had acknowledged a write."""
    slow_recoveries: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        def shown(counts: Counter[str]) -> str:
            return ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items())) or "none"

        return "\n".join(
            (
                f"minutes {self.seconds / 60:.1f}, clusters {self.clusters}, rounds {self.rounds}, "
                f"operations {self.operations:,} ({shown(self.outcomes)})",
                f"faults {sum(self.faults.values())}: {shown(self.faults)}",
                f"ends of processes: by {shown(self.exits)}",
                f"frames and connections: {shown(self.links)}",
                f"longest time without an answer {self.longest_gap_s:.1f} s; from the healing to a write at every node "
                f"{self.longest_recovery_s:.1f} s at most, longer than {SLOW_S:.0f} s: {self.slow_recoveries}",
                f"violations: {len(self.violations)}",
                *self.violations,
            )
        )


class Tortured:
    """One cluster, its clients and its nemesis."""

    def __init__(self, directory: Path, library: Path, seed: int, options: Options) -> None:
        self.directory = directory
        self.options = options
        self.seed = seed
        self.rounds = 0
        self.cluster = TorturedCluster(directory, options.ids, options.node, library, seed)
        self.nemesis = Nemesis(self.cluster, f"{seed} {options.number}")
        addresses = {id: self.cluster.address(id) for id in self.cluster.ids}
        self.fleet = Fleet(addresses, [], seed=seed, answer_s_max=options.answer_s_max, pause_ms=options.pause_ms)
        self.faults: list[str] = []
        """Of the present round."""
        self.entries: judge.Entries = []

    def __repr__(self) -> str:
        return f"Tortured seed={self.seed} {self.options} rounds={self.rounds}"

    def start(self) -> None:
        self.cluster.start()
        self.cluster.wait_until_all_vote(START_S)
        self.cluster.wait_for_leader(START_S)
        self.fleet.shared.is_paused = True
        self.fleet.__enter__()

    def close(self) -> None:
        try:
            self.cluster.close()  # first, so that no client waits for an answer
        finally:
            self.fleet.__exit__(None, None, None)

    def one_round(self, totals: Totals) -> None:
        """Raises Violation, or what the harness itself met."""
        self.rounds += 1
        random = Random(f"round {self.seed} {self.options.number} {self.rounds}")
        faults = plan(random, self.options.kinds, PLAN_S)
        self.faults = [*map(str, faults)]
        workloads = all_workloads(f"{self.rounds}")
        new_from = len(self.fleet.history)
        self.fleet.use(workloads)
        self.fleet.go_on()
        self.nemesis.carry_out([], BEFORE_S)
        faults_s = time.monotonic()
        self.nemesis.carry_out(faults, FAULTS_S)
        healed_s = time.monotonic()
        self.nemesis.heal()
        totals.faults += Counter(fault.kind for fault in faults)
        recovery_s = self._wait_for_writes(healed_s)
        self.fleet.pause()
        judge.converge(self.cluster)
        self._check(new_from, workloads)
        recent = self.fleet.history[new_from:]
        totals.operations += len(recent)
        totals.outcomes += Counter(operation.status.value for operation in recent)
        totals.longest_gap_s = max(totals.longest_gap_s, _longest_gap_s(recent, faults_s, healed_s))
        totals.longest_recovery_s = max(totals.longest_recovery_s, recovery_s)
        totals.slow_recoveries += recovery_s > SLOW_S
        totals.rounds += 1

    def _wait_for_writes(self, healed_s: float) -> float:
        """Until every node has acknowledged a write; how long that took."""
        written_s = self.fleet.shared.written_s

        def all_write() -> bool:
            self.nemesis.note_ended()
            return all(written_s.get(id, 0.0) > healed_s for id in self.cluster.ids)

        try:
            eventually(all_write, "every node acknowledges a write after the healing", WRITES_S)
        except AssertionError as error:
            states = {id: self.cluster.maybe_info(id) for id in self.cluster.running}
            raise Violation(f"{error}: {states}") from error
        return max(written_s[id] for id in self.cluster.ids) - healed_s

    def _check(self, new_from: int, workloads: list[Any]) -> None:
        shared = self.fleet.shared
        require(not shared.faults, f"{shared.faults}")
        self.entries = judge.read_logs(self.cluster)
        judge.check_history(self.fleet.history, new_from, self.entries, workloads)
        judge.check_terms(self.cluster)
        judge.check_values(self.cluster, self.entries)
        judge.check_processes(self.cluster)
        judge.check_overdue(shared.overdue, self.nemesis.spells)

    def save(self, error: BaseException) -> None:
        """All that is needed to look at a failure, beside the data directories and what the nodes have printed."""
        with (self.directory / "history.jsonl").open("w") as file:
            histories.write(self.fleet.history, file)
        with (self.directory / "log.txt").open("w") as file:
            file.writelines(f"{seq} {entry}\n" for seq, entry in self.entries)
        told = [f"seed {self.seed}, {self.options}, round {self.rounds}", *self.faults, *self.nemesis.told, repr(error)]
        (self.directory / "what.txt").write_text("\n".join(told) + "\n")


def _longest_gap_s(history: History, from_s: float, to_s: float) -> float:
    """Between two answers of any kind that say that something was done, within that time."""
    times = sorted(operation.returned for operation in history if operation.status is OK)
    times = [from_s, *(each for each in times if from_s < each < to_s), to_s]
    return max(later - earlier for earlier, later in pairwise(times))


class Run:
    """From a seed to `totals`. It ends when the time is over, so many rounds are done, or something is found."""

    def __init__(
        self,
        directory: Path,
        library: Path,
        seed: int,
        *,
        minutes: float | None = None,
        rounds: int | None = None,
        members: int | None = None,
        kinds: Sequence[str] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`kinds`: faults to choose from, all of them for None. `say` is told what goes on, line by line."""
        self.totals = Totals()
        self._directory = directory
        self._library = library
        self._seed = seed
        self._minutes = minutes
        self._rounds = rounds
        self._members = members
        self._kinds = sorted(kinds or FAULTS)
        self._say = say
        self._began_s = time.monotonic()

    def __repr__(self) -> str:
        return f"Run seed={self._seed} rounds={self.totals.rounds} violations={len(self.totals.violations)}"

    def run(self, first_cluster: int = 1) -> Totals:
        """The directory of a cluster that has failed stays. KeyboardInterrupt ends it with what was done so far."""
        number = first_cluster
        try:
            while not self._is_over() and not self.totals.violations:
                self._one_cluster(draw(self._seed, number, self._kinds, self._members))
                number += 1
        except KeyboardInterrupt:
            self._say("interrupted")
        return self.totals

    def _is_over(self) -> bool:
        totals = self.totals
        totals.seconds = time.monotonic() - self._began_s
        has_time = self._minutes is None or totals.seconds < 60 * self._minutes
        return not has_time or (self._rounds is not None and totals.rounds >= self._rounds)

    def _one_cluster(self, options: Options) -> None:
        self._say(str(options))
        directory = self._directory / f"cluster{options.number}"
        tortured = Tortured(directory, self._library, self._seed, options)
        self.totals.clusters += 1
        has_failed = False
        try:
            tortured.start()
            while tortured.rounds < options.rounds and not self._is_over():
                tortured.one_round(self.totals)
                self._say(self._progress(tortured))
        except Exception as error:  # whatever it is, it has to be looked at: the cluster's fault, or the harness's
            has_failed = True
            self._fail(tortured, error)
        finally:
            self.totals.links += Counter(tortured.cluster.links.counts())
            self.totals.exits += tortured.nemesis.exits
            tortured.close()
            if not has_failed:
                shutil.rmtree(directory)

    def _progress(self, tortured: Tortured) -> str:
        seconds = time.monotonic() - self._began_s
        done = f"round {self.totals.rounds}, operations {self.totals.operations:,}, log {len(tortured.entries):,}"
        return f"{seconds:5.0f} s, {done}: {', '.join(tortured.faults)}"

    def _fail(self, tortured: Tortured, error: Exception) -> None:
        number = tortured.options.number
        place = "" if isinstance(error, AssertionError) else "".join(traceback.format_exception(error))
        tortured.save(error)
        again = f"python -m tests.torture --seed {self._seed} --cluster {number} --rounds {tortured.rounds}"
        members = f" --members {self._members}" if self._members else ""
        self.totals.violations.append(
            f"seed {self._seed}, cluster {number}, round {tortured.rounds}: {type(error).__name__}: {error}\n{place}"
            f"  faults: {'; '.join(tortured.faults)}\n"
            f"  everything is in {tortured.directory}: data, what.txt, history.jsonl, *.out\n"
            f"  again (as far as chance allows): {again}{members}"
        )
