"""The peers that are missing on this machine: Debian packages where this is root's Debian, PyPI for PySyncObj."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).with_name("pysyncobj.lock")
PACKAGES = {"redis-server": "redis-server", "etcd": "etcd-server"}
"""Program -> Debian package."""


class NotInstalled(Exception):
    """A peer can not be had; the text says why."""


def find_program(program: str) -> Path:
    """A program of PACKAGES, installed if need be. A package may start a service of its own, which is left alone."""
    if found := shutil.which(program):
        return Path(found)
    package = PACKAGES[program]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise NotInstalled(f"{program} is not installed (Debian: apt install {package})")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", package],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotInstalled(f"{package} can not be installed: {(done.stderr or done.stdout).strip()[-300:]}")
    return Path(shutil.which(program) or program)


def find_pysyncobj(directory: Path) -> Path:
    """The Python of an environment in `directory` that has it, made if need be."""
    python = directory / "bin" / "python"
    ready = directory / ".ready"
    if ready.exists() and ready.stat().st_mtime > LOCK.stat().st_mtime:
        return python
    for command in (
        [sys.executable, "-m", "venv", str(directory)],
        [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(LOCK)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotInstalled(f"pysyncobj can not be installed: {(done.stderr or done.stdout).strip()[-300:]}")
    ready.touch()
    return python
