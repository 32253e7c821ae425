"""Counting what this node had missed, and telling the operator when it is back."""

from __future__ import annotations

from collections.abc import Callable

from kvnode.log.record import Record


class CatchUp:
    """`entries_received` and `bytes_received` count since the start of the process."""

    def __init__(self) -> None:
        self.entries_received = 0
        self.bytes_received = 0
        self._to = 0
        self._entries_before = self._bytes_before = 0
        self._started_ms = 0.0

    def __repr__(self) -> str:
        return f"CatchUp entries={self.entries_received} bytes={self.bytes_received} to={self._to}"

    def expect(self, to_seq: int, now_ms: float) -> None:
        """The leader says that entries up to `to_seq` are ones that were missed."""
        if to_seq > self._to:
            if not self._to:
                self._started_ms = now_ms
                self._entries_before, self._bytes_before = self.entries_received, self.bytes_received
            self._to = to_seq

    def received(self, record: Record) -> bool:
        """A record was appended that a leader sent: whether it is one that was missed."""
        if record.first_seq > self._to:
            return False
        self.entries_received += min(record.last_seq, self._to) - record.first_seq + 1
        self.bytes_received += record.size
        return True

    def on_durable(self, seq: int, now_ms: float, note: Callable[[str, str, dict[str, object]], None]) -> None:
        if not self._to or seq < self._to:
            return
        fields: dict[str, object] = {
            "entries": self.entries_received - self._entries_before,
            "bytes": self.bytes_received - self._bytes_before,
            "to_seq": self._to,
            "ms": round(now_ms - self._started_ms, 1),
        }
        self._to = 0
        note("info", "caught up", fields)
