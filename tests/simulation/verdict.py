"""Whether what clients heard can be explained by the one history that was committed: S9, linearizable.

The witness is the log. Every reply is given the earliest place in it, not before what had returned before it was asked,
at which it is true; none: a violation. Writes are found by their unique values. So the search is greedy and exact: an
earlier place never makes a later reply harder to explain. Seqs that replies carried must be true as well.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any

import hiredis

from kvnode.log.record import Record
from tests.simulation.clients import COUNTERS, Request
from tests.simulation.world import Violation

NOT_APPLIED = ("CLUSTERDOWN", "LOADING", "MISCONF", "ERR max number")
WITHOUT_STATE = (b"PING", b"WAIT")
WRITES = (b"SET", b"UPD", b"APPEND", b"INCR", b"DEL", b"MSET", b"FLUSHALL")

Holds = Callable[[Any], bool]


class History:
    """The key space at every seq of the committed log. Raises Violation where an entry makes no sense."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._values: dict[bytes, tuple[list[int], list[bytes | None]]] = defaultdict(lambda: ([0], [None]))
        self._now: dict[bytes, bytes] = {}
        self._key_sets: tuple[list[int], list[frozenset[bytes]]] = ([0], [frozenset()])
        self.unique: dict[bytes, list[int]] = defaultdict(list)
        self.sets: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
        self.deletions: dict[bytes, list[int]] = defaultdict(list)
        self.flushes: list[int] = []
        self.last_seq = 0
        for record in records:
            for entry in record.entries:
                self.last_seq += 1
                found: set[bytes] = set()
                self._apply(self.last_seq, entry, found)
                for value in found:
                    self.unique[value].append(self.last_seq)
                keys = frozenset(self._now)
                if keys != self._key_sets[1][-1]:
                    self._key_sets[0].append(self.last_seq)
                    self._key_sets[1].append(keys)

    def final(self, key: bytes) -> bytes | None:
        return self._now.get(key)

    def value(self, key: bytes, seq: int) -> bytes | None:
        if key not in self._values:
            return None
        seqs, values = self._values[key]
        return values[bisect_right(seqs, seq) - 1]

    def first(self, conditions: Iterable[tuple[bytes, Holds]], from_seq: int) -> int | None:
        """The first seq from there on at which all conditions on values hold at once."""
        pairs = list(conditions)
        seq: int | None = from_seq
        while seq is not None:
            before = seq
            for key, holds in pairs:
                seq = _first(*self._values.get(key, ([0], [None])), seq, holds)  # type: ignore[arg-type]
                if seq is None:
                    return None
            if seq == before:
                return seq
        return None

    def first_keys(self, holds: Callable[[frozenset[bytes]], bool], from_seq: int) -> int | None:
        return _first(*self._key_sets, from_seq, holds)

    def _put(self, seq: int, key: bytes, value: bytes | None) -> None:
        seqs, values = self._values[key]
        if seqs[-1] == seq:
            values[-1] = value
        else:
            seqs.append(seq)
            values.append(value)
        if value is None:
            self._now.pop(key, None)
        else:
            self._now[key] = value

    def _apply(self, seq: int, entry: Any, found: set[bytes]) -> None:
        verb, *operands = entry
        if verb in ("SET", "UPD"):
            key, value = operands
            if verb == "UPD" and key not in self._now:
                raise Violation(f"the log replaces what is not there, at seq {seq}")
            self._put(seq, key, value)
            self.sets[key, value].append(seq)
            found |= {value} if value[:1] == b"t" else set()
        elif verb == "APPEND":
            key, value = operands
            self._put(seq, key, self._now.get(key, b"") + value)
            found.add(value)
        elif verb == "DEL":
            if operands[0] not in self._now:
                raise Violation(f"the log deletes what is not there, at seq {seq}")
            self._put(seq, operands[0], None)
            self.deletions[operands[0]].append(seq)
        elif verb == "TX":
            for effect in operands[0]:
                self._apply(seq, effect, found)
        elif verb == "FLUSHALL":
            for key in list(self._now):
                self._put(seq, key, None)
            self.flushes.append(seq)
        elif verb != "NOOP":
            raise Violation(f"an entry that nobody wrote, at seq {seq}: {entry}")


def _first(seqs: list[int], values: list[Any], from_seq: int, holds: Holds) -> int | None:
    for place in range(bisect_right(seqs, from_seq) - 1, len(seqs)):
        if holds(values[place]):
            return max(from_seq, seqs[place])
    return None


def judge(records: list[Record], requests: list[Request]) -> None:
    """Raises Violation at the first reply that can not be explained."""
    history = History(records)
    for value, seqs in history.unique.items():
        if len(seqs) > 1:
            raise Violation(f"applied twice: {value[:20]!r} at {seqs}")
    _Judge(history).run(requests)


class _Judge:
    def __init__(self, history: History) -> None:
        self.history = history
        self._returned: list[tuple[int, int]] = []  # a heap: (order of the return, place)
        self._floor = 0
        self._of_connection: dict[tuple[int, int], int] = defaultdict(int)
        self._local: dict[tuple[int, int], int] = defaultdict(int)
        self._increments: dict[bytes, list[int]] = {key: [0, 0] for key in COUNTERS}  # certain, unknown

    def run(self, requests: list[Request]) -> None:
        for request in requests:
            while self._returned and self._returned[0][0] < request.invoked:
                self._floor = max(self._floor, heappop(self._returned)[1])
            if not request.is_mode:
                self._take(request)
        if not self.history.flushes:
            for key, (certain, unknown) in self._increments.items():
                count = int(self.history.final(key) or 0)
                if not certain <= count <= certain + unknown:
                    raise Violation(f"{key!r} is {count} after {certain} increments and {unknown} unknown ones")

    def _take(self, request: Request) -> None:
        name = request.command[0]
        error = str(request.reply) if isinstance(request.reply, hiredis.ReplyError) else ""
        places = self.history.unique.get(request.token, []) if request.token else []
        if name in WITHOUT_STATE:
            return
        if error.startswith(NOT_APPLIED):
            self._require(not places, request, f"said not to be applied, but is, at {places}")
            return
        if request.returned is None or error.startswith("UNKNOWN"):
            self._require(not error or name in WRITES, request, "a read is never in doubt")
            self._require(not places or places[0] >= self._floor, request, f"applied at {places}, before it was asked")
            if name == b"INCR":
                self._increments[request.command[1]][1] += 1
            return
        if name == b"INCR" and not error:
            self._increments[request.command[1]][0] += 1
        connection = (request.client, request.connection)
        is_local = request.reads_locally and name not in WRITES
        least = self._local[connection] if is_local else max(self._floor, self._of_connection[connection])
        place = self._place(request, name, error, places, least)
        self._require(place is not None, request, f"is true nowhere from seq {least} on")
        assert place is not None
        if is_local:
            self._local[connection] = place
            return
        if request.seq is not None and not error:
            self._require(request.seq >= self._floor, request, f"tells a seq before {self._floor}")
            told = self._place(request, name, error, places, request.seq)
            self._require(told == request.seq, request, f"tells a seq at which it is not true ({told})")
        self._of_connection[connection] = max(self._of_connection[connection], place)
        heappush(self._returned, (request.returned, place))

    def _place(self, request: Request, name: bytes, error: str, places: list[int], least: int) -> int | None:
        history, command, reply = self.history, request.command, request.reply
        if name in (b"SET", b"UPD", b"MSET", b"APPEND"):
            return self._place_of_write(request, name, error, places, least)
        self._require(not error, request, "an error that it should not be")
        if name == b"INCR":
            return next((seq for seq in history.sets[command[1], b"%d" % reply] if seq >= least), None)
        if name == b"DEL":
            if reply == 0:
                return history.first([(key, lambda value: value is None) for key in command[1:]], least)
            return min((seq for key in command[1:] for seq in history.deletions[key] if seq >= least), default=None)
        if name == b"FLUSHALL":
            empty = history.first_keys(lambda keys: not keys, least)
            return min((seq for seq in (*history.flushes, empty) if seq is not None and seq >= least), default=None)
        if name == b"DBSIZE":
            return history.first_keys(lambda keys: len(keys) == reply, least)
        if name == b"KEYS":
            return history.first_keys(lambda keys: keys == set(reply), least)
        if name == b"EXISTS":
            return history.first([(command[1], lambda value: (value is not None) == bool(reply))], least)
        replies = reply if name == b"MGET" else [reply]
        return history.first([(key, _is(value)) for key, value in zip(command[1:], replies, strict=True)], least)

    def _place_of_write(self, request: Request, name: bytes, error: str, places: list[int], least: int) -> int | None:
        history, command, reply = self.history, request.command, request.reply
        key, option = command[1], command[3:4]
        has_effect = not error and (name != b"SET" or option != [b"NX"] or reply == b"OK")
        if not has_effect:
            self._require(not places, request, f"said to have no effect, but is applied at {places}")
            wants_none = name == b"UPD" and error.startswith("ERR no such key")
            self._require(wants_none or option == [b"NX"], request, "an error that it should not be")
            return history.first([(key, lambda value: (value is None) == wants_none)], least)
        self._require(bool(places), request, "acknowledged and lost")
        place = places[0]
        if name == b"APPEND":
            self._require(len(history.value(key, place) or b"") == reply, request, f"another length at {place}")
        elif option == [b"GET"]:
            self._require(history.value(key, place - 1) == reply, request, f"another value before {place}")
        elif option == [b"NX"]:
            self._require(history.value(key, place - 1) is None, request, f"there was a value before {place}")
        return place if place >= least else None

    def _require(self, condition: bool, request: Request, what: str) -> None:
        if not condition:
            raise Violation(f"S9 {request}: {what}")


def _is(value: Any) -> Holds:
    return lambda found: found == value
