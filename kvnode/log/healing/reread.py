"""Reading records again that were good once, to see whether the disk still has them. Writes nothing, decodes nothing.

Each must be where it was, with the checksum that it had: then it is the same, whatever it says.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvnode.log.files import CHUNK_BYTES, Files
from kvnode.log.identity import Identity
from kvnode.log.record import FORMAT_VERSION, HEADER_BYTES, BadRecord, decode_at, decode_header, unframe
from kvnode.log.segment import why_header_is_wrong

BadRange = tuple[int, int, str]
"""(after_seq, last_seq, reason): records that can not be read; the header of a segment where the seqs are the same."""
GONE = {errno.ENOENT, errno.EIO}
"""What opening a file that was there may say when it is damage. Anything else is a fault of this machine's state."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of records in one segment file: the first begins at `start`, record i ends at ends[i].

    `header_first_seq`: the run begins the segment, so that its header is looked at too; None where it does not.
    """

    path: Path
    after_seq: int
    start: int
    last_seqs: Sequence[int]
    ends: Sequence[int]
    checksums: Sequence[int]
    header_first_seq: int | None

    def __len__(self) -> int:
        return len(self.ends)


def find_bad(files: Files, piece: Piece, identity: Identity) -> tuple[list[BadRange], int]:
    """What of the piece is bad, and the number of bytes read. Raises OSError for what is no damage."""
    bad: list[BadRange] = []
    try:
        fd = files.open_read(piece.path)
    except OSError as error:
        if error.errno not in GONE:
            raise
        reason = f"the file can not be opened ({error.strerror})"
        if piece.header_first_seq is not None:
            bad.append((piece.after_seq, piece.after_seq, reason))
        return [*bad, (piece.after_seq, piece.last_seqs[-1], reason)], 0
    try:
        files.drop_cache(fd)
        if piece.header_first_seq is not None:
            why_header = _why_header_is_bad(files, fd, piece, piece.header_first_seq, identity)
            if why_header is not None:
                bad.append((piece.after_seq, piece.after_seq, why_header))
        for i, why in _bad_records(files, fd, piece):
            after_seq = piece.last_seqs[i - 1] if i else piece.after_seq
            if bad and bad[-1][0] < bad[-1][1] == after_seq:
                bad[-1] = (bad[-1][0], piece.last_seqs[i], bad[-1][2])
            else:
                bad.append((after_seq, piece.last_seqs[i], why))
    finally:
        files.close(fd)
    return bad, piece.ends[-1] - (piece.start if piece.header_first_seq is None else 0)


def _why_header_is_bad(files: Files, fd: int, piece: Piece, first_seq: int, identity: Identity) -> str | None:
    try:
        header, header_end = decode_header(files.pread(fd, piece.start, 0))
    except BadRecord as bad:
        return f"the segment's header can not be read: {bad.reason}"
    except OSError as error:
        return f"the disk reports a read error ({error.strerror})"
    reason = why_header_is_wrong(header, identity.cluster_id, identity.node_id, first_seq)
    if reason is None and (header_end != piece.start or header.version != FORMAT_VERSION):
        reason = "the segment's header is another one"
    if reason is None:
        try:
            first = decode_at(files.pread(fd, piece.ends[0] - piece.start, piece.start), 0)
        except (BadRecord, OSError):
            return None  # what the header should say of the record before is then unknown
        if first.prev_checksum != header.prev_checksum:
            reason = "the segment's header does not continue the segment before"
    return reason


def _bad_records(files: Files, fd: int, piece: Piece) -> Iterator[tuple[int, str]]:
    """(position, reason) of each bad record, in bounded memory."""
    first, start = 0, piece.start
    while first < len(piece):
        last = first
        while last + 1 < len(piece) and piece.ends[last + 1] - start <= CHUNK_BYTES:
            last += 1
        try:
            data: bytes | None = files.pread(fd, piece.ends[last] - start, start)
        except OSError:
            data = None  # one of them, or all: each is tried by itself
        for i in range(first, last + 1):
            record_start = piece.ends[i - 1] if i else piece.start
            why = _why_bad(files, fd, data, start, record_start, piece.ends[i], piece.checksums[i])
            if why is not None:
                yield i, why
        first, start = last + 1, piece.ends[last]


def _why_bad(
    files: Files, fd: int, data: bytes | None, data_start: int, start: int, end: int, checksum: int
) -> str | None:
    if data is None:
        data_start = start
        try:
            data = files.pread(fd, end - start, start)
        except OSError as error:
            return f"the disk reports a read error ({error.strerror})"
    try:
        found, payload = unframe(data, start - data_start)
    except BadRecord as bad:
        return bad.reason
    if found != checksum or HEADER_BYTES + len(payload) != end - start:
        return "another record is in its place"
    return None
