"""Three nodes of PySyncObj with their journals and its defaults.

Its journal is a file in memory (mmap) that nothing ever syncs: what was acknowledged survives the death of a process,
not that of the machine. So it promises less than the others, and is measured as it comes.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.load import Answer, Load, LoadError, Running
from benchmarks.systems.processes import HOST, Servers, free_ports

PROGRAM = Path(__file__).with_name("pysyncobj_node.py")


class PySyncObj(Servers):
    """See the module. `python`: of the environment in which it is installed."""

    label = "pysyncobj"

    def __init__(self, home: Path, tools: Path, python: Path) -> None:
        super().__init__(home, tools)
        self._python = python
        self.ports = dict(zip(self.names, free_ports(3), strict=True))

    def command(self, name: str) -> list[str]:
        # -P: beside the program there is a module of the same name as the library.
        addresses = [f"{HOST}:{self.ports[other]}" for other in sorted(self.names, key=lambda other: other != name)]
        return [str(self._python), "-P", str(PROGRAM), *addresses, str(self.home / f"{name}.journal")]

    def launch(self, name: str) -> None:
        with (self.home / f"{name}.out").open("ab") as output:
            pipe = subprocess.PIPE
            self.processes[name] = subprocess.Popen(
                self.command(name), cwd=self.home, stdin=pipe, stdout=pipe, stderr=output, text=True
            )

    def start(self) -> None:
        for name in self.names:
            self.launch(name)
        self.wait_for("ready nodes", lambda: all(self._ask(name, "status")["ready"] for name in self.names))

    def leader(self) -> str:
        found: list[str] = []

        def is_found() -> bool:
            found[:] = [name for name in self.names if self._ask(name, "status")["leads"]]
            return bool(found)

        self.wait_for("leader", is_found)
        return found[0]

    def _ask(self, name: str, line: str) -> dict[str, Any]:
        process = self.processes[name]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline() or '{"error": "no answer"}')
        if "error" in answer:
            raise LoadError(f"{self.label}: {name}: {answer['error']}")
        return answer

    def run(self, load: Load, *names: str) -> Answer:
        told = self._ask(self.leader(), f"load {load.clients * load.pipeline} {load.seconds} {load.value_bytes}")
        return Answer.parse(json.dumps(told))

    def begin(self, load: Load, *names: str) -> Running:
        raise NotImplementedError
