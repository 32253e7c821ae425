"""The operator's log: one event per line on standard error, for people on a terminal and for programs in a pipe.

Lines are written by a thread of their own: whoever reads them may stop reading, and that must not stop the node (etcd
#22214). What does not fit into the queue is dropped, and counted in the next line that does.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import sys
import threading
from queue import Full, Queue
from typing import Any, TextIO

from kvnode.runtime.structured_log import structlog

LINES_MAX = 10_000
FLUSH_S_MAX = 1.0

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def make_logger(node_id: str, level: str, log_format: str) -> Any:
    """A structlog logger that names the node on each line. Control characters in values are escaped.

    `log_format`: "text" for people, "logfmt" for programs, "auto" for whichever reads standard error."""
    is_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(pad_event_to=28, sort_keys=False)
        if is_text
        else structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "node", "event"])
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if is_text else "iso", utc=not is_text),
            _escape,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(_Lines(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    return structlog.get_logger(node=node_id)


class _Lines:
    """A text file, as far as a logger needs one: `write` never waits."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._dropped = 0
        self._lines: Queue[str | None] = Queue(LINES_MAX)
        self._thread = threading.Thread(target=self._run, name="log lines", daemon=True)
        self._thread.start()
        atexit.register(self._finish)

    def write(self, text: str) -> None:
        try:
            self._lines.put_nowait(text)
        except Full:
            self._dropped += 1

    def flush(self) -> None:
        """The thread flushes after each line."""

    def _run(self) -> None:
        while (text := self._lines.get()) is not None:
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                text = f"({dropped} lines were dropped: nobody read them)\n{text}"
            try:
                self._file.write(text)
                self._file.flush()
            except OSError:
                return  # nobody reads: the node goes on without a log

    def _finish(self) -> None:
        with contextlib.suppress(Full):
            self._lines.put_nowait(None)
            self._thread.join(FLUSH_S_MAX)


def _escape(_logger: Any, _method: str, event: Any) -> Any:
    """What others sent may stand in a line, but must not make new ones or move the cursor."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = value.encode("unicode_escape").decode("ascii")
        elif not isinstance(value, (str, int, float, bool)) and value is not None:
            event[name] = str(value)
    return event
