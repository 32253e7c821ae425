"""Logs for tests: records that chain, and directories in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kvnode.log import LogOptions, Record, Recovered, cluster_id, open_log
from kvnode.log.record import encode
from tests.crash.memory_disk import MemoryDisk

DIRECTORY = Path("/data")
MEMBERS = ("A", "B", "C")


def chain(
    count: int, *, entries: int = 2, term: int = 1, after: Record | None = None, value: bytes = b"v"
) -> list[Record]:
    """`count` records of `entries` entries, that continue `after`."""
    records: list[Record] = []
    for _ in range(count):
        last = records[-1] if records else after
        seq = last.last_seq + 1 if last else 1
        batch = [["SET", b"key %d" % (seq + i), value] for i in range(entries)]
        records.append(encode(last.checksum if last else 0, seq, term, 1000 + seq, seq - 1, batch))
    return records


def open_memory(
    disk: MemoryDisk, *, segment_bytes: int = 400, lay_out_bytes: int = 1 << 20, seen: list[Record] | None = None
) -> Recovered:
    """Open the log of node A on a disk in memory; the records read are added to `seen`."""
    return open_log(
        DIRECTORY,
        cluster_id=cluster_id(MEMBERS),
        node_id="A",
        members=MEMBERS,
        options=LogOptions(segment_bytes=segment_bytes, lay_out_bytes=lay_out_bytes),
        files=disk,
        on_record=None if seen is None else seen.append,
    )


def make_log(records: Sequence[Record], *, synced: int | None = None, segment_bytes: int = 400) -> MemoryDisk:
    """A stopped disk with these records, appended one by one; the mark says the end of the first `synced` of them."""
    disk = MemoryDisk()
    log = open_memory(disk, segment_bytes=segment_bytes).log
    log.save_ballot(records[-1].term, None)
    marks = [bytes(disk.file(DIRECTORY / "mark").data)]
    for record in records:
        log.append([record])
        marks.append(bytes(disk.file(DIRECTORY / "mark").data))
    log.close()
    stopped = disk.copy()
    stopped.put(DIRECTORY / "mark", marks[len(records) if synced is None else synced])
    return stopped


def segment_paths(disk: MemoryDisk) -> list[Path]:
    return [DIRECTORY / name for name in disk.listdir(DIRECTORY) if name.endswith(".log")]


def raws(records: Sequence[Record]) -> list[bytes]:
    return [record.raw for record in records]


def prefixes(records: Sequence[Record]) -> Iterator[list[bytes]]:
    for count in range(len(records) + 1):
        yield raws(records[:count])
