"""The operator's log: one event per line on standard error, for people on a terminal and for programs in a pipe."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    return structlog.get_logger(node=node_id)


def _escape(_logger: Any, _method: str, event: Any) -> Any:
    """What others sent may stand in a line, but must not make new ones or move the cursor."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = value.encode("unicode_escape").decode("ascii")
        elif not isinstance(value, (str, int, float, bool)) and value is not None:
            event[name] = str(value)
    return event
