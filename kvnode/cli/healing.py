"""Healing the log of a stopped node with what running members have, and saying so: `kvnode repair` without click."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from kvnode.cli.ask import NoAnswer, ask
from kvnode.cli.common import Failure, Refusal
from kvnode.cli.examine import log_bytes
from kvnode.cli.progress import progress
from kvnode.cli.surroundings import NoDirectory, find_holder, refuse_no_directory
from kvnode.cli.verdict import count
from kvnode.cli.verdict_text import place_text
from kvnode.config import PEER_PORT_OFFSET, parse_address
from kvnode.log.damage import Hole, entries
from kvnode.log.directory import LOCK, owners, read_identity, refuse_strange_kinds, segment_paths
from kvnode.log.errors import LogError
from kvnode.log.files import REAL
from kvnode.log.healing.damaged import DamagedLog
from kvnode.log.identity import Identity
from kvnode.log.record import BadRecord
from kvnode.log.wal import LogOptions
from kvnode.runtime.records_client import Address, ClientPort, RecordsClient, RecordsError
from kvnode.runtime.repairing import NotGivenError, Repair, Source

INFO_S = 2.0
HOLES_SHOWN_MAX = 20


def heal(data: Path, members: Sequence[str]) -> None:
    """Close the holes, as far as they can be, and say what was done. Raises Refusal where it can not begin, Failure
    where the disk failed."""
    addresses = [_address(text) for text in members]
    with ExitStack() as stack:
        try:
            refuse_no_directory(data)
            refuse_strange_kinds(REAL, data)
            whose = _whose(data)
            _refuse_running(data, whose.node_id)
            sources = _reach(addresses, whose)
            for source in sources:
                stack.callback(source.close)
            size = log_bytes(data)
            with progress("reading", size) as report:
                log = DamagedLog.open(
                    data,
                    cluster_id=whose.cluster_id,
                    node_id=whose.node_id,
                    members=whose.members,
                    options=LogOptions(segment_bytes=_segment_bytes(data)),
                    progress=report.of,
                )
        except (NoDirectory, LogError) as error:
            raise Refusal(str(error)) from None
        except OSError as error:
            raise Refusal(f"can not read {error.filename or data}: {error.strerror}.") from None
        stack.callback(log.close)
        holes = log.holes
        _say_damage(data, whose.node_id, holes)
        with progress("fetching", _estimate(log, size)) as report:
            work = Repair(log, sources, report)
            try:
                work.run()
            except NotGivenError as error:
                report.hide()
                click.echo(f"kvnode: {_advice(error)}", err=True)
            except LogError as error:
                raise Failure(str(error)) from None
        _say_healed(work, len(holes))


def _whose(data: Path) -> Identity:
    """Whose directory it is; without a readable identity by the headers of its segments. Raises Refusal, LogError."""
    try:
        return read_identity(REAL, data)
    except BadRecord as bad:
        found = set(owners(REAL, data))
        if len(found) != 1:
            raise Refusal(
                f"{data}: its identity can not be read ({bad.reason}), so it is not known whose it is."
            ) from None
        return Identity(*found.pop(), members=(), may_vote=False)


def _refuse_running(data: Path, node_id: str) -> None:
    """Before anybody is asked in this node's name. The lock itself is taken later."""
    holder = find_holder(data / LOCK)
    if holder is not None:
        raise Refusal(
            f"{data} is in use by process {holder}: node {node_id} runs. A node heals itself, running and when it is "
            "started; to repair it by hand, stop it first."
        )


def _reach(addresses: Sequence[Address], whose: Identity) -> list[Source]:
    """The members that can be reached; those that can not are told of. Raises Refusal when none can."""

    def dial(address: Address) -> RecordsClient:
        return RecordsClient(address, whose.cluster_id, whose.node_id)

    sources = []
    problems = []
    for address in addresses:
        try:
            try:
                sources.append(Source(address, dial))
            except ClientPort:
                peer = Address(address.host, _peer_port(address))
                click.echo(f"kvnode: {address} is a port for clients, so {peer} is asked, for members", err=True)
                sources.append(Source(peer, dial))
        except RecordsError as error:
            problems.append(str(error))
    if not sources:
        raise Refusal("; ".join(problems))
    for problem in problems:
        click.echo(f"kvnode: {problem}", err=True)
    return sources


def _peer_port(address: Address) -> int:
    """The port for members of the node whose port for clients this is."""
    try:
        info = ask(address.host, address.port, "INFO server", INFO_S)
    except NoAnswer:
        info = ""
    port = next((line.partition(":")[2] for line in info.splitlines() if line.startswith("peer_port:")), "")
    return int(port) if port.isdecimal() else address.port + PEER_PORT_OFFSET


def _segment_bytes(data: Path) -> int:
    """How large new segments may be. What the node was told is not known here; its segments are up to that large."""
    sizes = [path.stat().st_size for _, path in segment_paths(REAL, data)]
    return 1 << (max(sizes) - 1).bit_length() if len(sizes) > 1 else LogOptions().segment_bytes


def _estimate(log: DamagedLog, size: int) -> int:
    """How many bytes may be missing, for the bar: as many for each entry as the others take."""
    missing = sum(len(range(hole.first_seq, hole.last_seq + 1)) for hole in log.holes)
    return size * missing // max(log.last_seq - missing, 1)


def _say_damage(data: Path, node_id: str, holes: Sequence[Hole]) -> None:
    if not holes:
        click.echo(f"{data}: node {node_id}, nothing to fetch")
        return
    click.echo(f"{data}: node {node_id}, {count(len(holes), 'place')} in its log to heal")
    for hole in holes[:HOLES_SHOWN_MAX]:
        place = place_text(data, hole.path, hole.offset)
        click.echo(f"  {place}{entries(hole.first_seq, hole.last_seq)}: {hole.reason}")
    if len(holes) > HOLES_SHOWN_MAX:
        click.echo(f"  and {len(holes) - HOLES_SHOWN_MAX:,} more")


def _say_healed(work: Repair, holes: int) -> None:
    if not holes:
        return
    given = [f"{count(number, 'entry', 'entries')} from {member}" for member, number in work.given.items()]
    fetched = f": {', '.join(given)}, {count(work.bytes, 'byte')}" if given else ""
    click.echo(f"healed {len(work.closed):,} of {count(holes, 'place')}{fetched}")


def _advice(error: NotGivenError) -> str:
    hole = error.hole
    return (
        f"no member gave {entries(hole.first_seq, hole.last_seq)}: {error}. Try it with other members, or start the "
        "node: it asks all of them until one has it, and says so when none can."
    )


def _address(text: str) -> Address:
    try:
        return Address(*parse_address(text))
    except ValueError as error:
        raise Refusal(f"--from: {text!r} {error}") from None
