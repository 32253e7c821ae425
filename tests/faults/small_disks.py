"""Real nodes on small disks of their own, which a ballast file fills: `fill("A", room_bytes)` and `make_room("A")`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.faults.disks import FaultyCluster

DISK_BYTES = 8 * 1024 * 1024


class CanNotMount(Exception):
    """Mounting needs the right to."""


class SmallDisks(FaultyCluster):
    """Each member's data directory is on a tmpfs of its own. `unmount` after `close`."""

    def __init__(
        self, directory: Path, ids: Iterable[str], options: Mapping[str, object] | None, library: Path
    ) -> None:
        super().__init__(directory, ids, options, library)
        self._mounted: list[Path] = []
        try:
            for id in self.ids:
                self._mount(self._disk(id))
        except BaseException:
            self.unmount()
            raise

    def _disk(self, id: str) -> Path:
        return self.directory / "disks" / id

    def data(self, id: str) -> Path:
        return self._disk(id) / "data"

    def _mount(self, disk: Path) -> None:
        disk.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "kvnode-test", str(disk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CanNotMount(done.stderr.strip())
        self._mounted.append(disk)

    def unmount(self) -> None:
        while self._mounted:
            subprocess.run(["umount", str(self._mounted.pop())], check=True)

    def _ballast(self, id: str) -> Path:
        return self._disk(id) / "ballast"

    def fill(self, id: str, room_bytes: int = 0) -> None:
        """Leave so much room on the disk, a page more or less."""
        state = os.statvfs(self._disk(id))
        with self._ballast(id).open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, state.f_bavail * state.f_frsize - room_bytes)

    def make_room(self, id: str) -> None:
        self._ballast(id).unlink()

    def is_full(self, id: str) -> bool:
        """What the node says: whether it has met the end of its disk, and not yet room again."""
        return bool(self.info(id, "persistence")["disk_full"])
