"""A copy of the tree to spoil, and what is run in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 15.0


class Interrupted(Exception):
    """Nothing more is run."""


@dataclass(frozen=True, slots=True)
class Finished:
    """`code` is None when it did not end in time."""

    code: int | None
    output: str


class Children:
    """The processes that are running, each in a group of its own, so that all of them can be stopped."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._is_over = False

    def run(self, arguments: list[str], directory: Path, seconds_max: float) -> Finished:
        """Run Python with these arguments in a copy. Raises Interrupted."""
        command = [sys.executable, *arguments]
        with self._guard:
            if self._is_over:
                raise Interrupted
            child = subprocess.Popen(
                command,
                cwd=directory,
                env=_environment(directory),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            self._running.add(child)
        try:
            output, _ = child.communicate(timeout=seconds_max)
        except subprocess.TimeoutExpired:
            _stop(child)
            return Finished(None, child.communicate()[0])
        except BaseException:
            _stop(child)
            raise
        finally:
            with self._guard:
                self._running.discard(child)
        if self._is_over:
            raise Interrupted
        return Finished(child.returncode, output)

    def stop(self) -> None:
        """For good: what runs is interrupted, as by Ctrl-C, so that it takes its own children with it."""
        with self._guard:
            self._is_over = True
            running = list(self._running)
        for child in running:
            _stop(child)


def _stop(child: subprocess.Popen[str]) -> None:
    """Its output is left for whoever reads it."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            child.wait(STOP_S)
            return


def _environment(directory: Path) -> dict[str, str]:
    """Ours, but with the modules of the copy, wherever the product may be installed, and without what one pytest tells
    another."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return {**ours, "PYTHONPATH": str(directory)}


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A temporary directory with all files that git knows, or would add."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    with tempfile.TemporaryDirectory(prefix="kvnode-mutant-", ignore_cleanup_errors=True) as directory:
        for name in names:
            source, target = ROOT / name, Path(directory, name)
            if source.is_file():  # not what is deleted here and still known to git
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        yield Path(directory)
