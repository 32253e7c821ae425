"""Logs that are open on a disk in memory, for tests."""

from __future__ import annotations

from kvnode.log import Record, WriteAheadLog
from kvnode.log.record import split
from tests.crash.log_maker import chain, open_memory, raws
from tests.crash.memory_disk import MemoryDisk


def make(term: int = 1, segment_bytes: int = 400, lay_out_bytes: int = 1 << 20) -> tuple[MemoryDisk, WriteAheadLog]:
    disk = MemoryDisk()
    log = open_memory(disk, segment_bytes=segment_bytes, lay_out_bytes=lay_out_bytes).log
    log.save_ballot(term, None)
    disk.calls.clear()
    return disk, log


def filled(count: int = 12) -> tuple[MemoryDisk, WriteAheadLog, list[Record]]:
    """One record at a time, four of them to a segment."""
    disk, log = make()
    records = chain(count)
    for record in records:
        log.append([record])
    disk.calls.clear()
    return disk, log, records


def read_all(log: WriteAheadLog, after_seq: int = 0, bytes_max: int = 1 << 20) -> list[bytes]:
    found: list[bytes] = []
    while True:
        data, last_seq = log.read(after_seq, bytes_max)
        if not data:
            return found
        pieces = split(data)
        assert pieces[-1].last_seq == last_seq
        found += raws(pieces)
        after_seq = last_seq
