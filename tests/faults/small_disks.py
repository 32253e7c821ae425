"""Real nodes on small disks of their own, which a ballast file fills: `fill("A", room_bytes)` and `make_room("A")`.

A tmpfs, or an ext4 in a file: there, space is promised at the write and taken at the fsync, in whole blocks.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.faults.disks import FaultyCluster

DISK_BYTES = 16 * 1024 * 1024
PIECE_BYTES = 8192


class CanNotMount(Exception):
    """Mounting needs the right to."""


def _run(*command: str) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise CanNotMount(f"there is no {command[0]}") from None
    except subprocess.CalledProcessError as error:
        raise CanNotMount(error.stderr.strip()) from None


class SmallDisks(FaultyCluster):
    """Each member's data directory is on a disk of its own. `kind`: tmpfs or ext4. `unmount` after `close`."""

    def __init__(
        self, directory: Path, ids: Iterable[str], options: Mapping[str, object] | None, library: Path, kind: str
    ) -> None:
        super().__init__(directory, ids, options, library)
        self._kind = kind
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
        if self._kind == "tmpfs":
            _run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "kvnode-test", str(disk))
        else:
            image = disk.with_suffix(".img")
            with image.open("wb") as file:
                file.truncate(DISK_BYTES)
            _run("mkfs.ext4", "-q", "-m", "0", str(image))
            _run("mount", "-o", "loop", str(image), str(disk))
        self._mounted.append(disk)

    def fail(self, id: str) -> None:
        """Of an ext4: what its driver does when the disk below it fails. From now on it can only be read."""
        _run("mount", "-o", "remount,abort", str(self._disk(id)))

    def exchange(self, id: str) -> None:
        """The same disk, which can be written again; nobody uses it now."""
        _run("umount", str(self._disk(id)))
        _run("mount", "-o", "loop", str(self._disk(id).with_suffix(".img")), str(self._disk(id)))

    def unmount(self) -> None:
        while self._mounted:
            subprocess.run(["umount", str(self._mounted.pop())], check=True)

    def _ballast(self, id: str) -> Path:
        return self._disk(id) / "ballast"

    def fill(self, id: str, room_bytes: int = 0) -> None:
        """Leave so much room on the disk, a page more or less, and what its node takes meanwhile."""
        with self._ballast(id).open("wb") as ballast:
            size = 0
            while (left := self._room_bytes(id) - room_bytes) >= PIECE_BYTES:
                with suppress(OSError):  # the node was quicker
                    os.posix_fallocate(ballast.fileno(), size, min(left, DISK_BYTES // 8))
                    size += min(left, DISK_BYTES // 8)

    def _room_bytes(self, id: str) -> int:
        state = os.statvfs(self._disk(id))
        return state.f_bavail * state.f_frsize

    def make_room(self, id: str) -> None:
        self._ballast(id).unlink()

    def is_full(self, id: str) -> bool:
        """What the node says: whether it has met the end of its disk, and not yet room again."""
        return bool(self.info(id, "persistence")["disk_full"])
