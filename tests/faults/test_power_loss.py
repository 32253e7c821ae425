"""What shim.c leaves on a disk when the power fails: what was synced, and nothing that was written since."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.faults.disks import KILLED

WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"synced   synced", 0)
os.fdatasync(fd)
os.pwrite(fd, b"x", 0)
os.fdatasync(fd)
os.pwrite(fd, b"OVER", 3)
os.pwrite(fd, b"AGAIN", 5)
os.pwrite(fd, b"beyond the end", 12)
if "sync" in sys.argv:
    os.fdatasync(fd)
os.mkdir(sys.argv[1] + ".dir")
"""
SYNCED = b"xynced   synced"
WRITTEN = b"xynOVAGAINynbeyond the end"


def left(directory: Path, library: Path, rules: str, *arguments: str) -> bytes:
    """What the file holds after the writer has ended by SIGKILL."""
    root = directory / "root"
    root.mkdir()
    (directory / "rules").write_text(rules + "\n")
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "SHIM_ROOT": str(root.resolve()),
        "SHIM_RULES": str(directory / "rules"),
    }
    command = [sys.executable, "-c", WRITER, str(root / "file"), *arguments]
    assert subprocess.run(command, env=environment, check=False).returncode == KILLED == -signal.SIGKILL
    return (root / "file").read_bytes()


def test_what_was_appended_and_what_was_written_over_since_the_last_sync_is_gone(tmp_path: Path, library: Path) -> None:
    assert left(tmp_path, library, "mkdir * crash=before lose") == SYNCED


def test_without_losing_all_that_was_written_is_there(tmp_path: Path, library: Path) -> None:
    assert left(tmp_path, library, "mkdir * crash=before") == WRITTEN


def test_what_was_synced_stays(tmp_path: Path, library: Path) -> None:
    assert left(tmp_path, library, "mkdir * crash=before lose", "sync") == WRITTEN
