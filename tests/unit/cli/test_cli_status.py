"""Who leads, by what the members say; and how it is shown."""

from __future__ import annotations

import json

from click.testing import CliRunner
from rich.console import Console

from kvnode.cli import main
from kvnode.cli.status import WIDTH, Status, as_object, find_leader, lag, summary, table


def member(node: str, role: str, term: int = 3, leader: str = "B", last_seq: int = 40) -> Status:
    fields = {"node": node, "role": role, "leader": leader, "term": str(term), "last_seq": str(last_seq)}
    fields |= {"durable_seq": "39", "commit_seq": "38", "applied_seq": "37", "log_checksum": "00000012"}
    return Status(node, f"127.0.0.1:300{'ABC'.index(node)}", fields)


def silent(node: str) -> Status:
    return Status(node, "127.0.0.1:3009", {}, "connection refused")


def shown(statuses: list[Status]) -> str:
    console = Console(width=WIDTH, no_color=True)
    with console.capture() as capture:
        console.print(table(statuses, find_leader(statuses)))
    return capture.get()


def test_the_leader_is_who_says_so() -> None:
    assert find_leader([member("A", "follower"), member("B", "leader"), member("C", "follower")]) == "B"


def test_of_two_leaders_the_one_with_the_higher_term_leads() -> None:
    assert (
        find_leader([member("A", "leader", 2, "A"), member("B", "leader", 3), member("C", "follower", 2, "A")]) == "B"
    )
    assert find_leader([member("A", "follower", 3), member("B", "leader", 3)]) == "B"


def test_a_leader_that_does_not_answer_or_denies_it_does_not_lead() -> None:
    assert find_leader([member("A", "follower"), silent("B"), member("C", "follower")]) is None
    assert find_leader([member("A", "follower"), member("B", "follower", 2)]) is None


def test_a_leader_that_was_not_asked_is_believed() -> None:
    assert find_leader([member("A", "follower")]) == "B"


def test_there_is_no_leader_where_nobody_knows_one() -> None:
    assert find_leader([silent("A")]) is None
    assert find_leader([member("A", "candidate", leader="")]) is None


def test_lag_is_counted_from_the_leaders_last_entry() -> None:
    statuses = [member("A", "follower", last_seq=31), member("B", "leader"), silent("C")]
    assert [lag(status, statuses, "B") for status in statuses] == [9, 0, None]
    assert lag(statuses[0], statuses, None) is None


def test_the_table_shows_every_member_and_fits_80_columns() -> None:
    statuses = [member("A", "follower", last_seq=31), member("B", "leader"), silent("C")]
    assert max(len(line.rstrip()) for line in shown(statuses).splitlines()) <= 80
    rows = [line.split() for line in shown(statuses).splitlines() if line.strip()]
    assert rows[0] == ["member", "address", "role", "term", "last", "durable", "commit", "applied", "lag"]
    assert rows[2] == ["A", "127.0.0.1:3000", "follower", "3", "31", "39", "38", "37", "9"]
    assert rows[3] == ["B", "127.0.0.1:3001", "leader", "3", "40", "39", "38", "37", "0"]
    assert rows[4] == ["C", "127.0.0.1:3009", "no", "answer"]
    assert summary(statuses, "B") == "B leads; 2 of 3 answer.\nC at 127.0.0.1:3009: connection refused"


def test_what_a_node_says_is_not_taken_for_markup() -> None:
    odd = Status("A", "h:1", {"node": "A", "role": "[red]x[/]", "term": "[/"})
    assert "[red]x[/]" in shown([odd])


def test_json_has_numbers_where_there_are_numbers() -> None:
    statuses = [member("B", "leader"), silent("C")]
    first, second = as_object(statuses, "B")["members"]  # type: ignore[misc]
    assert (first["term"], first["last_seq"], first["log_checksum"], first["lag"]) == (3, 40, "00000012", 0)
    assert second == {
        "id": "C",
        "address": "127.0.0.1:3009",
        "alive": False,
        "problem": "connection refused",
        "lag": None,
    }


def test_without_a_leader_the_exit_code_is_1() -> None:
    result = CliRunner().invoke(main, ["status", "--node", "127.0.0.1:1", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["leader"] is None
    assert json.loads(result.stdout)["members"][0]["problem"] == "connection refused"


def test_a_target_that_is_none_is_refused() -> None:
    for arguments in (["--node", "here"], ["--cluster", "A"], ["--cluster", "A=h:1", "--node", "h:1"]):
        result = CliRunner().invoke(main, ["status", *arguments])
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
