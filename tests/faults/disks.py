"""Real nodes on disks that fail to order: a cluster whose nodes run with shim.c between them and their data.

cluster.break_disk("A", "fdatasync .log n=3 EIO")     from now on, counted from now on; the rules: shim.c
cluster.mend_disk("A")
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import redis

from tests.cluster.harness import Cluster, eventually
from tests.cluster.load import Load, Told, code_of

EXIT_DISK_FAILED = 3
EXIT_LOST = 4
EXIT_REFUSED = 2
KILLED = -9
QUICK = {"heartbeat_ms": 50, "election_timeout_ms": 250, "election_timeout_max_ms": 500}
"""Options of clusters that lose their leader often: a test is not to spend its time with waiting for elections."""
WRITERS = {"clients": 1, "pause_ms": 5}
"""Options of a load that leaves the processors to nodes that start."""
LEADER_S = 5.0
"""There is a leader again after this long, on a machine that does other things too."""


def build_shim(directory: Path) -> Path:
    """Compile shim.c into a directory; FileNotFoundError where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("there is no C compiler (cc) to build tests/faults/shim.c with")
    library = directory / "shim.so"
    source = Path(__file__).with_name("shim.c")
    flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run([compiler, *flags, "-o", library, source, "-ldl"], check=True)
    return library


class FaultyCluster(Cluster):
    """See the module. `library` is the compiled shim.c."""

    def __init__(
        self, directory: Path, ids: Iterable[str], options: Mapping[str, object] | None, library: Path
    ) -> None:
        super().__init__(directory, ids, options)
        self._asking: dict[str, redis.Redis] = {}
        for id in self.ids:
            self.environments[id] = {
                "LD_PRELOAD": str(library),
                "SHIM_ROOT": str(self.data(id).resolve()),
                "SHIM_RULES": str(self._rules(id)),
                "SHIM_CLIENT_PORT": str(self.client_ports[id]),
            }

    def _rules(self, id: str) -> Path:
        return self.directory / f"{id}.rules"

    def break_disk(self, id: str, rules: str) -> None:
        """Replace the rules of a node, running or not; `|` stands between two. All counts begin anew."""
        written = self._rules(id).with_suffix(".new")
        written.write_text(rules.replace("|", "\n") + "\n")
        self._rules(id).with_name(f"{id}.rules.fired").unlink(missing_ok=True)
        written.replace(self._rules(id))

    def mend_disk(self, id: str) -> None:
        self._rules(id).unlink(missing_ok=True)

    def cut_power(self, *ids: str) -> None:
        """Kill them at the same moment, as far as possible; what was appended and not synced is gone."""
        for id in ids:
            self.send_signal(id, signal.SIGUSR2)
        for id in ids:
            assert self.wait_for_exit(id) == KILLED

    def ask(self, id: str, *command: str) -> object:
        """The reply to a command, or the code of the error."""
        if id not in self._asking:
            self._asking[id] = self.client(id)
        try:
            return self._asking[id].execute_command(*command)
        except redis.ResponseError as error:
            return code_of(error)

    def faults(self, id: str) -> list[str]:
        """The calls to which a rule was applied, since the rules were set."""
        fired = self._rules(id).with_name(f"{id}.rules.fired")
        return fired.read_text().splitlines() if fired.exists() else []


def check_everywhere(cluster: Cluster, told: Told) -> None:
    """Every node holds the same, and every acknowledged write, read locally."""
    cluster.wait_until_equal()
    for id in cluster.running:
        client = cluster.client(id)
        client.readonly()
        told.check(client)


def who_leads(cluster: Cluster) -> str | None:
    """The running node that says it leads the latest term. Under load, and when two may think so for a moment."""
    infos = [info for id in cluster.running if (info := cluster.maybe_info(id)) and info["role"] == "leader"]
    return max(infos, key=lambda info: info["term"])["node"] if infos else None


def wait_for_a_leader(cluster: Cluster) -> str:
    return eventually(lambda: who_leads(cluster), "there is a leader", LEADER_S)


def leader_and_follower(cluster: Cluster, turn: int) -> tuple[str, str]:
    """The leader, and one of the others: another one each turn."""
    leader = wait_for_a_leader(cluster)
    others = [id for id in cluster.ids if id != leader]
    return leader, others[turn % len(others)]


def end_and_return(
    cluster: FaultyCluster, writers: Load, rules: Mapping[str, str], code: int, *, in_a_hurry: bool = False
) -> dict[str, str]:
    """The rules end these nodes, a minority, under load; the others carry on; mended, they start again.

    What each said at its end. In a hurry they start at once, and may be back before the others have carried on.
    """
    lengths = {id: len(cluster.log_text(id)) for id in rules}
    for id in rules:
        cluster.break_disk(id, rules[id])
    said = {}
    for id in rules:
        ended = cluster.wait_for_exit(id)
        said[id] = cluster.log_text(id)[lengths[id] :]
        assert cluster.faults(id), f"{id}, {rules[id]}: ended without, with exit code {ended}:\n{said[id]}"
        assert ended == code, f"{id}, {rules[id]}: exit code {ended}:\n{said[id]}"
        cluster.mend_disk(id)
    if in_a_hurry:
        cluster.start(*rules)
    wait_for_a_leader(cluster)
    writers.wait_for(5)
    if not in_a_hurry:
        cluster.start(*rules)
    return said


def check_one_sentence(cluster: FaultyCluster, id: str, said: str, reason: str) -> None:
    """Why it ended stands in its last error line, and nowhere else; it names the directory and the reason. No
    traceback. Before that it may have told of damage: a member may ask for records that the same fault hides."""
    errors = [line for line in said.splitlines() if "level=error" in line]
    ends = [line for line in errors if "this node has stopped itself" in line]
    assert len(ends) == 1, said
    assert errors[-1] == ends[0], said
    assert reason in ends[0]
    assert str(cluster.data(id)) in ends[0]
    assert "Traceback" not in said
