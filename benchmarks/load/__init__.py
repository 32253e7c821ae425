"""The load generator: compiled when it is first needed, run as a process of its own. What it does: main.c."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCES = sorted(Path(__file__).parent.glob("*.[ch]"))
RUN_SECONDS_MAX = 600.0
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")


class LoadError(Exception):
    """The load generator can not be built, or a command of it was refused; the text says which."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. `command`: set, set-wait, get or put. `keys` and `first`: see main.c.

    `count` commands, or as many as `seconds` have room for.
    """

    command: str
    clients: int
    pipeline: int = 1
    seconds: float = 1.0
    count: int = 0
    value_bytes: int = 64
    keys: int = 100_000
    first: int = 0

    def words(self, program: Path, ports: Sequence[int]) -> list[str]:
        """The command line."""
        length = ["-n", str(self.count), "-f", str(self.first)] if self.count else ["-s", str(self.seconds)]
        numbers = {"-c": self.clients, "-p": self.pipeline, "-d": self.value_bytes, "-k": self.keys}
        options = [word for option, number in numbers.items() for word in (option, str(number))]
        return [str(program), *options, *length, self.command, *map(str, ports)]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run of the load generator printed: commands per second, times in milliseconds.

    `acknowledged` writes, with the numbers [0, acknowledged), bear the name `run` in their values.
    """

    run: str
    acknowledged: int
    seconds: float
    figures: dict[str, float]
    percentiles_ms: list[float]

    @classmethod
    def parse(cls, text: str) -> Answer:
        """From the JSON object that was printed."""
        told: dict[str, Any] = json.loads(text)
        figures = {name: told[name] for name in ("per_second", "p50_ms", "p95_ms", "p99_ms", "max_ms")}
        return cls(told["run"], told["acknowledged"], told["seconds"], figures, told["percentiles_ms"])


def build(directory: Path) -> Path:
    """The program, compiled into `directory` where it is missing or older than its source. Raises LoadError."""
    program = directory / "load.bin"
    if program.exists() and program.stat().st_mtime > max(source.stat().st_mtime for source in SOURCES):
        return program
    compiler = shutil.which("cc")
    if compiler is None:
        raise LoadError("there is no C compiler (cc) to build benchmarks/load with (Debian: apt install gcc libc6-dev)")
    directory.mkdir(parents=True, exist_ok=True)
    sources = [str(source) for source in SOURCES if source.suffix == ".c"]
    done = subprocess.run([compiler, *FLAGS, "-o", str(program), *sources], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(f"benchmarks/load can not be compiled: {done.stderr.strip()}")
    return program


class Running:
    """A load that goes on while other things happen, until it has lasted its time or is told to end."""

    def __init__(self, program: Path, load: Load, ports: Sequence[int]) -> None:
        self._words = load.words(program, ports)
        self._process = subprocess.Popen(self._words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self) -> Answer:
        """No more pipelines are sent; those under way are answered."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> Answer:
        """Until it has ended. Raises LoadError where a command was refused, or nothing was answered."""
        try:
            out, error = self._process.communicate(timeout=RUN_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.abandon()
            raise LoadError(f"{' '.join(self._words[1:])} did not end in {RUN_SECONDS_MAX:.0f} s") from None
        if self._process.returncode:
            raise LoadError(f"{' '.join(self._words[1:])}: {error.strip()}")
        return Answer.parse(out)

    def abandon(self) -> None:
        """It ends now, whatever was under way."""
        self._process.kill()
        self._process.wait()
