"""What figures depend on: the machine, the versions, the revision. Nothing that would tell whose machine it is."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

FSYNCS = 200
PROGRAMS = {"redis": ["redis-server", "--version"], "etcd": ["etcd", "--version"]}


def describe(home: Path, rounds: int, seconds: float) -> dict[str, str]:
    """Name -> what it is. `home`: a directory on the disk that is measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    about = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
        "revision": _revision(),
        "rounds": f"{rounds} of {seconds:g} s",
        "fsync": f"{fsync_ms(home):.2f} ms",
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "kernel": re.match(r"[\d.]+", platform.release())[0],  # type: ignore[index]
        "python": platform.python_version(),
        "kvnode": f"{version('kvnode')}, {'compiled' if _is_compiled() else 'not compiled'}",
    }
    for name, command in PROGRAMS.items():
        if shutil.which(command[0]):
            told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            found = re.search(r"\d+(\.\d+)+", told)
            about[name] = found[0] if found else "?"
    return about


def _revision() -> str:
    """The commit, with a plus where what was run is not what was committed; pages do not count."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    if shutil.which("git") is None:
        return "?"
    changed = git("status", "--porcelain", "--", "kvnode", "benchmarks", "setup.py")
    return (git("rev-parse", "--short=10", "HEAD") or "?") + ("+" if changed else "")


def _is_compiled() -> bool:
    """Whether the installed package, which the nodes run, is."""
    code = "import kvnode.node.node as module; print(module.__file__)"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd="/", capture_output=True, text=True, check=True)
    return done.stdout.strip().endswith(".so")


def fsync_ms(directory: Path) -> float:
    """The median time of one 4 KiB append with fdatasync in this directory, in milliseconds."""
    times = []
    path = directory / "fsync.probe"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(FSYNCS):
            begin = time.perf_counter()
            os.write(descriptor, b"\0" * 4096)
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - begin)
    finally:
        os.close(descriptor)
        path.unlink()
    return sorted(times)[FSYNCS // 2] * 1000
