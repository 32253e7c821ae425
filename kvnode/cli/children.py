"""The nodes of `kvnode cluster` as child processes: start, output, end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import click

from kvnode.config import Member

STOP_SECONDS_MAX = 10.0
COLOURS = ("cyan", "magenta", "yellow", "green", "blue")
LAST_WORDS_BYTES = 8192


class Node:
    """One child process that runs `kvnode start`.

    Its output goes line by line to standard output, prefixed by the id, or, when quiet, to the file `<id>.out`.
    """

    def __init__(
        self, member: Member, process: subprocess.Popen[bytes], colour: str, file: Path | None, begin: int
    ) -> None:
        self.member = member
        self.id = member.id
        self.pid = process.pid
        self._process = process
        self._colour = colour
        self._file = file
        self._begin = begin
        self._last_line = ""
        self._reader: threading.Thread | None = None

    @classmethod
    def start(cls, member: Member, arguments: Sequence[str], colour: str, quiet_in: Path | None) -> Node:
        """Start `kvnode start` with `arguments`; quiet if there is a directory for its output."""
        command = [sys.executable, "-P", "-m", "kvnode", "start", *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if quiet_in is not None:
            file = quiet_in / f"{member.id}.out"
            with file.open("ab") as output:
                process = _spawn(command, output, environment)
                return cls(member, process, colour, file, output.tell())
        process = _spawn(command, subprocess.PIPE, environment)
        node = cls(member, process, colour, None, 0)
        if process.stdout is not None:
            node._reader = threading.Thread(target=node._copy_lines, args=(process.stdout,), daemon=True)
            node._reader.start()
        return node

    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """The last line that it wrote since it was started, or how it ended if there is none."""
        self.finish_output()
        if self._file is not None:
            with self._file.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._begin, size - LAST_WORDS_BYTES))
                lines = file.read().decode("utf-8", "replace").split("\n")
                self._last_line = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return self._last_line.removeprefix("kvnode: ") or self.how_it_ended()

    def how_it_ended(self) -> str:
        """In words; only after the end."""
        code = self._process.returncode
        return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"

    def finish_output(self) -> None:
        """Wait until all that an ended process has written is shown."""
        if self._reader is not None:
            self._reader.join(timeout=1.0)

    def terminate(self) -> None:
        """Ask it to hand over and to end."""
        if self.is_running():
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self.is_running():
            self._process.kill()

    def wait_until(self, deadline: float) -> bool:
        """Whether it has ended by `deadline`, in seconds of time.monotonic()."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        self.finish_output()
        return True

    def _copy_lines(self, output: IO[bytes]) -> None:
        prefix = click.style(f"{self.id} │ ", fg=self._colour)
        with output:
            for data in output:
                line = data.decode("utf-8", "replace").rstrip("\r\n")
                self._last_line = line if line.strip() else self._last_line
                click.echo(prefix + line)


def stop_all(nodes: Sequence[Node], say: Callable[[str], None]) -> None:
    """Ask all nodes to end, and end those that have not after STOP_SECONDS_MAX."""
    for node in nodes:
        node.terminate()
    deadline = time.monotonic() + STOP_SECONDS_MAX
    for node in nodes:
        if not node.wait_until(deadline):
            say(f"{node.id} did not stop within {STOP_SECONDS_MAX:.0f} s and was killed")
            node.kill()
            node.wait_until(time.monotonic() + STOP_SECONDS_MAX)


def _spawn(command: Sequence[str], output: int | IO[bytes], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
