"""The rows of disks about what a node finds in its directory: strange, another's, gone at two members, endless."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from kvnode.log.identity import decode_identity
from kvnode.log.record import SegmentHeader, decode_header, encode, encode_header
from kvnode.log.segment import segment_name
from tests.cluster.harness import START_S, Cluster, eventually, node_environment, program
from tests.faults import damage
from tests.faults.disks import EXIT_REFUSED, QUICK
from tests.matrix.conftest import MakeCluster
from tests.matrix.rounds import scaled, under_traffic
from tests.torture import judge

MIB = 1024 * 1024
NOBODY = 65534

# D15, D16


def first(directory: Path) -> Path:
    return damage.segments(directory)[0]


def middle(directory: Path) -> Path:
    return damage.segments(directory)[1]


def last(directory: Path) -> Path:
    return damage.segments(directory)[-1]


def replace(path: Path, make: Callable[[Path], object]) -> None:
    """Put something else in the place of a file."""
    path.rename(path.with_name("elsewhere"))
    make(path)


def of_a_later_format(path: Path) -> None:
    header, size = decode_header(path.read_bytes())
    later = SegmentHeader(
        header.cluster_id, header.node_id, header.first_seq, header.prev_checksum, header.prev_term, version=2
    )
    path.write_bytes(encode_header(later) + path.read_bytes()[size:])


def of_another_node(path: Path) -> None:
    header, size = decode_header(path.read_bytes())
    other = SegmentHeader(header.cluster_id, "Z", header.first_seq, header.prev_checksum, header.prev_term)
    path.write_bytes(encode_header(other) + path.read_bytes()[size:])


HEALS, REJOINS, STARTS = "healed: the log is whole again", "set aside: no vote until a leader", "log read"


class Strange(NamedTuple):
    """What is done to the directory of a stopped node, and what it says at its next start; `refusal`: why there is
    none, in a line, and with nothing touched."""

    name: str
    spoil: Callable[[Path], object]
    says: str = ""
    refusal: str = ""


STRANGE = [
    Strange("the first segment is missing", lambda at: first(at).unlink(), HEALS),
    Strange("one in the middle is missing", lambda at: middle(at).unlink(), HEALS),
    Strange("the last one is missing", lambda at: last(at).unlink(), REJOINS),
    Strange("one has another name", lambda at: middle(at).rename(at / segment_name(10**9)), REJOINS),
    Strange("one is empty", lambda at: middle(at).write_bytes(b""), HEALS),
    Strange("the last one is empty", lambda at: last(at).write_bytes(b""), REJOINS),
    Strange("one is another node's", lambda at: of_another_node(middle(at)), HEALS),
    Strange("one was being made", lambda at: (at / (segment_name(10**9) + ".tmp")).write_bytes(b"junk"), STARTS),
    Strange("a note was being made", lambda at: (at / "ballot.tmp").write_bytes(b"junk"), STARTS),
    Strange(
        "a link",
        lambda at: replace(middle(at), lambda path: path.symlink_to("elsewhere")),
        refusal="is a symbolic link",
    ),
    Strange("a directory", lambda at: replace(middle(at), Path.mkdir), refusal="is not a file"),
    Strange("a pipe", lambda at: replace(middle(at), os.mkfifo), refusal="is not a file"),
    Strange("without a right to read it", lambda at: middle(at).chmod(0), refusal="Permission denied"),
    Strange("of another format", lambda at: of_a_later_format(middle(at)), refusal="format version 2"),
]
if os.geteuid() == 0:
    STRANGE.append(
        Strange("somebody else's", lambda at: os.chown(middle(at), NOBODY, NOBODY), refusal="Permission denied")
    )
WITHOUT_PRIVILEGE = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
"""Root may read everything; without these not."""


def test_d15_d16_strange_directories(make_cluster: MakeCluster) -> None:
    """Healed, ignored, or refused with exit code 2 and a line that says what to look at."""
    cluster = make_cluster("d15", segment_bytes=8192, **QUICK)
    with under_traffic(cluster, "d15") as traffic:
        traffic.wait_for(1000)
        id = cluster.followers()[0]
        if os.geteuid() == 0:
            cluster.prefixes[id] = WITHOUT_PRIVILEGE
        for strange in STRANGE:
            traffic.wait_for(20)
            cluster.kill(id)
            with copied(cluster, id) as restore:
                strange.spoil(cluster.data(id))
                if strange.refusal:
                    code, said = cluster.refused_start(id)
                    assert (code, len(said.splitlines())) == (EXIT_REFUSED, 1), f"{strange.name}: {said}"
                    assert strange.refusal in said, strange.name
                    restore()
            said_before = len(cluster.log_text(id))
            cluster.start(id)
            cluster.wait_until_all_vote()
            assert (strange.says or STARTS) in cluster.log_text(id)[said_before:], strange.name


@contextmanager
def copied(cluster: Cluster, id: str) -> Iterator[Callable[[], None]]:
    """A copy of the node's directory, and how to put it back."""
    directory, copy = cluster.data(id), cluster.directory / f"{id}.copy"
    shutil.copytree(directory, copy)

    def restore() -> None:
        shutil.rmtree(directory)
        shutil.copytree(copy, directory)

    try:
        yield restore
    finally:
        shutil.rmtree(copy)


# D20


def test_d20_two_of_three_wiped(make_cluster: MakeCluster) -> None:
    """The third alone can not tell that nobody knows better: nobody leads, and nothing is answered. What the manual
    then says to do: a new cluster with what `inspect-log --json` shows."""
    cluster = make_cluster("d20", request_timeout_ms=500, **QUICK)
    with under_traffic(cluster, "d20") as traffic:
        traffic.wait_for(300)
    left, *wiped = cluster.ids
    state = judge.state_after(judge.read_logs(cluster))
    cluster.kill(*cluster.ids)
    for id in wiped:
        shutil.rmtree(cluster.data(id))
    cluster.start()
    for id in cluster.ids:
        assert cluster.ask(id, "GET", "d20.healed.A.1") == cluster.ask(id, "SET", "key", "value") == "CLUSTERDOWN"
        assert not cluster.info(id)["leader"]
    assert cluster.info(left)["may_vote"]
    assert not any(cluster.info(id)["may_vote"] for id in wiped)
    cluster.kill(*cluster.ids)
    new = make_cluster("d20.new", **QUICK)
    write_again(new, cluster.data(left))
    new.wait_until_equal()
    client = new.client("B")
    assert client.dbsize() == len(state)
    assert dict(zip(state, client.mget(list(state)), strict=True)) == state


def write_again(cluster: Cluster, directory: Path) -> None:
    """Into a new cluster, what the log in a directory shows; all keys and values are text."""
    command = [*program("kvnode"), "inspect-log", "--json", str(directory)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=START_S, env=node_environment(), check=True)
    pipeline = cluster.client("A").pipeline(transaction=False)
    for line in shown.stdout.splitlines():
        entry = json.loads(line)
        for effect in entry.get("effects", [entry]):
            if effect["verb"] != "NOOP":
                words = [effect[name] for name in ("verb", "key", "value") if name in effect]
                pipeline.execute_command(*words)
    pipeline.execute()


# D22


def test_d22_endless_end(make_cluster: MakeCluster) -> None:
    """A sparse file, with something behind its zeros and with nothing: a start takes time for each byte of it, and no
    memory."""
    cluster = make_cluster("d22.sparse", **QUICK)
    with under_traffic(cluster, "d22.sparse") as traffic:
        for junk in (b"junk", b""):
            traffic.wait_for(100)
            id = cluster.followers()[0]
            cluster.kill(id)
            path = last(cluster.data(id))
            os.truncate(path, path.stat().st_size + scaled(128, 10 * 1024) * MIB)
            with path.open("ab") as file:
                file.write(junk)
            said_before = len(cluster.log_text(id))
            cluster.launch(id)
            eventually(lambda: cluster.maybe_info(id), "it serves", scaled(60, 1200))  # noqa: B023
            assert ("were cut off" in cluster.log_text(id)[said_before:]) == bool(junk)
            assert cluster.peak_bytes(id) < PEAK_BYTES_MAX


PEAK_BYTES_MAX = 128 * MIB
SEGMENTS = scaled(2_000, 100_000)
BYTES_PER_SEGMENT = 2048


def test_d22_very_many_segments(make_cluster: MakeCluster) -> None:
    """A cluster of one, which nobody can help: the time of a start and its memory grow with their number, the open
    files do not."""
    cluster = make_cluster("d22.segments", "A", **QUICK)
    client = cluster.client("A")
    client.set("key", "value")
    before = cluster.descriptors("A"), cluster.peak_bytes("A")
    cluster.kill("A")
    make_segments(cluster.data("A"), SEGMENTS)
    cluster.launch("A")
    eventually(lambda: cluster.maybe_info("A"), "it serves", scaled(60, 600))
    cluster.wait_for_leader()
    assert client.dbsize() == 1 + SEGMENTS
    assert cluster.descriptors("A") <= before[0] + 3
    assert cluster.peak_bytes("A") < before[1] + 16 * MIB + SEGMENTS * BYTES_PER_SEGMENT
    assert client.set("key", "another")


def make_segments(directory: Path, count: int) -> None:
    """So many after those that are there, with one entry each."""
    identity = decode_identity((directory / "identity").read_bytes())
    *_, end = damage.places(directory)
    record = end.record
    for number in range(count):
        seq = record.last_seq + 1
        header = SegmentHeader(identity.cluster_id, identity.node_id, seq, record.checksum, record.term)
        entry = ["SET", b"key%d" % number, b"value"]
        record = encode(record.checksum, seq, record.term, record.time_ms, seq - 1, [entry])
        (directory / segment_name(seq)).write_bytes(encode_header(header) + record.raw)
