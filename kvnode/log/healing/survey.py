"""What is good in a log and what is not, read past every damage. Writes nothing, needs no lock, for a stopped log or a
live one. All segments are read into runs (runs.py); which of them are the log, and where it is broken: picture.py.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kvnode.log import ballot as ballots
from kvnode.log import identity as identities
from kvnode.log import mark as marks
from kvnode.log.ballot import Ballot
from kvnode.log.damage import FAILURE, WARNING, Finding, Hole
from kvnode.log.directory import (
    owners,
    read_ballot,
    read_identity,
    read_mark,
    refuse_strange_kinds,
    segment_paths,
)
from kvnode.log.errors import LogError
from kvnode.log.files import REAL, Files, file_size
from kvnode.log.healing.picture import Picture, resolve
from kvnode.log.healing.runs import Run, SegmentRuns, read_runs
from kvnode.log.identity import Identity, refuse_foreign
from kvnode.log.mark import Mark
from kvnode.log.record import SEQ_MAX, BadRecord
from kvnode.log.segment import written_size
from kvnode.log.window import Window

T = TypeVar("T")
ALL_MISSING = "all segments of the log are missing"
MARK_IS_WRONG = "the mark speaks of another record at seq {} than the log has there"


@dataclass(frozen=True, slots=True)
class Torn:
    """A torn write: everything from `offset` in `path` on goes, and so do the segments `later`."""

    path: Path
    offset: int
    reason: str
    later: tuple[Path, ...]


@dataclass(slots=True)
class Survey:
    """See the module. `identity`, `ballot` and `mark` are None when they can not be read.

    `last_seq`, `last_term`, `last_checksum` are of the last good record. `tail_damage`: what is bad at or below the
    mark and has no good record after it; `torn`: what is bad above it.
    """

    directory: Path
    identity: Identity | None
    ballot: Ballot | None
    mark: Mark | None
    segments: list[SegmentRuns]
    picture: Picture
    torn: Torn | None
    tail_damage: Finding | None
    findings: list[Finding]

    @property
    def holes(self) -> list[Hole]:
        return [each.hole for each in self.picture.breaks]

    @property
    def last_seq(self) -> int:
        return self.picture.end.seq

    @property
    def last_term(self) -> int:
        return self.picture.end.term

    @property
    def last_checksum(self) -> int:
        return self.picture.end.checksum

    @property
    def commit_seq(self) -> int:
        return self.picture.commit_seq


def survey(
    directory: Path | str,
    *,
    cluster_id: str | None = None,
    node_id: str | None = None,
    members: Iterable[str] | None = None,
    files: Files = REAL,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Look at a whole data directory. What is not given is taken from the directory itself.

    progress is called with (bytes read, bytes in all). Raises LogError when it is not a log of that node, or when it
    can not be read for a reason that is not damage.
    """
    directory = Path(directory)
    try:
        if files.kind(directory) not in ("directory", "link"):
            raise LogError(f"{directory} is not a directory.")
        refuse_strange_kinds(files, directory)
        return _Looking(files, directory, progress).run(cluster_id, node_id, members)
    except OSError as error:
        raise LogError(f"can not read {error.filename or directory}: {error.strerror or error}.") from error


class _Looking:
    def __init__(self, files: Files, directory: Path, progress: Callable[[int, int], None] | None) -> None:
        self.files = files
        self.directory = directory
        self.progress = progress
        self.findings: list[Finding] = []

    def run(self, cluster_id: str | None, node_id: str | None, members: Iterable[str] | None) -> Survey:
        files, directory = self.files, self.directory
        # The mark first: what it says to be durable was there before what is read after it.
        mark = self._read(marks.NAME, read_mark)
        identity = self._read(identities.NAME, read_identity)
        ballot, is_whole = self._read(ballots.NAME, read_ballot) or (None, True)
        if not is_whole:
            self._find("ballot", WARNING, directory / ballots.NAME, None, "one of its two copies can not be read")
        whose = self._whose(identity, cluster_id, node_id)
        if identity is not None:
            wanted = identity.members if members is None else tuple(sorted(members))
            refuse_foreign(directory, identity, Identity(*whose, wanted, may_vote=False))
        segments = read_segments(files, directory, whose, self.progress)
        picture = resolve(segments, mark)
        for hole, check in ((each.hole, each.check) for each in picture.breaks):
            self._find(check, FAILURE, hole.path, hole.offset, hole.reason, hole.first_seq, hole.last_seq)
        torn, tail_damage = self._judge_tail(segments, picture, mark)
        if mark is not None and (reason := why_mark_is_wrong(mark, picture.kept)) is not None:
            self._find("mark", FAILURE, directory / marks.NAME, None, reason)
        if ballot is not None and (reason := why_ballot_is_old(ballot, picture.end.term)) is not None:
            self._find("ballot", FAILURE, directory / ballots.NAME, None, reason)
        return Survey(directory, identity, ballot, mark, segments, picture, torn, tail_damage, self.findings)

    def _read(self, name: str, read: Callable[[Files, Path], T]) -> T | None:
        try:
            return read(self.files, self.directory)
        except BadRecord as bad:
            self._find(name, FAILURE, self.directory / name, None, bad.reason)
            return None

    def _whose(self, identity: Identity | None, cluster_id: str | None, node_id: str | None) -> tuple[str, str]:
        """What the caller says; else what the identity says; else the first header that can be read."""
        found = (identity.cluster_id, identity.node_id) if identity is not None else None
        if found is None:
            found = next(iter(owners(self.files, self.directory)), ("?", "?"))
        return cluster_id or found[0], node_id or found[1]

    def _judge_tail(
        self, segments: Sequence[SegmentRuns], picture: Picture, mark: Mark | None
    ) -> tuple[Torn | None, Finding | None]:
        next_seq = picture.end.seq + 1
        if picture.tail is not None:
            path, offset, problem = picture.tail
            if not picture.is_torn:
                last_seq = mark.seq if mark is not None and mark.seq >= next_seq else None
                return None, self._find(problem.check, FAILURE, path, offset, problem.reason, next_seq, last_seq)
            reason = describe_tail(self.files, path, offset, picture.end.seq)
            later = tuple(segment.path for segment in segments if segment.path > path)
            self._find("tail", WARNING, path, offset, reason, next_seq)
            return Torn(path, offset, reason, later), None
        if not segments:
            return None, self._find("segments", FAILURE, self.directory, None, ALL_MISSING, 1)
        if mark is not None and mark.seq >= next_seq:
            reason = f"the log ends here, though it was durable up to seq {mark.seq}"
            last = segments[-1]
            return None, self._find("tail", FAILURE, last.path, last.end, reason, next_seq, mark.seq)
        return None, None

    def _find(
        self,
        check: str,
        severity: str,
        path: Path,
        offset: int | None,
        reason: str,
        first_seq: int | None = None,
        last_seq: int | None = None,
    ) -> Finding:
        finding = Finding(check, severity, path, offset, first_seq, last_seq, reason)
        self.findings.append(finding)
        return finding


def read_segments(
    files: Files,
    directory: Path,
    whose: tuple[str, str],
    progress: Callable[[int, int], None] | None = None,
    *,
    known: Iterable[SegmentRuns] = (),
) -> list[SegmentRuns]:
    """All segments, in the order of their names; those that are `known` need not be read."""
    there = {segment.path: segment for segment in known}
    found = segment_paths(files, directory)
    report = None
    if progress is not None:
        done, total = 0, sum(file_size(files, path) for _, path in found)

        def report(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

    high_seqs = [first_seq - 1 for first_seq, _ in found[1:]] + [SEQ_MAX]
    return [
        there.get(path) or read_runs(files, path, first_seq, high_seq, whose, report)
        for (first_seq, path), high_seq in zip(found, high_seqs, strict=False)
    ]


def why_mark_is_wrong(mark: Mark, kept: Sequence[Run]) -> str | None:
    """None if the record that the mark speaks of is there, or is missing; a phrase if another one is there."""
    position = bisect_right(kept, mark.seq, key=lambda run: run.first_seq) - 1
    if mark.seq == 0 or position < 0 or mark.seq > kept[position].last_seq:
        return None
    if kept[position].checksum_at(mark.seq) == mark.checksum:
        return None
    return MARK_IS_WRONG.format(mark.seq)


def why_ballot_is_old(ballot: Ballot, last_term: int) -> str | None:
    """A term reaches the ballot before its records reach the log."""
    if last_term <= ballot.term:
        return None
    return (
        f"the ballot ends at term {ballot.term}, the log at term {last_term}: the ballot is older, so it is not known "
        "whom this node voted for"
    )


def describe_tail(files: Files, path: Path, offset: int, last_seq: int) -> str:
    """What stands after the last good record, which ends at `last_seq`."""
    fd = files.open_read(path)
    try:
        window = Window(files, fd, written_size(files, fd))
        kind = "with a record that belongs elsewhere"
        try:
            window.record_at(offset)
        except BadRecord as bad:
            kind = "with a record with a wrong checksum" if window.announced(offset) else "with garbage"
            if bad.is_short:
                kind = "within a record"
        is_followed = window.find_after(offset, last_seq + 1, SEQ_MAX) is not None
        return f"the log ends {kind}{', and valid records follow' if is_followed else ''}"
    finally:
        files.close(fd)
