"""Which entries somebody wants to see: by seq, term, verb and key. Pure.

A condition on verb or key holds for a transaction when it holds for one of its effects; with both, for one and the
same. FLUSHALL touches every key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvnode.cli.entries import TRANSACTION, VERBS
from kvnode.log.record import Record

FLUSH = "FLUSHALL"
_TERMS = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")


@dataclass(frozen=True, slots=True)
class Choice:
    """None, and an empty set of verbs, mean: any. Ranges include both ends."""

    from_seq: int | None = None
    to_seq: int | None = None
    terms: tuple[int, int] | None = None
    verbs: frozenset[str] = frozenset()
    key: bytes | None = None

    @property
    def is_by_content(self) -> bool:
        """Whether more than seqs are asked for: then what matches is counted beside what was read."""
        return self.terms is not None or bool(self.verbs) or self.key is not None

    def entries_in_range(self, record: Record) -> range:
        """The positions in the record of the entries that are asked for by seq."""
        first = max(record.first_seq, self.from_seq or 0)
        last = record.last_seq if self.to_seq is None else min(record.last_seq, self.to_seq)
        return range(first - record.first_seq, last + 1 - record.first_seq)

    def may_hold(self, record: Record) -> bool:
        """False where no entry of the record can match: cheaper than a look at each."""
        if self.terms is not None and not self.terms[0] <= record.term <= self.terms[1]:
            return False
        # A key stands in a record as it is.
        return self.key is None or self.key in record.raw or FLUSH.encode() in record.raw

    def pick(self, entry: Any) -> Sequence[Any] | None:
        """The effects of an entry that match, None if none does; the entry itself is its only effect, but for TX."""
        is_transaction = _is_transaction(entry)
        effects = entry[1] if is_transaction else (entry,)
        if is_transaction and TRANSACTION in self.verbs:
            return effects if self.key is None else [effect for effect in effects if self._is_key(effect)] or None
        if not self.verbs and self.key is None:
            return effects
        return [effect for effect in effects if self._is_verb(effect) and self._is_key(effect)] or None

    def holds(self, record: Record) -> bool:
        """Whether an entry of the record matches."""
        if not self.may_hold(record):
            return False
        return any(self.pick(record.entries[position]) is not None for position in self.entries_in_range(record))

    def _is_verb(self, effect: Any) -> bool:
        return not self.verbs or (_is_effect(effect) and effect[0] in self.verbs)

    def _is_key(self, effect: Any) -> bool:
        if self.key is None:
            return True
        return _is_effect(effect) and (effect[0] == FLUSH or (len(effect) > 1 and effect[1] == self.key))


class UnknownVerb(ValueError):
    """The message names the verb and those that there are."""


def parse_verbs(names: Sequence[str]) -> frozenset[str]:
    """In any case. Raises UnknownVerb."""
    verbs = frozenset(name.upper() for name in names)
    unknown = sorted(verbs - set(VERBS))
    if unknown:
        raise UnknownVerb(f"the log knows no verb {unknown[0]}; it knows {', '.join(VERBS)}")
    return verbs


def parse_terms(text: str) -> tuple[int, int]:
    """N or N-M. Raises ValueError."""
    match = _TERMS.fullmatch(text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 0 < low <= high:
        raise ValueError(text)
    return low, high


def shown_effects(entry: Any, effects: Sequence[Any]) -> Sequence[Any] | None:
    """What a line needs to know of the effects that were picked: None for an entry that is no transaction."""
    return effects if _is_transaction(entry) else None


def _is_transaction(entry: Any) -> bool:
    return _is_effect(entry) and len(entry) > 1 and entry[0] == TRANSACTION and isinstance(entry[1], list | tuple)


def _is_effect(value: Any) -> bool:
    """The log's checksums vouch for its bytes, not for their sense."""
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], str)
