"""A terminal for tests: what is written to it, and how wide it is."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Sequence


class Terminal:
    """A pseudo-terminal. `file` writes to it; `text()` is what has arrived since the last call."""

    def __init__(self, columns: int = 80) -> None:
        self.reader, writer = pty.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        os.set_blocking(self.reader, False)
        self.file = os.fdopen(writer, "w")

    def text(self) -> str:
        self.file.flush()
        pieces = []
        try:
            while piece := os.read(self.reader, 65536):
                pieces.append(piece)
        except OSError:  # nothing more, or nobody writes any more
            pass
        return b"".join(pieces).decode().replace("\r\n", "\n")

    def wait_for_text(self, seconds_max: float = 20) -> str:
        """The same, once there is something."""
        assert select.select([self.reader], [], [], seconds_max)[0], "nothing was written"
        return self.text()

    def close(self) -> None:
        self.file.close()
        os.close(self.reader)


def run_on_terminal(command: Sequence[str], columns: int = 80) -> tuple[int, str]:
    """The exit code of a program and all that it writes to a terminal, up to what fits into the terminal's buffer."""
    terminal = Terminal(columns)
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    try:
        done = subprocess.run(
            command, stdout=terminal.file, stderr=terminal.file, env={**environment, "TERM": "xterm"}, check=False
        )
        return done.returncode, terminal.text()
    finally:
        terminal.close()
