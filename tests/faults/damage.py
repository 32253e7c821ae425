"""What may happen to the files of a stopped node, or of a running one behind its back.

`places` says where the records of an undamaged log are, `flip_records` spoils some.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kvnode.log.identity import decode_identity
from kvnode.log.record import Record, decode_at, decode_header, encode
from kvnode.log.recovery import open_log


@dataclass(frozen=True, slots=True)
class Place:
    """A record, and where it is: at `offset` of `path`."""

    path: Path
    offset: int
    record: Record

    @property
    def size(self) -> int:
        return len(self.record.raw)


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.log"))


def places(directory: Path) -> Iterator[Place]:
    """Every record of an undamaged log that nobody writes to; BadRecord where it is not."""
    for path in segments(directory):
        data = path.read_bytes()
        _, offset = decode_header(data)
        data = data.rstrip(b"\0")  # room for records to come
        while offset < len(data):
            record = decode_at(data, offset)
            yield Place(path, offset, record)
            offset += len(record.raw)


def places_of(directory: Path, seqs: Iterable[int]) -> list[Place]:
    """Where the records are that hold these entries."""
    wanted = set(seqs)
    return [
        place for place in places(directory) if wanted & set(range(place.record.first_seq, place.record.last_seq + 1))
    ]


def last_seq(directory: Path) -> int:
    return list(places(directory))[-1].record.last_seq


def flip(path: Path, offset: int, count: int = 1) -> None:
    """Invert bytes in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        data = file.read(count)
        assert len(data) == count
        file.seek(offset)
        file.write(bytes(byte ^ 0xFF for byte in data))


def flip_records(directory: Path, seqs: Iterable[int]) -> list[Place]:
    """Spoil the records that hold these entries; where they are."""
    spoilt = places_of(directory, seqs)
    for place in spoilt:
        flip(place.path, place.offset + place.size // 2, min(4, place.size // 2))
    return spoilt


def forge(directory: Path, from_seq: int) -> None:
    """Write the log anew, with another value in each SET from this entry on: every checksum is right, and so is the
    chain, but it is another history."""
    identity = decode_identity((directory / "identity").read_bytes())
    forged = directory.with_name(directory.name + ".forged")
    opened = open_log(forged, cluster_id=identity.cluster_id, node_id=identity.node_id, members=identity.members)
    checksum = 0
    for record in [place.record for place in places(directory)]:
        entries = record.entries if record.last_seq < from_seq else [_forged(entry) for entry in record.entries]
        written = encode(
            checksum, record.first_seq, record.term, record.time_ms, record.commit_seq, entries, record.origins
        )
        checksum = written.checksum
        if written.term > opened.log.ballot.term:
            opened.log.save_ballot(written.term, None)
        opened.log.append([written])
    opened.log.save_identity(replace(identity, may_vote=True))
    opened.log.close()
    shutil.copy(directory / "ballot", forged / "ballot")
    shutil.rmtree(directory)
    forged.rename(directory)


def _forged(entry: Any) -> Any:
    return [entry[0], entry[1], b"forged"] if entry[0] == "SET" else entry
