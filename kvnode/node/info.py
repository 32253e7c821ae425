"""What a node says about itself: INFO, ROLE and CONFIG GET."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import TYPE_CHECKING

from kvnode import __version__
from kvnode.reply import Reply

if TYPE_CHECKING:
    from kvnode.node.node import Node

Fields = Iterable[tuple[str, object]]
ALIVE_WITHIN_HEARTBEATS = 5


def text(node: Node, sections: list[str]) -> str:
    """INFO [section …], as Redis: `# Title`, then `name:value` lines. Without a section: all of them."""
    wanted = set(sections) - {"default", "all", "everything"}
    everything = len(wanted) < len(set(sections)) or not sections
    parts = []
    for title, make in _SECTIONS.items():
        if everything or title.lower() in wanted:
            lines = "".join(f"{name}:{value}\r\n" for name, value in make(node))
            parts.append(f"# {title}\r\n{lines}")
    return "\r\n".join(parts)


def _server(node: Node) -> Fields:
    from kvnode.node.session_commands import REDIS_VERSION

    me = node.config.me
    yield "redis_version", REDIS_VERSION
    yield "redis_mode", "standalone"
    yield "kvnode_version", __version__
    yield "python_version", platform.python_version()
    yield "os", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "process_id", os.getpid()
    yield "tcp_port", me.client_port
    yield "peer_port", me.peer_port
    yield "uptime_in_seconds", int((node.now_ms - node.started_ms) / 1000)
    yield "data_directory", node.config.data


def _clients(node: Node) -> Fields:
    yield "connected_clients", len(node.sessions)
    yield "maxclients", node.config.clients_max
    yield "waiting_clients", node.waiting_count


def _memory(node: Node) -> Fields:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = resident_bytes() or usage.ru_maxrss * 1024
    yield "used_memory", used
    yield "used_memory_rss", used
    yield "used_memory_peak", usage.ru_maxrss * 1024


def resident_bytes() -> int:
    """The memory that this process holds; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - a Path would only be longer
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _persistence(node: Node) -> Fields:
    yield "loading", 0
    yield "aof_enabled", 1
    yield "disk_full", int(not node.raft.has_room)
    yield "disk_stalled_ms", round(node.disk.stalled_ms)
    yield from node.log_counters()
    scrubbing = node.scrubbing
    yield "scrub_passes", scrubbing.passes
    yield "scrub_at_seq", scrubbing.at_seq
    yield "scrub_bytes_read", scrubbing.bytes_read
    yield "damage_found", scrubbing.found
    yield "damage_healed", scrubbing.healed
    yield "damaged_entries", scrubbing.damaged_entries


def _stats(node: Node) -> Fields:
    yield "turns", node.turns
    yield "total_connections_received", node.connections_received
    yield "total_commands_processed", node.commands_received


def _raft(node: Node) -> Fields:
    raft = node.raft
    yield "node", raft.id
    yield "role", raft.role
    yield "leader", raft.leader or ""
    yield "term", raft.term
    yield "last_seq", raft.index.last_seq
    yield "durable_seq", raft.durable_seq
    yield "commit_seq", raft.commit_seq
    yield "applied_seq", node.applier.applied_seq
    yield "log_checksum", f"{raft.index.checksum_at(node.applier.applied_seq):08x}"
    yield "may_vote", int(raft.may_vote)
    yield "histories_differ", node.comparing.told()
    yield "catch_up_entries_received", node.catch_up.entries_received
    yield "catch_up_bytes_received", node.catch_up.bytes_received
    for member in raft.members:
        yield f"member_{member}", ",".join(f"{name}={value}" for name, value in _member(node, member))


def _member(node: Node, member: str) -> Fields:
    """`lag`: entries of this leader's log that the member has not acknowledged. `room`: whether its disk has any.
    Followers do not know either of others."""
    raft = node.raft
    leader = raft.leading
    if member == raft.id:
        yield "alive", 1
        if leader is not None:
            yield "lag", raft.index.last_seq - raft.durable_seq
        yield "room", int(raft.has_room)
    elif leader is not None:
        progress = leader.progress[member]
        silence_ms = node.now_ms - progress.heard_ms
        is_alive = silence_ms < max(ALIVE_WITHIN_HEARTBEATS * node.config.heartbeat_ms, 1) and member in raft.links
        yield "alive", int(is_alive)
        if is_alive or progress.match_seq:  # else it has not been heard of in this term
            yield "lag", raft.index.last_seq - progress.match_seq
        if progress.has_room is not None:
            yield "room", int(progress.has_room)
    else:
        yield "alive", int(member in raft.links)


def _replication(node: Node) -> Fields:
    # Any node takes any command, so to a Redis client each is a master.
    yield "role", "master"
    yield "connected_slaves", sum(peer in node.raft.links for peer in node.raft.peers)
    yield "master_repl_offset", node.applier.applied_seq


def _keyspace(node: Node) -> Fields:
    keys = len(node.applier.keyspace)
    if keys:
        yield "db0", f"keys={keys},expires=0,avg_ttl=0"


_SECTIONS: dict[str, Callable[[Node], Fields]] = {
    "Server": _server,
    "Clients": _clients,
    "Memory": _memory,
    "Persistence": _persistence,
    "Stats": _stats,
    "Raft": _raft,
    "Replication": _replication,
    "Keyspace": _keyspace,
}


def role(node: Node) -> Reply:
    """ROLE: as a Redis master's at the leader, as a replica's elsewhere."""
    raft = node.raft
    seq = node.applier.applied_seq
    members = {member.id: member for member in node.config.members}
    if raft.leading is not None:
        replicas: list[Reply] = []
        for peer, progress in raft.leading.progress.items():
            if peer in raft.links:
                member = members[peer]
                replicas.append([member.host, str(member.client_port), str(progress.match_seq)])
        return [b"master", seq, replicas]
    leader = members.get(raft.leader or "")
    if leader is None:
        return [b"slave", b"", 0, b"connect", seq]
    return [b"slave", leader.host, leader.client_port, b"connected", seq]


def settings(node: Node) -> dict[str, str]:
    """CONFIG GET: what Redis clients and redis-benchmark ask for, and every key of the configuration by its name."""
    config = node.config
    known = {
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
        "databases": "1",
        "maxmemory": "0",
        "maxclients": str(config.clients_max),
        "proto-max-bulk-len": str(config.request_bytes_max),
        "port": str(config.me.client_port),
        "dir": str(config.data),
    }
    ours = {item.name: str(getattr(config, item.name)) for item in fields(config) if item.name != "members"}
    return known | ours | {"cluster": ",".join(map(str, config.members))}
