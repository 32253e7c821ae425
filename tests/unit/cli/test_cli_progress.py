"""The bar: for people who wait, on a terminal, and for nobody else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import StringIO

import pytest

from kvnode.cli.progress import PATIENCE_SECONDS, Bar, progress
from tests.unit.cli.terminal import Terminal


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    yield terminal
    terminal.close()


def fail_after_a_report(terminal: Terminal) -> None:
    with progress("reading", 1000) as report:
        report(1)
        assert "reading" in terminal.text()
        raise ValueError("no more")


def test_what_is_quick_shows_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.file)
    clock = Clock()
    bar = Bar("reading", 1_000_000, clock)
    clock.now += PATIENCE_SECONDS - 0.01
    bar(500_000)
    bar.hide()
    assert terminal.text() == ""


def test_after_a_second_it_shows_how_far_the_work_is(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.file)
    clock = Clock()
    bar = Bar("reading", 1_000_000, clock)
    clock.now += PATIENCE_SECONDS
    bar(500_000)
    shown = terminal.text()
    assert "reading" in shown
    assert "0.5/1.0 MB" in shown
    clock.now += 0.05
    bar(600_000)
    assert terminal.text() == "", "ten times a second is enough"
    clock.now += 0.06
    bar(700_000)
    assert "0.7/1.0 MB" in terminal.text()
    bar.hide()
    assert "\x1b[2K" in terminal.text(), "the line is erased"
    bar.hide()
    assert terminal.text() == ""
    clock.now += 0.11
    bar(9_000_000)
    assert "1.0/1.0 MB" in terminal.text(), "it comes back, and never says more than all"
    bar.hide()


def test_it_goes_away_when_the_work_fails(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.file)
    monkeypatch.setattr("kvnode.cli.progress.PATIENCE_SECONDS", 0.0)
    with pytest.raises(ValueError, match="no more"):
        fail_after_a_report(terminal)
    assert "\x1b[2K" in terminal.text()


def test_nothing_in_a_pipe_or_on_a_terminal_that_can_not_erase(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.file)
    clock = Clock()
    bar = Bar("reading", 1000, clock)
    clock.now += 60
    monkeypatch.setenv("TERM", "dumb")
    bar(10)
    bar.hide()
    assert terminal.text() == ""
    monkeypatch.setenv("TERM", "xterm")
    pipe = StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    bar(10)
    bar.hide()
    assert pipe.getvalue() == ""
