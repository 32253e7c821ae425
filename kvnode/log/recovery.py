"""Opening a data directory: check whose it is, take the lock, read and verify everything, mend what can be mended.

Nothing is written before it is certain that the directory is this node's; a new directory is made so that `identity`
comes last, and is thus new again when a crash interrupts that.

Order: identity compared; lock; everything fsynced and dropped from the page cache (a failed fsync may have left pages
that look written and are not); identity, ballot and mark read; segments read and verified record by record. Then

    torn          the first bad record is above the mark, where a crash may have left it: it and all that follows is
                  moved to discarded/ and reported
    holes         bad, missing or misplaced records with good ones after them: DamageError, nothing changed. Its
                  `holes` are closed with what other members have (damaged.py), and then the directory is opened again
    a leader is   bad or missing records at or below the mark with nothing good after them, no segment, a bad mark or
    needed        one of another log, a bad ballot or one older than the log, a bad identity: the node is set aside,
                  mended so that it can be opened, and may vote again when a leader has brought it up to date
    refused       DamageError or another LogError, nothing changed

One bad copy of the ballot is mended from the other; anything under a temporary name is removed. A cluster of one member
has nobody to heal it: there a bad ballot is made anew (nobody else can have had its vote), all other damage refused.

**S** Holes are raised before anything is mended, and closing one changes nothing but the hole: so an interrupted start
finds the same damage, or less. All mending begins with taking the right to vote away, and what says that something is
missing (the mark) is lowered before anything is cut: so it either happens again or is done, and no start in between
lets the node vote.
"""

from __future__ import annotations

import errno
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kvnode.invariant import invariant
from kvnode.log import ballot as ballots
from kvnode.log import identity as identities
from kvnode.log import mark as marks
from kvnode.log.ballot import Ballot, encode_ballot
from kvnode.log.damage import FAILURE, Finding, Hole
from kvnode.log.directory import (
    identify,
    lock,
    owners,
    read_ballot,
    read_mark,
    refuse,
    refuse_strange_kinds,
    remove_temporary,
    segment_paths,
    settle,
)
from kvnode.log.discard import Cut, discarded
from kvnode.log.errors import DamageError, LogError
from kvnode.log.files import REAL, Files, make_directories, replace_durably
from kvnode.log.healing.mend import cut_off, save_mark, take_right_away
from kvnode.log.healing.survey import ALL_MISSING, MARK_IS_WRONG, describe_tail, survey, why_ballot_is_old
from kvnode.log.identity import Identity, encode_identity, refuse_foreign
from kvnode.log.mark import Mark, encode_mark
from kvnode.log.record import BadRecord, Record, encode_header
from kvnode.log.reserve import Reserve
from kvnode.log.scan import Bad, Scan
from kvnode.log.segment import Segment, header_after, segment_name
from kvnode.log.wal import LogOptions, WriteAheadLog

NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT}
HEALING: Final = (
    "Nothing was changed. A started node is set aside until the other members have given it these entries; `kvnode "
    "repair` fetches them while it is stopped."
)
ALONE: Final = (
    "Nothing was changed. The cluster has no other member that could have what is missing: restore the directory from "
    "a copy."
)


@dataclass(slots=True)
class Recovered:
    """What is in a data directory. Positions are 0 when there is no record.

    is_new: there was no identity. is_empty: no record and no ballot, and it never had any: such a node has
    promised nothing to anybody.
    commit_seq: the highest that a record speaks of, at most last_seq. time_ms: the highest log time.
    last_seqs, checksums, sizes: one element for each record, sizes in bytes with the frame. terms: (first seq, term)
    of each run of records of one term. entries, bytes: how many, in the whole log. cut: what was cut off the end.
    findings: what was wrong and what was done about it, the cut included: sentences for the operator. is_damaged:
    there was more than what a crash may leave behind.
    """

    log: WriteAheadLog
    identity: Identity
    ballot: Ballot
    is_new: bool
    is_empty: bool
    commit_seq: int
    time_ms: int
    last_seq: int
    last_term: int
    last_checksum: int
    last_seqs: array[int]
    checksums: array[int]
    sizes: array[int]
    terms: list[tuple[int, int]]
    cut: Cut | None
    entries: int
    bytes: int
    findings: list[str] = field(default_factory=list)
    is_damaged: bool = False


def open_log(
    directory: Path | str,
    *,
    cluster_id: str,
    node_id: str,
    members: Iterable[str],
    options: LogOptions | None = None,
    files: Files = REAL,
    on_record: Callable[[Record], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Recovered:
    """Open (or make) the data directory of a node, and read its log.

    on_record is called with each record, in order, while the log is read: an error may still follow. progress is
    called with (bytes read, bytes in all). Raises LogError; then the lock is free, and nothing was changed unless the
    disk failed.
    """
    directory = Path(directory)
    wanted = Identity(cluster_id, node_id, tuple(sorted(members)), may_vote=False)
    try:
        if (kind := files.kind(directory)) is not None:
            if kind not in ("directory", "link"):
                raise LogError(f"{directory} is not a directory.")
            refuse_strange_kinds(files, directory)
            identify(files, directory, wanted)
        make_directories(files, directory)
        lock_fd = lock(files, directory)
        try:
            opening = _Opening(files, directory, wanted, options or LogOptions(), on_record, progress)
            return opening.run(lock_fd)
        except BaseException:
            files.close(lock_fd)
            raise
    except OSError as error:
        raise refuse(directory, error) from error


@dataclass(slots=True)
class _State:
    """What was found, before anything is mended.

    `bad` needs a leader; `is_torn`, `tail_reason`: whether and why the log is cut after what could be read.
    """

    identity: Identity
    ballot: Ballot | None
    ballot_is_whole: bool
    mark: Mark | None
    bad: list[Finding]
    is_torn: bool = False
    tail_reason: str | None = None


class _Opening:
    """One opening of a directory whose lock is held. First everything is read, then what needs mending is mended."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        wanted: Identity,
        options: LogOptions,
        on_record: Callable[[Record], None] | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.files = files
        self.directory = directory
        self.wanted = wanted
        self.options = options
        self.on_record = on_record
        self.progress = progress
        self.findings: list[str] = []

    def run(self, lock_fd: int) -> Recovered:
        # Once more: before the lock was taken another process may have made the directory its own.
        is_new = identify(self.files, self.directory, self.wanted)[0] is None
        if is_new:
            self._create()
        settle(self.files, self.directory)
        state = self._read_notes()
        scan = Scan(self.files, self.directory, state.identity, self.on_record, self.progress)
        scan.run()
        end = Mark(scan.last_seq, scan.last_term, scan.last_checksum)
        self._judge(state, scan, end)
        identity, ballot, cut = self._mend_in_what_room_there_is(state, scan, end)
        log = WriteAheadLog(
            self.directory,
            identity,
            ballot,
            end,
            scan.segments,
            files=self.files,
            options=self.options,
            lock_fd=lock_fd,
        )
        return Recovered(
            log=log,
            identity=identity,
            ballot=ballot,
            is_new=is_new,
            is_empty=end.seq == 0 and ballot.term == 0 and not identity.set_aside,
            commit_seq=min(scan.commit_seq, end.seq),
            time_ms=scan.time_ms,
            last_seq=end.seq,
            last_term=end.term,
            last_checksum=end.checksum,
            last_seqs=scan.last_seqs,
            checksums=scan.checksums,
            sizes=scan.sizes,
            terms=scan.terms,
            cut=cut,
            entries=end.seq,
            bytes=sum(scan.sizes),
            findings=self.findings,
            is_damaged=bool(state.bad),
        )

    def _create(self) -> None:
        """Make every file of a new directory; `identity` last, which makes it one."""
        files, directory, wanted = self.files, self.directory, self.wanted
        discarded(files, directory)
        replace_durably(files, directory / marks.NAME, encode_mark(Mark()))
        replace_durably(files, directory / ballots.NAME, encode_ballot(Ballot()))
        replace_durably(files, directory / segment_name(1), encode_header(header_after(Mark(), wanted)))
        replace_durably(files, directory / identities.NAME, encode_identity(wanted))

    # What is there

    def _read_notes(self) -> _State:
        files, directory = self.files, self.directory
        identity, why_inferred = identify(files, directory, self.wanted)
        invariant(identity is not None, "the directory that was just made is not one")
        state = _State(identity or self.wanted, None, True, None, [])
        if why_inferred is not None:
            state.bad.append(_finding(directory, identities.NAME, why_inferred))
        try:
            state.ballot, state.ballot_is_whole = read_ballot(files, directory)
        except BadRecord as bad:
            reason = f"{bad.reason}, so it is not known whom this node voted for"
            state.bad.append(_finding(directory, ballots.NAME, reason))
        try:
            state.mark = read_mark(files, directory)
        except BadRecord as bad:
            reason = f"{bad.reason}, so it is not known how much of the log was durable"
            state.bad.append(_finding(directory, marks.NAME, reason))
        return state

    def _judge(self, state: _State, scan: Scan, end: Mark) -> None:
        """Which of the cases it is. Raises DamageError where nothing can be mended here."""
        mark, bad = state.mark, scan.bad
        if bad is None and not scan.segments:
            state.bad.append(Finding("segments", FAILURE, self.directory, None, 1, None, ALL_MISSING))
        elif bad is None:
            if mark is not None and mark.seq > end.seq:
                reason = f"the log ends here, though it was durable up to seq {mark.seq}"
                last = scan.segments[-1]
                state.bad.append(Finding("tail", FAILURE, last.path, last.end, end.seq + 1, mark.seq, reason))
        elif bad.may_be_torn and mark is not None and end.seq >= mark.seq:
            state.is_torn = True
            state.tail_reason = describe_tail(self.files, bad.path, bad.offset, end.seq)
        else:
            if not scan.segments:
                self._refuse_strange_log()
            state.bad.append(self._look_past(bad, end))
            state.tail_reason = state.bad[-1].reason
        if mark is not None and 0 < mark.seq <= end.seq:
            index = bisect_left(scan.last_seqs, mark.seq)
            if scan.last_seqs[index] != mark.seq or scan.checksums[index] != mark.checksum:
                state.bad.append(_finding(self.directory, marks.NAME, MARK_IS_WRONG.format(mark.seq)))
        if state.ballot is not None and (why_old := why_ballot_is_old(state.ballot, end.term)) is not None:
            state.bad.append(_finding(self.directory, ballots.NAME, why_old))
        if len(self.wanted.members) == 1:
            for finding in state.bad:
                if finding.check != ballots.NAME:
                    raise _damage(finding, ALONE)

    def _look_past(self, bad: Bad, end: Mark) -> Finding:
        """There is damage where the quick scan ended: its finding, if it goes on to the end of the log."""
        seen = survey(
            self.directory,
            cluster_id=self.wanted.cluster_id,
            node_id=self.wanted.node_id,
            members=self.wanted.members,
            files=self.files,
        )
        if seen.holes:
            raise self._holes(seen.holes)
        if seen.tail_damage is None or seen.last_seq != end.seq:
            raise LogError(
                f"{bad.path} could not be read at offset {bad.offset} ({bad.reason}), and could when it was read "
                "again. Nothing was changed. Start the node again, and look after its disk."
            )
        return seen.tail_damage

    def _refuse_strange_log(self) -> None:
        """A single segment of another node is damage; a log of nothing else was put here by mistake."""
        wanted = self.wanted
        found = set(owners(self.files, self.directory))
        if found and (wanted.cluster_id, wanted.node_id) not in found:
            cluster_id, node_id = min(found)
            refuse_foreign(self.directory, Identity(cluster_id, node_id, wanted.members, may_vote=False), wanted)

    def _holes(self, holes: list[Hole]) -> DamageError:
        first = holes[0]
        is_alone = len(self.wanted.members) == 1
        more = f", and {len(holes) - 1} more like this" if len(holes) > 1 else ""
        return DamageError(
            first.path,
            first.reason + more,
            offset=first.offset,
            first_seq=first.first_seq,
            last_seq=first.last_seq,
            holes=() if is_alone else tuple(holes),
            advice=ALONE if is_alone else HEALING,
        )

    # Mending

    def _mend_in_what_room_there_is(self, state: _State, scan: Scan, end: Mark) -> tuple[Identity, Ballot, Cut | None]:
        """A full disk may have been what ended the last life of this node: there is a reserve for that."""
        try:
            return self._mend(state, scan, end)
        except OSError as error:
            if error.errno not in NO_ROOM or not Reserve(self.files, self.directory, 0).release():
                raise
        self.findings.clear()
        return self._mend(state, scan, end)

    def _mend(self, state: _State, scan: Scan, end: Mark) -> tuple[Identity, Ballot, Cut | None]:
        """Everything has been read. Each step leaves a directory that can be opened again."""
        files, directory = self.files, self.directory
        discarded(files, directory)
        remove_temporary(files, directory)
        identity = self._take_right_away(state)
        ballot = self._mend_ballot(state, end)
        cut = self._cut(state, scan, end, identity)
        if end != state.mark:
            # What was read had been fsynced before it was read: the log is durable up to its end.
            save_mark(files, directory, end)
        return identity, ballot, cut

    def _take_right_away(self, state: _State) -> Identity:
        self.findings += [str(finding) for finding in state.bad]
        if not state.bad or len(self.wanted.members) == 1:
            return state.identity
        reason = "; ".join(f"{finding.path.name}: {finding.reason}" for finding in state.bad)
        identity = take_right_away(self.files, self.directory, state.identity, reason)
        self.findings.append("This node may not vote until a leader has brought it up to date.")
        return identity

    def _mend_ballot(self, state: _State, end: Mark) -> Ballot:
        path = self.directory / ballots.NAME
        checks = {finding.check for finding in state.bad}
        ballot = state.ballot
        if ballot is None or ballots.NAME in checks:
            known = Mark() if state.mark is None or marks.NAME in checks else state.mark
            ballot = Ballot(max(end.term, known.term), None)
            self.findings.append(f"{path} was made anew: term {ballot.term}, no vote.")
        elif state.ballot_is_whole:
            return ballot
        else:
            self.findings.append(f"{path}: one of its two copies could not be read; it was mended from the other.")
        replace_durably(self.files, path, encode_ballot(ballot))
        return ballot

    def _cut(self, state: _State, scan: Scan, end: Mark, identity: Identity) -> Cut | None:
        if state.tail_reason is None and scan.segments:
            return None
        last = scan.segments[-1] if scan.segments else None
        cut = cut_off(
            self.files,
            self.directory,
            identity,
            None if last is None else (last.path, last.end),
            [path for _, path in segment_paths(self.files, self.directory) if last is None or path > last.path],
            end,
            state.tail_reason or ALL_MISSING,
            lowers_mark=not state.is_torn,
        )
        if last is None:
            start = len(encode_header(header_after(Mark(), identity)))
            scan.segments.append(Segment(self.directory / segment_name(1), 1, start))
        if cut is not None:
            self.findings.append(str(cut))
        return cut


def _finding(directory: Path, name: str, reason: str) -> Finding:
    return Finding(name, FAILURE, directory / name, None, None, None, reason)


def _damage(finding: Finding, advice: str) -> DamageError:
    return DamageError(
        finding.path,
        finding.reason,
        offset=finding.offset,
        first_seq=finding.first_seq,
        last_seq=finding.last_seq,
        advice=advice,
    )
