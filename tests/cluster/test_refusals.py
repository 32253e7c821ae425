"""What a node refuses to start with: exit code 2, one clear line, and nothing touched."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.conftest import started
from tests.cluster.harness import HOST, Cluster, free_ports

MakeCluster = Callable[..., Cluster]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directories of three nodes that have run."""
    cluster = Cluster(tmp_path_factory.mktemp("template") / "cluster")
    try:
        started(cluster)
        cluster.client(cluster.wait_for_leader()).set("key", "value")
        cluster.wait_until_equal()
        for id in cluster.ids:
            cluster.kill(id)
    finally:
        cluster.close()
    return cluster.directory


@pytest.fixture
def stopped(make_cluster: MakeCluster, template: Path) -> Cluster:
    """Three nodes whose directories hold a log, and who do not run."""
    cluster = make_cluster()
    for id in cluster.ids:
        shutil.copytree(template / id, cluster.data(id))
    return cluster


def tree(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time of change and content of everything in a directory, but for the lock: that tells who looked last."""
    found = {}
    for path in sorted([directory, *directory.rglob("*")]):
        if path.name != "lock":
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(path.relative_to(directory))] = (status.st_mode, status.st_mtime_ns, content)
    return found


def check_refused(nodes: Cluster, id: str, /, *words: str, data: Path | None = None, **options: object) -> str:
    """The node ends with 2, one line that holds the words, and its directory as it was."""
    directory = data or nodes.data(id)
    before = tree(directory) if directory.is_dir() else None
    code, text = nodes.refused_start(id, data=directory, **options)
    assert code == 2, text
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("kvnode: ")
    for word in words:
        assert word in lines[0], text
    if before is not None:
        assert tree(directory) == before, "something was touched"
    return lines[0]


def test_a_second_process_on_a_directory(cluster: Cluster) -> None:
    node = cluster.followers()[0]
    client_port, peer_port = free_ports(2)
    others = ",".join(part for part in cluster.spec.split(",") if not part.startswith(f"{node}="))
    elsewhere = f"{node}={HOST}:{client_port}/{peer_port},{others}"
    code, text = cluster.refused_start(node, cluster=elsewhere)
    assert (code, len(text.splitlines())) == (2, 1), text
    assert str(cluster.data(node)) in text
    assert "another process" in text.lower()
    cluster.client(node).set("key", "value")  # the first one goes on
    cluster.wait_until_equal()


def test_the_same_command_twice(cluster: Cluster) -> None:
    """The port is refused before the directory is looked at."""
    node = cluster.followers()[0]
    code, text = cluster.refused_start(node)
    assert (code, len(text.splitlines())) == (2, 1), text
    assert str(cluster.client_ports[node]) in text
    cluster.client(node).set("key", "value")
    cluster.wait_until_equal()


def test_the_id_of_another_member(stopped: Cluster) -> None:
    check_refused(stopped, "B", "A", "B", data=stopped.data("A"))


def test_another_set_of_members(stopped: Cluster) -> None:
    spec = stopped.spec.replace("C=", "D=")
    check_refused(stopped, "A", "member", cluster=spec)
    check_refused(stopped, "A", "member", cluster=stopped.spec.rpartition(",")[0])


def test_another_cluster(stopped: Cluster) -> None:
    check_refused(stopped, "A", "cluster", cluster_name="another")


def test_other_addresses_of_the_same_members(stopped: Cluster) -> None:
    """Those may change."""
    ports = free_ports(6)
    stopped.client_ports = dict(zip("ABC", ports[:3], strict=True))
    stopped.peer_ports = dict(zip("ABC", ports[3:], strict=True))
    stopped.start()
    stopped.wait_for_leader()
    assert stopped.client("B").get("key") == b"value"


@pytest.mark.parametrize("port", ["client", "peer"])
def test_a_port_in_use(stopped: Cluster, port: str) -> None:
    number = stopped.client_ports["A"] if port == "client" else stopped.peer_ports["A"]
    with socket.create_server((HOST, number)):
        check_refused(stopped, "A", str(number), "in use")


def test_an_id_that_is_no_member(stopped: Cluster) -> None:
    check_refused(stopped, "Z", "Z", data=stopped.directory / "Z")
    assert not (stopped.directory / "Z").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cluster": "A"}, ["A"]),
        ({"cluster": "A=127.0.0.1:0"}, ["0"]),
        ({"cluster": "A=127.0.0.1:70000"}, ["70000"]),
        ({"cluster": "A=127.0.0.1:3000,A=127.0.0.1:3001"}, ["A"]),
        ({"heartbeat_ms": "soon"}, ["heartbeat-ms", "soon"]),
        ({"heartbeat_ms": "600", "election_timeout_ms": "500"}, ["heartbeat"]),
        ({"value_bytes_max": "1TiB"}, ["value-bytes-max"]),
    ],
)
def test_bad_configuration(stopped: Cluster, options: dict[str, object], words: list[str]) -> None:
    check_refused(stopped, "A", "configuration", *words, **options)


def test_a_host_that_is_not_here(stopped: Cluster) -> None:
    check_refused(stopped, "A", "192.0.2.1", cluster=stopped.spec.replace(f"A={HOST}", "A=192.0.2.1"))


def test_data_that_is_a_file(stopped: Cluster) -> None:
    path = stopped.directory / "file"
    path.write_text("something")
    check_refused(stopped, "A", str(path), data=path)
    assert path.read_text() == "something"


def test_data_below_a_file(stopped: Cluster) -> None:
    path = stopped.directory / "file"
    path.write_text("something")
    check_refused(stopped, "A", str(path), data=path / "A")


def test_links_in_the_directory(stopped: Cluster) -> None:
    """Somebody else's file must not be written to."""
    other = stopped.directory / "elsewhere"
    path = next(stopped.data("A").rglob("*.log"))
    path.rename(other)
    path.symlink_to(other)
    content = other.read_bytes()
    check_refused(stopped, "A", str(stopped.data("A")))
    assert other.read_bytes() == content


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_directory(stopped: Cluster) -> None:
    stopped.data("A").chmod(0)
    try:
        code, text = stopped.refused_start("A")
    finally:
        stopped.data("A").chmod(0o700)
    assert (code, len(text.splitlines())) == (2, 1), text
