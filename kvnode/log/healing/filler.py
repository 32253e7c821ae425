"""Closing one hole of a stopped log: which records go into which files, and the swap. Bounded memory, any size.

    before is in            next is in     drafts, in this order
    the same file                          that file: its front, the missing records, its rest as it stands
    file L, junk behind it  file R         L: its front, missing records below R's name, rolled over when full
    file L, to its end      file R         new segments: missing records below R's name
    no file                 file R         the same
    any                     file R         then R, unless it is good from its header on: a new header, missing records
                                           from R's name on, its rest as it stands

Files between L and R hold nothing good. Everything is written and verified first. Then those files are moved to
discarded/, back to front, and the drafts take their names, front to back, each step durably: after any of them the
directory has the same hole or a smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from kvnode.log.discard import move_segments
from kvnode.log.errors import DoesNotFit
from kvnode.log.files import Files
from kvnode.log.healing.draft import Draft
from kvnode.log.healing.picture import Break
from kvnode.log.healing.runs import SegmentRuns
from kvnode.log.identity import Identity
from kvnode.log.mark import Mark
from kvnode.log.record import BadRecord, Record, decode_at, encode_header, split, why_not_next
from kvnode.log.segment import header_after, segment_name


class Filler:
    """`end`: of the last record before the hole, or of the last one taken. `strays`: the files without anything good.

    An exception other than DoesNotFit, which `take` raises, comes from the disk. After any, `discard`.
    """

    def __init__(
        self, files: Files, identity: Identity, segments: Sequence[SegmentRuns], gap: Break, segment_bytes: int
    ) -> None:
        self.hole = gap.hole
        self.end = gap.hole.before
        self.drafts: list[Draft] = []
        self._files = files
        self._identity = identity
        self._segment_bytes = segment_bytes
        self._left, self._right = gap.left, gap.right
        by_path = {segment.path: segment for segment in segments}
        self._right_file = by_path[gap.right.path]
        self._is_within_one = gap.left is not None and gap.left.path == gap.right.path
        self._has_begun_right = False
        self.strays = [
            segment.path
            for segment in segments
            if (gap.left is None or segment.path > gap.left.path) and segment.path < gap.right.path
        ]
        has_junk = gap.left is not None and gap.left.end < by_path[gap.left.path].end
        self._rewrites_left = self._is_within_one or has_junk

    def __repr__(self) -> str:
        return f"filler of {self.hole.first_seq}-{self.hole.last_seq} at {self.end.seq} {self.drafts}"

    @property
    def is_complete(self) -> bool:
        return self.end.seq == self.hole.last_seq

    def begin(self) -> None:
        """To be called first: copy what is good before the hole."""
        left = self._left
        if left is not None and self._rewrites_left:
            self._begin(left.path.name).copy(left.path, 0, left.end)

    def is_begun_again(self, data: bytes) -> bool:
        """Whether records were taken, and these are the first ones of the hole."""
        if self.end == self.hole.before:
            return False
        try:
            return decode_at(data, 0).first_seq == self.hole.first_seq
        except BadRecord:
            return False

    def take(self, data: bytes) -> None:
        """The next whole records. What comes after the hole is not looked at. Raises DoesNotFit."""
        try:
            records = split(data)
        except BadRecord as bad:
            raise DoesNotFit("within", f"the records do not verify: {bad}") from None
        for record in records:
            if self.is_complete:
                break
            reason = why_not_next(record, self.end.seq, self.end.term, self.end.checksum)
            if reason is not None:
                side: Literal["before", "within"] = "before" if self.end == self.hole.before else "within"
                raise DoesNotFit(side, reason)
            if record.last_seq > self.hole.last_seq:
                raise DoesNotFit("after", f"{record} reaches beyond seq {self.hole.last_seq}")
            self._place(record)
            self.end = Mark(record.last_seq, record.term, record.checksum)
        if self.is_complete and not self._fits_after():
            raise DoesNotFit("after", f"the log goes on at seq {self.hole.next_seq} after another record")

    def finish(self) -> None:
        """The hole is full: write the rest, and make all drafts durable under their temporary names."""
        right = self._right
        if not self._is_within_one and not self._has_begun_right and not self._is_right_good():
            self._begin_right()
        if self._is_within_one or self._has_begun_right:
            self.drafts[-1].copy(right.path, right.start, self._right_file.end)
        for draft in self.drafts:
            draft.finish()

    def publish(self) -> None:
        """Swap everything in. See the module for the order."""
        move_segments(self._files, self.strays)
        for draft in self.drafts:
            draft.publish()

    def discard(self) -> None:
        for draft in self.drafts:
            draft.discard()

    def _place(self, record: Record) -> None:
        name = self._right_file.first_seq
        if not self._is_within_one and record.last_seq >= name:
            if record.first_seq < name:
                raise DoesNotFit("after", f"{record} reaches beyond seq {name}, where a segment begins")
            if not self._has_begun_right:
                self._begin_right()
        elif not self.drafts or (not self._is_within_one and self._is_full(record)):
            self._begin(segment_name(record.first_seq), has_header=True)
        self.drafts[-1].write(record.raw)

    def _is_full(self, record: Record) -> bool:
        return self.drafts[-1].size + record.size > self._segment_bytes

    def _begin_right(self) -> None:
        self._begin(self._right.path.name, has_header=True)
        self._has_begun_right = True

    def _begin(self, name: str, *, has_header: bool = False) -> Draft:
        """The next draft; what is written until now ends at `self.end`."""
        draft = Draft(self._files, self._right.path.with_name(name))
        self.drafts.append(draft)
        if has_header:
            draft.write(encode_header(header_after(self.end, self._identity)))
        return draft

    def _fits_after(self) -> bool:
        return self.end.checksum == self.hole.next_prev_checksum and self.end.term <= self.hole.next_term

    def _is_right_good(self) -> bool:
        header = self._right_file.header
        return self._right.has_header and header is not None and header.prev_term == self.end.term
