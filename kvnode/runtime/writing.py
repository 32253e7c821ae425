"""Performing deeds in order, and what becomes of them while the disk is full.

A deed that finds no room is no failure: it is kept, with all that comes after it, and tried again every now and then.
The node hears ("on_disk_full", (why,)) once, and ("on_disk_room", ()) when all is written. Meanwhile

    a ballot    overtakes what is kept, for the cluster must be able to elect another leader
    a cut       takes what it cuts out of what is kept
    an append   waits, unless it is small and nothing is before it: the no-op of a leader should not

The first and the last have the reserve of the log, which is given up for them where it must be. Everything else is
tried only with the reserve in its place, so that it can not take that room. Appends are performed in order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from kvnode.log.errors import NoSpaceError
from kvnode.log.wal import WriteAheadLog
from kvnode.node.deeds import AppendRecords, CutLog, Event, SaveBallot, SetAsideLog

if TYPE_CHECKING:
    from kvnode.log.healing.damaged import DamagedLog

IDLE_S: Final = 0.25
"""After this long without work the log counts as idle, and its mark is made durable."""
RETRY_S: Final = 0.25
"""How often it is tried whether there is room again."""
RESERVE_APPEND_BYTES_MAX: Final = 64 * 1024
"""How much of the reserve appends may use in all, until it is refilled: a part, for the rest is for ballots."""
RESTS: Final = 2.0
REST_S_MAX: Final = 0.01
"""After records that were missed the writer rests as many times as long as they took, up to so long. Other nodes at the
same disk and the same processors serve meanwhile: the p99 of their writes rose to 2.0 times, not 2.4. The node is
current a quarter later."""


class Performable(Protocol):
    """One of kvnode.node.deeds, with the log that it is for."""

    def perform(self, log: Any) -> Event: ...


class Reading:
    """Performs what reads the log. There is nothing to wait for, ever."""

    pause_s: float | None = None
    rest_s = 0.0

    def __init__(self, log: WriteAheadLog | DamagedLog, post_all: Callable[[list[Event]], None]) -> None:
        self._log = log
        self._post_all = post_all

    def begin(self) -> None:
        pass

    def perform(self, deeds: Sequence[Performable]) -> None:
        for deed in deeds:  # one by one: what was read is large, and may be wanted by nobody any more
            self._post_all([deed.perform(self._log)])

    def pause(self) -> None:
        pass


class Writing:
    """Performs what changes the log, in one thread. After `perform` the caller rests for `rest_s`; then it pauses for
    `pause_s` (None: as long as it takes) for the next deeds to arrive, and calls `pause` where none do."""

    def __init__(
        self,
        log: WriteAheadLog | DamagedLog,
        post_all: Callable[[list[Event]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._reserved = log if isinstance(log, WriteAheadLog) else None
        self._post_all = post_all
        self._clock = clock
        self.rest_s = 0.0
        self._is_dirty = False
        self._is_full = False
        self._retry_at_s = 0.0
        self._ballots: list[Performable] = []
        self._kept: list[Performable] = []
        self._append_bytes_left = float(RESERVE_APPEND_BYTES_MAX)

    def __repr__(self) -> str:
        kept = f"full, {len(self._ballots)} ballots and {len(self._kept)} deeds wait" if self._is_full else "with room"
        return f"writing of {self._log!r}: {kept}"

    @property
    def pause_s(self) -> float | None:
        if self._is_full:
            return max(0.0, self._retry_at_s - self._clock())
        return IDLE_S if self._is_dirty else None

    def begin(self) -> None:
        """Before the first deed: make the reserve, if it is not there."""
        if not self._has_reserve():
            self._post_all([self._become_full("There is no room for the reserve in the data directory.")])

    def perform(self, deeds: Sequence[Performable]) -> None:
        """Post an event for each that is done."""
        self._is_dirty = True
        last = deeds[-1] if deeds else None
        nobody_waits = isinstance(last, AppendRecords) and last.is_missed
        began_s = self._clock() if nobody_waits else 0.0
        events: list[Event] = []
        for deed in deeds:
            if not self._is_full:
                try:
                    events.append(deed.perform(self._log))
                    continue
                except NoSpaceError as error:
                    events.append(self._become_full(str(error)))
            self._keep(deed, events)
        if self._is_full and self._clock() >= self._retry_at_s:
            self._retry(events)
        if events:
            self._post_all(events)
        self.rest_s = min(REST_S_MAX, RESTS * (self._clock() - began_s)) if nobody_waits else 0.0

    def pause(self) -> None:
        """No deed has arrived for `pause_s`."""
        if self._is_full:
            events: list[Event] = []
            self._retry(events)
            if events:
                self._post_all(events)
        if self._reserved is not None:
            with suppress(NoSpaceError):  # the mark is tried again at the next pause
                self._reserved.idle()
                self._is_dirty = False

    # While the disk is full

    def _become_full(self, why: str) -> Event:
        self._is_full = True
        self._retry_at_s = self._clock() + RETRY_S
        return "on_disk_full", (why,)

    def _keep(self, deed: Performable, events: list[Event]) -> None:
        if isinstance(deed, SaveBallot):
            self._ballots.append(deed)
        else:
            if isinstance(deed, (CutLog, SetAsideLog)):
                self._drop_after(deed.after_seq)
            last = self._kept[-1] if self._kept else None
            if isinstance(deed, AppendRecords) and isinstance(last, AppendRecords):
                last.add(deed.records, is_missed=deed.is_missed)
                return  # what is before it has been tried
            self._kept.append(deed)
        self._perform_urgent(events)

    def _drop_after(self, after_seq: int) -> None:
        """These records were never written, and never will be."""
        kept: list[Performable] = []
        for deed in self._kept:
            if isinstance(deed, AppendRecords):
                deed.records[:] = [record for record in deed.records if record.last_seq <= after_seq]
                if not deed.records:
                    continue
            elif isinstance(deed, CutLog) and deed.after_seq > after_seq:
                deed = CutLog(after_seq)  # the log may not even reach to where that one would have cut
            kept.append(deed)
        self._kept = kept

    def _perform_urgent(self, events: list[Event]) -> None:
        """What the reserve is for."""
        while self._ballots:
            if not self._is_done_from_reserve(self._ballots[0], events):
                return
            self._ballots.pop(0)
        while self._kept and (size := _append_bytes(self._kept[0])) <= self._append_bytes_left:
            if not self._is_done_from_reserve(self._kept[0], events):
                return
            self._kept.pop(0)
            self._append_bytes_left -= size

    def _is_done_from_reserve(self, deed: Performable, events: list[Event]) -> bool:
        while True:
            try:
                events.append(deed.perform(self._log))
                return True
            except NoSpaceError:
                if self._reserved is None or not self._reserved.release_reserve():
                    return False

    def _retry(self, events: list[Event]) -> None:
        self._retry_at_s = self._clock() + RETRY_S
        if self._has_reserve():
            self._append_bytes_left = float(RESERVE_APPEND_BYTES_MAX)
            with suppress(NoSpaceError):
                for waiting in (self._ballots, self._kept):
                    while waiting:
                        events.append(waiting[0].perform(self._log))
                        waiting.pop(0)
                self._is_full = False
                events.append(("on_disk_room", ()))
                return
        self._perform_urgent(events)

    def _has_reserve(self) -> bool:
        return self._reserved is None or self._reserved.refill_reserve()


def _append_bytes(deed: Performable) -> float:
    """inf for what is no append."""
    return sum(record.size for record in deed.records) if isinstance(deed, AppendRecords) else float("inf")
