"""A verdict on a data directory as lines for people and as an object for JSON. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from kvnode.cli.verdict import OK, READABLE, Check, Range, Verdict, named, range_text
from kvnode.log.damage import FAILURE, WARNING, Finding

COLOURS = {FAILURE: "red", WARNING: "yellow"}
STATUS_WIDTH = 8
NAME_WIDTH = 10
INDENT = " " * (STATUS_WIDTH + 1)
PLACES_MAX = 40
"""So many places of one check are shown; JSON has all of them."""


def lines(verdict: Verdict, *, only_bad: bool = False) -> Iterator[str]:
    """One line for each check (that is not OK), its status first; what is wrong stands indented below. The last line
    is a sentence. With colours: click.echo takes them out where they do not belong.
    """
    shown = {name: check for name, check in verdict.checks.items() if check.status != OK or not only_bad}
    for name, check in shown.items():
        status = click.style(f"{check.status:<{STATUS_WIDTH}}", fg=COLOURS.get(check.status, "green"))
        yield f"{status} {name:<{NAME_WIDTH}} {check.summary}"
        yield from _details(verdict.facts.survey.directory, check)
    if shown:
        yield ""
    yield verdict.start.text


def _details(directory: Path, check: Check) -> Iterator[str]:
    if check.status == OK:
        return
    readable = [range_text(each.first_seq, each.last_seq) for each in check.ranges if each.status == READABLE]
    others = [each for each in check.ranges if each.status != READABLE]
    if readable:
        yield f"{INDENT} {READABLE:<9} {named(readable)}"
    places = [_range(directory, each) for each in others] + [_finding(directory, each) for each in check.findings]
    for place in places[:PLACES_MAX]:
        yield f"{INDENT} {place}"
    if len(places) > PLACES_MAX:
        yield f"{INDENT} and {len(places) - PLACES_MAX:,} more places"


def _range(directory: Path, item: Range) -> str:
    place = "" if item.path is None else place_text(directory, item.path, item.offset)
    return f"{item.status:<9} {range_text(item.first_seq, item.last_seq)}  {place}{item.reason}"


def _finding(directory: Path, finding: Finding) -> str:
    return f"{place_text(directory, finding.path, finding.offset)}{finding.reason}"


def place_text(directory: Path, path: Path, offset: int | None) -> str:
    """`file at offset 42: `; nothing where it is about the directory itself."""
    if path == directory:
        return ""
    return f"{path.name} at offset {offset}: " if offset else f"{path.name}: "


def as_object(verdict: Verdict) -> dict[str, Any]:
    """What --json prints: all that `lines` says, and the numbers behind it."""
    survey = verdict.facts.survey
    identity, mark, ballot = survey.identity, survey.mark, survey.ballot
    return {
        "directory": str(survey.directory),
        "status": verdict.status,
        "node": identity and identity.node_id,
        "cluster_id": identity and identity.cluster_id,
        "members": identity and list(identity.members),
        "may_vote": identity and identity.may_vote,
        "set_aside": identity and identity.set_aside,
        "process_id": verdict.facts.around.holder,
        "term": ballot and ballot.term,
        "vote": ballot and ballot.vote,
        "mark_seq": mark and mark.seq,
        "last_seq": survey.last_seq,
        "last_term": survey.last_term,
        "last_checksum": f"{survey.last_checksum:08x}",
        "commit_seq": survey.commit_seq,
        "checks": [_check_object(name, check) for name, check in verdict.checks.items()],
        "start": {"outcome": verdict.start.outcome, "text": verdict.start.text},
    }


def _check_object(name: str, check: Check) -> dict[str, Any]:
    return {
        "check": name,
        "status": check.status,
        "summary": check.summary,
        "findings": [_place_object(each) for each in check.findings],
        "ranges": [{"status": each.status, **_place_object(each)} for each in check.ranges],
    }


def _place_object(place: Finding | Range) -> dict[str, Any]:
    return {
        "first_seq": place.first_seq,
        "last_seq": place.last_seq,
        "path": None if place.path is None else str(place.path),
        "offset": place.offset,
        "reason": place.reason,
    }
