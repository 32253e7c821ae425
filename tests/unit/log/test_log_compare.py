"""Where two logs part, and how little is read to find out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from kvnode.log import LogError, LogOptions, Record, cluster_id, open_log
from kvnode.log.files import RealFiles
from kvnode.log.mark import Mark, encode_mark
from kvnode.log.viewing.compare import Comparison, Unreadable, compare
from kvnode.log.viewing.listing import look_at
from kvnode.log.viewing.reader import Found, Item, Reader, Replaced
from tests.crash.log_maker import MEMBERS, chain

RECORDS = chain(40)


def fill(directory: Path, records: list[Record], segment_bytes: int = 400, node_id: str = "A", batch: int = 1) -> Path:
    log = open_log(
        directory,
        cluster_id=cluster_id(MEMBERS),
        node_id=node_id,
        members=MEMBERS,
        options=LogOptions(segment_bytes=segment_bytes),
    ).log
    log.save_ballot(2, None)
    for start in range(0, len(records), batch):
        log.append(records[start : start + batch])
    log.close()
    return directory


def parted_at(comparison: Comparison) -> list[int | None]:
    return [None if found is None else found.record.first_seq for found in comparison.parted]


@pytest.mark.parametrize("other_bytes", [400, 550, 100_000])
@pytest.mark.parametrize("common", [0, 1, 7, 20, 33, 39])
def test_the_first_record_that_differs(tmp_path: Path, common: int, other_bytes: int) -> None:
    after = RECORDS[common - 1] if common else None
    fill(tmp_path / "A", RECORDS)
    fill(tmp_path / "B", RECORDS[:common] + chain(40 - common, term=2, after=after), other_bytes, "B")
    comparison = compare(tmp_path / "A", tmp_path / "B")
    assert comparison.equal_seq == 2 * common
    assert comparison.equal_checksum == (after.checksum if after else 0)
    assert parted_at(comparison) == [2 * common + 1, 2 * common + 1]
    assert comparison.is_parted
    one, other = comparison.parted
    assert one is not None
    assert other is not None
    assert (one.record.term, other.record.term) == (1, 2)
    assert [side.owner.node_id for side in comparison.sides] == ["A", "B"]
    assert one.path.read_bytes()[one.offset :].startswith(one.record.raw)


@pytest.mark.parametrize("other_bytes", [400, 550, 100_000])
@pytest.mark.parametrize("common", [0, 1, 20, 39, 40])
def test_one_is_the_beginning_of_the_other(tmp_path: Path, common: int, other_bytes: int) -> None:
    fill(tmp_path / "A", RECORDS[:common])
    fill(tmp_path / "B", RECORDS, other_bytes)
    next_seq = 2 * common + 1 if common < 40 else None
    for comparison, wanted in [
        (compare(tmp_path / "A", tmp_path / "B"), [None, next_seq]),
        (compare(tmp_path / "B", tmp_path / "A"), [next_seq, None]),
    ]:
        assert (comparison.equal_seq, parted_at(comparison)) == (2 * common, wanted)
        assert comparison.equal_checksum == (RECORDS[common - 1].checksum if common else 0)
        assert not comparison.is_parted


@pytest.mark.parametrize("seed", range(30))
def test_any_two_logs(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    common = random.randrange(41)
    after = RECORDS[common - 1] if common else None
    rest = random.choice([[], chain(random.randrange(1, 30), term=2, after=after, value=bytes(random.randrange(200)))])
    fill(tmp_path / "A", RECORDS, random.randrange(300, 2000))
    fill(tmp_path / "B", RECORDS[:common] + rest, random.randrange(300, 2000))
    comparison = compare(tmp_path / "A", tmp_path / "B")
    assert comparison.equal_seq == 2 * common
    assert parted_at(comparison) == [2 * common + 1 if common < 40 else None, 2 * common + 1 if rest else None]


def test_two_segments_are_read_and_no_more(tmp_path: Path) -> None:
    records = chain(300, entries=4, value=bytes(25_000))
    parting = 217
    instead = chain(300 - parting, entries=4, term=2, after=records[parting - 1], value=bytes(25_000))
    fill(tmp_path / "A", records, 3_000_000, batch=10)
    fill(tmp_path / "B", records[:parting] + instead, 2_500_000, batch=7)
    comparison = compare(tmp_path / "A", tmp_path / "B")
    assert comparison.equal_seq == parting * 4
    assert comparison.bytes_total > 60_000_000
    # At most the two segments where they part, with what is read ahead, and a few pieces of some others.
    assert comparison.bytes_read < 9_000_000


def test_a_part_that_was_cut_off_is_compared_with_what_came_instead(tmp_path: Path) -> None:
    log = open_log(fill(tmp_path / "A", RECORDS, 100_000), cluster_id=cluster_id(MEMBERS), node_id="A", members=MEMBERS)
    cut = log.log.cut(RECORDS[29].last_seq)
    log.log.append(chain(5, term=2, after=RECORDS[29]))
    log.log.close()
    assert cut is not None
    comparison = compare(cut.copy, tmp_path / "A")
    assert (comparison.equal_seq, parted_at(comparison)) == (60, [61, 61])
    assert comparison.equal_checksum == RECORDS[29].checksum


def test_logs_with_nothing_in_common(tmp_path: Path) -> None:
    fill(tmp_path / "A", RECORDS)
    fill(tmp_path / "B", RECORDS[:5])
    last = look_at(tmp_path / "A").segments[-1].path
    with pytest.raises(LogError, match="have no entry in common"):
        compare(last, tmp_path / "B")
    fill(tmp_path / "C", chain(40, term=2))
    comparison = compare(last, tmp_path / "C")
    assert comparison.equal_seq is None, "they parted in what only one of them shows"
    assert comparison.is_parted


def test_damage_before_they_part_is_told_and_elsewhere_is_nobodys_concern(tmp_path: Path) -> None:
    fill(tmp_path / "A", RECORDS)
    fill(tmp_path / "B", RECORDS[:30] + chain(10, term=2, after=RECORDS[29]), 550)
    items = [item for item in Reader(look_at(tmp_path / "B")) if isinstance(item, Found)]

    def flip(found: Found) -> None:
        data = bytearray(found.path.read_bytes())
        data[found.offset + 20] ^= 1
        found.path.write_bytes(data)

    flip(items[3])
    assert compare(tmp_path / "A", tmp_path / "B").equal_seq == 60
    flip(items[29])
    with pytest.raises(Unreadable, match=r"the checksum does not match.*They are equal up to seq 58"):
        compare(tmp_path / "A", tmp_path / "B")


def test_a_damaged_header_costs_reading_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path / "A", RECORDS)
    fill(tmp_path / "B", RECORDS)
    for segment in look_at(tmp_path / "B").segments[2:-1]:
        data = bytearray(segment.path.read_bytes())
        data[20] ^= 1
        segment.path.write_bytes(data)
    comparison = compare(tmp_path / "A", tmp_path / "B")
    assert (comparison.equal_seq, comparison.parted) == (80, (None, None))


def test_an_unfinished_end_is_the_end(tmp_path: Path) -> None:
    fill(tmp_path / "A", RECORDS)
    fill(tmp_path / "B", RECORDS)
    (tmp_path / "B" / "mark").write_bytes(encode_mark(Mark(70, 1, 0)))
    last = look_at(tmp_path / "B").segments[-1].path
    last.write_bytes(last.read_bytes()[:-1])
    assert parted_at(compare(tmp_path / "A", tmp_path / "B")) == [79, None]


def test_a_torn_record_is_the_end_though_others_follow_it(tmp_path: Path) -> None:
    fill(tmp_path / "A", RECORDS, 100_000)
    fill(tmp_path / "B", RECORDS, 100_000)
    (tmp_path / "B" / "mark").write_bytes(encode_mark(Mark(70, 1, 0)))
    torn = [item for item in Reader(look_at(tmp_path / "B")) if isinstance(item, Found)][35]
    data = bytearray(torn.path.read_bytes())
    data[torn.offset + 20] ^= 1
    torn.path.write_bytes(data)
    assert parted_at(compare(tmp_path / "A", tmp_path / "B")) == [71, None], "a start would cut there"


def test_a_log_that_is_cut_while_it_is_compared_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "A", RECORDS)
    log = open_log(fill(tmp_path / "B", RECORDS, 550), cluster_id=cluster_id(MEMBERS), node_id="A", members=MEMBERS).log
    pread = RealFiles.pread
    instead = chain(20, term=2, after=RECORDS[9])

    for moment in range(1, 14):
        reads = 0

        def meddle(files: RealFiles, fd: int, count: int, offset: int, moment: int = moment) -> bytes:
            nonlocal reads
            reads += 1
            if reads == moment:
                log.cut(RECORDS[9].last_seq)
                log.append(instead)
            return pread(files, fd, count, offset)

        with monkeypatch.context() as patch:
            patch.setattr(RealFiles, "pread", meddle)
            comparison = compare(tmp_path / "A", tmp_path / "B")
        assert (comparison.equal_seq, parted_at(comparison)) in [(20, [21, 21]), (80, [None, None])]
        log.cut(RECORDS[9].last_seq)
        log.append(RECORDS[10:])
    log.close()


def test_a_log_that_is_cut_below_what_was_compared_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Reader):
        reads = 0

        def read(self, progress: Callable[[int], None] | None = None) -> Iterator[Item]:
            Cut.reads += 1
            if Cut.reads == 1:
                yield from list(super().read())[:1]
                yield Replaced(0)
            else:
                yield from super().read(progress)

    monkeypatch.setattr("kvnode.log.viewing.compare.Reader", Cut)
    fill(tmp_path / "A", RECORDS, 100_000)
    fill(tmp_path / "B", RECORDS, 100_000)
    comparison = compare(tmp_path / "A", tmp_path / "B")
    assert (comparison.equal_seq, parted_at(comparison), Cut.reads) == (80, [None, None], 4)


def test_progress_is_told(tmp_path: Path) -> None:
    fill(tmp_path / "A", RECORDS)
    fill(tmp_path / "B", RECORDS)
    told: list[tuple[int, int]] = []
    compare(tmp_path / "A", tmp_path / "B", lambda done, total: told.append((done, total)))
    last = [look_at(tmp_path / name).segments[-1].size for name in "AB"]
    assert told[-1] == (sum(last), sum(last))
