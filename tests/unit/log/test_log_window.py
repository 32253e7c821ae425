"""A window on a file: every record is found and read, wherever the windows end."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvnode.log.record import SEQ_MAX, BadRecord
from kvnode.log.window import Window
from tests.crash.log_maker import chain
from tests.crash.memory_disk import MemoryDisk

RECORDS = chain(6)
PATH = Path("/file")


def window_of(data: bytes, chunk_bytes: int, unreadable: set[int] | None = None) -> Window:
    disk = MemoryDisk()
    disk.put(PATH, data)
    disk.file(PATH).unreadable = unreadable or set()
    return Window(disk, disk.open_read(PATH), len(data), chunk_bytes=chunk_bytes)


@pytest.mark.parametrize("chunk_bytes", [1, 300, 400, 4096])
def test_a_record_is_found_at_every_offset(chunk_bytes: int) -> None:
    raw = RECORDS[3].raw
    for before in range(600):
        window = window_of(b"\x92" * before + raw + b"\xce" * 50, chunk_bytes)
        found = window.find(0, 1, SEQ_MAX)
        assert found is not None
        assert (found[0], found[1].raw) == (before, raw)


@pytest.mark.parametrize("chunk_bytes", [1, 80, 4096])
def test_only_records_of_the_seqs_that_can_stand_there_are_found(chunk_bytes: int) -> None:
    window = window_of(b"".join(record.raw for record in RECORDS), chunk_bytes)
    offset = 0
    for record in RECORDS:
        found = window.find(0, record.first_seq, record.last_seq)
        assert found is not None
        assert (found[0], found[1].raw) == (offset, record.raw)
        assert window.find(0, record.first_seq, record.first_seq) is None
        offset += record.size
    assert window.find(offset - RECORDS[-1].size + 1, 1, SEQ_MAX) is None


@pytest.mark.parametrize("chunk_bytes", [1, 64, 4096])
def test_every_record_can_be_read_in_any_order(chunk_bytes: int) -> None:
    data = b"".join(record.raw for record in RECORDS)
    window = window_of(data, chunk_bytes)
    offsets = [data.index(record.raw) for record in RECORDS]
    for number in (0, 5, 1, 1, 4, 2, 3, 0):
        assert window.record_at(offsets[number]).raw == RECORDS[number].raw
    for offset in (1, len(data) - 3, len(data), len(data) + 50):
        with pytest.raises(BadRecord) as caught:
            window.record_at(offset)
        assert caught.value.offset == offset
