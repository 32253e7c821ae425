"""A small log on the real file system, and what can happen to it: for the tests of `verify` and `repair`.

Node A of A, B, C; forty records of two entries each in five segments, entries 1 to 80, in order:

    ….001.log  1-18     ….019.log  19-36     ….037.log  37-54     ….055.log  55-72     ….073.log  73-80
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kvnode.log import LogOptions, Record, WriteAheadLog, cluster_id, open_log
from kvnode.log.mark import Mark, encode_mark
from kvnode.log.record import encode
from kvnode.log.segment import segment_name

MEMBERS = ("A", "B", "C")
CLUSTER = cluster_id(MEMBERS)
OPTIONS = LogOptions(segment_bytes=1024, reserve_bytes=0)


def records(count: int = 40, after: Record | None = None) -> list[Record]:
    """Records of two entries that continue `after`."""
    made: list[Record] = []
    for _ in range(count):
        last = made[-1] if made else after
        seq = last.last_seq + 1 if last else 1
        entries = [["SET", b"key %04d" % seq, b"v" * 40], ["DEL", b"key %04d" % (seq + 1)]]
        made.append(encode(last.checksum if last else 0, seq, 1, 1000 + seq, seq - 1, entries))
    return made


def open_one(directory: Path, members: Sequence[str] = MEMBERS, node: str = "A") -> WriteAheadLog:
    return open_log(directory, cluster_id=cluster_id(members), node_id=node, members=members, options=OPTIONS).log


def make(directory: Path, members: Sequence[str] = MEMBERS, node: str = "A") -> Path:
    """The log described above; this node may vote."""
    log = open_one(directory, members, node)
    log.save_identity(replace(log.identity, may_vote=True))
    log.save_ballot(2, "B")
    for record in records():
        log.append([record])
    log.close()
    return directory


def segment(directory: Path, first_seq: int) -> Path:
    return directory / segment_name(first_seq)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def cut_end(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def add(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


def lower_mark(directory: Path, seq: int) -> None:
    """As after a power loss: the mark that reached the disk is an older one."""
    record = next(record for record in records() if record.last_seq == seq)
    (directory / "mark").write_bytes(encode_mark(Mark(seq, record.term, record.checksum)))
