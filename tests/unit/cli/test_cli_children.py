"""The child processes of `kvnode cluster`: what they say is shown or kept, and their last words are found."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kvnode.cli.children import Node, stop_all
from kvnode.config import parse_members

MEMBER = parse_members("A=127.0.0.1:3000")[0]
FAULT = "bad configuration: --id: 'Z' is not a member of the cluster (A, B, C)"


def start_and_wait(quiet_in: Path | None) -> Node:
    node = Node.start(MEMBER, ["--id", "Z"], "cyan", quiet_in)
    try:
        assert node.wait_until(time.monotonic() + 30)
    finally:
        stop_all([node], print)
    return node


def test_a_loud_node_speaks_under_its_id(capfd: pytest.CaptureFixture[str]) -> None:
    node = start_and_wait(None)
    assert capfd.readouterr().out == f"A │ kvnode: {FAULT}\n"
    assert (node.last_words(), node.how_it_ended()) == (FAULT, "ended with exit code 2")


def test_a_quiet_node_speaks_into_its_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "A.out").write_text("from an earlier time\n")
    node = start_and_wait(tmp_path)
    assert capfd.readouterr().out == ""
    assert (tmp_path / "A.out").read_text() == f"from an earlier time\nkvnode: {FAULT}\n"
    assert node.last_words() == FAULT


def test_the_last_words_of_an_earlier_run_are_not_those_of_a_silent_one(tmp_path: Path) -> None:
    (tmp_path / "A.out").write_text("from an earlier time\n")
    node = Node.start(MEMBER, ["--id", "A", "--data", str(tmp_path / "A")], "cyan", tmp_path)
    node.kill()
    assert node.wait_until(time.monotonic() + 30)
    assert node.last_words() == "was ended by SIGKILL"
