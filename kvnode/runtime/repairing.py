"""Closing the holes of a stopped node's log with records of running members: the healing of node/set_aside.py, without
a node. For `kvnode repair`.

**S** As there, nothing is taken on trust: records count when they continue the good one before the hole, and the good
one after it continues them. What no member has stays as it is. Only a node that runs may decide that it was never
committed, for it also sees to it that a leader brings it up to date before it votes again.

A connection that breaks is made again, and the hole gone on with where that was, by another member where one can. What
is closed stays closed; a hole that was not, when the process ends, is begun again by the next run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from kvnode.log.damage import Hole
from kvnode.log.errors import DoesNotFit
from kvnode.log.healing.damaged import DamagedLog
from kvnode.log.healing.filling import take_missing
from kvnode.node.deeds import DAMAGED, DIFFERS, ENDS
from kvnode.node.fetching import FETCH_BYTES_MAX
from kvnode.node.wire import Fetched
from kvnode.runtime.records_client import Address, RecordsClient, RecordsError, Unreachable

PATIENCE_S = 10.0
"""So long members that were reached once, and can not be now, are waited for where no other can go on."""
PAUSE_S = 0.2
_WHY = {
    ENDS: "its log ends before them",
    DIFFERS: "it has another history there",
    DAMAGED: "its own log is damaged there",
}

Dial = Callable[[Address], RecordsClient]


class NotGivenError(Exception):
    """Nobody gave the records of this hole. `answers`: (member, why it did not), a phrase each."""

    def __init__(self, hole: Hole, answers: Sequence[tuple[Address, str]]) -> None:
        super().__init__("; ".join(f"{address}: {why}" for address, why in answers))
        self.hole = hole
        self.answers = tuple(answers)


class Source:
    """A member that was reached once. When the connection has broken the next question dials it again."""

    def __init__(self, address: Address, dial: Dial) -> None:
        """Dials. Raises RecordsError."""
        self.address = address
        self._dial = dial
        self._client: RecordsClient | None = dial(address)

    def __repr__(self) -> str:
        return f"Source {self.address} connected={self._client is not None}"

    def fetch(self, after_seq: int, after_checksum: int) -> Fetched:
        """Raises RecordsError."""
        try:
            if self._client is None:
                self._client = self._dial(self.address)
            return self._client.fetch(after_seq, after_checksum, FETCH_BYTES_MAX)
        except RecordsError:
            self.close()
            raise

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class Repair:
    """`sources` are asked in this order. `closed`: the holes that are. `given`: how many of their entries came from
    each member. `bytes`: all that was fetched; `progress` is called with that."""

    def __init__(
        self, log: DamagedLog, sources: Sequence[Source], progress: Callable[[int], None] | None = None
    ) -> None:
        self.closed: list[Hole] = []
        self.given: Counter[Address] = Counter()
        self.bytes = 0
        self._log = log
        self._sources = list(sources)
        self._progress = progress

    def __repr__(self) -> str:
        return f"Repair closed={len(self.closed)} left={len(self._log.holes)} bytes={self.bytes}"

    def run(self) -> None:
        """Close all holes, from the first on. Raises NotGivenError, LogError; what is closed then stays closed."""
        while self._log.holes:
            hole = self._log.holes[0]
            self._close(hole)
            self.closed.append(hole)

    def _close(self, hole: Hole) -> None:
        if hole.first_seq > hole.last_seq:
            self._log.heal(b"")  # bytes between good records, or a segment's header alone
            return
        answers: dict[Address, str] = {}
        # What the first one gives may lead astray, if it has a history that never came to be: then without it.
        for first in range(len(self._sources)):
            if self._fill(hole, self._sources[first:], answers):
                return
        raise NotGivenError(hole, list(answers.items()))

    def _fill(self, hole: Hole, sources: Sequence[Source], answers: dict[Address, str]) -> bool:
        """Fill the hole from its beginning; where one can not go on, another may."""
        at = hole.before
        given: Counter[Address] = Counter()
        left = list(sources)
        away: list[Source] = []
        patience_ends = time.monotonic() + PATIENCE_S
        while left:
            source = left.pop(0)
            try:
                answer = source.fetch(at.seq, at.checksum)
                if not answer.records:
                    raise RecordsError(_WHY.get(answer.why, f"it answers {answer.why!r:.40}"))
                data, end = take_missing(hole, at, answer.records)
                is_closed = self._heal(data, is_first=at == hole.before)
            except (RecordsError, DoesNotFit) as error:
                answers[source.address] = str(error)
                if isinstance(error, Unreachable):
                    away.append(source)
                if not left and away and time.monotonic() < patience_ends:
                    time.sleep(PAUSE_S)
                    left, away = away, []
                continue
            self.bytes += len(data)
            given[source.address] += end.seq - at.seq
            at = end
            if self._progress is not None:
                self._progress(self.bytes)
            if is_closed:
                self.given += given
                return True
            left = [source, *(other for other in sources if other is not source)]
            away = []
            patience_ends = time.monotonic() + PATIENCE_S
        return False

    def _heal(self, data: bytes, *, is_first: bool) -> bool:
        if is_first:
            # A hole that was begun and not finished refuses its first records, and forgets what it had with that.
            with suppress(DoesNotFit):
                return self._log.heal(data)
        return self._log.heal(data)
