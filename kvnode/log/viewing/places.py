"""Where the last records stood that a reader has read: to find out how far a cut went back.

A cut takes records from the end of a log and leaves those before it where they stand. So of the places that are
remembered the first ones still hold, and a binary search finds the last of these.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from pathlib import Path
from typing import NamedTuple

from kvnode.log.files import Files
from kvnode.log.mark import Mark
from kvnode.log.record import BadRecord, decode

PLACES_MAX = 4096


class Place(NamedTuple):
    """Where a record stands, and what it ends with."""

    path: Path
    offset: int
    size: int
    end: Mark


class Places:
    """The last PLACES_MAX places. All records that were read and are not among them end at or before `after_seq`;
    there are none where `is_from_the_beginning`."""

    def __init__(self, after_seq: int) -> None:
        self.after_seq = after_seq
        self.is_from_the_beginning = True
        self._places: deque[Place] = deque()

    def __repr__(self) -> str:
        return f"{len(self._places)} places after {self.after_seq}"

    @property
    def last(self) -> Place | None:
        return self._places[-1] if self._places else None

    def add(self, place: Place) -> None:
        """A record that was read after all others."""
        if len(self._places) == PLACES_MAX:
            self.after_seq = self._places.popleft().end.seq
            self.is_from_the_beginning = False
        self._places.append(place)

    def find(self, mark: Mark) -> Place | None:
        """Where the record stands that ends so."""
        return next((place for place in reversed(self._places) if place.end == mark), None)

    def last_that_stands(self, files: Files) -> Place | None:
        """Of the record that was read last and is still where it was."""
        places = list(self._places)
        count = bisect_right(places, 0, key=lambda place: 0 if stands(files, place) else 1)
        return places[count - 1] if count else None

    def forget_after(self, place: Place) -> None:
        """The records after this one, which is among the places, are gone."""
        while self._places[-1] is not place:
            self._places.pop()


def stands(files: Files, place: Place) -> bool:
    """Whether the record is still where it was read."""
    try:
        fd = files.open_read(place.path)
        try:
            return decode(files.pread(fd, place.size, place.offset)).checksum == place.end.checksum
        finally:
            files.close(fd)
    except (OSError, BadRecord):
        return False
