"""A process that appends is killed; everything that it reported durable is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kvnode.log import cluster_id, open_log
from tests.crash.log_maker import MEMBERS

CHILD = """
import sys
from kvnode.log import LogOptions, cluster_id, open_log
from kvnode.log.record import encode

members = ("A", "B", "C")
seen = open_log(
    sys.argv[1], cluster_id=cluster_id(members), node_id="A", members=members, options=LogOptions(segment_bytes=20_000)
)
log = seen.log
term = seen.ballot.term + 1
log.save_ballot(term, "A")
turn = 0
while True:
    batch, last, checksum = [], log.last_seq, log.last_checksum
    for _ in range(1 + turn % 3):
        record = encode(checksum, last + 1, term, 1, last, [["SET", b"%d" % (last + 1), b"x" * (turn % 90)]])
        last, checksum = record.last_seq, record.checksum
        batch.append(record)
    log.append(batch)
    print(log.last_seq, log.last_checksum, flush=True)
    turn += 1
    if turn % 40 == 0:
        print(log.last_seq - 5, 0, flush=True)
        log.cut(log.last_seq - 5)
        print(log.last_seq, log.last_checksum, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 37, 40, 120, 121])
def test_what_was_reported_durable_survives_a_kill(tmp_path: Path, lines: int) -> None:
    data = tmp_path / "A"
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(data)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        ) as child:
            assert child.stdout is not None
            reported = [child.stdout.readline() for _ in range(lines)]
            child.kill()
            reported += child.stdout.readlines()
            # The last line may have been written in part only, if at all.
            reported = [line for line in reported if line.endswith("\n")]
            assert child.wait() == -9
        checksums = {}
        recovered = open_log(
            data,
            cluster_id=cluster_id(MEMBERS),
            node_id="A",
            members=MEMBERS,
            on_record=lambda record, into=checksums: into.update({record.last_seq: record.checksum}),
        )
        seq, checksum = map(int, reported[-1].split())
        assert recovered.last_seq >= seq
        # 0: it was about to cut after seq.
        assert checksum in (0, checksums[seq])
        recovered.log.close()
