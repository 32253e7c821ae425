"""What can be read of one segment file, damaged or not: runs of records that follow each other and chain.

A good file is one run that begins with its header. After bad bytes the next record that verifies and has a seq of this
segment begins a new run, and so does a record that verifies but does not continue the one before it. Which runs belong
to the log is decided where all of them are known: survey.py.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from kvnode.log.files import Files
from kvnode.log.record import HEADER_BYTES, BadRecord, Record, SegmentHeader, decode_header, why_not_next
from kvnode.log.segment import HEADER_BYTES_MAX, Segment, refuse_newer, why_header_is_wrong, written_size
from kvnode.log.window import Window


class Link(Enum):
    """How a run stands to what comes before it: it goes on there, it has later seqs, it can not be true together with
    it, or it has seqs that are there already."""

    CONTINUES = "continues"
    FOLLOWS = "follows"
    CONTRADICTS = "contradicts"
    OVERLAPS = "overlaps"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why no good record begins at a place. `check` names the check of `verify` that fails."""

    check: str
    reason: str
    may_be_torn: bool = False


class Run(Segment):
    """Good records side by side, each continuing the one before; with the segment's header where that stands before.

    `begin` is where the first of them begins, the header included. `first_term` is the term of the first record. A
    header alone is a run too, one of no records: its `first_term` is what it says of the record before it.
    """

    __slots__ = (
        "begin",
        "checksums",
        "commit_seq",
        "first_term",
        "has_header",
        "last_checksum",
        "last_term",
        "prev_checksum",
    )

    def __init__(
        self, path: Path, first_seq: int, begin: int, start: int, prev_checksum: int, term: int, *, has_header: bool
    ) -> None:
        super().__init__(path, first_seq, start)
        self.begin = begin
        self.has_header = has_header
        self.prev_checksum = self.last_checksum = prev_checksum
        self.first_term = self.last_term = term
        self.commit_seq = 0
        self.checksums = array("I")

    def add(self, record: Record, end: int) -> None:
        if not self.ends:
            self.first_term = record.term
        self.last_seqs.append(record.last_seq)
        self.ends.append(end)
        self.checksums.append(record.checksum)
        self.last_checksum, self.last_term = record.checksum, record.term
        if record.commit_seq > self.commit_seq:
            self.commit_seq = record.commit_seq

    def without_front(self, seq: int, term: int) -> Run:
        """The records after `seq`, which ends one of this run, of that term."""
        position = bisect_left(self.last_seqs, seq)
        end = self.ends[position]
        rest = Run(self.path, seq + 1, end, end, self.checksums[position], term, has_header=False)
        rest.last_seqs = self.last_seqs[position + 1 :]
        rest.ends = self.ends[position + 1 :]
        rest.checksums = self.checksums[position + 1 :]
        rest.last_checksum, rest.last_term, rest.commit_seq = self.last_checksum, self.last_term, self.commit_seq
        return rest

    def checksum_at(self, seq: int) -> int | None:
        """The checksum of the record that ends at `seq`."""
        position = bisect_left(self.last_seqs, seq)
        is_there = position < len(self.last_seqs) and self.last_seqs[position] == seq
        return self.checksums[position] if is_there else None

    def link(self, last_seq: int, last_term: int, last_checksum: int) -> Link:
        """How this run stands to a log that ends so."""
        if self.first_seq <= last_seq:
            return Link.OVERLAPS
        is_next = self.first_seq == last_seq + 1
        if self.first_term < last_term or (is_next and self.prev_checksum != last_checksum):
            return Link.CONTRADICTS
        return Link.CONTINUES if is_next else Link.FOLLOWS


class SegmentRuns:
    """One segment file: its runs in the order of the file, and why there is nothing good at the places between.

    `first_seq`: by its name. `header`: None when it can not be read or is not this log's. `end`: the file's size, zeros
    at its end apart.
    """

    __slots__ = ("end", "first_seq", "header", "header_end", "path", "problems", "runs")

    def __init__(self, path: Path, first_seq: int) -> None:
        self.path = path
        self.first_seq = first_seq
        self.end = 0
        self.header: SegmentHeader | None = None
        self.header_end = 0
        self.runs: list[Run] = []
        self.problems: dict[int, Problem] = {}

    def __repr__(self) -> str:
        return f"{self.path.name} {self.end}B {self.runs}"


def read_runs(
    files: Files,
    path: Path,
    first_seq: int,
    high_seq: int,
    whose: tuple[str, str],
    progress: Callable[[int], None] | None = None,
) -> SegmentRuns:
    """Read the segment file named by `first_seq`, in bounded memory; `whose`: (cluster id, node id).

    Behind bad bytes only records of entries up to `high_seq`, which come before the next segment's name, are looked
    for. Raises OSError, and ForeignLogError for a later format.
    """
    found = SegmentRuns(path, first_seq)
    fd = files.open_read(path)
    try:
        window = Window(files, fd, written_size(files, fd), progress)
        if _read_header(found, window, whose):
            _read_records(found, window, high_seq)
        found.end = window.size
    finally:
        files.close(fd)
    return found


def _read_header(found: SegmentRuns, window: Window, whose: tuple[str, str]) -> bool:
    """False when the file is not a part of this log: what else is in it is not looked at."""
    try:
        try:
            header, end = decode_header(window.head(HEADER_BYTES_MAX))
        except BadRecord:
            window.refuse_unreadable(0, max(window.announced(0), HEADER_BYTES))
            raise
    except BadRecord as bad:
        # A segment gets its name after its header was fsynced: no crash leaves a bad one.
        found.problems[0] = Problem("segments", f"the segment's header can not be read: {bad.reason}")
        return True
    refuse_newer(found.path, header)
    reason = why_header_is_wrong(header, *whose, found.first_seq)
    if reason is not None:
        found.problems[0] = Problem("segments", reason)
        return False
    found.header, found.header_end = header, end
    found.runs.append(Run(found.path, found.first_seq, 0, end, header.prev_checksum, header.prev_term, has_header=True))
    return True


def _read_records(found: SegmentRuns, window: Window, high_seq: int) -> None:
    run = found.runs[0] if found.runs else None
    offset = found.header_end
    last_seq, last_term, last_checksum = -1, 0, 0
    if run is not None:
        last_seq, last_term, last_checksum = run.last_seq, run.last_term, run.last_checksum
    low_seq = found.first_seq
    is_header_bad = run is None
    while offset < window.size:
        try:
            if is_header_bad:
                raise BadRecord("")
            record = window.record_at(offset)
        except BadRecord as bad:
            found.problems.setdefault(offset, Problem("records", bad.reason, bad.may_be_torn))
            place = window.find_after(offset, low_seq, high_seq)
            if place is None:
                return
            offset, record = place
            run, is_header_bad = None, False
        if (
            run is None
            or record.first_seq != last_seq + 1
            or record.prev_checksum != last_checksum
            or record.term < last_term
        ):
            if run is not None:
                reason = why_not_next(record, last_seq, last_term, last_checksum) or ""
                found.problems.setdefault(offset, Problem("chain", reason))
            if low_seq <= record.first_seq and record.last_seq <= high_seq:
                run = _begin_run(found, record, offset)
            else:
                run = None  # a record of somewhere else: as bad as if it did not verify
        offset += record.size
        if run is not None:
            run.add(record, offset)
            last_seq, last_term, last_checksum = record.last_seq, record.term, record.checksum


def _begin_run(found: SegmentRuns, record: Record, offset: int) -> Run:
    run = Run(found.path, record.first_seq, offset, offset, record.prev_checksum, record.term, has_header=False)
    found.runs.append(run)
    return run
