"""The process's memory in pages of 2 MiB (Linux 6.1 or newer).

Overwriting one of many keys touches memory that no cache holds; and with pages of 4 KiB the processor has to look up
first where it is, in tables that no cache holds either, and in a virtual machine in those of the host, too. How much
that costs is in docs/ARCHITECTURE.md.

Python's memory comes in arenas of 1 MiB, for which the kernel can not take a page of 2 MiB when they are first used.
It can move them into one later (`MADV_COLLAPSE`), a piece in half a millisecond to five. A thread asks for that, piece
after piece, whenever the process has grown, and rests nine times as long as each took.

It is a matter of speed alone: what the kernel refuses stays as it was. Where an administrator has said "never" to huge
pages, it is not asked.
"""

from __future__ import annotations

import ctypes
import errno
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kvnode.node.info import resident_bytes

PIECE: Final = 2 * 1024 * 1024
"""Bytes of a huge page, on x86-64, and on ARM with pages of 4 KiB. Where they are larger the kernel refuses."""
PAGE: Final = 4096
RESIDENT_MIN: Final = PIECE // PAGE * 3 // 4
"""Pages of a piece that must be in use already: the others will be, too. (The stack of a thread is nearly empty.)"""
LOOK_S: Final = 1.0
"""How often the size of the process is looked at."""
GROWTH: Final = 1 / 32
"""When it has grown by so much since a pass began, another one begins. A piece that needs nothing takes 10 µs."""
REST: Final = 9
"""The rest after each piece, by the time that it took."""
SHORT_S: Final = 0.0001
"""A piece that took less was in a huge page already."""

_MADV_COLLAPSE: Final = 25
_MODE: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# Where the interpreter's lock is given up meanwhile, and where it is not.
_madvise: Final = ctypes.CDLL(None, use_errno=True).madvise
_mincore: Final = ctypes.PyDLL(None).mincore
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


class HugePages:
    """A thread that moves this process's memory into huge pages, from `start` until `stop`, where the kernel can."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._runner = threading.Thread(target=self._run, name="huge pages", daemon=True)

    def start(self) -> None:
        if can_use_huge_pages():
            self._runner.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._runner.ident is not None:
            self._runner.join()

    def _run(self) -> None:
        size_before = 0
        while not self._stopping.wait(LOOK_S):
            size = resident_bytes()
            if size > size_before * (1 + GROWTH):
                self.collapse_all()
                size_before = size  # not what it is by now: a pass does not see what comes meanwhile

    def collapse_all(self) -> None:
        """Go through all memory of the process's own, until the kernel has no huge page left.

        Any other refusal is of one piece."""
        for start, end in _own_memory():
            for piece in range(-(-start // PIECE) * PIECE, end - PIECE + 1, PIECE):
                if not _is_in_use(piece):
                    continue
                began = time.perf_counter()
                if not _collapse(piece, PIECE) and ctypes.get_errno() == errno.ENOMEM:
                    return
                took = time.perf_counter() - began
                if took > SHORT_S and self._stopping.wait(REST * took):
                    return


def can_use_huge_pages() -> bool:
    """Whether the kernel knows how, tells what it has to, and nobody has forbidden it."""
    try:
        is_forbidden = "[never]" in _MODE.read_text()
    except OSError:  # a kernel without huge pages, or another system
        return False
    return not is_forbidden and resident_bytes() > 0 and _collapse(0, 0)


def _collapse(address: int, size: int) -> bool:
    return bool(_madvise(address, size, _MADV_COLLAPSE) == 0)


def _is_in_use(piece: int) -> bool:
    """Whether most of it is there. Of what has been given back meanwhile nothing is."""
    is_resident = (ctypes.c_char * (PIECE // PAGE))()
    return _mincore(piece, PIECE, is_resident) == 0 and is_resident.raw.count(1) >= RESIDENT_MIN


def _own_memory() -> Iterator[tuple[int, int]]:
    """From where to where, in bytes: what is private, writable, and of no file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions, _, _, inode, *name = line.split()
        if permissions == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            start, _, end = addresses.partition("-")
            yield int(start, 16), int(end, 16)
