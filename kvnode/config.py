"""One frozen Config, and every fault of it in one error.

A value comes from the command line, else from a `KVNODE_…` variable, else from the TOML file, else it is the default.
The key is the same everywhere: `heartbeat_ms = 100` in the file, `KVNODE_HEARTBEAT_MS=100`, `--heartbeat-ms 100`.

    id = "B"
    data = "data/B"
    heartbeat_ms = 100
    value_bytes_max = "16MiB"           # a count of bytes, or a string with KiB, MiB or GiB

    [cluster]                           # or one string: cluster = "A=host:port,B=host:port/peerport,…"
    A = "127.0.0.1:3000"
    B = "127.0.0.1:3001/13001"
    C = "[::1]:3002/[::1]:13002"

An address is `host:port[/[peerhost:]peerport]`; an IPv6 host stands in brackets; the peer port is the client port plus
10000 unless it is given. A path is relative to the working directory.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

KIB = 1024
MIB = 1024 * KIB

DEFAULT_CLUSTER = "A=127.0.0.1:3000,B=127.0.0.1:3001,C=127.0.0.1:3002"
PEER_PORT_OFFSET = 10_000
ENVIRONMENT_PREFIX = "KVNODE_"
LOG_FORMATS = ("auto", "text", "logfmt")
LOG_LEVELS = ("debug", "info", "warning", "error")

# Part of the log's format, not a key: were it one, lowering it would turn old records into damage, and members that
# disagree about it could not replicate. The largest request (64 MiB, at most 7/6 as long as effects) and the largest
# batch (16 MiB) fit into one record together.
RECORD_BYTES_MAX = 128 * MIB

_MEMBER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9_.-]+")
_NUMBER = re.compile(r"([0-9]{1,19})\s*(KiB|MiB|GiB|)", re.IGNORECASE)
_UNITS = {"": 1, "kib": KIB, "mib": MIB, "gib": 1024 * MIB}
# What Kubernetes sets in every container when some service is called kvnode or kvnode-…
_FOREIGN_VARIABLE = re.compile(r"KVNODE_(.*_)?(SERVICE_(HOST|PORT)(_.*)?|PORT(_\d+_(TCP|UDP)(_.*)?)?)")


class ConfigError(Exception):
    """The configuration can not be used. `faults` are all the reasons, each a sentence without a full stop."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster: its id, and where clients and peers reach it. Hosts stand without brackets."""

    id: str
    host: str
    client_port: int
    peer_host: str
    peer_port: int

    @property
    def client_address(self) -> str:
        """`host:port` for clients, an IPv6 host in brackets."""
        return _join_address(self.host, self.client_port)

    @property
    def peer_address(self) -> str:
        """`host:port` for the other members, an IPv6 host in brackets."""
        return _join_address(self.peer_host, self.peer_port)

    def __str__(self) -> str:
        """As `parse_members` reads it, peer address included."""
        peer = str(self.peer_port) if self.peer_host == self.host else self.peer_address
        return f"{self.id}={self.client_address}/{peer}"


def _key(default: Any, summary: str, minimum: int | None = None, maximum: int | None = None) -> Any:
    """A key of the configuration: a dataclass field that knows its help line and its bounds, both included."""
    return field(default=default, metadata={"summary": summary, "minimum": minimum, "maximum": maximum})


@dataclass(frozen=True, slots=True)
class Config:
    """All that one node is told. `load` checks it; who builds one by hand answers for its values.

    `members` is sorted by id. Times are in milliseconds, sizes in bytes.
    """

    id: str
    data: Path
    members: tuple[Member, ...]

    cluster_name: str = _key("", "told apart from other clusters with the same member ids; part of the cluster's id")
    listen: str = _key("", "host to bind both ports to, e.g. 0.0.0.0; empty: the member's own hosts")
    log_level: str = _key("info", "what to log: " + ", ".join(LOG_LEVELS))
    log_format: str = _key("auto", "how to log: " + ", ".join(LOG_FORMATS) + "; auto: text on a terminal")
    heartbeat_ms: int = _key(100, "the leader sends one this often", 5, 60_000)
    election_timeout_ms: int = _key(500, "a follower waits at least this long for a leader", 10, 600_000)
    election_timeout_max_ms: int = _key(1_000, "and at most this long; the wait is random between the two", 11, 600_000)
    trail_ms: int = _key(20, "small writes may reach members beyond a majority this much later; 0: at once", 0, 1_000)
    request_timeout_ms: int = _key(4_000, "a command is answered within this time, be it with an error", 50, 600_000)
    cpu_stay_ms: int = _key(50, "its threads stay on one CPU so long at a time while it writes; 0: never", 0, 1_000)
    huge_pages: int = _key(1, "its memory is moved into huge pages where the kernel allows it; 0: never", 0, 1)
    fsync_warn_ms: int = _key(1_000, "an fsync that takes longer is logged", 1, 600_000)
    key_bytes_max: int = _key(64 * KIB, "a longer key is refused", 1, 16 * MIB)
    value_bytes_max: int = _key(16 * MIB, "a longer value is refused", 1, 64 * MIB)
    request_bytes_max: int = _key(32 * MIB, "a longer request is refused", KIB, 64 * MIB)
    batch_bytes_max: int = _key(1 * MIB, "commands of this size together make one record", KIB, 16 * MIB)
    segment_bytes: int = _key(64 * MIB, "a file of the log is sealed when it is this long", 4 * KIB, 4096 * MIB)
    scrub_bytes_per_second: int = _key(4 * MIB, "read again in the background to find damage; 0: never", 0, 4096 * MIB)
    scrub_pause_ms: int = _key(3_600_000, "between two such readings of the whole log", 0, 30 * 86_400_000)
    uncommitted_bytes_max: int = _key(64 * MIB, "logged but not yet committed; more has to wait", KIB, 4096 * MIB)
    catch_up_window_bytes: int = _key(4 * MIB, "sent to a returning member before it answers", KIB, 1024 * MIB)
    clients_max: int = _key(10_000, "more client connections are refused", 1, 1_000_000)
    output_bytes_max: int = _key(64 * MIB, "a client that leaves more replies unread is cut off", KIB, 4096 * MIB)

    @property
    def me(self) -> Member:
        """This node's member."""
        return next(member for member in self.members if member.id == self.id)

    @property
    def peers(self) -> tuple[Member, ...]:
        """The other members, sorted by id."""
        return tuple(member for member in self.members if member.id != self.id)

    @property
    def member_ids(self) -> tuple[str, ...]:
        """The ids of all members, sorted."""
        return tuple(member.id for member in self.members)

    @property
    def client_listen(self) -> tuple[str, int]:
        """Host and port to bind for clients."""
        return self.listen or self.me.host, self.me.client_port

    @property
    def peer_listen(self) -> tuple[str, int]:
        """Host and port to bind for the other members."""
        return self.listen or self.me.peer_host, self.me.peer_port

    @property
    def record_bytes_max(self) -> int:
        """The longest record of the log, and so the longest frame between peers (but for its envelope)."""
        return RECORD_BYTES_MAX

    def __str__(self) -> str:
        return f"{self.id} data={self.data} members={','.join(map(str, self.members))}"


KEYS: dict[str, Field[Any]] = {item.name: item for item in fields(Config) if item.metadata}
"""The keys with a default, in the order of the documentation; `metadata` holds summary, minimum and maximum."""

_NAMES = ("id", "data", "cluster", *KEYS)


def load(options: Mapping[str, object], environment: Mapping[str, str], file: Path | None = None) -> Config:
    """The configuration of one node.

    `options` are the command line's: key -> value, where None means not given. `file` is the TOML file; KVNODE_CONFIG
    names it where it is None. Raises ConfigError with every fault of all sources.
    """
    sources = _Sources(options, environment, file)
    members = sources.members()
    ids = ", ".join(member.id for member in members)
    node_id, source = sources.text("id")
    if not node_id:
        which = f"which of {ids}" if members else "which member"
        sources.faults.append(f"id is missing: say with --id, KVNODE_ID or the file's id {which} this node is")
    elif members and node_id not in {member.id for member in members}:
        sources.faults.append(f"{source}: {node_id!r} is not a member of the cluster ({ids})")
    data, source = sources.text("data")
    if "\0" in data:
        sources.faults.append(f"{source}: a path has no NUL in it")
    values = {name: sources.value(name) for name in KEYS}
    config = Config(node_id, Path(data or f"data/{node_id}"), members, **values)
    if not sources.faults:  # values that are wrong by themselves would show up here a second time
        sources.faults.extend(_contradictions(config))
    if sources.faults:
        raise ConfigError(sources.faults)
    return config


def load_members(
    options: Mapping[str, object], environment: Mapping[str, str], file: Path | None = None
) -> tuple[Member, ...]:
    """The members alone, from the same sources, for what speaks to a cluster without being a node of it.

    Raises ConfigError with every fault of the sources, but says nothing of the other keys' values.
    """
    sources = _Sources(options, environment, file)
    members = sources.members()
    if sources.faults:
        raise ConfigError(sources.faults)
    return members


def parse_members(text: str) -> tuple[Member, ...]:
    """`A=host:port,B=host:port/peerport,…` as members sorted by id. Raises ConfigError with every fault."""
    faults: list[str] = []
    members = _members(_pairs(text, faults), faults)
    if faults:
        raise ConfigError(faults)
    return members


def parse_address(text: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as (host without brackets, port). Raises ValueError with the reason."""
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        raise ValueError("has no port (host:port)")
    return _host(host), _port(port)


class _Sources:
    """Where values come from, and what was wrong with them so far."""

    def __init__(self, options: Mapping[str, object], environment: Mapping[str, str], file: Path | None) -> None:
        self.faults: list[str] = []
        if file is None and environment.get("KVNODE_CONFIG"):
            file = Path(environment["KVNODE_CONFIG"])
        self.given: dict[str, tuple[object, str]] = {}  # key -> (value, where it stands)
        if file is not None:
            for name, value in self._read(file).items():
                self._add(name, value, f"{name} in {file}", f"{name} in {file}", "")
        for variable, value in sorted(environment.items()):
            if variable.startswith(ENVIRONMENT_PREFIX) and variable != "KVNODE_CONFIG":
                name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
                if name in _NAMES or not _FOREIGN_VARIABLE.fullmatch(variable):
                    self._add(name, value, variable, variable, ENVIRONMENT_PREFIX)
        for name, value in options.items():
            if value is not None:
                option = "--" + name.replace("_", "-")
                self._add(name, value, option, option, "--")

    def _read(self, file: Path) -> dict[str, Any]:
        try:
            return tomllib.loads(file.read_text("utf-8"))
        except OSError as error:
            self.faults.append(f"can not read the config file {file}: {error.strerror}")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self.faults.append(f"the config file {file} is not TOML: {error}")
        return {}

    def _add(self, name: str, value: object, source: str, label: str, prefix: str) -> None:
        if name in _NAMES:
            self.given[name] = (value, source)
            return
        near = difflib.get_close_matches(name.lower(), _NAMES, n=1)
        spelled = (prefix + near[0].upper() if prefix == ENVIRONMENT_PREFIX else near[0]) if near else ""
        self.faults.append(f"{label}: there is no such key" + (f"; did you mean {spelled}?" if near else ""))

    def text(self, name: str) -> tuple[str, str]:
        """The value of a key that is a string or a path, and where it stands; "" where it is not given."""
        value, source = self.given.get(name, ("", ""))
        if isinstance(value, str | Path):
            return str(value), source
        self.faults.append(f"{source}: {value!r} is not a string")
        return "", source

    def members(self) -> tuple[Member, ...]:
        """The members; faults where they can not be had."""
        value, source = self.given.get("cluster", (DEFAULT_CLUSTER, "cluster"))
        faults: list[str] = []
        pairs: list[tuple[str, str]] = []
        if isinstance(value, str):
            pairs = _pairs(value, faults)
        elif isinstance(value, dict) and all(isinstance(address, str) for address in value.values()):
            pairs = list(value.items())
        else:
            faults.append('a table like A = "host:port", or a string like "A=host:port,B=host:port", is wanted')
        members = _members(pairs, faults)
        self.faults.extend(f"{source}: {fault}" for fault in faults)
        return members

    def value(self, name: str) -> Any:
        """The value of one of KEYS, or its default where it is not given or wrong."""
        key = KEYS[name]
        if name not in self.given:
            return key.default
        value, source = self.given[name]
        try:
            if isinstance(key.default, int):
                return _number(value, key.metadata["minimum"], key.metadata["maximum"], sized="bytes" in name)
            return _TEXTS[name](value)
        except ValueError as error:
            self.faults.append(f"{source}: {error}")
            return key.default


def _number(value: object, minimum: int, maximum: int, *, sized: bool) -> int:
    match = _NUMBER.fullmatch(str(value).strip()) if isinstance(value, int | str) else None
    if match is None or isinstance(value, bool) or (match[2] and not sized):
        raise ValueError(
            f"{value!r} is not a " + ("size (a count of bytes, or like 64KiB, 16MiB)" if sized else "number")
        )
    number = int(match[1]) * _UNITS[match[2].lower()]
    if not minimum <= number <= maximum:
        raise ValueError(f"{value} is out of range, {minimum} to {maximum} are possible")
    return number


def _cluster_name(value: object) -> str:
    if not isinstance(value, str) or len(value.encode("utf-8", "surrogateescape")) > 256 or not value.isprintable():
        raise ValueError(f"{value!r} is not a printable string of at most 256 bytes")
    return value


def _listen(value: object) -> str:
    """A host to bind to. No port stands beside it, so an IPv6 address needs no brackets."""
    if value == "" or (isinstance(value, str) and _is_ipv6(value)):
        return value
    try:
        return _host(str(value))
    except ValueError:
        raise ValueError(f"{value!r} is not a host (the ports are the member's)") from None


def _one_of(names: tuple[str, ...]) -> Callable[[object], str]:
    def read(value: object) -> str:
        name = str(value).lower()
        if name not in names:
            raise ValueError(f"{value!r} is none of " + ", ".join(names))
        return name

    return read


_TEXTS = {
    "cluster_name": _cluster_name,
    "listen": _listen,
    "log_level": _one_of(LOG_LEVELS),
    "log_format": _one_of(LOG_FORMATS),
}


def _contradictions(config: Config) -> list[str]:
    """Values that are possible each by itself, but not together."""
    faults = []
    if config.election_timeout_ms < 2 * config.heartbeat_ms:
        faults.append(
            f"election_timeout_ms ({config.election_timeout_ms}) must be at least twice heartbeat_ms "
            f"({config.heartbeat_ms}), or one late heartbeat costs an election"
        )
    if config.election_timeout_max_ms <= config.election_timeout_ms:
        faults.append(
            f"election_timeout_max_ms ({config.election_timeout_max_ms}) must be above election_timeout_ms "
            f"({config.election_timeout_ms}), or candidates split the vote again and again"
        )
    for big, small, reason in (
        ("request_bytes_max", "key_bytes_max", "a request holds a key"),
        ("request_bytes_max", "value_bytes_max", "a request holds a value"),
        ("uncommitted_bytes_max", "request_bytes_max", "or the longest request could never be logged"),
        ("output_bytes_max", "value_bytes_max", "or the longest value could never be read"),
    ):
        if getattr(config, big) < getattr(config, small):
            faults.append(
                f"{big} ({getattr(config, big)}) must not be below {small} ({getattr(config, small)}): {reason}"
            )
    return faults


def _pairs(text: str, faults: list[str]) -> list[tuple[str, str]]:
    """`A=address,B=address` as pairs."""
    pairs = []
    for part in text.split(","):
        member_id, equals, address = part.strip().partition("=")
        if equals:
            pairs.append((member_id.strip(), address.strip()))
        else:
            faults.append(f"{part.strip()!r} is not a member (ID=host:port)")
    return pairs


def _members(pairs: list[tuple[str, str]], faults: list[str]) -> tuple[Member, ...]:
    """Members sorted by id; what is wrong with them goes to `faults`, each with a member's name."""
    members: list[Member] = []
    for member_id, address in pairs:
        if not _MEMBER_ID.fullmatch(member_id):
            faults.append(
                f"{member_id!r} is not a member id (a letter or digit, then up to 63 of letters, digits, _.-)"
            )
            continue
        try:
            members.append(_member(member_id, address))
        except ValueError as error:
            faults.append(f"member {member_id}: {address!r} {error}")
    if not pairs and not faults:
        faults.append("there are no members")
    faults.extend(_duplicates(members))
    return tuple(sorted(members, key=lambda member: member.id))


def _member(member_id: str, address: str) -> Member:
    client, slash, peer = address.partition("/")
    host, client_port = parse_address(client)
    if not slash:
        peer_port = client_port + PEER_PORT_OFFSET
        if peer_port > 65535:
            raise ValueError(f"would have the peer port {peer_port}; give another (host:port/peerport)")
        return Member(member_id, host, client_port, host, peer_port)
    peer_host, peer_port = parse_address(peer) if ":" in peer else (host, _port(peer))
    return Member(member_id, host, client_port, peer_host, peer_port)


def _duplicates(members: list[Member]) -> list[str]:
    faults = []
    ids: set[str] = set()
    users: dict[tuple[str, int], str] = {}
    for member in members:
        if member.id in ids:
            faults.append(f"member {member.id} is there twice")
            continue
        ids.add(member.id)
        for address, use in (
            ((member.host, member.client_port), f"{member.id} for clients"),
            ((member.peer_host, member.peer_port), f"{member.id} for peers"),
        ):
            if address in users:
                faults.append(f"{_join_address(*address)} is used twice, by {users[address]} and by {use}")
            users.setdefault(address, use)
    return faults


def _host(text: str) -> str:
    """A host name or address without brackets. Raises ValueError with the reason."""
    if text.startswith("[") and text.endswith("]"):
        if not _is_ipv6(text[1:-1]):
            raise ValueError(f"has no IPv6 address between its brackets ({text})")
        return text[1:-1]
    if _is_ipv6(text):
        raise ValueError("needs brackets around its IPv6 address ([::1]:3000)")
    if not _HOST.fullmatch(text):
        raise ValueError(f"has no usable host ({text!r})" if text else "has no host (host:port)")
    return text


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"has no usable port ({text!r}; 1 to 65535 are possible)")
    return int(text)


def _join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
