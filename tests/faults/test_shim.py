"""What stands between a node and its disk must not itself stop the node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SIGNALS = 2000
CHILD = """
import signal, socket, time
wakeup, woken = socket.socketpair()
wakeup.setblocking(False)
woken.setblocking(False)
signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)  # as event loops do
is_over = []
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.signal(signal.SIGTERM, lambda *_: is_over.append(True))
print("ready", flush=True)
while not is_over:
    time.time()
    try:
        woken.recv(65536)
    except BlockingIOError:
        pass
"""


def test_a_signal_at_any_moment(library: Path, tmp_path: Path) -> None:
    """The handler writes into a socket, which the shim looks at: also while the same thread is in the shim already."""
    watched = {"LD_PRELOAD": str(library), "SHIM_ROOT": str(tmp_path), "SHIM_RULES": str(tmp_path / "rules")}
    child = subprocess.Popen([sys.executable, "-c", CHILD], env=os.environ | watched, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        for _ in range(SIGNALS):
            child.send_signal(signal.SIGUSR1)
            time.sleep(0)
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    finally:
        child.kill()
        child.communicate()
