"""Logs of a few entries for the tools, made by the real writer; and how a tool is run on them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from kvnode.cli import main
from kvnode.log import LogOptions, WriteAheadLog, cluster_id, open_log
from kvnode.log.record import encode

TIME = 1_700_000_000_123
SHOWN = "2023-11-14T22:13:20.123Z"
MEMBERS = ("A", "B", "C")
CLUSTER = cluster_id(MEMBERS)
FIRST = "00000000000000000001.log"


def open_or_make(directory: Path, segment_bytes: int = 4096, node_id: str = "A") -> WriteAheadLog:
    log = open_log(
        directory,
        cluster_id=CLUSTER,
        node_id=node_id,
        members=MEMBERS,
        options=LogOptions(segment_bytes=segment_bytes),
    ).log
    log.save_ballot(max(9, log.ballot.term), None)
    return log


def append(log: WriteAheadLog, *entries: list[Any], term: int = 1) -> None:
    log.append([encode(log.last_checksum, log.last_seq + 1, term, TIME, log.last_seq, entries)])


def make(directory: Path, node_id: str = "A") -> Path:
    """Five entries in three records."""
    log = open_or_make(directory, node_id=node_id)
    append(log, ["NOOP"])
    append(log, ["SET", b"a", b"1"], ["SET", b"b", b"\xff"], ["DEL", b"a"])
    append(log, ["TX", [["SET", b"x", b"1"], ["UPD", b"b", b"2"]]], term=2)
    log.close()
    return directory


def make_long(directory: Path, records: int = 12) -> Path:
    """A record of one entry of 1,000 bytes each, four to a segment."""
    log = open_or_make(directory)
    for number in range(records):
        append(log, ["SET", b"key %d" % number, b"v" * 1000])
    log.close()
    return directory


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def tree(directory: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.rglob("*") if path.is_file()}


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["inspect-log", *map(str, arguments)])


def entries(result: Result) -> list[list[str]]:
    """The words of each line that shows an entry."""
    return [line.split() for line in result.stdout.splitlines()[2:] if not line.startswith("#")]


def first_words(result: Result) -> list[str]:
    return [words[0] for words in entries(result)]
