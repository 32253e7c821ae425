"""The tools on the log of a stopped node, as processes of what is installed."""

from __future__ import annotations

import subprocess

import pytest

from tests.cluster.harness import Cluster, node_environment, program

ROWS = (
    ("inspect-log", "{A}"),
    ("inspect-log", "{A}", "--json"),
    ("inspect-log", "{A}", "--records"),
    ("inspect-log", "{A}", "--segments"),
    ("inspect-log", "{A}", "--key", "key1"),
    ("inspect-log", "{A}", "--last", "2", "--term", "1", "--verb", "SET"),
    ("inspect-log", "{A}", "{B}", "--diff"),
    ("verify", "{A}"),
    ("verify", "{A}", "--json"),
)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Three nodes that have written, and stopped."""
    cluster = Cluster(tmp_path_factory.mktemp("tools"))
    cluster.start()
    cluster.wait_for_leader()
    for number in range(10):
        cluster.client("A").set(f"key{number}", "value")
    cluster.wait_until_equal()
    for id in cluster.ids:
        assert cluster.stop(id) == 0
    return cluster


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_a_tool(stopped: Cluster, row: tuple[str, ...]) -> None:
    words = [word.format(A=stopped.data("A"), B=stopped.data("B")) for word in row]
    done = subprocess.run(
        [*program("kvnode"), *words], capture_output=True, text=True, env=node_environment(), check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
