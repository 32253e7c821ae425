"""A small log of several segments, cut at every length and with every byte changed: never a wrong entry, none silent.

What follows is always one of three things. Above the mark: a torn write; exactly the records before it are there, what
was cut is kept, and the node may vote. At or below it, with something good behind: a hole; nothing changes, and with
the records of an undamaged twin the directory is byte for byte what it was. At or below it with nothing good behind:
the records before it are there, and the node may not vote.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from kvnode.log import DamageError, Hole, Record
from kvnode.log.discard import DISCARDED
from kvnode.log.record import encode, encode_header
from tests.crash.damage_maker import (
    LOG,
    RECORDS,
    SEGMENTS,
    damaged_log,
    end_of,
    heal,
    identity_of,
    look,
    mark_of,
    segments_of,
)
from tests.crash.log_maker import DIRECTORY, chain, make_log, open_memory, raws, segment_paths
from tests.crash.memory_disk import MemoryDisk


@dataclass
class Layout:
    """Of one segment: where each of its records begins, and the number of records in the log before it."""

    path: Path
    data: bytes
    starts: list[int]
    before: int

    def __str__(self) -> str:
        return self.path.stem.lstrip("0")

    @property
    def end(self) -> int:
        """The number of records in the log up to its end."""
        return self.before + len(self.starts)

    def good_in(self, data: bytes) -> int:
        """The number of records in the log that end before the first byte that is not as in `data`; -1 when that is
        in the header."""
        pairs = enumerate(zip(self.data, data, strict=False))
        return self.good_until(next((at for at, (a, b) in pairs if a != b), min(len(self.data), len(data))))

    def good_until(self, offset: int) -> int:
        """The same when it is at `offset`."""
        if offset < self.starts[0]:
            return -1
        return self.before + sum(start <= offset for start in self.starts) - (0 if offset == len(self.data) else 1)

    def ends_cleanly(self, data: bytes) -> bool:
        """Whether nothing but zeros follows where a record begins, or would."""
        return data.rstrip(b"\0") in [self.data[:start].rstrip(b"\0") for start in self.starts]


def layouts() -> list[Layout]:
    found = []
    count = 0
    for path in SEGMENTS:
        data = bytes(LOG.file(path).data)
        starts = [data.index(record.raw) for record in RECORDS if record.raw in data]
        found.append(Layout(path, data, starts, count))
        count += len(starts)
    return found


LAYOUTS = layouts()


def test_the_log_has_several_segments() -> None:
    assert [len(layout.starts) for layout in LAYOUTS] == [6, 5, 1]
    assert LAYOUTS[-1].end == len(RECORDS)


def check_torn(disk: MemoryDisk, good: int, what: str) -> None:
    found = look(disk)
    assert (found.torn is not None, found.holes, found.tail_damage) == (True, [], None), what
    assert found.last_seq == end_of(RECORDS[:good]).seq, what
    assert [finding.severity for finding in found.findings] == ["WARNING"], what
    seen: list[Record] = []
    recovered = open_memory(disk, seen=seen)
    assert raws(seen) == raws(RECORDS[:good]), what
    assert recovered.cut is not None, what
    assert recovered.findings == [str(recovered.cut)], what
    assert identity_of(disk).set_aside == "", what
    assert look(disk.copy()).findings == [], what


def check_hole(
    disk: MemoryDisk,
    first: int,
    after: int,
    what: str,
    *,
    read_first: list[bytes] | None = None,
    splits: bool = False,
) -> Hole:
    """The records [first, after) are missing; nothing else is. Those before, or `read_first`, are read before that.

    `splits`: that they were in the same segment as those before can not be known; they get one of their own.
    """
    found = look(disk)
    assert (found.torn, found.tail_damage, len(found.holes)) == (None, None, 1), what
    hole = found.holes[0]
    assert hole.before == end_of(RECORDS[:first]), what
    assert hole.next_seq == (RECORDS[after].first_seq if after < len(RECORDS) else RECORDS[-1].last_seq + 1), what
    assert hole.next_prev_checksum == end_of(RECORDS[:after]).checksum, what
    assert (hole.first_seq, hole.last_seq) == (hole.before.seq + 1, hole.next_seq - 1), what
    assert (found.last_seq, found.last_checksum) == (RECORDS[-1].last_seq, RECORDS[-1].checksum), what
    assert [finding.severity for finding in found.findings] == ["FAILURE"], what
    before = disk.contents()
    seen: list[Record] = []
    with pytest.raises(DamageError) as caught:
        open_memory(disk, seen=seen)
    assert caught.value.holes == (hole,), what
    assert raws(seen) == (raws(RECORDS[:first]) if read_first is None else read_first), what
    assert disk.contents() == before, what
    assert heal(disk) == 1, what
    if splits:
        assert len(segments_of(disk)) == len(SEGMENTS) + 1, what
    else:
        assert segments_of(disk) == segments_of(LOG), what
    check_whole(disk, len(RECORDS), what)
    assert identity_of(disk).set_aside == "", what
    return hole


def check_tail_damage(disk: MemoryDisk, good: int, what: str) -> None:
    found = look(disk)
    assert (found.torn, found.holes) == (None, []), what
    assert found.tail_damage is not None, what
    assert found.last_seq == end_of(RECORDS[:good]).seq, what
    seen: list[Record] = []
    recovered = open_memory(disk, seen=seen)
    assert raws(seen) == raws(RECORDS[:good]), what
    assert recovered.identity == identity_of(disk), what
    assert not recovered.identity.may_vote, what
    assert recovered.identity.set_aside, what
    assert not recovered.is_empty, what
    assert recovered.findings, what
    assert recovered.commit_seq <= recovered.last_seq, what
    assert mark_of(disk) == end_of(RECORDS[:good]), what
    check_whole(disk, good, what)


def check_whole(disk: MemoryDisk, count: int, what: str) -> None:
    """After a restart nothing is wrong any more."""
    again: list[Record] = []
    recovered = open_memory(disk.copy(), seen=again)
    assert raws(again) == raws(RECORDS[:count]), what
    assert (recovered.cut, recovered.findings) == (None, []), what


def check_change(disk: MemoryDisk, layout: Layout, offset: int, synced: int, what: str) -> None:
    """One byte of the segment has changed."""
    good = layout.good_until(offset)
    if good < 0:
        check_hole(disk, layout.before, layout.before, what)
    elif good >= synced:
        check_torn(disk, good, what)
    elif good < len(RECORDS) - 1:
        check_hole(disk, good, good + 1, what)
    else:
        check_tail_damage(disk, good, what)


@pytest.mark.parametrize("synced", [0, 6, len(RECORDS)])
def test_every_byte_changed(synced: int) -> None:
    for layout in LAYOUTS:
        for offset in range(len(layout.data)):
            disk = damaged_log(synced)
            change = bytes([layout.data[offset] ^ 0xFF])
            disk.put(layout.path, layout.data[:offset] + change + layout.data[offset + 1 :])
            check_change(disk, layout, offset, synced, f"byte {offset} of {layout.path.name}, mark after {synced}")


def test_every_bit_of_one_segment_changed() -> None:
    layout, synced = LAYOUTS[1], 9
    for bit in range(8 * len(layout.data)):
        disk = damaged_log(synced)
        offset = bit // 8
        change = bytes([layout.data[offset] ^ (1 << bit % 8)])
        disk.put(layout.path, layout.data[:offset] + change + layout.data[offset + 1 :])
        check_change(disk, layout, offset, synced, f"bit {bit} of {layout.path.name}, mark after {synced}")


TAILS = {"nothing": b"", "zeros": bytes(4096), "garbage": b"\xffjunk\x92\xce" * 9}


@pytest.mark.parametrize("synced", [0, 9, 11, len(RECORDS)])
@pytest.mark.parametrize("tail", TAILS)
def test_the_last_segment_ends_at_every_length(synced: int, tail: str) -> None:
    layout = LAYOUTS[-1]
    for length in range(len(layout.data)):
        what = f"cut at {length}, then {tail}, mark after {synced}"
        disk = damaged_log(synced)
        disk.put(layout.path, layout.data[:length] + TAILS[tail])
        good = layout.good_in(layout.data[:length] + TAILS[tail])
        if good < 0:
            # No crash leaves a segment without its header.
            check_tail_damage(disk, layout.before, what)
        elif layout.ends_cleanly(layout.data[:length] + TAILS[tail]) and good >= synced:
            check_whole(disk, good, what)
        elif good >= synced:
            check_torn(disk, good, what)
        else:
            check_tail_damage(disk, good, what)


@pytest.mark.parametrize("synced", [0, len(RECORDS)])
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("layout", LAYOUTS[:-1], ids=str)
def test_a_segment_with_others_behind_it_ends_at_every_length(layout: Layout, synced: int, tail: str) -> None:
    for length in range(len(layout.data)):
        what = f"{layout.path.name} cut at {length}, then {tail}, mark after {synced}"
        disk = damaged_log(synced)
        disk.put(layout.path, layout.data[:length] + TAILS[tail])
        good = layout.good_in(layout.data[:length] + TAILS[tail])
        is_clean = layout.ends_cleanly(layout.data[:length] + TAILS[tail])
        if good >= synced and not is_clean:
            check_torn(disk, good, what)
        else:
            check_hole(disk, max(good, layout.before), layout.end, what, splits=is_clean and good > layout.before)


def test_a_torn_tail_is_kept_aside_and_reported() -> None:
    disk = damaged_log(9)
    layout = LAYOUTS[-1]
    disk.put(layout.path, layout.data[:-5])
    recovered = open_memory(disk)
    offset = layout.starts[-1]
    assert recovered.cut is not None
    assert (recovered.cut.path, recovered.cut.offset) == (layout.path, offset)
    assert recovered.cut.size == len(layout.data) - 5 - offset
    assert recovered.cut.first_seq == RECORDS[-1].first_seq
    assert recovered.cut.copy.parent == DIRECTORY / DISCARDED
    assert bytes(disk.file(recovered.cut.copy).data).endswith(layout.data[offset:-5])
    assert str(recovered.cut.copy) in str(recovered.cut)


@pytest.mark.parametrize("count", [1, 700, 1 << 20])
def test_zeros_at_the_end_are_room_and_no_torn_write(count: int) -> None:
    disk = damaged_log(11)
    layout = LAYOUTS[-1]
    disk.put(layout.path, layout.data + bytes(count))
    assert look(disk).findings == []
    recovered = open_memory(disk)
    assert (recovered.cut, recovered.findings) == (None, [])
    follow = encode(recovered.last_checksum, recovered.last_seq + 1, recovered.last_term, 0, 0, [["NOOP"]])
    recovered.log.append([follow])
    assert bytes(disk.file(layout.path).data).startswith(layout.data + follow.raw)
    recovered.log.close()
    assert bytes(disk.file(layout.path).data) == layout.data + follow.raw


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (RECORDS[-1].raw[:-1], "the log ends within a record"),
        (RECORDS[-1].raw[:7], "the log ends within a record"),
        (b"\x92", "the log ends within a record"),
        (b"*3\r\n$3\r\nSET\r\n", "the log ends with garbage"),
        (RECORDS[-1].raw[:-1] + b"\x55", "the log ends with a record with a wrong checksum"),
        (b"junk" + RECORDS[-1].raw, "the log ends with garbage, and valid records follow"),
        (RECORDS[-1].raw[:-1] + b"\x55" + RECORDS[-1].raw, "wrong checksum, and valid records follow"),
        (b"junk" + RECORDS[0].raw, "the log ends with garbage"),
    ],
)
def test_the_report_says_which_kind_of_tail_it_was(tail: bytes, words: str) -> None:
    disk = damaged_log(11)
    layout = LAYOUTS[-1]
    disk.put(layout.path, layout.data[: layout.starts[-1]] + tail)
    found = look(disk)
    assert found.torn is not None
    cut = open_memory(disk).cut
    assert cut is not None
    assert cut.reason == found.torn.reason
    assert cut.reason.endswith(words)


@pytest.mark.parametrize("synced", [0, len(RECORDS)])
def test_a_missing_segment_with_others_behind_it_is_a_hole(synced: int) -> None:
    for layout in LAYOUTS[:-1]:
        disk = damaged_log(synced)
        disk.remove(layout.path)
        hole = check_hole(disk, layout.before, layout.end, f"{layout.path.name} missing, mark after {synced}")
        assert "the segment before it is missing" in str(hole)


def test_the_last_segment_is_missing() -> None:
    disk = damaged_log()
    disk.remove(SEGMENTS[-1])
    check_tail_damage(disk, LAYOUTS[-1].before, "the last segment is missing")
    above_the_mark = damaged_log(11)
    above_the_mark.remove(SEGMENTS[-1])
    check_whole(above_the_mark, LAYOUTS[-1].before, "nobody can know that it was there")


def test_two_neighbours_are_missing() -> None:
    disk = damaged_log()
    disk.remove(SEGMENTS[0])
    disk.remove(SEGMENTS[1])
    check_hole(disk, 0, LAYOUTS[-1].before, "the first two segments are missing")


def test_all_segments_are_missing() -> None:
    disk = damaged_log()
    for path in SEGMENTS:
        disk.remove(path)
    check_tail_damage(disk, 0, "no segment")


@pytest.mark.parametrize("synced", [11, len(RECORDS)])
def test_a_valid_record_in_the_wrong_place_is_damage_even_above_the_mark(synced: int) -> None:
    last, before_last = RECORDS[-1], RECORDS[-2]
    wrong_chain = encode(before_last.checksum ^ 1, last.first_seq, 1, 0, 0, [["NOOP"]])
    wrong_seq = encode(before_last.checksum, last.first_seq - 1, 1, 0, 0, [["NOOP"]])
    for wrong in (RECORDS[0], before_last, wrong_chain, wrong_seq):
        disk = damaged_log(synced)
        layout = LAYOUTS[-1]
        disk.put(layout.path, layout.data[: layout.starts[-1]] + wrong.raw)
        check_tail_damage(disk, 11, f"{wrong} in place of the last record")


def test_a_valid_record_of_later_seqs_is_what_a_hole_ends_with() -> None:
    """Whether it belongs there is found out when the hole is filled."""
    disk = damaged_log(11)
    layout = LAYOUTS[-1]
    later = encode(77, RECORDS[-1].first_seq + 1, 1, 0, 0, [["NOOP"]])
    disk.put(layout.path, layout.data[: layout.starts[-1]] + later.raw)
    (hole,) = look(disk).holes
    assert (hole.before, hole.next_seq, hole.next_prev_checksum) == (end_of(RECORDS[:11]), later.first_seq, 77)


def test_a_lower_term_is_damage() -> None:
    records = chain(2, term=3)
    disk = make_log(records)
    lower = chain(1, term=2, after=records[-1])[0]
    path = segment_paths(disk)[-1]
    disk.put(path, bytes(disk.file(path).data) + lower.raw)
    recovered = open_memory(disk)
    assert "lower than the term 3" in recovered.identity.set_aside
    assert recovered.last_seq == records[-1].last_seq


def test_two_segments_exchanged() -> None:
    disk = damaged_log(0)
    disk.put(SEGMENTS[0], LAYOUTS[1].data)
    disk.put(SEGMENTS[1], LAYOUTS[0].data)
    hole = check_hole(disk, 0, LAYOUTS[-1].before, "the first two segments exchanged")
    assert "its name says 1" in str(hole)
    disk = damaged_log(0)
    disk.put(SEGMENTS[1], LAYOUTS[2].data)
    disk.put(SEGMENTS[2], LAYOUTS[1].data)
    check_tail_damage(disk, LAYOUTS[1].before, "the last two segments exchanged")


OTHER = make_log(chain(12, value=b"w"))


@pytest.mark.parametrize("layout", LAYOUTS[:-1], ids=str)
def test_a_segment_of_another_history_is_a_hole_as_long_as_it_is(layout: Layout) -> None:
    disk = damaged_log(0)
    disk.put(layout.path, bytes(OTHER.file(layout.path).data))
    # That the first segment is not what the others continue is only seen behind it.
    read_first = raws(chain(6, value=b"w")) if layout.before == 0 else None
    check_hole(disk, layout.before, layout.end, f"another history in {layout.path.name}", read_first=read_first)


def test_the_last_segment_is_of_another_history() -> None:
    disk = damaged_log(0)
    disk.put(SEGMENTS[-1], bytes(OTHER.file(SEGMENTS[-1]).data))
    check_tail_damage(disk, LAYOUTS[-1].before, "another history in the last segment")


@pytest.mark.parametrize("whose", [("other", "A"), ("", "B")])
@pytest.mark.parametrize("position", range(3))
def test_a_segment_of_another_node_is_a_hole_as_long_as_it_is(whose: tuple[str, str], position: int) -> None:
    disk = damaged_log(0)
    layout = LAYOUTS[position]
    (segment,) = [s for s in look(disk).segments if s.path == layout.path]
    header = segment.header
    assert header is not None
    foreign = type(header)(
        whose[0] or header.cluster_id, whose[1], header.first_seq, header.prev_checksum, header.prev_term
    )
    disk.put(layout.path, encode_header(foreign) + layout.data[layout.starts[0] :])
    if layout is LAYOUTS[-1]:
        check_tail_damage(disk, layout.before, f"{whose} in the last segment")
    else:
        check_hole(disk, layout.before, layout.end, f"{whose} in {layout.path.name}")


@pytest.mark.parametrize("synced", [0, len(RECORDS)])
def test_a_tail_that_the_disk_does_not_give(synced: int) -> None:
    """No crash leaves that behind; what can be read of it is kept."""
    for offset in (0, LAYOUTS[-1].starts[-1] + 20):
        disk = damaged_log(synced)
        disk.file(SEGMENTS[-1]).unreadable = {offset}
        check_tail_damage(disk, LAYOUTS[-1].before, f"byte {offset} can not be read, mark after {synced}")
        assert len(disk.listdir(DIRECTORY / DISCARDED)) == 1


@pytest.mark.parametrize("layout", LAYOUTS[:-1], ids=str)
def test_a_segment_that_the_disk_does_not_give(layout: Layout) -> None:
    disk = damaged_log(0)
    disk.file(layout.path).unreadable = {0}
    hole = check_hole(disk, layout.before, layout.end, f"{layout.path.name} can not be read")
    assert "read error" in hole.reason


FOREIGN_CONTENTS = {
    "empty": b"",
    "zeros": bytes(4096),
    "random": bytes(range(256)) * 20,
    "an AOF": b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n" * 40,
    "frames": b"\x92\xce" * 500,
}


@pytest.mark.parametrize("content", FOREIGN_CONTENTS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_something_else_in_place_of_a_segment(layout: Layout, content: str) -> None:
    disk = damaged_log(0)
    disk.put(layout.path, FOREIGN_CONTENTS[content])
    what = f"{content} in place of {layout.path.name}"
    if layout is LAYOUTS[-1]:
        check_tail_damage(disk, layout.before, what)
    else:
        check_hole(disk, layout.before, layout.end, what)


def test_the_message_names_file_offset_and_entries() -> None:
    disk = damaged_log()
    layout = LAYOUTS[1]
    offset = layout.starts[1]
    disk.put(layout.path, layout.data[: offset + 20] + b"\0" + layout.data[offset + 21 :])
    with pytest.raises(DamageError) as caught:
        open_memory(disk)
    damage = caught.value
    record = RECORDS[layout.before + 1]
    assert (damage.path, damage.offset) == (layout.path, offset)
    assert (damage.first_seq, damage.last_seq) == (record.first_seq, record.last_seq)
    for part in (str(layout.path), str(offset), f"entries {record.first_seq} to {record.last_seq}", "set aside"):
        assert part in str(damage)
