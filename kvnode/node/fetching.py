"""Asking other members for records that this node has lost: one question at a time, one member after the other.

A round asks every member that can be reached, until one gives records that fit. Nobody has to be believed: what comes
is checked against the chain of checksums by who asked for it.
"""

from __future__ import annotations

from math import inf
from typing import Protocol

from kvnode.node.links import Link, Links
from kvnode.node.wire import RECORDS, Fetch, Fetched

FETCH_BYTES_MAX = 1024 * 1024
"""Records of one answer, unless one alone is larger."""
ANSWER_MS_MAX = 3000.0
PAUSE_MS = 500.0
"""Between two rounds in which nobody could help."""
SILENT = "no answer"


class Asker(Protocol):
    """Who wants the records."""

    @property
    def now_ms(self) -> float: ...

    def on_records(self, peer: str, records: bytes, leads: bool) -> str | None:
        """They came. The reason why they do not fit, or None; then ask for more, or stop."""

    def on_round_over(self, answers: dict[str, str]) -> None:
        """Nobody had what fits: member -> why, of those that answered. The next round begins by itself."""

    def on_refused(self, peer: str, why: str, leads: bool) -> None:
        """The member has nothing that fits."""


class Fetching:
    def __init__(self, asker: Asker, links: Links, peers: tuple[str, ...], first_token: int) -> None:
        self._asker = asker
        self._links = links
        self._peers = peers
        self._token = first_token
        self._round = 0
        self._after: tuple[int, int] | None = None
        self._favourite = ""
        self._left: list[str] = []
        self._asked = ""
        self._asked_until_ms = inf
        self._round_due_ms = inf
        self._answers: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Fetching after={self._after} asked={self._asked or 'nobody'} answers={self._answers}"

    def ask(self, after_seq: int, after_checksum: int, without: frozenset[str] = frozenset()) -> None:
        """Ask for the records after `after_seq`, until `stop`; in the first round not the members `without`."""
        self._after = (after_seq, after_checksum)
        self._begin_round(without)

    def stop(self) -> None:
        self._after = None
        self._asked = ""
        self._asked_until_ms = self._round_due_ms = inf

    def deadline_ms(self) -> float:
        return min(self._asked_until_ms, self._round_due_ms)

    def tick(self) -> None:
        now_ms = self._asker.now_ms
        if self._asked and now_ms >= self._asked_until_ms:
            self._refuse(self._asked, SILENT, leads=False)
        elif now_ms >= self._round_due_ms:
            self._begin_round()

    def on_fetched(self, peer: str, answer: Fetched) -> None:
        if self._after is None or peer != self._asked or answer.token != self._token:
            return  # late
        if not answer.records:
            self._refuse(peer, answer.why, answer.leads)
            return
        self._asked = ""
        self._asked_until_ms = inf
        self._favourite = peer
        misfit = self._asker.on_records(peer, answer.records, answer.leads)
        if misfit is not None:
            self._refuse(peer, misfit, answer.leads)

    def on_gone(self, link: Link) -> None:
        if link.is_dialed and link.peer == self._asked:
            self._refuse(link.peer, SILENT, leads=False)

    def _begin_round(self, without: frozenset[str] = frozenset()) -> None:
        self._round += 1
        self._round_due_ms = inf
        self._answers = {}
        asked = [peer for peer in self._peers if peer not in without]
        self._left = sorted(asked, key=lambda peer: peer != self._favourite)
        self._ask_next()

    def _ask_next(self) -> None:
        while self._left and self._after is not None:
            peer = self._left.pop(0)
            link = self._links.dialed.get((peer, RECORDS))
            if link is not None:
                self._token += 1
                self._asked = peer
                self._asked_until_ms = self._asker.now_ms + ANSWER_MS_MAX
                self._links.send(link, Fetch(self._token, *self._after, FETCH_BYTES_MAX))
                return
        if self._after is not None:
            self._round_due_ms = self._asker.now_ms + PAUSE_MS
            self._asker.on_round_over(self._answers)

    def _refuse(self, peer: str, why: str, leads: bool) -> None:
        self._asked = ""
        self._asked_until_ms = inf
        present = self._round
        if why != SILENT:
            self._answers[peer] = why
            self._asker.on_refused(peer, why, leads)
        if self._after is not None and self._round == present:
            self._ask_next()
