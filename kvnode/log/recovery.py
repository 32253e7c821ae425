"""Opening a data directory: check whose it is, take the lock, read and verify everything, mend what a crash left.

Nothing is written before it is certain that the directory is this node's and undamaged; a new directory is made so
that `identity` comes last, and is thus new again when a crash interrupts that.

Order: identity compared; lock; everything fsynced and dropped from the page cache (a failed fsync may have left pages
that look written and are not); identity, ballot and mark read; segments read and verified record by record. Then

    a bad record above the mark        a torn write: it and all that follows is moved to discarded/ and reported
    a bad record at or below the mark  damage: DamageError, nothing changed
    a record that verifies but does    damage, wherever it is: no crash leaves that behind
    not continue the one before it,
    a missing segment, a gap
    one bad copy of the ballot         mended from the other
    anything under a temporary name    removed
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kvnode.log import ballot as ballots
from kvnode.log import identity as identities
from kvnode.log import mark as marks
from kvnode.log import reserve as reserves
from kvnode.log.ballot import Ballot, decode_ballot, encode_ballot
from kvnode.log.discard import DISCARDED, Cut, copy_end, move_segments
from kvnode.log.errors import DamageError, ForeignLogError, LockedError, LogError
from kvnode.log.files import REAL, Files, make_directories, read_file, replace_durably
from kvnode.log.identity import Identity, decode_identity, encode_identity, refuse_foreign
from kvnode.log.mark import Mark, decode_mark, encode_mark
from kvnode.log.notes import NOTE_BYTES_MAX
from kvnode.log.record import BadRecord, Record, SegmentHeader, encode_header
from kvnode.log.scan import Scan, Torn
from kvnode.log.segment import first_seq_of, read_header, segment_name
from kvnode.log.wal import LogOptions, WriteAheadLog

LOCK = "lock"
_OURS = {identities.NAME, ballots.NAME, marks.NAME, reserves.NAME, LOCK, DISCARDED}


@dataclass(slots=True)
class Recovered:
    """What is in a data directory. Positions are 0 when there is no record.

    is_new: there was no identity. is_empty: no record and no ballot; such a node has promised nothing to anybody.
    commit_seq: the highest that a record speaks of, at most last_seq. time_ms: the highest log time.
    last_seqs, checksums, sizes: one element for each record, sizes in bytes with the frame. terms: (first seq, term)
    of each run of records of one term. entries, bytes: how many, in the whole log.
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
    called with (bytes read, bytes in all). Raises LogError; then nothing was changed, and the lock is free.
    """
    directory = Path(directory)
    wanted = Identity(cluster_id, node_id, tuple(sorted(members)), may_vote=False)
    try:
        _look_before_touching(files, directory, wanted)
        make_directories(files, directory)
        lock_fd = _lock(files, directory)
        try:
            opening = _Opening(files, directory, wanted, options or LogOptions(), on_record, progress)
            return opening.run(lock_fd)
        except BaseException:
            files.close(lock_fd)
            raise
    except OSError as error:
        place = error.filename or directory
        raise LogError(f"The data directory can not be used: {place}: {error.strerror or error}.") from error


def _look_before_touching(files: Files, directory: Path, wanted: Identity) -> None:
    kind = files.kind(directory)
    if kind is None:
        return
    if kind not in ("directory", "link"):
        raise LogError(f"{directory} is not a directory.")
    names = files.listdir(directory)
    for name in names:
        if files.kind(directory / name) == "link" and _is_ours(name):
            raise LogError(f"{directory / name} is a symbolic link; kvnode does not follow links in a data directory.")
    if identities.NAME in names:
        refuse_foreign(directory, _read_identity(files, directory), wanted)
        return
    strangers = [name for name in names if not (_is_ours(name) or name.startswith(".") or name == "lost+found")]
    if strangers:
        raise ForeignLogError(
            f"{directory} is not a kvnode data directory: it holds {strangers[0]!r} and no identity. Nothing was "
            "touched. Name an empty or a new directory."
        )


def _is_ours(name: str) -> bool:
    plain = name.removesuffix(".tmp")
    return plain in _OURS or first_seq_of(plain) is not None


def _lock(files: Files, directory: Path) -> int:
    try:
        return files.lock(directory / LOCK)
    except BlockingIOError:
        holder = read_file(files, directory / LOCK, 20).decode("ascii", "replace").strip()
        raise LockedError(
            f"{directory} is in use by another process{f' (process id {holder})' if holder else ''}."
        ) from None


def _read_identity(files: Files, directory: Path) -> Identity:
    path = directory / identities.NAME
    try:
        return decode_identity(read_file(files, path, NOTE_BYTES_MAX))
    except BadRecord as bad:
        raise DamageError(path, bad.reason, offset=bad.offset) from None


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

    def run(self, lock_fd: int) -> Recovered:
        is_new = identities.NAME not in self.files.listdir(self.directory)
        if is_new:
            self._refuse_remains()
            self._create()
        self._settle()
        identity = _read_identity(self.files, self.directory)
        # Once more: before the lock was taken another process may have made the directory its own.
        refuse_foreign(self.directory, identity, self.wanted)
        ballot, ballot_is_whole = self._read_ballot()
        mark = self._read_mark()
        scan = Scan(self.files, self.directory, identity, mark, self.on_record, self.progress)
        scan.run()
        self._check_ballot_covers(ballot, scan)
        cut = self._mend(scan, identity, mark, ballot, ballot_is_whole)
        end = Mark(scan.last_seq, scan.last_term, scan.last_checksum)
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
            is_empty=scan.last_seq == 0 and ballot.term == 0,
            commit_seq=min(scan.commit_seq, scan.last_seq),
            time_ms=scan.time_ms,
            last_seq=scan.last_seq,
            last_term=scan.last_term,
            last_checksum=scan.last_checksum,
            last_seqs=scan.last_seqs,
            checksums=scan.checksums,
            sizes=scan.sizes,
            terms=scan.terms,
            cut=cut,
            entries=scan.last_seq,
            bytes=sum(scan.sizes),
        )

    def _refuse_remains(self) -> None:
        """Without identity there may be only what an interrupted `_create` left behind: nothing recorded."""
        names = self.files.listdir(self.directory)
        reason = "the file identity is missing, though something was recorded in this directory"
        if DISCARDED in names and self.files.listdir(self.directory / DISCARDED):
            raise DamageError(self.directory / identities.NAME, reason)
        if ballots.NAME in names and self._read_ballot()[0] != Ballot():
            raise DamageError(self.directory / identities.NAME, reason)
        if marks.NAME in names and self._read_mark() != Mark():
            raise DamageError(self.directory / identities.NAME, reason)
        for name in names:
            first_seq = first_seq_of(name)
            if first_seq is not None and (first_seq != 1 or self._holds_records(self.directory / name)):
                raise DamageError(self.directory / identities.NAME, reason)

    def _holds_records(self, path: Path) -> bool:
        """Whether a segment is more than a header alone."""
        fd = self.files.open_read(path)
        try:
            return self.files.size(fd) > read_header(self.files, fd)[1]
        except BadRecord:
            return True
        finally:
            self.files.close(fd)

    def _create(self) -> None:
        """Make every file of a new directory; `identity` last, which makes it one."""
        files, directory, wanted = self.files, self.directory, self.wanted
        if files.kind(directory / DISCARDED) is None:
            files.mkdir(directory / DISCARDED)
        replace_durably(files, directory / marks.NAME, encode_mark(Mark()))
        replace_durably(files, directory / ballots.NAME, encode_ballot(Ballot()))
        header = SegmentHeader(wanted.cluster_id, wanted.node_id, 1, 0, 0)
        replace_durably(files, directory / segment_name(1), encode_header(header))
        replace_durably(files, directory / identities.NAME, encode_identity(wanted))

    def _settle(self) -> None:
        """Let the disk hold, and the next reads show, the same bytes."""
        for name in self.files.listdir(self.directory):
            if name in (LOCK, DISCARDED) or not _is_ours(name) or name.endswith(".tmp"):
                continue
            fd = self.files.open_read(self.directory / name)
            try:
                self.files.fsync(fd)
                self.files.drop_cache(fd)
            finally:
                self.files.close(fd)
        self.files.fsync_dir(self.directory)

    def _read_ballot(self) -> tuple[Ballot, bool]:
        path = self.directory / ballots.NAME
        try:
            return decode_ballot(read_file(self.files, path, NOTE_BYTES_MAX))
        except FileNotFoundError:
            raise DamageError(path, "the file is missing, so it is not known whom this node voted for") from None
        except BadRecord as bad:
            raise DamageError(path, bad.reason) from None

    def _read_mark(self) -> Mark:
        path = self.directory / marks.NAME
        reason = "so it is not known how much of the log was durable"
        try:
            return decode_mark(read_file(self.files, path, NOTE_BYTES_MAX))
        except FileNotFoundError:
            raise DamageError(path, f"the file is missing, {reason}") from None
        except BadRecord as bad:
            raise DamageError(path, f"{bad.reason}, {reason}", offset=bad.offset) from None

    def _check_ballot_covers(self, ballot: Ballot, scan: Scan) -> None:
        """A term reaches the ballot before its records reach the log."""
        if scan.last_term > ballot.term:
            raise DamageError(
                self.directory / ballots.NAME,
                f"the ballot ends at term {ballot.term}, the log at term {scan.last_term}: the ballot is older, so "
                "it is not known whom this node voted for",
            )

    def _mend(self, scan: Scan, identity: Identity, mark: Mark, ballot: Ballot, ballot_is_whole: bool) -> Cut | None:
        """Everything has been read and found undamaged. Each step leaves a directory that can be opened again."""
        files, directory = self.files, self.directory
        if files.kind(directory / DISCARDED) is None:
            files.mkdir(directory / DISCARDED)
            files.fsync_dir(directory)
        for place in (directory, directory / DISCARDED):
            for name in files.listdir(place):
                if name.endswith(".tmp") and _is_ours(name):
                    files.unlink(place / name)
        if not ballot_is_whole:
            replace_durably(files, directory / ballots.NAME, encode_ballot(ballot))
        cut = None if scan.torn is None else self._cut_torn(scan, scan.torn, identity)
        end = Mark(scan.last_seq, scan.last_term, scan.last_checksum)
        if end != mark:
            # What was read had been fsynced before it was read: the log is durable up to its end.
            fd = files.open_write(directory / marks.NAME)
            try:
                files.pwrite(fd, encode_mark(end), 0)
                files.fsync(fd)
            finally:
                files.close(fd)
        return cut

    def _cut_torn(self, scan: Scan, torn: Torn, identity: Identity) -> Cut:
        """The mark is not above what stays, so it need not be lowered."""
        files = self.files
        header = SegmentHeader(
            identity.cluster_id, identity.node_id, scan.last_seq + 1, scan.last_checksum, scan.last_term
        )
        fd = files.open_write(torn.path)
        try:
            end = files.size(fd)
            copy = copy_end(files, torn.path, fd, torn.offset, end, header)
            moved, size = move_segments(files, torn.later)
            files.truncate(fd, torn.offset)
            files.fsync(fd)
        finally:
            files.close(fd)
        return Cut(torn.path, torn.offset, size + end - torn.offset, scan.last_seq + 1, torn.reason, (copy, *moved))
