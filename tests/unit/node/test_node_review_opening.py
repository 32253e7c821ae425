"""Sectors of the last records that the disk does not give: the node starts without a vote, and rejoins by a leader."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvnode.log import open_log
from kvnode.log.files import PAGE_BYTES
from kvnode.log.record import Record, encode
from tests.crash.memory_disk import MemoryDisk

DIRECTORY = Path("/data")
WHOSE = {"cluster_id": "A,B,C", "node_id": "A", "members": ("A", "B", "C")}
RECORDS = 40


def filled() -> MemoryDisk:
    """One segment of several pages, all of it below the mark."""
    disk = MemoryDisk()
    log = open_log(DIRECTORY, **WHOSE, files=disk).log  # type: ignore[arg-type]
    log.save_identity(type(log.identity)("A,B,C", "A", ("A", "B", "C"), may_vote=True))
    log.save_ballot(1, "A")
    records: list[Record] = []
    for seq in range(1, RECORDS + 1):
        prev = records[-1].checksum if records else 0
        records.append(encode(prev, seq, 1, 1_700_000_000_000 + seq, seq - 1, [["SET", b"k", b"v" * 500]]))
    log.append(records)
    log.close()
    return disk.copy()


@pytest.mark.parametrize("page", range(1, 6))
def test_a_tail_that_can_not_be_read_needs_a_leader(page: int) -> None:
    """The records before it stand in the same chunk, and are read."""
    disk = filled()
    path = next(DIRECTORY / name for name in disk.listdir(DIRECTORY) if name.endswith(".log"))
    file = disk.file(path)
    assert len(file.data) > 5 * PAGE_BYTES
    file.unreadable.update(range(page * PAGE_BYTES, len(file.data)))
    before = page * PAGE_BYTES
    recovered = open_log(DIRECTORY, **WHOSE, files=disk)  # type: ignore[arg-type]
    assert not recovered.identity.may_vote
    assert "Input/output error" in recovered.identity.set_aside
    assert sum(recovered.sizes) <= before < sum(recovered.sizes) + 1200
    recovered.log.close()
    again = open_log(DIRECTORY, **WHOSE, files=disk.copy())  # type: ignore[arg-type]
    assert again.last_seq == recovered.last_seq
    assert not again.identity.may_vote
