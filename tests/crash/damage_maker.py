"""Damaged logs in memory for tests: surveyed, healed with the records of an undamaged twin, opened again."""

from __future__ import annotations

from collections.abc import Sequence

from kvnode.log import DamagedLog, Hole, LogOptions, Record, Survey, cluster_id
from kvnode.log.ballot import Ballot, decode_ballot
from kvnode.log.healing.survey import survey
from kvnode.log.identity import Identity, decode_identity
from kvnode.log.mark import Mark, decode_mark
from tests.crash.log_maker import DIRECTORY, MEMBERS, chain, make_log, segment_paths
from tests.crash.memory_disk import MemoryDisk

RECORDS = chain(12)
LOG = make_log(RECORDS)
SEGMENTS = segment_paths(LOG)
MARKS = {n: bytes(make_log(RECORDS, synced=n).file(DIRECTORY / "mark").data) for n in range(len(RECORDS) + 1)}
WHOSE = {"cluster_id": cluster_id(MEMBERS), "node_id": "A", "members": MEMBERS}


def damaged_log(synced: int = len(RECORDS)) -> MemoryDisk:
    """A copy of LOG to be damaged; the mark says that the first `synced` records are durable."""
    disk = LOG.copy()
    disk.put(DIRECTORY / "mark", MARKS[synced])
    return disk


def end_of(records: Sequence[Record]) -> Mark:
    return Mark(records[-1].last_seq, records[-1].term, records[-1].checksum) if records else Mark()


def look(disk: MemoryDisk) -> Survey:
    """A survey, which writes nothing."""
    before, calls = disk.contents(), len(disk.calls)
    found = survey(DIRECTORY, files=disk, **WHOSE)  # type: ignore[arg-type]
    assert (disk.contents(), len(disk.calls)) == (before, calls)
    return found


def open_damaged(disk: MemoryDisk, segment_bytes: int = 400) -> DamagedLog:
    options = LogOptions(segment_bytes=segment_bytes)
    return DamagedLog.open(DIRECTORY, files=disk, options=options, **WHOSE)  # type: ignore[arg-type]


def missing(hole: Hole, records: Sequence[Record] = RECORDS) -> list[Record]:
    """What belongs into the hole."""
    return [record for record in records if hole.before.seq < record.first_seq < hole.next_seq]


def fill(log: DamagedLog, records: Sequence[Record] = RECORDS) -> None:
    """Close the first hole, record by record."""
    hole = log.holes[0]
    wanted = missing(hole, records)
    for record in wanted[:-1]:
        assert not log.heal(record.raw)
    assert log.heal(wanted[-1].raw if wanted else b"")
    assert hole not in log.holes


def heal(disk: MemoryDisk, records: Sequence[Record] = RECORDS) -> int:
    """Close all holes; returns how many there were."""
    log = open_damaged(disk)
    count = 0
    while log.holes:
        fill(log, records)
        count += 1
    log.close()
    return count


def segments_of(disk: MemoryDisk) -> dict[str, bytes]:
    return {path.name: bytes(disk.file(path).data) for path in segment_paths(disk)}


def identity_of(disk: MemoryDisk) -> Identity:
    return decode_identity(bytes(disk.file(DIRECTORY / "identity").data))


def ballot_of(disk: MemoryDisk) -> Ballot:
    return decode_ballot(bytes(disk.file(DIRECTORY / "ballot").data))[0]


def mark_of(disk: MemoryDisk) -> Mark:
    return decode_mark(bytes(disk.file(DIRECTORY / "mark").data))
