"""Where replies go: rendered as standard output needs it, errors in red on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from enum import Enum
from typing import Any

import click
from redis.exceptions import ResponseError

from kvclient import render


class Form(Enum):
    """How replies are written."""

    RAW = "raw"
    PRETTY = "pretty"
    JSON = "json"


class Output:
    """Standard output, and standard error for what is no reply."""

    def __init__(self, form: Form, *, has_colour: bool) -> None:
        self.form = form
        self._has_colour = has_colour

    def __repr__(self) -> str:
        return f"Output {self.form.value}"

    @classmethod
    def chosen(cls, form: Form | None = None) -> Output:
        """`form`, or what fits standard output: pretty on a terminal, else raw."""
        is_terminal = sys.stdout.isatty()
        has_colour = is_terminal and not os.environ.get("NO_COLOR")
        return cls(form or (Form.PRETTY if is_terminal else Form.RAW), has_colour=has_colour)

    def reply(self, reply: Any) -> None:
        """One reply, an error reply too."""
        if self.form is Form.RAW:
            sys.stdout.buffer.writelines(line + b"\n" for line in render.raw(reply))
        elif self.form is Form.JSON:
            self._write(render.as_json(reply))
        else:
            colour = "red" if isinstance(reply, ResponseError) else None
            for line in render.pretty(reply):
                self._write(line, fg=colour)

    def text(self, lines: Iterable[str]) -> None:
        """Lines for people."""
        for line in lines:
            self._write(render.printable(line))

    def note(self, line: str) -> None:
        """A remark of the shell."""
        self._write(render.printable(line), dim=True)

    def error(self, line: str) -> None:
        """An error of the shell's own, no reply."""
        self._write(render.printable(line), fg="red")

    def flush(self) -> None:
        sys.stdout.flush()

    def _write(self, line: str, **style: Any) -> None:
        text = click.style(line, **style) if self._has_colour and any(style.values()) else line
        data = text.encode(sys.stdout.encoding or "utf-8", "backslashreplace")
        sys.stdout.buffer.write(data + b"\n")
