"""Which of the runs of all segments are the log, and where it is broken. Pure.

They are taken from the beginning on. A run that continues the one before, or that has later seqs, belongs to the log.
Where two can not both be true,

  * the one that the next segment or run continues is believed, and of the one before it, as far as it stands in its
    segment, nothing: a lost write leaves old records behind that chain to what was before them, never to what came
    after;
  * otherwise the earlier one is believed; within a segment, where both hold the same seqs, the longer one: a piece
    that was copied from elsewhere is not continued by its surroundings.

Between what was chosen is a hole wherever the bytes are not one good log: also where no entry is missing.
The first bad place above the mark, where a crash may have left it, ends the log: a torn write.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kvnode.log.damage import Hole
from kvnode.log.healing.runs import Link, Problem, Run, SegmentRuns
from kvnode.log.mark import Mark

Place = tuple[Path, int, Problem]
"""(file, offset, what is wrong there)."""

_SAME_SEQS = Problem("chain", "the records that stand here belong elsewhere")
_NO_WAY_ON = Problem("chain", "the records that stand here do not lead to those after them")
_NO_WAY_BACK = Problem("chain", "the record does not continue the one before it")


@dataclass(frozen=True, slots=True)
class Break:
    """A hole with the runs on both sides of it; `left` None at the log's beginning."""

    hole: Hole
    check: str
    left: Run | None
    right: Run


@dataclass(slots=True)
class Picture:
    """The runs that are the log, in order, and where it is broken. `end`: of the last record in them.

    `tail`: why nothing good follows at (path, offset); None when the log ends well. `is_torn`: a crash may have left
    that behind, nothing durable is missing.
    """

    kept: list[Run] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    tail: Place | None = None
    is_torn: bool = False

    @property
    def end(self) -> Mark:
        if not self.kept:
            return Mark()
        last = self.kept[-1]
        return Mark(last.last_seq, last.last_term, last.last_checksum)

    @property
    def commit_seq(self) -> int:
        return min(max((run.commit_seq for run in self.kept), default=0), self.end.seq)


def resolve(segments: Sequence[SegmentRuns], mark: Mark | None) -> Picture:
    """Choose the runs that are the log, and find the places where it is broken. Without a mark none is a torn write."""
    chosen, reasons = _choose([run for segment in segments for run in segment.runs])
    breaks = _Breaks(segments, reasons)
    picture = Picture()
    last: Run | None = None
    for number, run in enumerate(chosen):
        if not run.last_seqs and number + 1 < len(chosen) and _link(run, last) is not Link.CONTINUES:
            continue  # a header alone says what is missing before it; but there is more to come that does
        place = breaks.after(last)
        if place is not None and _may_be_torn(place, picture.end, mark):
            picture.tail, picture.is_torn = place, True
            return picture
        if place is not None:
            path, offset, problem = place
            hole = Hole(picture.end, run.first_seq, run.prev_checksum, run.first_term, path, offset, problem.reason)
            picture.breaks.append(Break(hole, problem.check, last, run))
        picture.kept.append(run)
        last = run
    picture.tail = breaks.after(last)
    picture.is_torn = picture.tail is not None and _may_be_torn(picture.tail, picture.end, mark)
    return picture


def _may_be_torn(place: Place, end: Mark, mark: Mark | None) -> bool:
    return place[2].may_be_torn and mark is not None and end.seq >= mark.seq


def _choose(runs: Sequence[Run]) -> tuple[list[Run], dict[tuple[Path, int], Problem]]:
    """The runs that are the log; and why not, for the others, by where they begin."""
    kept: list[Run] = []
    reasons: dict[tuple[Path, int], Problem] = {}

    def drop(run: Run, problem: Problem) -> None:
        reasons.setdefault((run.path, run.begin), problem)

    for number, found in enumerate(runs):
        run: Run | None = found
        following = runs[number + 1] if number + 1 < len(runs) else None
        is_continued = following is not None and _link(following, found) is Link.CONTINUES
        while run is not None and (link := _link(run, kept[-1] if kept else None)) in (Link.CONTRADICTS, Link.OVERLAPS):
            if not kept:
                run = None  # it has the first entry, and continues another
            elif link is Link.CONTRADICTS and is_continued:
                drop(kept.pop(), _NO_WAY_ON)
            elif link is Link.CONTRADICTS:
                drop(run, _NO_WAY_BACK)
                run = None
            else:
                last = kept[-1]
                rivals = kept[bisect_left(kept, run.first_seq, key=lambda other: other.last_seq) :]
                is_longer = run.path == rivals[0].path and len(run.ends) > sum(len(other.ends) for other in rivals)
                is_same = run.path == last.path and run.checksum_at(last.last_seq) == last.last_checksum
                if is_same and not (is_longer and run.first_seq <= rivals[0].first_seq):
                    # The same records once more. What comes after them goes on where they ended the first time.
                    drop(run, _SAME_SEQS)
                    run = run.without_front(last.last_seq, last.last_term) if run.last_seq > last.last_seq else None
                elif is_longer or is_continued:
                    del kept[-len(rivals) :]
                    for rival in rivals:
                        drop(rival, _SAME_SEQS)
                else:
                    drop(run, _SAME_SEQS)
                    run = None
        if run is not None:
            kept.append(run)
    return kept, reasons


def _link(run: Run, last: Run | None) -> Link:
    return run.link(0, 0, 0) if last is None else run.link(last.last_seq, last.last_term, last.last_checksum)


class _Breaks:
    """Where a sequence of runs is not one good log, byte by byte."""

    def __init__(self, segments: Sequence[SegmentRuns], reasons: dict[tuple[Path, int], Problem]) -> None:
        self.segments = segments
        self.reasons = reasons
        self.positions = {segment.path: position for position, segment in enumerate(segments)}

    def after(self, last: Run | None) -> Place | None:
        """The first thing that is wrong after `last` (None: from the beginning on). None where nothing is: the log
        ends well, or goes on with the next segment, from its header on."""
        position = -1 if last is None else self.positions[last.path]
        if last is not None and last.end < self.segments[position].end:
            return last.path, last.end, self._problem(self.segments[position], last.end)
        if position + 1 == len(self.segments):
            return None
        following = self.segments[position + 1]
        next_seq, last_term = (1, 0) if last is None else (last.last_seq + 1, last.last_term)
        problem = None
        if following.first_seq > next_seq:
            problem = Problem("segments", "the segment before it is missing")
        elif following.first_seq < next_seq:
            problem = Problem("segments", "the segment before it holds the same entries")
        elif following.header is None:
            problem = following.problems[0]
        elif _link(following.runs[0], last) is not Link.CONTINUES or following.header.prev_term != last_term:
            problem = Problem("chain", "the segment does not continue the one before it")
        else:
            problem = self.reasons.get((following.path, 0))
        return None if problem is None else (following.path, 0, problem)

    def _problem(self, segment: SegmentRuns, offset: int) -> Problem:
        return segment.problems.get(offset) or self.reasons[segment.path, offset]
