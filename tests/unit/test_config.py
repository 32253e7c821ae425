"""Where a configuration comes from, and that every fault of it is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvnode.config import (
    DEFAULT_CLUSTER,
    KEYS,
    MIB,
    RECORD_BYTES_MAX,
    ConfigError,
    Member,
    load,
    load_members,
    parse_members,
)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def faults(
    options: dict[str, object], environment: dict[str, str] | None = None, file: Path | None = None
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(options, environment or {}, file)
    assert str(caught.value) == "; ".join(caught.value.faults)
    assert "\n" not in str(caught.value)
    return caught.value.faults


def test_an_id_is_enough() -> None:
    config = load({"id": "B"}, {})
    assert config.members == parse_members(DEFAULT_CLUSTER)
    assert config.member_ids == ("A", "B", "C")
    assert config.me == Member("B", "127.0.0.1", 3001, "127.0.0.1", 13001)
    assert [member.id for member in config.peers] == ["A", "C"]
    assert config.data == Path("data/B")
    assert (config.heartbeat_ms, config.election_timeout_ms, config.election_timeout_max_ms) == (100, 500, 1000)
    assert (config.request_timeout_ms, config.request_bytes_max) == (4000, 32 * MIB)


def test_command_line_beats_variable_beats_file_beats_default(tmp_path: Path) -> None:
    file = write(
        tmp_path / "kvnode.toml",
        'id = "A"\nheartbeat_ms = 20\nfsync_warn_ms = 7\nlog_level = "error"\nvalue_bytes_max = "2MiB"\n'
        '[cluster]\nA = "a:1"\nB = "b:2/9"\n',
    )
    environment = {"KVNODE_HEARTBEAT_MS": "30", "KVNODE_LOG_LEVEL": "WARNING", "PATH": "/bin"}
    config = load({"id": "B", "heartbeat_ms": "40", "listen": None}, environment, file)
    assert (config.id, config.heartbeat_ms, config.log_level, config.fsync_warn_ms) == ("B", 40, "warning", 7)
    assert config.value_bytes_max == 2 * MIB
    assert config.me == Member("B", "b", 2, "b", 9)


def test_a_variable_names_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "kvnode.toml", 'id = "C"\ndata = "/d"\n')
    assert load({}, {"KVNODE_CONFIG": str(file)}).data == Path("/d")
    assert load_members({}, {"KVNODE_CONFIG": str(file)}) == parse_members(DEFAULT_CLUSTER)


@pytest.mark.parametrize("name", [name for name, key in KEYS.items() if isinstance(key.default, int)])
def test_every_number_has_bounds_that_hold_its_default_and_are_kept(name: str) -> None:
    metadata = KEYS[name].metadata
    assert metadata["minimum"] <= KEYS[name].default <= metadata["maximum"]
    for value in (metadata["minimum"] - 1, metadata["maximum"] + 1, "many", "1.5", 1.5, True, -1, ""):
        assert len(faults({"id": "A", name: value})) == 1


@pytest.mark.parametrize(
    ("text", "count"), [("64KiB", 65536), ("1 mib", MIB), ("70000", 70000), (70000, 70000), (" 65536 ", 65536)]
)
def test_sizes_take_units(text: object, count: int) -> None:
    assert load({"id": "A", "batch_bytes_max": text}, {}).batch_bytes_max == count


def test_times_take_no_units() -> None:
    assert faults({"id": "A", "heartbeat_ms": "1KiB"}) == ["--heartbeat-ms: '1KiB' is not a number"]


def test_all_faults_of_all_sources_come_together(tmp_path: Path) -> None:
    file = write(tmp_path / "kvnode.toml", 'hartbeat_ms = 20\n[cluster]\nA = "here"\nB = "127.0.0.1:70000"\n')
    environment = {"KVNODE_LOG_LEVEL": "loud", "KVNODE_CLUSTR": "A=a:1"}
    assert faults({"clients_max": "0"}, environment, file) == [
        f"hartbeat_ms in {file}: there is no such key; did you mean heartbeat_ms?",
        "KVNODE_CLUSTR: there is no such key; did you mean KVNODE_CLUSTER?",
        f"cluster in {file}: member A: 'here' has no port (host:port)",
        f"cluster in {file}: member B: '127.0.0.1:70000' has no usable port ('70000'; 1 to 65535 are possible)",
        "id is missing: say with --id, KVNODE_ID or the file's id which member this node is",
        "KVNODE_LOG_LEVEL: 'loud' is none of debug, info, warning, error",
        "--clients-max: 0 is out of range, 1 to 1000000 are possible",
    ]


def test_an_id_that_is_no_member_is_a_fault() -> None:
    assert faults({"id": "D"}) == ["--id: 'D' is not a member of the cluster (A, B, C)"]


def test_values_that_contradict_each_other_are_faults() -> None:
    assert len(faults({"id": "A", "heartbeat_ms": 300})) == 1
    assert len(faults({"id": "A", "election_timeout_ms": 1000})) == 1
    assert len(faults({"id": "A", "request_bytes_max": "8MiB"})) == 1
    found = faults({"id": "A", "uncommitted_bytes_max": "1MiB", "output_bytes_max": "1MiB"})
    assert [fault.split()[0] for fault in found] == ["uncommitted_bytes_max", "output_bytes_max"]


def test_the_longest_request_and_batch_fit_into_a_record() -> None:
    longest = KEYS["request_bytes_max"].metadata["maximum"] * 7 // 6 + KEYS["batch_bytes_max"].metadata["maximum"]
    assert longest + MIB < RECORD_BYTES_MAX


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id = ", "is not TOML"),
        (b"\xff", "is not TOML"),
        (b"cluster = 3", "a table like"),
        (b"[cluster]\nA = 3000", "a table like"),
        (b"[cluster]", "there are no members"),
        (b"id = 3", "3 is not a string"),
        (b'data = "a\\u0000b"', "NUL"),
        (b"cluster_name = 5", "printable"),
        (b'listen = "0.0.0.0:3000"', "host"),
    ],
)
def test_a_bad_file_is_a_fault(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "kvnode.toml"
    file.write_bytes(content)
    assert any(message in fault and str(file) in fault for fault in faults({}, {}, file))


def test_an_unreadable_file_is_a_fault(tmp_path: Path) -> None:
    assert "No such file" in faults({"id": "A"}, {}, tmp_path / "none.toml")[0]
    assert "Is a directory" in faults({"id": "A"}, {}, tmp_path)[0]


def test_variables_that_others_set_are_left_alone() -> None:
    kubernetes = {
        "KVNODE_SERVICE_HOST": "10.0.0.1",
        "KVNODE_A_SERVICE_PORT": "3000",
        "KVNODE_PORT": "tcp://10.0.0.1:3000",
        "KVNODE_PORT_3000_TCP_ADDR": "10.0.0.1",
        "KVNODE_SERVICE_PORT_CLIENTS": "3000",
    }
    assert load({"id": "A"}, kubernetes).id == "A"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "localhost"])
def test_listen_replaces_both_hosts(host: str) -> None:
    config = load({"id": "A", "listen": host}, {})
    assert config.client_listen == (host.strip("[]"), 3000)
    assert config.peer_listen == (host.strip("[]"), 13000)


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ("A=localhost:3000", Member("A", "localhost", 3000, "localhost", 13000)),
        ("A=[::1]:3000", Member("A", "::1", 3000, "::1", 13000)),
        ("A=[::1]:3000/4000", Member("A", "::1", 3000, "::1", 4000)),
        ("n-1.x = out:1/in:2", Member("n-1.x", "out", 1, "in", 2)),
        ("A=o:60000/[fe80::1%eth0]:60001", Member("A", "o", 60000, "fe80::1%eth0", 60001)),
    ],
)
def test_addresses(text: str, member: Member) -> None:
    assert parse_members(text) == (member,)
    assert parse_members(str(member)) == (member,)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "not a member"),
        ("A", "not a member"),
        ("A=h:1,", "not a member"),
        ("=h:1", "not a member id"),
        ("../x=h:1", "not a member id"),
        ("A=h", "no port"),
        ("A=h:0", "no usable port"),
        ("A=h:65536", "no usable port"),
        ("A=h:+5", "no usable port"),
        ("A=h:", "no usable port"),
        ("A=:3000", "no host"),
        ("A=::1:3000", "brackets"),
        ("A=[x]:3000", "IPv6"),
        ("A=a b:3000", "no usable host"),
        ("A=h:60000", "peer port 70000"),
        ("A=h:1/", "no usable port"),
        ("A=h:1/x", "no usable port"),
        ("A=h:1,A=h:2", "A is there twice"),
        ("A=h:1,B=h:1/2", "h:1 is used twice, by A for clients and by B for clients"),
        ("A=h:1/2,B=h:2", "h:2 is used twice, by A for peers and by B for clients"),
        ("A=h:1/1", "h:1 is used twice, by A for clients and by A for peers"),
    ],
)
def test_bad_member_lists_say_what_is_wrong(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_members(text)
    assert fault in str(caught.value)


@given(st.text(alphabet=st.sampled_from("AB=,:/[]1 0h.%x\u0663"), max_size=40))
def test_members_read_back_as_they_were_written(text: str) -> None:
    try:
        members = parse_members(text)
    except ConfigError:
        return
    assert parse_members(",".join(map(str, members))) == members
