"""A progress bar on standard error, for people: only on a terminal, and only for what takes longer than a second.

    with progress("reading", total_bytes) as report:
        report(bytes_done)

In a pipe nothing is ever printed. The bar disappears when the work ends. Who writes to the same terminal meanwhile
calls `report.hide()` first; the bar comes back below with the next report.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE_SECONDS = 1.0
REFRESH_SECONDS = 0.1


class Bar:
    """How far the work is; called with the bytes done so far, as often as one likes."""

    def __init__(self, what: str, total_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._total_bytes = total_bytes
        self._clock = clock
        self._next_look = clock() + PATIENCE_SECONDS
        self._progress: Progress | None = None
        self._is_shown = False

    def __call__(self, bytes_done: int) -> None:
        now = self._clock()
        if now < self._next_look or not _can_show():
            return
        self._next_look = now + REFRESH_SECONDS
        if self._progress is None:
            self._progress = _make(self._what, self._total_bytes)
        done, total = min(bytes_done, self._total_bytes), self._total_bytes
        self._progress.update(self._progress.task_ids[0], completed=done, total=total)
        if self._is_shown:
            self._progress.refresh()
        else:
            self._progress.start()
            self._is_shown = True

    def of(self, bytes_done: int, bytes_total: int) -> None:
        """The same, where it is known only now how much there is to do."""
        self._total_bytes = bytes_total
        self(bytes_done)

    def hide(self) -> None:
        """Take the bar off the terminal until the next report."""
        if self._progress is not None and self._is_shown:
            self._progress.stop()
            self._is_shown = False


@contextmanager
def progress(what: str, total_bytes: int) -> Iterator[Bar]:
    """See the module. `what` is a verb that stands before the bar."""
    bar = Bar(what, total_bytes)
    try:
        yield bar
    finally:
        bar.hide()


def _can_show() -> bool:
    """A terminal that can not move its cursor would keep every state of the bar."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _make(what: str, total_bytes: int) -> Progress:
    # Only now: it takes longer to import than most of what never shows a bar takes in all.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        # What the command prints goes where it belongs, not through the bar.
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bar.add_task(what, total=total_bytes)
    return bar
