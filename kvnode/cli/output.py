"""Lines on standard output: in large pieces, soon enough to be watched, and without a word when the reader has gone."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from kvnode.cli.common import Failure

WRITE_BYTES = 64 * 1024
PATIENCE_SECONDS = 0.1


class CannotWrite(Exception):
    """Standard output takes no more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.is_pipe = isinstance(error, BrokenPipeError)


class Output:
    """Collects lines; what has waited for PATIENCE_SECONDS, or is WRITE_BYTES large, goes out."""

    def __init__(self, before_write: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`before_write` is called before something goes to a terminal."""
        self._before_write = before_write
        self._clock = clock
        self._pieces: list[str] = []
        self._size = 0
        self._written_at = clock()

    def lines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._pieces.append(text)
            self._size += len(text)
            if self._size > WRITE_BYTES:
                self.flush()

    def flush_if_due(self) -> None:
        """To be called now and then: what is found in a long search is seen while the search goes on."""
        if self._pieces and self._clock() - self._written_at > PATIENCE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Everything goes out."""
        self._written_at = self._clock()
        if not self._pieces:
            return
        if sys.stdout.isatty():
            self._before_write()
        text = "\n".join(self._pieces) + "\n"
        self._pieces, self._size = [], 0
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            raise CannotWrite(error) from None


@contextmanager
def output(before_write: Callable[[], None]) -> Iterator[Output]:
    """What was collected before an error goes out too. Ends the program quietly, with code 0, when nobody reads.

    Raises Failure when it can not be written for another reason.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that can not show a key still shows the line
    out = Output(before_write)
    try:
        try:
            yield out
        finally:
            out.flush()
    except CannotWrite as error:
        if error.is_pipe:
            sys.exit(0)
        raise Failure(f"can not write to standard output: {error}") from None
