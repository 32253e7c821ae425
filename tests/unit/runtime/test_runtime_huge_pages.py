"""What the kernel says of this process's own memory after it was gone through."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvnode.node.info import resident_bytes
from kvnode.runtime import huge_pages
from kvnode.runtime.huge_pages import PAGE, PIECE, RESIDENT_MIN, HugePages, can_use_huge_pages
from tests.cluster.harness import eventually, huge_bytes

needs_kernel = pytest.mark.skipif(not can_use_huge_pages(), reason="needs Linux 6.1 or newer, with huge pages allowed")
SIZE = 5 * PIECE
PAGES = PIECE // PAGE


class Memory:
    """Fresh memory, or that of a file. `pieces`: how many of it may be in a huge page."""

    def __init__(self, file: int = -1) -> None:
        anonymous = mmap.MAP_ANONYMOUS if file == -1 else 0
        self._mapping = mmap.mmap(file, SIZE, flags=mmap.MAP_PRIVATE | anonymous)
        self._mapping.madvise(mmap.MADV_DONTDUMP)  # or it would become one with its neighbours
        self._held = ctypes.c_char.from_buffer(self._mapping)
        self._address = ctypes.addressof(self._held)
        self._before = -self._address % PIECE
        self.pieces = (SIZE - self._before) // PIECE

    def _positions(self, piece: int, pages: int) -> range:
        first = self._before + piece * PIECE
        return range(first, first + pages * PAGE, PAGE)

    def use_all(self) -> None:
        for piece in range(self.pieces):
            self.use(piece)

    def holds_all(self) -> bool:
        return all(self.holds(piece) for piece in range(self.pieces))

    def is_all_huge(self) -> bool:
        return self.huge_bytes() == self.pieces * PIECE

    def use(self, piece: int, pages: int = PAGES) -> None:
        for number, position in enumerate(self._positions(piece, pages)):
            self._mapping[position] = number % 251

    def holds(self, piece: int, pages: int = PAGES) -> bool:
        return all(self._mapping[position] == n % 251 for n, position in enumerate(self._positions(piece, pages)))

    def forbid(self) -> None:
        self._mapping.madvise(mmap.MADV_NOHUGEPAGE)

    def huge_bytes(self) -> int:
        return self._told("AnonHugePages")

    def resident_bytes(self) -> int:
        return self._told("Rss")

    def _told(self, field: str) -> int:
        start = re.escape(f"{self._address:x}-")
        found = re.search(rf"^{start}.*?^{field}: +(\d+) kB", Path("/proc/self/smaps").read_text(), re.M | re.S)
        assert found, "the mapping has other bounds"
        return int(found[1]) * 1024

    def close(self) -> None:
        del self._held
        self._mapping.close()


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.close()


@needs_kernel
def test_memory_in_use_is_moved_and_holds_what_it_held(memory: Memory) -> None:
    memory.use_all()
    HugePages().collapse_all()
    assert memory.is_all_huge()
    assert memory.holds_all()


@needs_kernel
def test_memory_of_a_file_is_passed_by(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    with path.open("r+b") as file:
        of_file = Memory(file.fileno())
    of_file.use_all()
    memory.use_all()
    HugePages().collapse_all()
    assert memory.is_all_huge()
    assert of_file.holds_all()
    assert not of_file.huge_bytes()
    of_file.close()


@needs_kernel
@pytest.mark.skipif("[always]" in Path(huge_pages._MODE).read_text(), reason="the kernel does it by itself")
def test_memory_that_is_mostly_unused_stays_so(memory: Memory) -> None:
    memory.use(1, RESIDENT_MIN)
    memory.use(2, RESIDENT_MIN - 1)
    HugePages().collapse_all()
    assert memory.huge_bytes() == PIECE
    assert memory.resident_bytes() == PIECE + (RESIDENT_MIN - 1) * PAGE
    assert memory.holds(1, RESIDENT_MIN)
    assert memory.holds(2, RESIDENT_MIN - 1)


@needs_kernel
def test_a_thread_does_it_as_memory_grows(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "LOOK_S", 0.01)
    moving = HugePages()
    moving.start()
    try:
        memory.use_all()
        eventually(memory.is_all_huge, "all is in huge pages")
    finally:
        moving.stop()
    assert "huge pages" not in [thread.name for thread in threading.enumerate()]


@needs_kernel
def test_what_comes_during_a_pass_is_gone_through_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    class Growing(HugePages):
        passes = 0
        came = b""

        def collapse_all(self) -> None:
            super().collapse_all()
            self.came = self.came or b"x" * (resident_bytes() // 8)
            self.passes += 1

    monkeypatch.setattr(huge_pages, "LOOK_S", 0.01)
    moving = Growing()
    moving.start()
    try:
        eventually(lambda: moving.passes > 1, "another pass")
    finally:
        moving.stop()


@needs_kernel
def test_a_stop_ends_the_rest_and_what_would_follow(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "REST", 1e6)  # for ever
    memory.use_all()
    before = huge_bytes(os.getpid())
    moving = HugePages()
    moving.stop()
    moving.collapse_all()
    assert huge_bytes(os.getpid()) <= before + PIECE


@needs_kernel
def test_memory_that_may_not_be_there_does_not_hold_up_the_rest(memory: Memory) -> None:
    refused = Memory()
    refused.forbid()
    refused.use_all()
    memory.use_all()
    HugePages().collapse_all()
    assert memory.is_all_huge()
    assert not refused.huge_bytes()
    assert refused.holds_all()
    refused.close()


@needs_kernel
def test_what_the_kernel_refuses_stays_as_it_was() -> None:
    program = """
import ctypes
from tests.unit.runtime.test_runtime_huge_pages import HugePages, Memory, can_use_huge_pages

PR_SET_THP_DISABLE = 41
assert ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0
memory = Memory()
memory.use_all()
HugePages().collapse_all()
assert can_use_huge_pages()  # the kernel says it knows how
assert memory.huge_bytes() == 0
assert memory.holds_all()
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@needs_kernel
@pytest.mark.parametrize("mode", ["always madvise [never]\n", None])
def test_never_where_it_is_forbidden_or_unknown(
    mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "enabled"
    monkeypatch.setattr(huge_pages, "_MODE", path)
    path.write_text("always [madvise] never\n")
    assert can_use_huge_pages()
    if mode is None:
        path.unlink()
    else:
        path.write_text(mode)
    assert not can_use_huge_pages()
    moving = HugePages()
    moving.start()
    assert "huge pages" not in [thread.name for thread in threading.enumerate()]
    moving.stop()
