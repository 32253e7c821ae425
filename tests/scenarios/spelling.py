"""How messages and records are written in a scenario, for reading and for printing.

    message     Kind field field …      `VoteRequest term=3 last=4@2 transfer`, `Append term=2 prev=1@1 commit=1 [2@2]`
    place       seq@term                the record that ends at seq
    record      seq@term, first-last@term, with `!` after it for one that breaks the chain of checksums

Fields that are left out are 0 or false. A record's checksum is made from its place and its predecessor's checksum, so
two logs with the same checksum have the same history.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from zlib import crc32

from kvnode.raft import messages as m
from kvnode.record_head import RecordHead


class Record(RecordHead):
    """A record without content. `commit_seq`: what its leader knew committed when it made it."""

    def __init__(self, first_seq: int, last_seq: int, term: int, prev_checksum: int, commit_seq: int = 0) -> None:
        checksum = crc32(f"{prev_checksum} {first_seq} {last_seq} {term}".encode())
        super().__init__(first_seq, last_seq, term, checksum, prev_checksum, size=100 * (last_seq - first_seq + 1))
        self.commit_seq = commit_seq

    def __str__(self) -> str:
        seqs = f"{self.last_seq}" if self.first_seq == self.last_seq else f"{self.first_seq}-{self.last_seq}"
        return f"{seqs}@{self.term}"


def spell_records(records: Iterable[RecordHead]) -> str:
    return " ".join(map(str, records))


def read_records(words: Iterable[str], prev_checksum: int) -> Iterator[Record]:
    """Records written as `3@2`, `4-6@2`, each chained to the one before."""
    for word in words:
        match = re.fullmatch(r"(?:(\d+)-)?(\d+)@(\d+)(!?)", word)
        if match is None:
            raise ValueError(f"not a record: {word!r}")
        first, last, term, broken = match.groups()
        checksum = prev_checksum ^ 1 if broken else prev_checksum
        record = Record(int(first or last), int(last), int(term), checksum)
        yield record
        prev_checksum = record.checksum


# What differs from `field=value`: the pairs of seq and term that are written as one place, and shorter names.
PLACES = {"last": ("last_seq", "last_term"), "prev": ("prev_seq", "prev_term"), "there": ("at_or_before", "term_there")}
SHORT = {"commit": "commit_seq", "match": "match_seq", "to": "last_seq", "checksum": "last_checksum"}
KINDS: dict[str, type] = {kind.__name__: kind for kind in m.Message.__args__}
PLACES_OF = {
    kind: {word: pair for word, pair in PLACES.items() if set(pair) <= {field.name for field in fields(kind)}}
    for kind in KINDS.values()
}
UNSPOKEN = {"last_checksum", "checksum"}
UNSPOKEN_WHEN_TRUE = {"voting", "has_room"}


def spell(message: m.Message, records: Iterable[RecordHead] = ()) -> str:
    """`records`: what the bytes of an Append are."""
    words = [type(message).__name__]
    places = {pair[0]: word for word, pair in PLACES_OF[type(message)].items()}
    names = {name: word for word, name in SHORT.items()}
    hidden = {"records", *(pair[1] for pair in PLACES_OF[type(message)].values())}
    if isinstance(message, m.Append):
        hidden.add("last_seq")
    for field in fields(message):
        value = getattr(message, field.name)
        if field.name in hidden:
            continue
        if field.name in places:
            word = places[field.name]
            words.append(f"{word}={value}@{getattr(message, PLACES[word][1])}")
        elif isinstance(value, bool):
            if value != (field.name in UNSPOKEN_WHEN_TRUE):
                words.append(field.name if value else f"not-{field.name}")
            elif field.name == "granted":
                words.append("refused")
        elif field.name in UNSPOKEN or value is None or (value == 0 and field.name in ("round", "catch_up_to")):
            continue
        else:
            words.append(f"{names.get(field.name, field.name)}={value}")
    if isinstance(message, m.Append):
        words.append(f"[{spell_records(records)}]")
    return " ".join(words)


def read(text: str, checksum_at: dict[tuple[int, int], int]) -> m.Message:
    """The message that `text` spells. `checksum_at`: of the records that exist, by (last seq, term)."""
    head, _, inside = text.partition("[")
    kind_name, *words = head.split()
    kind = KINDS[kind_name]
    values: dict[str, object] = {
        field.name: (field.name in UNSPOKEN_WHEN_TRUE) if field.type in ("bool", bool) else 0 for field in fields(kind)
    }
    for word in words:
        name, has_value, value = word.partition("=")
        if name in PLACES_OF[kind]:
            seq_name, term_name = PLACES_OF[kind][name]
            seq, _, term = value.partition("@")
            values[seq_name], values[term_name] = int(seq), int(term)
        elif name == "refused":
            continue
        elif not has_value:
            values[name.removeprefix("not-")] = not name.startswith("not-")
        elif name == "damage":
            values[name] = value
        else:
            values[name if name in values else SHORT.get(name, name)] = int(value)
    if kind is m.Append:
        prev = (values["prev_seq"], values["prev_term"])
        records = tuple(read_records(inside.rstrip("]").split(), checksum_at.get(prev, 0)))  # type: ignore[arg-type]
        values["records"] = records
        values["damage"] = values["damage"] or None
        values["last_seq"] = values["last_seq"] or (records[-1].last_seq if records else values["prev_seq"])
    elif kind is m.Position and not values["last_checksum"]:
        place = (values["last_seq"], values["last_term"])
        values["last_checksum"] = checksum_at.get(place, 0)  # type: ignore[arg-type]
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"{kind_name} has no field {', '.join(sorted(unknown))}")
    return kind(**values)  # type: ignore[no-any-return]
