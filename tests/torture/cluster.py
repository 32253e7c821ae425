"""Real nodes whose disks fail to order, and that reach each other through proxies: the cluster to torture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.cluster.harness import HOST
from tests.faults.disks import FaultyCluster
from tests.torture.links import Links


class TorturedCluster(FaultyCluster):
    """`library` is the compiled shim.c. `links` says what happens between the members; it ends with the cluster."""

    def __init__(
        self,
        directory: Path,
        ids: Iterable[str],
        options: Mapping[str, object] | None,
        library: Path,
        seed: int = 1,
    ) -> None:
        super().__init__(directory, ids, options, library)
        self.links = Links(self.peer_ports, seed)

    def spec_of(self, id: str) -> str:
        """The value of --cluster at this node: the others' peer ports are those of its own proxies."""
        peer_ports = {other: self.links.ports.get((id, other), self.peer_ports[other]) for other in self.ids}
        return ",".join(f"{other}={HOST}:{self.client_ports[other]}/{peer_ports[other]}" for other in self.ids)

    def command(self, id: str, **options: object) -> list[str]:
        return super().command(id, cluster=self.spec_of(id), **options)

    def close(self) -> None:
        super().close()
        self.links.close()
