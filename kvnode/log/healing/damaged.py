"""A stopped log with holes, open to be healed with the records of other members. A node with it takes no part.

Records are taken only where they chain on both sides of the hole: to the last good record before it and, at last, to
the first good one after it. Then they are, as far as checksums can tell, byte for byte what was there before, and the
node has what it had: it keeps its vote. How they get into the files: filler.py. Nothing else in the directory changes,
so the other damage that there may be is found again, and judged, when the log is opened the next time.

`give_up` is for holes that nobody can close: it gives up the right to vote, and then everything from the hole on.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kvnode.invariant import invariant
from kvnode.log.damage import Hole
from kvnode.log.directory import (
    identify,
    lock,
    read_mark,
    refuse,
    refuse_strange_kinds,
    remove_temporary,
    settle,
)
from kvnode.log.discard import Cut
from kvnode.log.errors import DiskError, DoesNotFit, LogError, NoSpaceError
from kvnode.log.files import REAL, Files
from kvnode.log.healing.filler import Filler
from kvnode.log.healing.mend import cut_off, take_right_away
from kvnode.log.healing.picture import Picture, resolve
from kvnode.log.healing.runs import Run, SegmentRuns
from kvnode.log.healing.survey import read_segments
from kvnode.log.identity import Identity
from kvnode.log.mark import Mark
from kvnode.log.record import BadRecord
from kvnode.log.wal import LogOptions
from kvnode.log.watched import Counters, WatchedFiles


class DamagedLog:
    """`read` and `checksum_at` from any thread, the rest from one. `identity`: as stored, or as the headers say."""

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        files: Files,
        lock_fd: int,
        options: LogOptions,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """The lock is held."""
        self.directory = directory
        self.identity = identity
        self._files = WatchedFiles(files, Counters(), options.fsync_warn_ms)
        self._lock_fd: int | None = lock_fd
        self._segment_bytes = options.segment_bytes
        self._filler: Filler | None = None
        self._failure: str | None = None
        # Guards the picture and its generation, which counts changes: a reader in another thread looks up there, and
        # looks again when the files may have changed while it read.
        self._guard = threading.Lock()
        self._generation = 0
        self._picture = Picture()
        self._segments: list[SegmentRuns] = []
        self._look(progress=progress)

    @classmethod
    def open(
        cls,
        directory: Path | str,
        *,
        cluster_id: str,
        node_id: str,
        members: Iterable[str],
        files: Files = REAL,
        options: LogOptions | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> DamagedLog:
        """Take the lock, and read everything. Raises LogError; then nothing was changed, and the lock is free.

        progress is called with (bytes read, bytes in all).
        """
        directory = Path(directory)
        wanted = Identity(cluster_id, node_id, tuple(sorted(members)), may_vote=False)
        try:
            if files.kind(directory) not in ("directory", "link"):
                raise LogError(f"{directory} is not a directory.")
            refuse_strange_kinds(files, directory)
            if identify(files, directory, wanted)[0] is None:
                raise LogError(f"{directory} is not a kvnode data directory: nothing was recorded there.")
            lock_fd = lock(files, directory)
            try:
                settle(files, directory)
                remove_temporary(files, directory)
                identity = identify(files, directory, wanted)[0] or wanted
                return cls(directory, identity, files, lock_fd, options or LogOptions(), progress)
            except BaseException:
                files.close(lock_fd)
                raise
        except OSError as error:
            raise refuse(directory, error) from error

    def __repr__(self) -> str:
        return f"damaged log of {self.identity.node_id} last={self.last_seq} holes={len(self._picture.breaks)}"

    @property
    def holes(self) -> list[Hole]:
        """In order of seq; those that are closed are not in it."""
        return [gap.hole for gap in self._picture.breaks]

    @property
    def last_seq(self) -> int:
        """Of the last good record, wherever there are holes."""
        return self._picture.end.seq

    @property
    def commit_seq(self) -> int:
        """The highest that a good record speaks of, at most last_seq."""
        return self._picture.commit_seq

    def heal(self, data: bytes) -> bool:
        """Take the next whole records of the first hole, in order, over any number of calls. True: it is closed,
        durably. One that misses no entry is closed by b""; the first record once more begins it again.

        Raises DoesNotFit or NoSpaceError: then the hole is as it was, and can be begun again with its first record;
        DiskError: then this log is of no more use.
        """
        with self._deed("heal the log"):
            if self._filler is not None and self._filler.is_begun_again(data):
                self._drop_filler()
            if self._filler is None:
                gap = self._picture.breaks[0]
                self._filler = Filler(self._files, self.identity, self._segments, gap, self._segment_bytes)
                self._filler.begin()
            filler = self._filler
            filler.take(data)
            if not filler.is_complete:
                return False
            filler.finish()
            filler.publish()
            self._filler = None
            self._look({draft.path for draft in filler.drafts})
            if self._picture.breaks and self._picture.breaks[0].hole.before.seq < filler.hole.next_seq:
                raise DoesNotFit("after", f"More damage was found there while it was healed: {self.holes[0]}")
        return True

    def give_up(self, reason: str) -> Cut:
        """Durably give up the right to vote, and then the first hole and everything after it. `reason`: a sentence."""
        with self._deed("cut the log"):
            self._drop_filler()
            gap = self._picture.breaks[0]
            end, left = gap.hole.before, gap.left
            self.identity = take_right_away(self._files, self.directory, self.identity, reason)
            mark = self._read_mark()
            cut = cut_off(
                self._files,
                self.directory,
                self.identity,
                None if left is None else (left.path, left.end),
                [segment.path for segment in self._segments if left is None or segment.path > left.path],
                end,
                reason,
                lowers_mark=mark is None or mark.seq > end.seq,
            )
            self._look()
        if cut is None:
            raise LogError(f"{gap.hole}: there was nothing to cut.")
        return cut

    def read(self, after_seq: int, after_checksum: int, bytes_max: int) -> tuple[bytes, int]:
        """(bytes, last seq) of whole good records that continue the record that ends at `after_seq` with that checksum.

        At least one record, and not more than `bytes_max` bytes if more than one. (b"", after_seq) where none follows.
        """
        while True:
            with self._guard:
                generation = self._generation
                run = self._run_after(after_seq, after_checksum)
                if run is None:
                    return b"", after_seq
                offset, size, last_seq = run.piece_after(after_seq, bytes_max)
            data = self._read_piece(run.path, offset, size)
            with self._guard:
                if generation == self._generation:
                    return (data, last_seq) if len(data) == size else (b"", after_seq)

    def checksum_at(self, seq: int) -> int | None:
        """Of the good record that ends at `seq`, None when there is none; 0 at 0."""
        if seq == 0:
            return 0
        with self._guard:
            kept = self._picture.kept
            position = bisect_right(kept, seq, key=lambda run: run.first_seq) - 1
            return kept[position].checksum_at(seq) if position >= 0 else None

    def close(self) -> None:
        """Give up the lock. A hole that is not closed is as it was. A second close does nothing."""
        if self._lock_fd is not None:
            lock_fd, self._lock_fd = self._lock_fd, None
            try:
                self._drop_filler()
            finally:
                self._files.close(lock_fd)

    def _look(self, changed: Container[Path] | None = None, progress: Callable[[int, int], None] | None = None) -> None:
        """Read the segments, or those that were `changed`."""
        whose = self.identity.cluster_id, self.identity.node_id
        known = [] if changed is None else [segment for segment in self._segments if segment.path not in changed]
        segments = read_segments(self._files, self.directory, whose, progress, known=known)
        picture = resolve(segments, self._read_mark())
        with self._guard:
            self._segments = segments
            self._picture = picture
            self._generation += 1

    def _read_mark(self) -> Mark | None:
        try:
            return read_mark(self._files, self.directory)
        except BadRecord:
            return None

    def _run_after(self, after_seq: int, after_checksum: int) -> Run | None:
        """The run with the record that follows the one described."""
        kept = self._picture.kept
        position = bisect_right(kept, after_seq + 1, key=lambda run: run.first_seq) - 1
        if position < 0 or after_seq >= kept[position].last_seq:
            return None
        run = kept[position]
        checksum = run.prev_checksum if after_seq == run.first_seq - 1 else run.checksum_at(after_seq)
        return run if checksum == after_checksum else None

    def _read_piece(self, path: Path, offset: int, size: int) -> bytes:
        try:
            fd = self._files.open_read(path)
            try:
                return self._files.pread(fd, size, offset)
            finally:
                self._files.close(fd)
        except OSError:
            return b""  # swapped meanwhile, or no longer good

    def _drop_filler(self) -> None:
        if self._filler is not None:
            filler, self._filler = self._filler, None
            filler.discard()

    @contextmanager
    def _deed(self, what: str) -> Iterator[None]:
        invariant(self._lock_fd is not None, f"can not {what}: it is closed")
        if self._failure is not None:
            raise DiskError(self._failure)
        try:
            try:
                yield
            except DoesNotFit:
                self._drop_filler()
                raise
            except NoSpaceError:
                self._drop_filler()
                self._look()  # some of the files may have been swapped before there was no more room
                raise
        except OSError as error:
            self._failure = (
                f"Could not {what} in {self.directory}: {error.strerror or error}. It is not known what is on the "
                "disk now, so this process must end; the next start reads what is there."
            )
            raise DiskError(self._failure) from error
        except (DoesNotFit, NoSpaceError):
            raise
        except LogError as error:
            self._failure = str(error)
            raise
