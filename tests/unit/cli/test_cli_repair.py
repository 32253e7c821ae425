"""`kvnode repair` on small logs, with members that have what is missing, or not, or not any more."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvnode.cli import main
from kvnode.log import Record
from kvnode.log.record import encode
from kvnode.runtime import repairing
from tests.unit.cli.damaged_logs import CLUSTER, cut_end, flip, make, open_one, records, segment
from tests.unit.cli.small_logs import tree
from tests.unit.runtime.fake_member import FakeMember

START = "`kvnode start` would start this node.\n"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("good") / "A")


@pytest.fixture
def data(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "A"))


def repair(data: Path, *members: object) -> Result:
    options = [text for member in members for text in ("--from", str(member))]
    return CliRunner().invoke(main, ["repair", str(data), *options])


def member(**faults: object) -> FakeMember:
    return FakeMember(CLUSTER, records(), **faults)  # type: ignore[arg-type]


def logs(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*.log")}


def spoil_a_record(data: Path) -> None:
    flip(segment(data, 19), 300)


def spoil_two_places(data: Path) -> None:
    flip(segment(data, 19), 300)
    segment(data, 55).unlink()


def lose_the_first_segment(data: Path) -> None:
    segment(data, 1).unlink()


def spoil_a_header(data: Path) -> None:
    flip(segment(data, 37), 20)


HEALED = {
    spoil_a_record: """\
{data}: node A, 1 place in its log to heal
  00000000000000000019.log at offset 261: entries 23 to 24: the checksum does not match
healed 1 of 1 place: 2 entries from {member}, 97 bytes
""",
    spoil_two_places: """\
{data}: node A, 2 places in its log to heal
  00000000000000000019.log at offset 261: entries 23 to 24: the checksum does not match
  00000000000000000073.log: entries 55 to 72: the segment before it is missing
healed 2 of 2 places: 20 entries from {member}, 970 bytes
""",
    lose_the_first_segment: """\
{data}: node A, 1 place in its log to heal
  00000000000000000019.log: entries 1 to 18: the segment before it is missing
healed 1 of 1 place: 18 entries from {member}, 869 bytes
""",
    spoil_a_header: """\
{data}: node A, 1 place in its log to heal
  00000000000000000037.log: no entry, before seq 37: the segment's header can not be read: the checksum does not match
healed 1 of 1 place
""",
}


@pytest.mark.parametrize(("damage", "text"), list(HEALED.items()), ids=lambda item: getattr(item, "__name__", ""))
def test_what_was_lost_is_put_back_byte_for_byte(
    damage: Callable[[Path], None], text: str, good: Path, data: Path
) -> None:
    damage(data)
    with member() as giver:
        result = repair(data, giver.address)
    assert result.stdout == text.format(data=data, member=giver.address) + START
    assert (result.exit_code, result.stderr) == (0, "")
    assert logs(data) == logs(good)
    assert giver.hellos == [["kvnode peer", 1, CLUSTER, "A", "", "records"]]


def test_a_log_in_order_is_left_alone(good: Path, data: Path) -> None:
    with member() as giver:
        result = repair(data, giver.address)
    assert result.stdout == f"{data}: node A, nothing to fetch\n{START}"
    assert result.exit_code == 0
    assert giver.asked == []
    before, after = tree(good), tree(data)
    assert {path.replace(str(data), ""): digest for path, digest in after.items() if "lock" not in path} == {
        path.replace(str(good), ""): digest for path, digest in before.items() if "lock" not in path
    }


# What it leaves to a start

UNTIL = "without the right to vote until a leader has brought it up to date, because of"


def test_the_end_of_the_log_takes_a_leader(data: Path) -> None:
    cut_end(segment(data, 73), 5)
    before = tree(data)
    with member() as giver:
        result = repair(data, giver.address)
    assert (
        result.stdout
        == f"""\
{data}: node A, nothing to fetch
FAILURE  mark       durable up to seq 80, but the log can be read up to seq 78 only
FAILURE  records    78 entries in 39 records can be read; not right at 1 place
          readable  1-78
          damaged   79-80  00000000000000000073.log at offset 358: the data ends within a record of 97 bytes
FAILURE  tail       what was durable at the end of the log can not be read
          00000000000000000073.log at offset 358: the data ends within a record of 97 bytes

`kvnode start` would start this node {UNTIL} the end of its log.
"""
    )
    assert result.exit_code == 1
    assert {path: digest for path, digest in tree(data).items() if "lock" not in path} == {
        path: digest for path, digest in before.items() if "lock" not in path
    }


def test_holes_are_healed_where_something_else_takes_a_leader(good: Path, data: Path) -> None:
    spoil_two_places(data)
    for offset in (20, 4096 + 20):
        flip(data / "ballot", offset)
    flip(data / "identity", 20)
    with member() as giver:
        result = repair(data, giver.address)
    assert "healed 2 of 2 places" in result.stdout
    assert result.stdout.endswith(f"\n`kvnode start` would start this node {UNTIL} its identity and its ballot.\n")
    assert result.exit_code == 1
    assert logs(data) == logs(good)


# Members that do not have everything


def test_two_members_with_damage_of_their_own_have_all_of_it_together(good: Path, data: Path) -> None:
    spoil_two_places(data)
    with member(damaged=[23, 61]) as first, member(damaged=[57, 65]) as second:
        result = repair(data, first.address, second.address)
    fetched = f"6 entries from {second.address}, 14 entries from {first.address}"
    assert f"healed 2 of 2 places: {fetched}, 970 bytes\n" in result.stdout
    assert (result.exit_code, result.stderr) == (0, "")
    assert logs(data) == logs(good)


def test_what_nobody_has_is_named_and_the_rest_stays_healed(good: Path, data: Path) -> None:
    spoil_two_places(data)
    with member(damaged=[60]) as first, FakeMember(CLUSTER, records(29)) as second:
        result = repair(data, first.address, second.address)
    assert result.stderr == (
        f"kvnode: no member gave entries 55 to 72: {first.address}: its own log is damaged there; {second.address}: "
        "its log ends before them. Try it with other members, or start the node: it asks all of them until one has it, "
        "and says so when none can.\n"
    )
    assert f"healed 1 of 2 places: 2 entries from {first.address}, " in result.stdout
    assert "missing   55-72  00000000000000000073.log: the segment before it is missing\n" in result.stdout
    assert result.exit_code == 1
    assert logs(data).keys() == logs(good).keys() - {segment(data, 55).name}
    with member() as giver:
        assert repair(data, giver.address).exit_code == 0
    assert logs(data) == logs(good)


def other_history(count: int) -> list[Record]:
    """The same records up to entry 54, then `count` that never came to be."""
    made = records(27)
    for _ in range(count):
        last = made[-1]
        made.append(encode(last.checksum, last.last_seq + 1, 1, 77, last.last_seq, [["SET", b"other", b"1"]]))
    return made


@pytest.mark.parametrize("count", [4, 18, 30])
def test_a_member_with_another_history_does_not_lead_astray(count: int, good: Path, data: Path) -> None:
    segment(data, 55).unlink()
    with FakeMember(CLUSTER, other_history(count)) as wrong, member() as right:
        result = repair(data, wrong.address, right.address)
        assert f"healed 1 of 1 place: 18 entries from {right.address}, " in result.stdout
        assert result.exit_code == 0
        assert logs(data) == logs(good)
        segment(data, 55).unlink()
        result = repair(data, wrong.address)
    assert result.exit_code == 1
    assert "no member gave entries 55 to 72" in result.stderr
    assert not segment(data, 55).exists()
    assert list(data.glob("*.tmp")) == []


# Members that come and go


def test_a_connection_that_breaks_is_made_again_and_gone_on_with(good: Path, data: Path) -> None:
    segment(data, 55).unlink()
    with member(hangs_up_after=2) as giver:
        result = repair(data, giver.address)
    assert result.exit_code == 0
    assert logs(data) == logs(good)
    assert giver.asked == [54, 56, 58, 60, 62, 64, 66, 68, 70]
    assert len(giver.hellos) == 5


def test_a_member_that_stays_away_and_once_more_later(good: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairing, "PATIENCE_S", 0.0)
    spoil_two_places(data)
    with member(hangs_up_after=3) as giver:
        result = repair(data, giver.address)
    assert f"no member gave entries 55 to 72: {giver.address}: {giver.address} closed the connection" in result.stderr
    assert "healed 1 of 2 places" in result.stdout
    assert result.exit_code == 1
    with member() as giver:
        assert repair(data, giver.address).exit_code == 0
    assert logs(data) == logs(good)


# What can not begin


def refusal(result: Result) -> str:
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    return result.stderr.removeprefix("kvnode: ").rstrip("\n")


def closed_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_the_node_runs(data: Path) -> None:
    log = open_one(data)
    with member() as giver:
        text = refusal(repair(data, giver.address))
    log.close()
    assert text == (
        f"{data} is in use by process {os.getpid()}: node A runs. A node heals itself, running and when it is started; "
        "to repair it by hand, stop it first."
    )
    assert giver.hellos == []


def test_nothing_listens(data: Path) -> None:
    port = closed_port()
    assert refusal(repair(data, f"127.0.0.1:{port}")) == f"127.0.0.1:{port} can not be reached: connection refused"


def test_one_of_two_can_not_be_reached(good: Path, data: Path) -> None:
    spoil_a_record(data)
    port = closed_port()
    with member() as giver:
        result = repair(data, f"127.0.0.1:{port}", giver.address)
    assert result.stderr == f"kvnode: 127.0.0.1:{port} can not be reached: connection refused\n"
    assert result.exit_code == 0
    assert logs(data) == logs(good)


def test_another_cluster(data: Path) -> None:
    with FakeMember("0" * 32, records()) as giver:
        assert refusal(repair(data, giver.address)) == f"the member at {giver.address} refuses: another cluster"


class ClientPort:
    """A node's port for clients: an error to what is no request, INFO to who asks for that."""

    def __init__(self, peer_port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        info = b"# Server\r\npeer_port:%d\r\n" % peer_port
        self._info = b"$%d\r\n%s\r\n" % (len(info), info)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> ClientPort:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.join(10)
        self._listener.close()

    def _run(self) -> None:
        for _ in range(2):
            link, _ = self._listener.accept()
            with link:
                asked = link.recv(1000)
                link.sendall(self._info if asked == b"INFO server\r\n" else b"-ERR Protocol error\r\n")


def test_the_port_for_clients_leads_to_the_one_for_members(good: Path, data: Path) -> None:
    spoil_a_record(data)
    with member() as giver, ClientPort(giver.address.port) as clients:
        result = repair(data, clients.address)
    text = f"kvnode: {clients.address} is a port for clients, so {giver.address} is asked, for members\n"
    assert result.stderr == text
    assert result.exit_code == 0
    assert logs(data) == logs(good)


def test_addresses_and_directories_that_are_none(data: Path, tmp_path: Path) -> None:
    assert refusal(repair(data, "localhost")) == "--from: 'localhost' has no port (host:port)"
    assert refusal(repair(tmp_path / "none", "h:1")) == f"can not read {tmp_path / 'none'}: there is no such directory."
    for path in (data / "identity", *data.glob("*.log")):
        path.write_bytes(b"\0" * 100)
    text = f"{data}: its identity can not be read (no record begins here), so it is not known whose it is."
    assert refusal(repair(data, "h:1")) == text
    os.mkfifo(data / "reserve")
    assert "reserve is not a file" in refusal(repair(data, "h:1"))
    assert CliRunner().invoke(main, ["repair", str(data)]).exit_code == 2
