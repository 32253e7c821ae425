"""Reading a log from outside: read-only, without the lock, live or stopped, past damage, in bounded memory.

    for item in Reader(look_at("data/A")):
        Found       a good record, and where it stands
        Fault       something that is not as it should be, in its place between the records
        Replaced    the log was cut while it was read: entries that were given before were replaced

A reader reads what was there when it looked. Nothing is believed to be wrong at the first look: a cut, or a mended
segment, may have changed what is just being read, so the directory is looked at afresh, and what was last read is
looked up again, before a Fault is given.

After a fault reading goes on at the next record that verifies and can stand there: where the bad one's length leads
to, or wherever one is found. From there on the chain is checked again, so that two faults frame what does not belong.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kvnode.log.damage import entries
from kvnode.log.errors import LogError
from kvnode.log.files import REAL, Files
from kvnode.log.mark import Mark
from kvnode.log.record import HEADER_BYTES, SEQ_MAX, BadRecord, Record, decode_header, why_not_next
from kvnode.log.segment import HEADER_BYTES_MAX, refuse_newer, why_header_is_wrong
from kvnode.log.viewing.listing import LOOKS_MAX, Listing, Owner, SegmentFile, find_owner, look_at
from kvnode.log.viewing.places import Place, Places, stands
from kvnode.log.window import Window

NOTHING = (None, None)


class Found(NamedTuple):
    """A good record."""

    record: Record
    path: Path
    offset: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it should be: `size` bytes at `offset` of a file are no record of this log.

    Size 0: nothing stands there that should. `first_seq` to `last_seq` are the entries that are missing for it, both
    None for none, last_seq None where it is not known how many. `is_torn`: the end of a write that a crash interrupted
    or that goes on just now, above what is known to be durable; that is no damage.
    """

    path: Path
    offset: int
    size: int
    reason: str
    first_seq: int | None = None
    last_seq: int | None = None
    is_torn: bool = False

    def __str__(self) -> str:
        """One sentence without its full stop."""
        what = f"{self.path} at offset {self.offset}: {self.reason}"
        if self.first_seq is not None:
            what += f"; {entries(self.first_seq, self.last_seq)} can not be read"
        return what


@dataclass(frozen=True, slots=True)
class Replaced:
    """The entries after `after_seq` that were given before are no longer in the log; those given next are.

    `is_all`: no other entry was replaced. Otherwise the cut went back further than the reader remembers.
    """

    after_seq: int
    is_all: bool = True


Item = Found | Fault | Replaced


class _Doubt(Exception):
    """Something looks wrong. `pass_by` goes on after it, and says what it is, once it turns out to be so."""

    def __init__(self, path: Path, offset: int, reason: str, pass_by: Callable[[], Fault]) -> None:
        super().__init__(reason)
        self.path = path
        self.offset = offset
        self.reason = reason
        self.pass_by = pass_by


class Reader:
    """See the module. Iterate over it once; `read_on` then gives what has come since.

    Only records with an entry of from_seq … to_seq are given (both included, None: from or to the end), and faults
    that concern such entries. Segments that end before from_seq are not read. `end` is the last record passed.
    """

    def __init__(
        self,
        listing: Listing,
        from_seq: int | None = None,
        to_seq: int | None = None,
        *,
        owner: Owner | None = None,
        files: Files = REAL,
    ) -> None:
        self.listing = listing
        self.owner = owner or find_owner(listing, files)
        self.end = Mark()
        self._files = files
        self._from_seq = from_seq or 1
        self._to_seq = to_seq
        self._progress: Callable[[int], None] | None = None
        self._bytes_done = 0
        self._mark = listing.mark
        # Where to read on: in which segment, and where in it. None: its header comes first.
        self._segments = listing.segments
        self._position = 0
        self._offset: int | None = None
        # Whether `end` is the end of a record that was read, or of one that what follows it speaks of.
        self._is_chained = True
        self._is_done = False
        self._places = Places(0)
        self._doubted: object = None
        # The file of a fault that was passed by, with no good record since.
        self._passed: Path | None = None
        self._start()

    def __repr__(self) -> str:
        return f"reader of {self.listing.path} at {self.end.seq}@{self.end.term}"

    @property
    def bytes_to_read(self) -> int:
        """How large what lies ahead is."""
        return sum(segment.size for segment in self._segments[self._position :])

    def __iter__(self) -> Iterator[Item]:
        return self.read()

    def read(self, progress: Callable[[int], None] | None = None) -> Iterator[Item]:
        """Iterate, and tell `progress` of the bytes read so far, of `bytes_to_read` and what comes while it is read."""
        self._progress = progress
        return self._read(self._to_seq)

    def read_on(self, mark: Mark) -> Iterator[Item]:
        """What has become durable since the last call or iteration: the records up to `mark`, read just now."""
        self._mark = mark
        if mark.seq > self.end.seq:
            self._look_further()
            return self._read(mark.seq)
        # What a damaged record ends with is not known.
        is_there = mark == self.end or (mark.seq == self.end.seq and not self._has_read_end)
        return iter(()) if is_there else self._go_back(mark)

    # Where to begin, and what is there now.

    def _start(self) -> None:
        """Begin with the last segment that begins at or before from_seq, or with the first of all."""
        first_seqs = [segment.first_seq for segment in self._segments]
        self._position = max(bisect_right(first_seqs, self._from_seq) - 1, 0)
        self._offset = None
        is_first = self.listing.is_directory and self._position == 0
        self.end = Mark() if is_first else Mark(first_seqs[self._position] - 1)
        self._is_chained = is_first
        self._places = Places(self.end.seq)
        self._passed = None

    def _look_further(self) -> None:
        """The sizes of now, of the segment that is being read and those after it."""
        path = self._segments[self._position].path
        fresh = look_at(self.listing.path, self._files, from_name=path.name if self.listing.is_directory else "")
        if fresh.segments and fresh.segments[0].path == path:
            self._segments, self._position = fresh.segments, 0

    def _look_again(self) -> Iterator[Replaced]:
        """Look at the directory afresh, and go to where reading goes on: after the last record that is still there."""
        path = self._segments[self._position].path
        fresh = self._refresh()
        last = self._places.last
        if last is not None and not (last.path in fresh and stands(self._files, last)):
            yield self._go_back_to_what_stands()
        elif self._passed is not None and path in fresh:
            self._position = fresh.index(path)
        elif last is not None:
            self._go_to(last)
        else:
            self._start()

    def _refresh(self) -> list[Path]:
        """All segments of now; the position among them is for the caller to find. Returns their paths."""
        fresh = look_at(self.listing.path, self._files)
        self._mark, self._segments = fresh.mark, fresh.segments
        return [segment.path for segment in fresh.segments]

    def _go_back(self, mark: Mark) -> Iterator[Item]:
        """The mark was lowered, or speaks of another record: the log was cut below what was read."""
        known = self._places.find(mark)
        if known is not None:
            self._places.forget_after(known)
            yield self._go_back_to_what_stands()
        elif mark == Mark():
            self._refresh()
            self._start()
            yield Replaced(0)
        else:
            yield from self._look_again()
            yield from self._read(mark.seq)

    def _go_back_to_what_stands(self) -> Replaced:
        for _ in range(LOOKS_MAX):
            place = self._places.last_that_stands(self._files)
            fresh = self._refresh()
            if place is None or place.path in fresh:
                break
        else:
            raise LogError(f"can not read {self.listing.path}: it is cut again and again while it is looked at.")
        if place is not None:
            self._go_to(place)
            return Replaced(max(self.end.seq, self._from_seq - 1))
        # Before that it was read, but it is not known any more what.
        is_all = self._places.is_from_the_beginning
        self._from_seq = max(self._from_seq, self._places.after_seq + 1)
        self._start()
        return Replaced(self._from_seq - 1, is_all)

    def _go_to(self, place: Place) -> None:
        self._places.forget_after(place)
        self._position = [segment.path for segment in self._segments].index(place.path)
        self._offset = place.offset + place.size
        self.end = place.end
        self._is_chained = True

    @property
    def _has_read_end(self) -> bool:
        """Whether `end` is that of a record, rather than what others say of one that could not be read."""
        last = self._places.last
        return last is not None and last.end == self.end

    # Reading.

    def _read(self, to_seq: int | None) -> Iterator[Item]:
        self._is_done = to_seq is not None and self.end.seq >= to_seq
        while not self._is_done:
            try:
                yield from self._read_segment(self._segments[self._position], to_seq)
                if self._is_done:
                    return
                if self._position == len(self._segments) - 1:
                    self._check_end()
                    return
                self._position += 1
                self._offset = None
            except _Doubt as doubt:
                yield from self._settle(doubt, to_seq)

    def _settle(self, doubt: _Doubt, to_seq: int | None) -> Iterator[Item]:
        """The first time look again, the second time believe it."""
        what = (self.end, doubt.path, doubt.offset, doubt.reason)
        if what != self._doubted:
            self._doubted = what
            yield from self._look_again()
            return
        is_ahead = self.end.seq + 1 >= self._from_seq
        fault = doubt.pass_by()
        self._passed = doubt.path
        self._is_done = to_seq is not None and self.end.seq >= to_seq
        is_unknown_how_far = fault.first_seq is not None and fault.last_seq is None
        if is_ahead or is_unknown_how_far or (fault.last_seq or 0) >= self._from_seq:
            yield fault

    def _read_segment(self, segment: SegmentFile, to_seq: int | None) -> Iterator[Found]:
        if self._offset is not None and self._offset >= segment.size:
            return
        try:
            fd = self._files.open_read(segment.path)
        except OSError as error:
            reason = f"the file can not be opened ({error.strerror})"
            raise _Doubt(segment.path, 0, reason, partial(self._pass_file, segment, reason)) from None
        try:
            window = Window(self._files, fd, segment.size, self._report)
            if self._offset is None:
                self._offset = self._enter(segment, window)
            yield from self._read_records(segment, window, self._offset, to_seq)
        finally:
            self._files.close(fd)

    def _enter(self, segment: SegmentFile, window: Window) -> int:
        """Where the header ends; it is this log's, and continues what was read before."""
        try:
            data = window.head(HEADER_BYTES_MAX)
            window.refuse_unreadable(0, HEADER_BYTES)
            header, start = decode_header(data)
        except BadRecord as bad:
            reason = f"the segment's header can not be read: {bad.reason}"
            raise _Doubt(segment.path, 0, reason, partial(self._pass_bytes, segment, 0, reason, False)) from None
        refuse_newer(segment.path, header)
        if self.listing.is_directory:
            wrong = why_header_is_wrong(header, self.owner.cluster_id, self.owner.node_id, segment.first_seq)
            if wrong is None and header.first_seq <= self.end.seq:
                wrong = "the segment before it holds the same entries"
            if wrong is not None:
                raise _Doubt(segment.path, 0, wrong, partial(self._pass_file, segment, wrong))
        before = Mark(header.first_seq - 1, header.prev_term, header.prev_checksum)
        wrong = None
        if before.seq > self.end.seq:
            wrong = "the records before this segment are gone"
        elif self._is_chained and before != self.end:
            wrong = "the segment does not continue the one before it"
        if wrong is not None:
            raise _Doubt(segment.path, 0, wrong, partial(self._pass_link, segment, start, before, wrong))
        self.end, self._is_chained = before, True
        return start

    def _read_records(self, segment: SegmentFile, window: Window, offset: int, to_seq: int | None) -> Iterator[Found]:
        while offset < window.size:
            try:
                record = window.record_at(offset)
            except BadRecord as bad:
                pass_by = partial(self._pass_bytes, segment, offset, bad.reason, bad.may_be_torn)
                raise _Doubt(segment.path, offset, bad.reason, pass_by) from None
            end = self.end
            reason = why_not_next(record, end.seq, end.term, end.checksum)
            if reason is not None:
                raise _Doubt(segment.path, offset, reason, partial(self._pass_record, segment, record, reason))
            if to_seq is not None and record.first_seq > to_seq:
                self._is_done = True
                return
            self._take(record, segment.path, offset)
            if to_seq is not None and record.last_seq >= to_seq:
                self._is_done = True
            if record.last_seq >= self._from_seq:
                yield Found(record, segment.path, offset)
            if self._is_done:
                return
            offset += record.size

    def _take(self, record: Record, path: Path, offset: int) -> None:
        size = len(record.raw)
        self.end = Mark(record.last_seq, record.term, record.checksum)
        self._places.add(Place(path, offset, size, self.end))
        self._offset = offset + size
        self._passed = None

    def _report(self, count: int) -> None:
        self._bytes_done += count
        if self._progress is not None:
            self._progress(self._bytes_done)

    def _check_end(self) -> None:
        mark = self._mark
        if mark is not None and mark.seq > self.end.seq:
            last = self._segments[-1]
            reason = f"the log ends here, though it was durable up to seq {mark.seq}"
            raise _Doubt(last.path, last.size, reason, partial(self._pass_end, last, mark, reason))

    # Going on after a fault.

    def _pass_file(self, segment: SegmentFile, reason: str) -> Fault:
        """It is no part of this log: what is missing for it, the next segment or the mark will tell."""
        self._offset = segment.size
        return Fault(segment.path, 0, segment.size, reason)

    def _pass_link(self, segment: SegmentFile, start: int, before: Mark, reason: str) -> Fault:
        missing = _missing(self.end.seq, before.seq)
        self.end, self._is_chained = before, True
        self._offset = start
        return Fault(segment.path, 0, 0, reason, *missing)

    def _pass_record(self, segment: SegmentFile, record: Record, reason: str) -> Fault:
        offset = self._offset or 0
        if record.first_seq <= self.end.seq or record.last_seq > self._high_seq():
            self._offset = offset + len(record.raw)
            return Fault(segment.path, offset, len(record.raw), reason)
        missing = _missing(self.end.seq, record.first_seq - 1)
        self.end = _before(record)
        return Fault(segment.path, offset, 0, reason, *missing)

    def _pass_bytes(self, segment: SegmentFile, offset: int, reason: str, may_be_torn: bool) -> Fault:
        mark = self._mark
        found = self._find_after(segment, offset)
        is_end = found is None and self._position == len(self._segments) - 1
        # Without the mark it is not known what was durable: then only the end of all may be torn.
        is_torn = may_be_torn and (is_end if mark is None else self.end.seq >= mark.seq)
        if found is not None:
            self._offset, record = found
            missing = _missing(self.end.seq, record.first_seq - 1)
            if missing != NOTHING or not self._is_chained:
                self.end, self._is_chained = _before(record), True
        else:
            self._offset = segment.size
            before_next = (mark.seq if mark is not None else 0) if is_end else self._high_seq()
            missing = _missing(self.end.seq, before_next)
            if missing != NOTHING:
                self.end, self._is_chained = Mark(before_next, self.end.term), False
            elif is_end and not is_torn:
                missing = (self.end.seq + 1, None)
        return Fault(segment.path, offset, self._offset - offset, reason, *missing, is_torn=is_torn)

    def _pass_end(self, segment: SegmentFile, mark: Mark, reason: str) -> Fault:
        missing = _missing(self.end.seq, mark.seq)
        self.end = mark
        return Fault(segment.path, segment.size, 0, reason, *missing)

    def _high_seq(self) -> int:
        """The highest seq that can stand in the segment that is being read."""
        following = self._segments[self._position + 1 : self._position + 2]
        return following[0].first_seq - 1 if following else SEQ_MAX

    def _find_after(self, segment: SegmentFile, offset: int) -> tuple[int, Record] | None:
        low_seq, high_seq = self.end.seq + 1, self._high_seq()
        try:
            fd = self._files.open_read(segment.path)
        except OSError:
            return None
        try:
            window = Window(self._files, fd, segment.size)
            if offset == 0:
                return window.find(0, low_seq, high_seq)
            with suppress(BadRecord):  # only to have it in the window
                window.record_at(offset)
            return window.find_after(offset, low_seq, high_seq)
        finally:
            self._files.close(fd)


def find_last_seq(listing: Listing, files: Files = REAL) -> int:
    """The last durable seq of a log: by its mark, or where there is none by its last segment."""
    if listing.mark is not None:
        return listing.mark.seq
    reader = Reader(listing, listing.segments[-1].first_seq, files=files)
    for _ in reader:
        pass
    return reader.end.seq


def _missing(last_seq: int, before_next: int) -> tuple[int | None, int | None]:
    """The entries between the two, as Fault tells them."""
    return (last_seq + 1, before_next) if before_next > last_seq else NOTHING


def _before(record: Record) -> Mark:
    """The end of the record before, as this one tells it."""
    return Mark(record.first_seq - 1, record.term, record.prev_checksum)
