"""`kvnode cluster`: all members of a local cluster as child processes of one terminal.

Each node runs in a session of its own, so that Ctrl-C reaches this process alone, which then stops the nodes in an
orderly way; leaving the terminal (SIGHUP) and SIGTERM do the same. A node that ends while the cluster runs is reported
and not started again: that is for whoever stopped it to do (`kvnode start --id B …`).

With --shell standard output belongs to the shell, so that it can be piped: what this command says goes to standard
error, and what the nodes say into files beside their data.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from kvnode.cli.ask import NoAnswer, ask_process
from kvnode.cli.children import COLOURS, Node, stop_all
from kvnode.cli.common import Refusal, cluster_option, config_option
from kvnode.config import LOG_LEVELS, ConfigError, Member, load, load_members

POLL_SECONDS = 0.05
PATIENCE_SECONDS = 5.0


@click.command(short_help="Run all members of a local cluster in one terminal.")
@click.option("--data", type=click.Path(path_type=Path), default=Path("data"), show_default=True, metavar="DIR",
              help="Holds a directory for each node, named by its id.")  # fmt: skip
@cluster_option
@config_option
@click.option("--log-level", metavar="LEVEL", help="What the nodes log: " + ", ".join(LOG_LEVELS) + ".")
@click.option("--shell", is_flag=True, help="Open the client shell; leaving it stops the nodes.")
def cluster(data: Path, cluster: str | None, file: Path | None, log_level: str | None, shell: bool) -> None:
    """Run all members of a local cluster in this terminal until Ctrl-C.

    With --shell the exit code is the shell's: with a pipe on standard input, that of the last command in it.
    """
    members = _checked(data, cluster, file, log_level)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    nodes: list[Node] = []
    try:
        for member, colour in zip(members, cycle(COLOURS), strict=False):
            # The nodes write into a pipe, but it may be a terminal that the pipe leads to.
            is_for_people = not shell and sys.stdout.isatty()
            arguments = _arguments(member, members, data, file, log_level, is_for_people=is_for_people)
            nodes.append(Node.start(member, arguments, colour, data if shell else None))
        say(", ".join(f"{node.id} is process {node.pid} on {node.member.client_address}" for node in nodes))
        leader = wait_until_ready(nodes)
        say(f"{leader} leads")
        code = _run_shell(nodes, data) if shell else _watch(nodes)
    except KeyboardInterrupt:
        code = 130
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # an impatient Ctrl-C would leave nodes behind
        stop_all(nodes, say)
    sys.exit(code)


def say(text: str) -> None:
    """One line from this command itself, told apart from the nodes' own."""
    click.echo(click.style(f"kvnode: {text}", dim=True), err=True)


def wait_until_ready(nodes: Sequence[Node]) -> str:
    """The id of the leader, once one of the nodes says that it is that and all others answer too.

    Raises Refusal where a node ends before.
    """
    started = told = time.monotonic()
    while True:
        leader = ""
        reasons = []
        for node in nodes:
            if not node.is_running():
                raise Refusal(f"{node.id} did not start: {node.last_words()}")
            try:
                fields = ask_process(node.member.host, node.member.client_port)
                if fields.get("process_id") != str(node.pid):
                    raise NoAnswer(f"another process answers on {node.member.client_address}")
                if fields["role"] == "leader":
                    leader = node.id
            except NoAnswer as error:
                reasons.append(f"{node.id}: {error}")
        if leader and not reasons:
            return leader
        if time.monotonic() - told > PATIENCE_SECONDS:
            told = time.monotonic()
            say(f"not ready after {told - started:.0f} s: {', '.join(reasons) or 'there is no leader'}")
        time.sleep(POLL_SECONDS)


def _checked(data: Path, cluster: str | None, file: Path | None, log_level: str | None) -> tuple[Member, ...]:
    """The members, after a look whether each node would take its configuration: one message instead of three."""
    try:
        members = load_members({"cluster": cluster}, os.environ, file)
        for member in members:
            load({"id": member.id, "cluster": cluster, "log_level": log_level}, os.environ, file)
        data.mkdir(parents=True, exist_ok=True)
    except ConfigError as error:
        raise Refusal(f"bad configuration: {error}") from None
    except OSError as error:
        raise Refusal(f"can not use the data directory {data}: {error.strerror}") from None
    return members


def _arguments(
    member: Member,
    members: Sequence[Member],
    data: Path,
    file: Path | None,
    log_level: str | None,
    *,
    is_for_people: bool,
) -> list[str]:
    arguments = ["--id", member.id, "--data", str(data / member.id), "--cluster", ",".join(map(str, members))]
    if file is not None:
        arguments += ["--config", str(file)]
    if log_level is not None:
        arguments += ["--log-level", log_level]
    if is_for_people:
        arguments += ["--log-format", "text"]
    return arguments


def _watch(nodes: Sequence[Node]) -> int:
    """Report nodes that end, until none is left."""
    running = list(nodes)
    while running:
        for node in [node for node in running if not node.is_running()]:
            running.remove(node)
            node.finish_output()
            say(f"{node.id} {node.how_it_ended()}")
        try:
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            return 0  # the ordinary way to stop a cluster
    return 1


def _run_shell(nodes: Sequence[Node], data: Path) -> int:
    say(f"what the nodes say goes to {data}{os.sep}{{{','.join(node.id for node in nodes)}}}.out")
    command = [sys.executable, "-P", "-m", "kvclient", "shell"]
    for node in nodes:
        command += ["--node", node.member.client_address]
    # Ctrl-C is the shell's affair (it cancels the line). A handler of our own, unlike SIG_IGN, is not passed on to it.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    shell = subprocess.Popen(command)
    try:
        return_code = shell.wait()
    finally:
        if shell.poll() is None:
            shell.terminate()
            shell.wait()
        signal.signal(signal.SIGINT, before)
    return return_code if return_code >= 0 else 128 - return_code


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
