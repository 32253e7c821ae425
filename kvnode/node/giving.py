"""Giving records to members that ask for what they have lost: on each link one question at a time, for answers are
large. Who asks again before it has the answer is not heard; it asks once more."""

from __future__ import annotations

from kvnode.node.links import Link, Links
from kvnode.node.wire import Fetched


class Giving:
    def __init__(self, links: Links) -> None:
        self._links = links
        self._busy: set[int] = set()

    def __repr__(self) -> str:
        return f"Giving to {len(self._busy)} links"

    def begins(self, link: Link) -> bool:
        """Whether to read what the link asks for; then `give` is owed."""
        is_free = link.id not in self._busy
        self._busy.add(link.id)
        return is_free

    def give(self, link_id: int, answer: Fetched) -> None:
        """Send what was read, if the link is still there."""
        self._busy.discard(link_id)
        link = self._links.find(link_id)
        if link is not None:
            self._links.send(link, answer)
