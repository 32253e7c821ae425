"""What is said of a data directory: named checks with a status, entries in ranges, and what `kvnode start` would do.

Pure: a survey of the log and what stands around it come in, a verdict goes out; verdict_text.py shows it.
A check is OK; WARNING where a start mends alone what is wrong, or where somebody should have a look; FAILURE where
something is damaged or missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvnode.cli.surroundings import Surroundings
from kvnode.log.damage import FAILURE, WARNING, Finding, Hole
from kvnode.log.healing.survey import Survey
from kvnode.log.segment import first_seq_of

OK = "OK"
STATUSES = (OK, WARNING, FAILURE)
"""From best to worst."""
READABLE, DAMAGED, MISSING, TORN = "readable", "damaged", "missing", "torn"
STARTS, CUTS, HEALS, REJOINS, REFUSES = "starts", "cuts", "heals", "rejoins", "refuses"
NAMED_MAX = 10
"""So many things are named in one line."""

Findings = tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """Entries of one status. `last_seq`: None where it is not known, first_seq - 1 where no entry is concerned.

    `path`, `offset`, `reason`: where it is not readable, and why; None and "" where it is.
    """

    status: str
    first_seq: int
    last_seq: int | None
    path: Path | None = None
    offset: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """`findings`: the places that are not right, where the summary does not say it. `ranges`: of the records alone."""

    status: str
    summary: str
    findings: Findings = ()
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """What `kvnode start` would do, as one of the five words above and as a sentence."""

    outcome: str
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What can be found out about a directory without touching it.

    `is_new`: nothing was ever recorded there, its making was interrupted. `owners`: (cluster id, node id) as the
    headers of the segments name them, each once.
    """

    survey: Survey
    around: Surroundings
    is_new: bool
    owners: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`checks` by name, in the order in which they are shown."""

    facts: Facts
    checks: dict[str, Check]
    start: Start

    @property
    def status(self) -> str:
        """The worst of its checks."""
        return max((check.status for check in self.checks.values()), key=STATUSES.index)


def judge(facts: Facts) -> Verdict:
    checks = {}
    for name, check in _CHECKS.items():
        findings = tuple(finding for finding in facts.survey.findings if finding.check == name)
        is_not_made = facts.is_new and (findings or name in ("records", "tail"))
        checks[name] = _NOT_MADE if is_not_made else check(facts, findings)
    outcome, text = _outcome(facts)
    subject = "`kvnode start`" if facts.around.holder is None else "The node runs. The next `kvnode start`"
    return Verdict(facts, checks, Start(outcome, f"{subject} would {text}."))


# The checks, each with the findings under its name

_NOT_MADE = Check(WARNING, "not there yet: the making of this directory was interrupted")


def _identity(facts: Facts, findings: Findings) -> Check:
    identity = facts.survey.identity
    if identity is None:
        owners = named(sorted({node_id for _, node_id in facts.owners}))
        return _unreadable(findings, f"; its segments belong to node {owners}" if owners else "")
    return Check(OK, f"node {identity.node_id} of {', '.join(identity.members)}, cluster {identity.cluster_id}")


def _vote(facts: Facts, findings: Findings) -> Check:
    identity = facts.survey.identity
    if identity is None:
        return Check(WARNING, "not known without the identity")
    if identity.set_aside:
        return Check(WARNING, f"taken away until a leader has brought this node up to date: {identity.set_aside}")
    if not identity.may_vote:
        return Check(WARNING, "not given yet: all members have to be new, or a leader brings this node up to date")
    return Check(OK, "this node may vote")


def _ballot(facts: Facts, findings: Findings) -> Check:
    ballot = facts.survey.ballot
    if ballot is None or findings:
        return _worst(findings)
    vote = "no vote" if ballot.vote is None else f"vote for {ballot.vote}"
    return Check(OK, f"term {ballot.term}, {vote}; both copies are good")


def _mark(facts: Facts, findings: Findings) -> Check:
    mark, last_seq = facts.survey.mark, facts.survey.last_seq
    if mark is None:
        return _unreadable(findings)
    if findings:
        return _worst(findings)
    if mark.seq > last_seq:
        return Check(FAILURE, f"durable up to seq {mark.seq}, but the log can be read up to seq {last_seq} only")
    return Check(OK, f"durable up to seq {mark.seq}; the log covers it")


def _lock(facts: Facts, findings: Findings) -> Check:
    holder = facts.around.holder
    return Check(OK, "nobody has it open" if holder is None else f"process {holder} has it open")


def _files(facts: Facts, findings: Findings) -> Check:
    around = facts.around
    remarks = [f"{name!r} is none of kvnode's files" for name in around.strangers]
    if around.owned:
        remarks.append(f"another user than the directory's owns {named(around.owned)}")
    if around.zeros:
        remarks.append(f"nothing but zeros stands in {named(around.zeros)}")
    remarks += [f"{name} has mode {mode:04o}, so others can touch it" for name, mode in around.exposed]
    if around.holder is None:
        remarks += [f"{name} was left behind, a start removes it" for name in around.leftovers]
    return Check(WARNING, named(remarks, "; ")) if remarks else Check(OK, "nothing strange")


def _segments(facts: Facts, findings: Findings) -> Check:
    segments = facts.survey.segments
    what = f"{count(len(segments), 'file')}, {count(sum(segment.end for segment in segments), 'byte')}"
    if findings:
        return Check(FAILURE, f"{what}; not right at {count(len(findings), 'place')}", findings)
    return Check(OK, f"{what}; names, headers and owners are right")


def _records(facts: Facts, findings: Findings) -> Check:
    survey = facts.survey
    ranges = tuple(_ranges(survey))
    entries = sum(len(range(run.first_seq, run.last_seq + 1)) for run in survey.picture.kept)
    records = sum(len(run.ends) for run in survey.picture.kept)
    what = f"{count(entries, 'entry', 'entries')} in {count(records, 'record')} can be read"
    bad = sum(each.status in (DAMAGED, MISSING) for each in ranges)
    if bad:
        return Check(FAILURE, f"{what}; not right at {count(bad, 'place')}", (), ranges)
    return Check(OK, what, (), ranges)


def _chain(facts: Facts, findings: Findings) -> Check:
    if findings:
        return Check(FAILURE, f"broken at {count(len(findings), 'place')}", findings)
    exception = ", where that can be read" if facts.survey.holes else ""
    return Check(OK, f"every record continues the one before it{exception}")


def _tail(facts: Facts, findings: Findings) -> Check:
    survey = facts.survey
    if survey.torn is not None:
        size = count(torn_bytes(survey), "byte")
        if facts.around.holder is not None:
            return Check(OK, f"a record is being written, {size} so far")
        return Check(WARNING, f"a torn write of {size}, never known durable", findings)
    if survey.tail_damage is not None:
        return Check(FAILURE, "what was durable at the end of the log can not be read", (survey.tail_damage,))
    if survey.last_seq == 0:
        return Check(OK, "the log is empty")
    return Check(OK, f"the log ends with a whole record, at seq {survey.last_seq} of term {survey.last_term}")


def _discarded(facts: Facts, findings: Findings) -> Check:
    files, size = facts.around.discarded
    what = f"{count(files, 'file')}, {count(size, 'byte')}, cut off the log; nothing reads them" if files else "empty"
    return Check(OK, what)


_CHECKS: dict[str, Callable[[Facts, Findings], Check]] = {
    "identity": _identity,
    "vote": _vote,
    "ballot": _ballot,
    "mark": _mark,
    "lock": _lock,
    "files": _files,
    "segments": _segments,
    "records": _records,
    "chain": _chain,
    "tail": _tail,
    "discarded": _discarded,
}


def _unreadable(findings: Findings, remark: str = "") -> Check:
    return Check(FAILURE, f"can not be read: {findings[0].reason}{remark}")


def _worst(findings: Findings) -> Check:
    finding = max(findings, key=lambda each: STATUSES.index(each.severity))
    return Check(finding.severity, finding.reason)


def _ranges(survey: Survey) -> Iterator[Range]:
    """What can be read; then each place that can not, in order."""
    # A bad header alone takes no record away: it is for the check of segments to say.
    breaks = [
        gap for gap in survey.picture.breaks if gap.check != "segments" or gap.hole.first_seq <= gap.hole.last_seq
    ]
    gaps = {(gap.right.path, gap.right.begin) for gap in breaks}
    first_seq, last_seq = 1, 0
    for run in survey.picture.kept:
        if (run.path, run.begin) in gaps:
            if first_seq <= last_seq:
                yield Range(READABLE, first_seq, last_seq)
            first_seq = run.first_seq
        last_seq = run.last_seq
    if first_seq <= last_seq:
        yield Range(READABLE, first_seq, last_seq)
    for hole in [gap.hole for gap in breaks]:
        # It begins before the file in which it was noticed: the file for it is not there.
        status = MISSING if hole.first_seq < (first_seq_of(hole.path.name) or 0) else DAMAGED
        yield Range(status, hole.first_seq, hole.last_seq, hole.path, hole.offset, hole.reason)
    if (damage := survey.tail_damage) is not None:
        status = MISSING if damage.check == "tail" or damage.path == survey.directory else DAMAGED
        yield Range(status, survey.last_seq + 1, damage.last_seq, damage.path, damage.offset, damage.reason)
    if (torn := survey.torn) is not None:
        yield Range(TORN, survey.last_seq + 1, None, torn.path, torn.offset, torn.reason)


def torn_bytes(survey: Survey) -> int:
    """How much a start cuts off the end."""
    if survey.torn is None:
        return 0
    sizes = {segment.path: segment.end for segment in survey.segments}
    return sizes[survey.torn.path] - survey.torn.offset + sum(sizes[path] for path in survey.torn.later)


# What a start would do: as recovery.py decides it, and, of holes, node/set_aside.py

_THINGS = {"identity": "its identity", "ballot": "its ballot", "mark": "its mark"}


def _outcome(facts: Facts) -> tuple[str, str]:
    survey = facts.survey
    if facts.is_new:
        return STARTS, "make this directory anew, as nothing was ever recorded in it"
    if (why_foreign := _why_foreign(facts)) is not None:
        return REFUSES, f"refuse this directory: {why_foreign}"
    notes = [each for each in survey.findings if each.severity == FAILURE and each.check in _THINGS]
    reasons = notes if survey.tail_damage is None else [*notes, survey.tail_damage]
    if survey.identity is not None and len(survey.identity.members) == 1:
        if survey.holes or any(each.check != "ballot" for each in reasons):
            return REFUSES, "refuse this directory: no other member can heal it. Restore it from a copy"
        if reasons:
            return STARTS, "make the ballot anew, as nobody else can have had its vote, and start this node"
    things = [thing for check, thing in _THINGS.items() if any(each.check == check for each in notes)]
    things += [] if survey.tail_damage is None else ["the end of its log"]
    until = "without the right to vote until a leader has brought it up to date, because of " + " and ".join(things)
    if survey.holes:
        start = f"start it {until}" if things else "start it"
        return HEALS, f"set this node aside, {_heal(survey.holes)}, and then {start}"
    if things:
        return REJOINS, f"start this node {until}"
    if survey.torn is not None and facts.around.holder is None:
        size = count(torn_bytes(survey), "byte")
        return CUTS, f"cut off a torn tail of {size}, keep a copy in discarded/, and start this node"
    return STARTS, "start this node"


def _why_foreign(facts: Facts) -> str | None:
    """Why no start could take it for its own."""
    identity = facts.survey.identity
    owners = ", ".join(sorted({node_id for _, node_id in facts.owners}))
    if identity is None:
        if len(facts.owners) == 1:
            return None
        whose = f"several nodes are named in it ({owners})" if owners else "nothing else says whose it is"
        return f"its identity can not be read, and {whose}"
    if not facts.owners or (identity.cluster_id, identity.node_id) in facts.owners:
        return None
    return f"it is node {identity.node_id}'s, and its log is of another node or another cluster ({owners})"


def _heal(holes: Sequence[Hole]) -> str:
    missing = [hole for hole in holes if hole.first_seq <= hole.last_seq]
    if not missing:
        return "write what is bad in its log anew, where no entry is missing"
    ranges = named([range_text(hole.first_seq, hole.last_seq) for hole in missing])
    is_one = len(missing) == 1 and missing[0].first_seq == missing[0].last_seq
    return f"fetch {'entry' if is_one else 'entries'} {ranges} from the other members"


# Words


def range_text(first_seq: int, last_seq: int | None) -> str:
    """17-18; 17; 17- where the end is not known; "no entry" where none is concerned."""
    if last_seq is None:
        return f"{first_seq}-"
    if last_seq < first_seq:
        return "no entry"
    return str(first_seq) if first_seq == last_seq else f"{first_seq}-{last_seq}"


def named(things: Sequence[str], separator: str = ", ") -> str:
    """The first NAMED_MAX of them, and how many more there are."""
    shown = separator.join(things[:NAMED_MAX])
    return shown if len(things) <= NAMED_MAX else f"{shown}{separator}and {len(things) - NAMED_MAX} more"


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
