"""redis-cli and redis-benchmark as they come, at the leader and at a follower."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from contextlib import suppress

import pytest

from tests.cluster.harness import Cluster, eventually

pytestmark = pytest.mark.skipif(
    shutil.which("redis-cli") is None or shutil.which("redis-benchmark") is None,
    reason="redis-cli and redis-benchmark are not installed (Debian: redis-tools)",
)


@pytest.fixture(params=["leader", "follower"])
def node(request: pytest.FixtureRequest, shared: Cluster) -> str:
    return shared.wait_for_leader() if request.param == "leader" else shared.followers()[0]


def run(cluster: Cluster, node: str, *arguments: str, stdin: str | None = None, tool: str = "redis-cli") -> str:
    host, port = cluster.address(node)
    done = subprocess.run(
        [tool, "-h", host, "-p", str(port), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    assert done.stderr == "", done.stderr
    return done.stdout


def test_one_shot(shared: Cluster, node: str) -> None:
    assert run(shared, node, "SET", "testKey", "testValue") == "OK\n"
    assert run(shared, node, "GET", "testKey") == "testValue\n"
    assert run(shared, node, "--no-raw", "UPD", "testKey", "newValue") == "OK\n"
    assert run(shared, node, "--no-raw", "GET", "testKey") == '"newValue"\n'
    assert run(shared, node, "--no-raw", "DEL", "testKey") == "(integer) 1\n"
    assert run(shared, node, "--no-raw", "GET", "testKey") == "(nil)\n"
    assert run(shared, node, "--no-raw", "UPD", "testKey", "x") == "(error) ERR no such key\n"


@pytest.mark.parametrize("protocol", ["-2", "-3"])
def test_from_a_pipe(shared: Cluster, node: str, protocol: str) -> None:
    text = "SET a 1\nINCR a\nMSET b 2 c 3\nMGET a b c none\nKEYS *\nPING\n"
    flags = ["--no-raw"] if protocol == "-2" else ["--no-raw", "-3"]
    assert run(shared, node, *flags, stdin=text).splitlines() == [
        "OK",
        "(integer) 2",
        "OK",
        '1) "2"',
        '2) "2"',
        '3) "3"',
        "4) (nil)",
        '1) "a"',
        '2) "b"',
        '3) "c"',
        "PONG",
    ]


def test_json_and_info(shared: Cluster, node: str) -> None:
    run(shared, node, "SET", "a", "1")
    assert run(shared, node, "--json", "MGET", "a", "none") == '["1",null]\n'
    assert "role:" in run(shared, node, "INFO", "raft")
    assert "loading:0" in run(shared, node, "-3", "INFO")
    assert "addr=" in run(shared, node, "CLIENT", "LIST")
    assert '"proto": 3'.replace(" ", "") in run(shared, node, "--json", "HELLO", "3").replace(" ", "")


def test_modes(shared: Cluster, node: str) -> None:
    lines = "".join(f"SET mass{number} {number}\r\n" for number in range(5000))
    assert "errors: 0, replies: 5000" in run(shared, node, "--pipe", stdin=lines)
    assert run(shared, node, "DBSIZE") == "5000\n"
    assert len(set(run(shared, node, "--scan").split())) == 5000
    assert set(run(shared, node, "--scan", "--pattern", "mass1?").split()) == {f"mass1{n}" for n in range(10)}
    assert "Biggest string found" in run(shared, node, "--bigkeys")


def test_interactive(shared: Cluster, node: str) -> None:
    """In a terminal: it starts with COMMAND DOCS, which must not confuse it, and has hints and help from there."""
    host, port = shared.address(node)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.environ["HOME"] = str(shared.directory)
        os.execvp("redis-cli", ["redis-cli", "-h", host, "-p", str(port)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 50, 200, 0, 0))
    prompt = f"\n{host}:{port}> "
    shown = ""
    try:
        shown += read_until(terminal, prompt.strip())
        for typed, expected in (
            ("SET greeting 'hello world'", "OK"),
            ("GET greeting", '"hello world"'),
            ("UPD missing x", "ERR no such key"),
            ("help UPD", "UPD key value"),
            ("help RANGE", "RANGE start end"),
            ("NOSUCH", "ERR unknown command"),
            ("PING", "PONG"),
        ):
            os.write(terminal, typed.encode() + b"\r")
            shown += read_until(terminal, expected, prompt)
        os.write(terminal, b"RANGE a")
        shown += read_until(terminal, "RANGE a end [LIMIT limit]")
        os.write(terminal, b" b\r")
        shown += read_until(terminal, "(empty array)", prompt)
        os.write(terminal, b"exit\r")
        status = eventually(lambda: ended(pid, terminal), "it ends")[1]
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, shown
    assert shared.client(node).get("greeting") == b"hello world"


def read_until(terminal: int, *texts: str, timeout_s: float = 10.0) -> str:
    """What the terminal shows, up to texts that must come one after the other; colours and cursor moves apart."""
    pattern = re.compile(".*".join(map(re.escape, texts)), re.DOTALL)
    shown, deadline = "", time.monotonic() + timeout_s
    while not pattern.search(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", shown)):
        left_s = deadline - time.monotonic()
        ready, _, _ = select.select([terminal], [], [], max(0.0, left_s))
        assert ready, f"{texts} do not come, these do: {shown!r}"
        shown += os.read(terminal, 65536).decode(errors="replace")
    return shown


def ended(pid: int, terminal: int) -> tuple[int, int] | None:
    """(pid, status) of a child that has ended. What it still shows is read, so that it is not held up."""
    ready, _, _ = select.select([terminal], [], [], 0)
    with suppress(OSError):  # how a pty ends
        if ready:
            os.read(terminal, 65536)
    done = os.waitpid(pid, os.WNOHANG)
    return done if done[0] else None


@pytest.mark.parametrize("options", [("-c", "50"), ("-c", "20", "-P", "16"), ("-c", "10", "-3")], ids=" ".join)
def test_benchmark(shared: Cluster, node: str, options: tuple[str, ...]) -> None:
    """Any error reply would end it."""
    arguments = ("-t", "ping,set,get,incr,mset", "-n", "2000", "-r", "1000", "-d", "64", "--csv", *options)
    host, port = shared.address(node)
    done = subprocess.run(
        ["redis-benchmark", "-h", host, "-p", str(port), *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done
    assert "WARNING" not in done.stdout + done.stderr
    names = [line.partition(",")[0].strip('"') for line in done.stdout.splitlines()[1:]]
    assert names == ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"]
    shared.wait_until_equal()
