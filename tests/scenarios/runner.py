"""Golden scripts for consensus: a situation, told in commands, with all that follows from it.

A file is a run of blocks: commands, `---`, what they led to (compared, or rewritten), an empty line. No `---` where
nothing followed. `#` begins a comment.

    members A B C                  their disks are empty; options `window=bytes chunk=bytes` (an entry has 100 bytes),
                                   `trail=ms` (0: all members are sent each record at once);
    members A B C led by A         they have started, and A was elected in term 1: the beginning of many stories
    disk A: log 1 1 2*3; term 2; vote B; commit 2; no right
                                   before A starts: the terms of its records (`2*3`: one record of three entries), …
    start A B C                    or `start all`; a restart too. Links between all that run
    script plays B C               they do not run: what is sent to them is shown, what they send is written by hand;
    script plays B C, who elect A  so A leads, as one that they have just voted for
    A -> B  Kind field …           a message from nowhere arrives at B (fields as printed; see spelling.py); a Heartbeat
                                   has B's checksum unless another is written, a Position that of the record it names

    settle                         deliver all messages and what follows from them
    deliver [A -> B] [Kind] [2]    deliver what is on its way now (the first two), and not what follows from it;
                                   `*` is any member; so too: drop, duplicate (both copies go last), reverse
    hold [A -> B] [Kind] as NAME   set messages aside;  `release NAME`: they are on their way again
    part A | B C                   messages between the groups are lost from now on, also those on their way; `heal`
    unlink A B                     both notice that their link is down;  `link A B`

    disk A holds                   its deeds wait;  `disk A does 2 [unseen]`: so many are done (and never told);
    disk A goes on                 does all that waits, and goes on by itself
    disk A is full [but for 1]     no record (but one) can be written, all else can;  `disk A has room` again
    disk A stalls                  it holds, and has done so for longer than an election timeout, until it goes on
    crash A | wipe A               loses what its disk has not done | and then its disk;  `tear A 4`: cuts its disk
    grant A                        it receives the right to vote, having forsworn the terms up to its own

    campaign A                     A's election timeout passes, no other timer does
    win A                          the same, and what is said of votes is delivered, quietly, but nothing else
    elect A                        the same, and all that follows is delivered
    tick A                         its timers are served at the present time
    wait 300ms | run 300ms         time passes and nobody looks at it | and everything due happens, quietly
    propose A 3                    its next record, of three entries (1)
    read A 2                       it reads twice in one turn (1)
    transfer A [for room]          it hands over leadership (to one with room, `for speed`: with a faster disk)
    resign A                       it steps down
    show A B | show all            role, term, log; what stands before `|` is committed
    quietly COMMAND                messages and deeds of disks are not shown

After every event promises.py is checked. REWRITE_SCENARIOS=1 in the environment writes down what happens instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from kvnode.raft import Options
from kvnode.raft.messages import Heartbeat
from tests.scenarios.cluster import Cluster, Letter
from tests.scenarios.spelling import Record, read


def run_script(text: str) -> str:
    """The script with what has happened in place of what was expected."""
    stage = Stage()
    blocks = []
    for commands in _blocks(text):
        if not any(map(_is_command, commands)):
            blocks.append("\n".join(commands))
            continue
        trace: list[str] = []
        for command in filter(_is_command, commands):
            try:
                trace += stage.do(command)
            except Exception as error:
                error.add_note(f"at the command: {command}\nafter: " + "\n       ".join(stage.unread() or trace))
                raise
        blocks.append("\n".join([*commands, "---", *trace] if trace else commands))
    return "\n\n".join(blocks) + "\n"


def run_file(path: Path, *, rewrite: bool) -> tuple[str, str]:
    """(what is written, what has happened)."""
    expected = path.read_text()
    happened = run_script(expected)
    if rewrite:
        path.write_text(happened)
    return expected, happened


def _is_command(line: str) -> bool:
    return not line.startswith("#")


def _blocks(text: str) -> Iterator[list[str]]:
    """The commands and comments of each block."""
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = [line.rstrip() for line in block.split("\n")]
        yield lines[: lines.index("---")] if "---" in lines else lines


class Stage:
    """The cluster of one script, and the commands that move it."""

    def __init__(self) -> None:
        self.cluster: Cluster
        self._told = 0

    def unread(self) -> list[str]:
        return self.cluster.trace[self._told :] if hasattr(self, "cluster") else []

    def do(self, line: str) -> list[str]:
        """Carry out one command; what happened."""
        verb, _, rest = line.strip().partition(" ")
        is_quiet = verb == "quietly"
        if is_quiet:
            verb, _, rest = rest.partition(" ")
        if verb != "members":
            self.cluster.is_quiet = is_quiet
        if rest.startswith("-> "):
            self._receive(verb, rest)
        else:
            command = COMMANDS.get(verb)
            if command is None:
                raise ValueError(f"no such command: {verb}")
            command(self, rest.split())
        happened = self.unread()
        self._told = len(self.cluster.trace)
        return happened

    # The cast

    def members(self, words: list[str]) -> None:
        given = dict(word.split("=") for word in words if "=" in word)
        options = Options(
            window_bytes=int(given.get("window", 4 * 1024 * 1024)),
            chunk_bytes=int(given.get("chunk", 256 * 1024)),
            trail_ms=float(given.get("trail", 0)),
        )
        names = words[: words.index("led")] if "led" in words else words
        self.cluster = Cluster([name for name in names if "=" not in name], options)
        self._told = 0
        if "led" in words:
            self.start(["all"])
            self.elect(words[-1:])
            self.cluster.run(self.cluster.now_ms + 20)
            self.cluster.trace.clear()

    def disk(self, words: list[str]) -> None:
        name = words[0].removesuffix(":")
        disk = self.cluster.members[name].disk
        if words[1] == "holds":
            disk.is_held = True
        elif words[1] == "stalls":
            disk.is_held = True
            self.cluster.members[name].raft.is_disk_stalled = True
        elif words[1:3] == ["is", "full"]:
            self.cluster.set_room(name, int(words[-1]) if len(words) > 3 else 0)
        elif words[1:] == ["has", "room"]:
            self.cluster.set_room(name, None)
        elif words[1] == "does":
            for _ in range(int(words[2])):
                self.cluster.finish_deed(name, unseen=words[3:] == ["unseen"])
        elif words[1:] == ["goes", "on"]:
            self.cluster.members[name].raft.is_disk_stalled = False
            while disk.queue:
                self.cluster.finish_deed(name)
            disk.is_held = False
        else:
            self._past(name, " ".join(words[1:]))

    def _past(self, name: str, text: str) -> None:
        disk = self.cluster.members[name].disk
        term, vote = disk.ballot
        for part in text.split(";"):
            word, *values = part.split()
            if word == "log":
                disk.records = list(_log(values))
                term = max(term, disk.records[-1].term if disk.records else 0)
            elif word == "term":
                term = int(values[0])
            elif word == "vote":
                vote = values[0]
            elif word == "commit":
                disk.commit_seq = int(values[0])
            elif (word, values) == ("no", ["right"]):
                disk.may_vote = False
            else:
                raise ValueError(f"a disk has no {part!r}")
        disk.ballot = (term, vote)

    def _all(self, words: list[str]) -> list[str]:
        return list(self.cluster.members) if words == ["all"] else words

    def start(self, words: list[str]) -> None:
        for name in self._all(words):
            self.cluster.start(name)

    def script(self, words: list[str]) -> None:
        *played, candidate = [word.rstrip(",") for word in words[1:] if word not in ("who", "elect")]
        if "elect" not in words:
            played, candidate = [*played, candidate], ""
        for name in played:
            member = self.cluster.members[name]
            member.is_played = True
            for other in self.cluster.members.values():
                if other.is_running:
                    self.cluster.link(other.id, name, up=True)
        if candidate:
            self.campaign([candidate])
            term = self.cluster.members[candidate].raft.term + 1
            for kind in ("PreVoteReply", "VoteReply"):
                for name in played:
                    self._receive(name, f"-> {candidate} {kind} term={term} granted")
            self.cluster.trace.clear()

    def crash(self, words: list[str]) -> None:
        for name in self._all(words):
            self.cluster.crash(name)

    def wipe(self, words: list[str]) -> None:
        for name in words:
            self.cluster.crash(name)
            disk = self.cluster.members[name].disk
            disk.records, disk.ballot, disk.may_vote, disk.commit_seq = [], (0, None), False, 0

    def tear(self, words: list[str]) -> None:
        disk = self.cluster.members[words[0]].disk
        disk.records = [record for record in disk.records if record.last_seq <= int(words[1])]

    def grant(self, words: list[str]) -> None:
        member = self.cluster.members[words[0]]
        self.cluster.event(member.id, lambda raft: raft.forswear(raft.term))
        member.disk.may_vote = True
        self.cluster.event(member.id, lambda raft: raft.grant_right_to_vote())

    # Messages

    def _receive(self, sender: str, rest: str) -> None:
        _, receiver, text = rest.split(maxsplit=2)
        message = read(text, self.cluster.promises.checksums)
        if isinstance(message, Heartbeat) and not message.checksum:
            index = self.cluster.members[receiver].raft.index
            is_there = index.ends_at(message.commit_seq)
            message = replace(message, checksum=index.checksum_at(message.commit_seq) if is_there else 0)
        self.cluster.event(receiver, lambda raft: raft.step(sender, message, self.cluster.now_ms))

    def _pick(self, words: list[str]) -> list[Letter]:
        """The messages on their way that `[A -> B] [Kind] [number]` names, taken out of the network."""
        sender = receiver = kind = None
        number = len(self.cluster.network)
        if words and words[-1].isdigit():
            *words, last = words
            number = int(last)
        if "->" in words:
            sender, _, receiver, *words = words
        if words:
            (kind,) = words
        network = self.cluster.network
        picked: list[Letter] = []
        left: list[Letter] = []
        for letter in network:
            fits = (
                len(picked) < number
                and sender in (None, "*", letter.sender)
                and receiver in (None, "*", letter.to)
                and kind in (None, type(letter.message).__name__)
            )
            (picked if fits else left).append(letter)
        self.cluster.network = left
        if not picked:
            raise ValueError(f"nothing like that is on its way, but {'; '.join(map(str, network)) or 'nothing'}")
        return picked

    def settle(self, words: list[str]) -> None:
        self.cluster.settle()

    def deliver(self, words: list[str]) -> None:
        for letter in self._pick(words):
            self.cluster.deliver(letter)

    def drop(self, words: list[str]) -> None:
        self._pick(words)

    def duplicate(self, words: list[str]) -> None:
        picked = self._pick(words)
        self.cluster.network += [*picked, *picked]

    def reverse(self, words: list[str]) -> None:
        picked = self._pick(words)
        self.cluster.network += reversed(picked)

    def hold(self, words: list[str]) -> None:
        self.cluster.held[words[-1]] = self._pick(words[:-2])

    def release(self, words: list[str]) -> None:
        self.cluster.network = self.cluster.held.pop(words[0]) + self.cluster.network

    def part(self, words: list[str]) -> None:
        groups = [group.split() for group in " ".join(words).split("|")]
        cluster = self.cluster
        cluster.cut_pairs = {
            (one, other)
            for group in groups
            for one in group
            for others in groups
            for other in others
            if others is not group
        }
        cluster.network = [letter for letter in cluster.network if (letter.sender, letter.to) not in cluster.cut_pairs]

    def heal(self, words: list[str]) -> None:
        self.cluster.cut_pairs = set()

    def link(self, words: list[str]) -> None:
        self.cluster.link(words[0], words[1], up=True)

    def unlink(self, words: list[str]) -> None:
        self.cluster.link(words[0], words[1], up=False)

    # Time, and what a member is asked to do

    def campaign(self, words: list[str]) -> None:
        cluster = self.cluster
        cluster.now_ms = max(cluster.now_ms, cluster.members[words[0]].raft.deadline_ms())
        cluster.tick(words[0])

    def elect(self, words: list[str]) -> None:
        self.cluster.is_quiet = True
        self.campaign(words)
        self.cluster.settle()

    def win(self, words: list[str]) -> None:
        self.cluster.is_quiet = True
        self.campaign(words)
        for kind in ("PreVoteRequest", "PreVoteReply", "VoteRequest", "VoteReply"):
            self.deliver([kind])

    def tick(self, words: list[str]) -> None:
        for name in self._all(words):
            self.cluster.tick(name)

    def wait(self, words: list[str]) -> None:
        self.cluster.now_ms += _milliseconds(words[0])

    def run(self, words: list[str]) -> None:
        self.cluster.is_quiet = True
        self.cluster.run(self.cluster.now_ms + _milliseconds(words[0]))

    def propose(self, words: list[str]) -> None:
        member = self.cluster.members[words[0]]
        entries = int(words[1]) if len(words) > 1 else 1
        self.cluster.event(member.id, lambda raft: raft.propose(self.cluster.next_record(member, entries)))

    def read(self, words: list[str]) -> None:
        name, times = words[0], int(words[1]) if len(words) > 1 else 1
        cluster = self.cluster

        def ask(raft: object) -> None:
            for _ in range(times):
                ticket = cluster.members[name].raft.read()
                if ticket is None:
                    cluster.say(f"{name} can not read: there is nobody to ask yet")
                else:
                    cluster.promises.on_read(name, ticket)
                    cluster.say(f"{name} reads with ticket {ticket}")

        cluster.event(name, ask)

    def transfer(self, words: list[str]) -> None:
        cluster, name = self.cluster, words[0]
        why = {f"for_{words[2]}": True} if len(words) > 1 else {}
        cluster.event(name, lambda raft: cluster.say(f"{name} hands over to {raft.transfer(**why) or 'nobody'}"))

    def resign(self, words: list[str]) -> None:
        self.cluster.event(words[0], lambda raft: raft.step_down())

    def show(self, words: list[str]) -> None:
        for name in self._all(words):
            self.cluster.show(name)


COMMANDS: dict[str, Callable[[Stage, list[str]], None]] = {
    name: command for name, command in vars(Stage).items() if not name.startswith("_") and name not in ("do", "unread")
}


def _milliseconds(word: str) -> float:
    return float(word.removesuffix("ms"))


def _log(terms: list[str]) -> Iterator[Record]:
    """Records of the terms given, `2*3` being one of three entries."""
    seq = checksum = 0
    for word in terms:
        term, _, entries = word.partition("*")
        record = Record(seq + 1, seq + int(entries or 1), int(term), checksum)
        yield record
        seq, checksum = record.last_seq, record.checksum
