"""Telling the operator of slow fsyncs: in a sentence with the number, and not once for each."""

from __future__ import annotations

from collections import deque
from typing import Final

INTERVAL_MS: Final = 1000.0
"""Of the slow fsyncs within it the slowest is told, and how many more there were."""


class SlowFsyncs:
    """`slow` is filled by the log: (what was synced, milliseconds) of each fsync of more than `warn_ms`."""

    def __init__(self, slow: deque[tuple[str, int]], warn_ms: int) -> None:
        self._slow = slow
        self._warn_ms = warn_ms
        self._due_ms = 0.0

    def maybe_tell(self, now_ms: float) -> tuple[str, int] | None:
        """One sentence, and the milliseconds of the slowest; None when there is nothing to say yet."""
        if not self._slow or now_ms < self._due_ms:
            return None
        self._due_ms = now_ms + INTERVAL_MS
        found = [self._slow.popleft() for _ in range(len(self._slow))]
        what, took_ms = max(found, key=lambda each: each[1])
        others = f" ({len(found) - 1} more took over {self._warn_ms:,} ms)" if len(found) > 1 else ""
        sentence = (
            f"slow disk: an fsync of {what} took {took_ms:,} ms{others}, and every write waits for one; see what else "
            "keeps this disk busy, or put the data directory on a faster one"
        )
        return sentence, took_ms
