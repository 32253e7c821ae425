"""A small log of several segments, cut at every length and with every byte changed: never a wrong entry.

At or below the mark it is damage, and nothing in the directory changes. Above it, exactly the records before the bad
one are there, and what was cut is kept.
"""

from __future__ import annotations

import pytest

from kvnode.log import DamageError, Record
from kvnode.log.discard import DISCARDED
from kvnode.log.record import encode
from tests.crash.log_maker import DIRECTORY, chain, make_log, open_memory, raws, segment_paths
from tests.crash.memory_disk import MemoryDisk

RECORDS = chain(12)
LOG = make_log(RECORDS)
SEGMENTS = segment_paths(LOG)


def starts() -> dict[str, list[tuple[int, int]]]:
    """For each segment: (offset, records before it) of each record, and of the end."""
    found: dict[str, list[tuple[int, int]]] = {}
    for path in SEGMENTS:
        data = bytes(LOG.file(path).data)
        places = [(data.index(r.raw), i) for i, r in enumerate(RECORDS) if r.raw in data]
        found[path.name] = [*places, (len(data), places[-1][1] + 1)]
    return found


STARTS = starts()


def outcome(disk: MemoryDisk) -> tuple[list[bytes], bool, DamageError | None]:
    seen: list[Record] = []
    try:
        recovered = open_memory(disk, seen=seen)
    except DamageError as damage:
        return raws(seen), False, damage
    return raws(seen), recovered.cut is not None, None


def check(disk: MemoryDisk, name: str, offset: int, synced: int, what: str) -> None:
    """The bytes of segment `name` are wrong from `offset` on; the mark says that `synced` records are durable."""
    before = disk.contents()
    seen, was_cut, damage = outcome(disk)
    assert seen == raws(RECORDS)[: len(seen)], what
    places = STARTS[name]
    is_header = offset < places[0][0]
    good = places[0][1] if is_header else max(count for start, count in places if start <= offset)
    if is_header or good < synced:
        assert damage is not None, what
        assert disk.contents() == before, what
        assert str(DIRECTORY) in str(damage), what
    else:
        assert damage is None, what
        assert seen == raws(RECORDS[:good]), what
        assert was_cut, what
        assert open_memory(disk.copy()).last_seq == (RECORDS[good - 1].last_seq if good else 0), what


def test_the_log_has_several_segments() -> None:
    assert len(SEGMENTS) >= 3
    assert sum(len(places) - 1 for places in STARTS.values()) == len(RECORDS)


@pytest.mark.parametrize("synced", [0, 6, len(RECORDS)])
def test_every_byte_changed(synced: int) -> None:
    for path in SEGMENTS:
        data = bytes(LOG.file(path).data)
        for offset in range(len(data)):
            disk = make_variant(synced)
            disk.put(path, data[:offset] + bytes([data[offset] ^ 0xFF]) + data[offset + 1 :])
            check(disk, path.name, offset, synced, f"byte {offset} of {path.name} changed, mark after {synced}")


def test_every_bit_of_one_segment_changed() -> None:
    path, synced = SEGMENTS[1], 4
    data = bytes(LOG.file(path).data)
    for bit in range(8 * len(data)):
        disk = make_variant(synced)
        offset = bit // 8
        disk.put(path, data[:offset] + bytes([data[offset] ^ (1 << bit % 8)]) + data[offset + 1 :])
        check(disk, path.name, offset, synced, f"bit {bit} of {path.name} changed")


@pytest.mark.parametrize("synced", [0, 9, 11])
@pytest.mark.parametrize("tail", ["nothing", "zeros", "garbage"])
def test_the_last_segment_ends_at_every_length(synced: int, tail: str) -> None:
    path = SEGMENTS[-1]
    data = bytes(LOG.file(path).data)
    boundaries = {start for start, _ in STARTS[path.name]}
    for length in range(len(data)):
        rest = {"nothing": b"", "zeros": bytes(4096), "garbage": b"\xffjunk\x92\xce" * 9}[tail]
        disk = make_variant(synced)
        disk.put(path, data[:length] + rest)
        if length in boundaries and not rest:
            check_clean_end(disk, synced, dict(STARTS[path.name])[length])
        else:
            check(disk, path.name, length, synced, f"cut at {length}, then {tail}, mark after {synced}")


def check_clean_end(disk: MemoryDisk, synced: int, count: int) -> None:
    seen, was_cut, damage = outcome(disk)
    assert not was_cut
    assert seen == raws(RECORDS[:count])
    assert (damage is not None) == (count < synced)


def make_variant(synced: int) -> MemoryDisk:
    disk = LOG.copy()
    disk.put(DIRECTORY / "mark", MARKS[synced])
    return disk


MARKS = {n: bytes(make_log(RECORDS, synced=n).file(DIRECTORY / "mark").data) for n in range(len(RECORDS) + 1)}


def test_a_torn_tail_is_kept_aside_and_reported() -> None:
    disk = make_variant(9)
    path = SEGMENTS[-1]
    data = bytes(disk.file(path).data)
    offset, count = STARTS[path.name][-2]
    disk.put(path, data[:-5])
    recovered = open_memory(disk)
    assert recovered.cut is not None
    assert (recovered.cut.path, recovered.cut.offset) == (path, offset)
    assert recovered.cut.size == len(data) - 5 - offset
    assert recovered.cut.first_seq == RECORDS[count].first_seq
    assert recovered.cut.copy.parent == DIRECTORY / DISCARDED
    assert bytes(disk.file(recovered.cut.copy).data).endswith(data[offset:-5])
    assert str(recovered.cut.copy) in str(recovered.cut)


@pytest.mark.parametrize("missing", range(len(SEGMENTS)))
@pytest.mark.parametrize("synced", [0, len(RECORDS)])
def test_a_missing_segment_is_damage(missing: int, synced: int) -> None:
    disk = make_variant(synced)
    disk.remove(SEGMENTS[missing])
    before = disk.contents()
    if missing == len(SEGMENTS) - 1 and not synced:
        assert open_memory(disk).last_seq == STARTS[SEGMENTS[-1].name][0][1] * 2
        return
    with pytest.raises(DamageError, match=r"missing|durable up to"):
        open_memory(disk)
    assert disk.contents() == before


@pytest.mark.parametrize("synced", [0, len(RECORDS)])
def test_a_valid_record_in_the_wrong_place_is_damage_even_above_the_mark(synced: int) -> None:
    last, before_last = RECORDS[-1], RECORDS[-2]
    wrong_chain = encode(before_last.checksum ^ 1, last.first_seq, 1, 0, 0, [["NOOP"]])
    wrong_seq = encode(before_last.checksum, last.first_seq + 1, 1, 0, 0, [["NOOP"]])
    for wrong in (RECORDS[0], before_last, wrong_chain, wrong_seq):
        disk = make_variant(min(synced, 11))
        path = SEGMENTS[-1]
        data = bytes(disk.file(path).data)
        start = STARTS[path.name][-2][0]
        disk.put(path, data[:start] + wrong.raw)
        before = disk.contents()
        with pytest.raises(DamageError, match=r"should follow|continues a record"):
            open_memory(disk)
        assert disk.contents() == before


def test_a_lower_term_is_damage() -> None:
    records = chain(2, term=3)
    disk = make_log(records)
    lower = chain(1, term=2, after=records[-1])[0]
    path = segment_paths(disk)[-1]
    disk.put(path, bytes(disk.file(path).data) + lower.raw)
    with pytest.raises(DamageError, match="lower than the term 3"):
        open_memory(disk)


def test_two_segments_exchanged_are_damage() -> None:
    disk = make_variant(0)
    first, second = (bytes(disk.file(path).data) for path in SEGMENTS[1:3])
    disk.put(SEGMENTS[1], second)
    disk.put(SEGMENTS[2], first)
    with pytest.raises(DamageError, match="its name says"):
        open_memory(disk)


def test_a_segment_of_another_history_is_damage() -> None:
    other = make_log(chain(12, value=b"w"))
    disk = make_variant(0)
    disk.put(SEGMENTS[2], bytes(other.file(SEGMENTS[2]).data))
    with pytest.raises(DamageError, match="does not continue"):
        open_memory(disk)


def test_the_message_names_file_offset_and_entries() -> None:
    disk = make_variant(len(RECORDS))
    path = SEGMENTS[1]
    data = bytes(disk.file(path).data)
    offset, count = STARTS[path.name][1]
    disk.put(path, data[: offset + 20] + b"\0" + data[offset + 21 :])
    with pytest.raises(DamageError) as caught:
        open_memory(disk)
    damage = caught.value
    assert (damage.path, damage.offset) == (path, offset)
    assert (damage.first_seq, damage.last_seq) == (RECORDS[count].first_seq, RECORDS[count].last_seq)
    for part in (str(path), str(offset), f"entries {damage.first_seq} to {damage.last_seq}", "Nothing was changed"):
        assert part in str(damage)
