"""N9 with real packets: the nodes live in a network namespace of their own, whose packet filter drops some of what they
send each other. Clients come in through a pair of virtual links that loses nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.cluster.conftest import started
from tests.faults.disks import FaultyCluster
from tests.matrix.conftest import MakeCluster
from tests.matrix.rounds import PATIENT, scaled, under_traffic

LOST_PERCENT = 30
OUTSIDE, INSIDE, NET_BITS = "198.18.77.1", "198.18.77.2", 30
"""Of the range that is set aside for tests of networks (RFC 2544)."""


def run(*command: str, text: str | None = None) -> None:
    subprocess.run(command, input=text, capture_output=True, text=True, check=True)


class Namespace:
    """A network namespace, and a way into it. `close` removes both."""

    def __init__(self) -> None:
        self.name = f"kvnode-test-{os.getpid()}"
        link = f"kv{os.getpid()}"
        run("ip", "netns", "add", self.name)
        try:
            run("ip", "link", "add", link, "type", "veth", "peer", "name", "inside", "netns", self.name)
            run("ip", "address", "add", f"{OUTSIDE}/{NET_BITS}", "dev", link)
            run("ip", "link", "set", link, "up")
            run("ip", "-n", self.name, "address", "add", f"{INSIDE}/{NET_BITS}", "dev", "inside")
            for device in ("inside", "lo"):
                run("ip", "-n", self.name, "link", "set", device, "up")
        except BaseException:
            self.close()
            raise

    @property
    def enter(self) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def lose(self, percent: int, ports: list[int]) -> None:
        """From now on, of the packets to and from these ports."""
        some = "{" + ",".join(map(str, ports)) + "}"
        chance = f"numgen random mod 100 < {percent} counter drop"
        rules = [
            "flush ruleset",
            "add table ip loss",
            "add chain ip loss input { type filter hook input priority 0; }",
            f"add rule ip loss input tcp dport {some} {chance}",
            f"add rule ip loss input tcp sport {some} {chance}",
        ]
        run(*self.enter, "nft", "-f", "-", text="\n".join(rules) + "\n")

    def lost(self) -> int:
        """How many so far."""
        shown = subprocess.run([*self.enter, "nft", "list", "ruleset"], capture_output=True, text=True, check=True)
        return sum(map(int, re.findall(r"counter packets (\d+)", shown.stdout)))

    def heal(self) -> None:
        run(*self.enter, "nft", "flush", "ruleset")

    def close(self) -> None:
        run("ip", "netns", "delete", self.name)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    missing = [tool for tool in ("ip", "nft", "nsenter") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"real loss of packets needs {', '.join(missing)}")
    try:
        made = Namespace()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    try:
        yield made
    finally:
        made.close()


def test_n09_lost_packets(make_cluster: MakeCluster, namespace: Namespace) -> None:
    """Thirty of a hundred, both ways: there is progress."""
    cluster: FaultyCluster = make_cluster("n09.packets", is_started=False, **PATIENT)
    cluster.host = INSIDE
    cluster.prefixes = dict.fromkeys(cluster.ids, namespace.enter)
    started(cluster)
    with under_traffic(cluster, "n09.packets") as traffic:
        traffic.wait_for(100)
        namespace.lose(LOST_PERCENT, list(cluster.peer_ports.values()))
        try:
            traffic.wait_for(scaled(60, 5000), scaled(60, 600))
            assert namespace.lost() > scaled(20, 1000)
        finally:
            namespace.heal()
