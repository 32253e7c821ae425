"""`kvnode repair` of a stopped node's directory from the nodes that run; `kvnode verify` of directories in use."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.conftest import CLUSTERS, MakeCluster, started
from tests.cluster.harness import HOST, ROOT, Cluster, eventually, node_environment, program
from tests.cluster.load import load

KIB, MIB = 1024, 1024 * 1024
VALUE = b"v" * 20 * KIB
RUN_S = 60


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes with some 5 MiB in many segments, for all tests of this module."""
    cluster = Cluster(tmp_path_factory.mktemp("repair") / "cluster", options={"segment_bytes": "256KiB"})
    try:
        started(cluster)
        client = cluster.client(cluster.wait_for_leader())
        for number in range(250):
            client.set(f"key{number}", VALUE)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def cluster(filled: Cluster, request: pytest.FixtureRequest) -> Cluster:
    """All of them run, and hold the same."""
    request.node.stash[CLUSTERS] = [filled]
    if len(filled.running) < len(filled.ids):
        filled.start()
    filled.wait_for_leader()
    filled.wait_until_equal()
    return filled


def command(*arguments: object) -> list[str]:
    return [*program("kvnode"), *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=RUN_S,
        cwd=ROOT,
        env=node_environment(),
        check=False,
    )


def peer(cluster: Cluster, id: str) -> str:
    return f"{HOST}:{cluster.peer_ports[id]}"


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.log"))


def stop_and_damage(cluster: Cluster) -> tuple[str, str]:
    """Stop a follower; it has a bad record here and there, and misses 2 MiB. Returns it and the leader."""
    leader = cluster.wait_for_leader()
    stopped = cluster.followers()[0]
    assert cluster.stop(stopped) == 0
    paths = segments(cluster.data(stopped))
    assert len(paths) > 16
    for path in (paths[1], paths[14]):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    for path in paths[3:11]:
        path.unlink()
    return stopped, leader


def check_whole(cluster: Cluster, id: str) -> None:
    """Nothing is wrong with the directory, and its node is as the others."""
    done = run("verify", cluster.data(id))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert all(line.startswith("OK ") for line in done.stdout.partition("\n\n")[0].splitlines()), done.stdout
    assert not list(cluster.data(id).glob("*.tmp"))
    before = len(cluster.log_text(id))
    cluster.start(id)
    assert cluster.info(id)["may_vote"] == 1
    cluster.wait_until_equal()
    text = cluster.log_text(id)[before:]
    assert "set aside" not in text
    assert "damage" not in text


def test_a_stopped_node_is_repaired_while_the_others_serve(cluster: Cluster) -> None:
    stopped, leader = stop_and_damage(cluster)
    data = cluster.data(stopped)
    assert run("verify", data).returncode == 1
    with load(cluster, "meanwhile", *cluster.running) as writers:
        writers.wait_for(50)
        done = run("repair", data, "--from", peer(cluster, leader))
        writers.wait_for(50)
        told = writers.stop()
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, healed, last = done.stdout.splitlines()
    assert first == f"{data}: node {stopped}, 3 places in its log to heal"
    assert healed.startswith("healed 3 of 3 places: ")
    assert f" entries from {peer(cluster, leader)}, " in healed
    assert last == "`kvnode start` would start this node."
    check_whole(cluster, stopped)
    told.check(cluster.client(stopped))


def test_a_node_that_runs_is_refused_and_the_port_for_clients_will_do(cluster: Cluster) -> None:
    stopped, leader = stop_and_damage(cluster)
    running = next(id for id in cluster.running if id != leader)
    done = run("repair", cluster.data(running), "--from", peer(cluster, leader))
    assert done.returncode == 2
    assert done.stderr.startswith(f"kvnode: {cluster.data(running)} is in use by process {cluster.pid(running)}: ")
    client_port = f"{HOST}:{cluster.client_ports[leader]}"
    done = run("repair", cluster.data(stopped), "--from", client_port)
    assert done.returncode == 0
    text = f"kvnode: {client_port} is a port for clients, so {peer(cluster, leader)} is asked, for members\n"
    assert done.stderr == text
    check_whole(cluster, stopped)


def test_a_member_of_another_cluster_is_refused(cluster: Cluster, make_cluster: MakeCluster) -> None:
    stopped, _ = stop_and_damage(cluster)
    other = make_cluster(options={"cluster_name": "other"})
    other.start("A")
    done = run("repair", cluster.data(stopped), "--from", peer(other, "A"))
    assert done.returncode == 2
    assert f"the member at {peer(other, 'A')} refuses: another cluster" in done.stderr


# Interrupted


class Tap:
    """Stands before a member and passes bytes on; after `bytes_max` of its answers it stops to, and sets `is_dry`."""

    def __init__(self, target: tuple[str, int], bytes_max: int) -> None:
        self.is_dry = threading.Event()
        self._target = target
        self._bytes_left = bytes_max
        self._listener = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listener.getsockname()[1]}"
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tap")
        self._thread.start()

    def open(self) -> None:
        """Everything passes again."""
        self._bytes_left = 1 << 40

    def close(self) -> None:
        self._ends.set()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while not self._ends.is_set():
            if not select.select([self._listener], [], [], 0.02)[0]:
                continue
            with self._listener.accept()[0] as near:
                try:
                    with socket.create_connection(self._target) as far:
                        self._pass_on(near, far)
                except OSError:
                    pass  # the member is down

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        while not self._ends.is_set():
            if self._bytes_left <= 0:
                self.is_dry.set()
            sources = [near, far] if self._bytes_left > 0 else [near]
            for source in select.select(sources, [], [], 0.02)[0]:
                data = source.recv(min(65536, max(1, self._bytes_left)))
                if not data:
                    return
                if source is far:
                    self._bytes_left -= len(data)
                (near if source is far else far).sendall(data)


@contextmanager
def tap(cluster: Cluster, id: str, bytes_max: int) -> Iterator[Tap]:
    made = Tap(cluster.peer_address(id), bytes_max)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=node_environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_dry(process: subprocess.Popen[str], before: Tap) -> None:
    eventually(lambda: before.is_dry.is_set() or process.poll() is not None, "the member gives no more")
    assert process.poll() is None, process.communicate()


def interrupt(cluster: Cluster, stopped: str, leader: str, bytes_max: int, number: signal.Signals) -> tuple[int, str]:
    """Begin to repair, and send a signal when so much has come from the member: the exit code, standard error."""
    with (
        tap(cluster, leader, bytes_max) as before,
        running("repair", cluster.data(stopped), "--from", before.address) as process,
    ):
        wait_until_dry(process, before)
        process.send_signal(number)
        _, error = process.communicate(timeout=RUN_S)
        return process.returncode, error


def test_interrupted_in_the_middle_and_again(cluster: Cluster) -> None:
    stopped, leader = stop_and_damage(cluster)
    data = cluster.data(stopped)
    code, error = interrupt(cluster, stopped, leader, 3 * MIB // 2, signal.SIGINT)
    assert code == 130
    assert error == "kvnode: interrupted. What was healed stays healed; run it again for the rest.\n"
    assert not list(data.glob("*.tmp"))
    done = run("verify", data)
    assert "not right at 2 places" in done.stdout, "the first of three was healed before"
    assert run("repair", data, "--from", peer(cluster, leader)).returncode == 0
    check_whole(cluster, stopped)


def test_killed_again_and_again(cluster: Cluster) -> None:
    stopped, leader = stop_and_damage(cluster)
    data = cluster.data(stopped)
    places = 3
    for bytes_max in (1, 10 * KIB, 40 * KIB, MIB, 3 * MIB // 2):
        code, _ = interrupt(cluster, stopped, leader, bytes_max, signal.SIGKILL)
        assert code == -signal.SIGKILL
        done = run("verify", data)
        left = len([line for line in done.stdout.splitlines() if line.lstrip().startswith(("damaged ", "missing "))])
        assert left <= places, "an interrupted repair leaves no more damage than there was"
        places = left
    assert places == 2
    done = run("repair", data, "--from", peer(cluster, leader))
    assert done.returncode == 0, done.stdout + done.stderr
    check_whole(cluster, stopped)


def test_killed_at_any_moment(cluster: Cluster) -> None:
    """Also while files are swapped: when a few of them have changed."""
    stopped, leader = stop_and_damage(cluster)
    data = cluster.data(stopped)
    chance = random.Random(7)
    for _ in range(6):
        with running("repair", data, "--from", peer(cluster, leader)) as process:
            wait_for_changes(process, data, chance.choice([1, 2, 3, 5, 8]))
            process.kill()
    assert run("repair", data, "--from", peer(cluster, leader)).returncode == 0
    check_whole(cluster, stopped)


def wait_for_changes(process: subprocess.Popen[str], directory: Path, count: int) -> None:
    """Until so many names or files in the directory are others, or the process has ended."""
    before = names(directory)
    enough = f"{count} changes in {directory}"
    eventually(lambda: len(before ^ names(directory)) >= count or process.poll() is not None, enough, poll_s=0.001)


def names(directory: Path) -> set[tuple[str, int]]:
    with os.scandir(directory) as entries:
        return {(entry.name, entry.inode()) for entry in entries}


def test_the_member_dies_in_between_and_comes_back(cluster: Cluster) -> None:
    stopped, leader = stop_and_damage(cluster)
    data = cluster.data(stopped)
    with tap(cluster, leader, 3 * MIB // 2) as before, running("repair", data, "--from", before.address) as process:
        wait_until_dry(process, before)
        cluster.kill(leader)
        before.open()
        cluster.start(leader)
        output, error = process.communicate(timeout=RUN_S)
    assert (process.returncode, error) == (0, "")
    assert "healed 3 of 3 places" in output
    check_whole(cluster, stopped)


def test_the_member_dies_in_between_and_another_goes_on(cluster: Cluster) -> None:
    stopped, leader = stop_and_damage(cluster)
    other = next(id for id in cluster.running if id != leader)
    data = cluster.data(stopped)
    with (
        tap(cluster, leader, 3 * MIB // 2) as before,
        running("repair", data, "--from", before.address, "--from", peer(cluster, other)) as process,
    ):
        wait_until_dry(process, before)
        cluster.kill(leader)
        before.open()
        output, error = process.communicate(timeout=RUN_S)
    assert (process.returncode, error) == (0, "")
    healed = next(line for line in output.splitlines() if line.startswith("healed"))
    assert before.address in healed
    assert peer(cluster, other) in healed
    cluster.start(leader)
    check_whole(cluster, stopped)


# Looking at nodes that run


def test_directories_in_use_are_in_order(cluster: Cluster) -> None:
    with load(cluster, "key", pipeline=8, value_bytes=500) as writers:
        for _ in range(3):
            for id in cluster.ids:
                writers.wait_for(20)
                done = run("verify", cluster.data(id))
                assert done.returncode == 0, done.stdout + done.stderr
                assert f"OK       lock       process {cluster.pid(id)} has it open\n" in done.stdout
        writers.stop()
