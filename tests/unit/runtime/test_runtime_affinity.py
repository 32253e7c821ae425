"""Two real threads, and the CPUs that the kernel lets them use."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import pytest

from kvnode.runtime.affinity import FREE_MS, GAP_MS, Affinity, can_bind_threads

CPUS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
pytestmark = pytest.mark.skipif(len(CPUS) < 2 or not can_bind_threads(), reason="needs Linux and two CPUs")

HOG = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"


class Writer:
    """A thread that waits until it may end."""

    def __init__(self) -> None:
        self._may_end = threading.Event()
        self._thread = threading.Thread(target=self._may_end.wait)
        self._thread.start()
        self.id = self._thread.native_id or 0

    def end(self) -> None:
        self._may_end.set()
        self._thread.join()
        while Path(f"/proc/self/task/{self.id}").exists():  # the kernel takes its time
            time.sleep(0.001)


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.end()
    os.sched_setaffinity(0, CPUS)


@pytest.fixture
def reader() -> Iterator[Writer]:
    """The thread that is never bound."""
    reader = Writer()
    yield reader
    reader.end()


@pytest.fixture
def affinity(writer: Writer, reader: Writer) -> Affinity:
    return Affinity(threading.get_native_id(), writer.id, reader.id, 50.0)


def test_both_stay_on_one_cpu_for_a_while(affinity: Affinity, writer: Writer) -> None:
    assert affinity.leave_ms == inf
    affinity.stay(1000.0)
    (cpu,) = os.sched_getaffinity(0)
    assert os.sched_getaffinity(writer.id) == {cpu}
    assert affinity.leave_ms == 1050.0
    affinity.stay(1040.0)
    assert affinity.leave_ms == 1050.0, "a stay is not made longer by the next record"
    affinity.leave(1_000_000.0)  # a long time, of which the loop has not waited a quarter
    assert os.sched_getaffinity(0) == os.sched_getaffinity(writer.id) == CPUS
    assert affinity.leave_ms == inf
    affinity.stay(1_000_000.0 + GAP_MS - 1)
    assert os.sched_getaffinity(0) == CPUS, "they have to sleep once, or the kernel can not move them"
    affinity.stay(1_000_000.0 + GAP_MS)
    assert len(os.sched_getaffinity(0)) == 1


def test_they_stay_where_the_loop_is(affinity: Affinity, writer: Writer) -> None:
    def stays_on() -> set[int]:
        os.sched_setaffinity(0, {cpu})  # moves this thread before the call returns
        os.sched_setaffinity(0, CPUS)  # from here on it might move again, but why
        affinity.stay(1000.0)
        bound = os.sched_getaffinity(writer.id)
        assert bound == os.sched_getaffinity(0)
        affinity.free()
        return bound

    for cpu in sorted(CPUS):
        assert any(stays_on() == {cpu} for _ in range(100))


def test_where_the_loop_has_to_wait_they_are_free_for_a_while(affinity: Affinity, writer: Writer) -> None:
    affinity.stay(0.0)
    (cpu,) = os.sched_getaffinity(0)
    waited_ms = waits_ms()
    with subprocess.Popen([sys.executable, "-c", HOG, str(cpu)], stdout=subprocess.PIPE) as hog:
        assert hog.stdout is not None
        hog.stdout.readline()
        deadline_s = time.monotonic() + 20
        while waits_ms() < waited_ms + 20:
            assert time.monotonic() < deadline_s, "the kernel lets both run at once, or does not count"
        hog.kill()
    affinity.leave(50.0)
    assert os.sched_getaffinity(0) == CPUS
    affinity.stay(50.0 + FREE_MS - 1)
    assert os.sched_getaffinity(0) == os.sched_getaffinity(writer.id) == CPUS
    affinity.stay(50.0 + FREE_MS)
    assert len(os.sched_getaffinity(0)) == 1


def waits_ms() -> float:
    times = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text("ascii")
    return int(times.split()[1]) / 1e6


def test_where_there_is_one_cpu_only_they_are_left_alone(affinity: Affinity, writer: Writer, reader: Writer) -> None:
    cpu = min(CPUS)
    for thread in (0, writer.id, reader.id):
        os.sched_setaffinity(thread, {cpu})
    affinity.stay(1000.0)
    assert affinity.leave_ms == inf
    for thread in (0, writer.id, reader.id):
        os.sched_setaffinity(thread, CPUS)
    affinity.stay(1000.0 + FREE_MS)
    assert affinity.leave_ms < inf, "the process may use more now"


def test_who_has_bound_the_loop_by_itself_is_obeyed(affinity: Affinity, writer: Writer) -> None:
    os.sched_setaffinity(0, {min(CPUS)})
    affinity.stay(1000.0)
    assert affinity.leave_ms == inf
    assert os.sched_getaffinity(writer.id) == CPUS


def test_what_the_process_may_use_is_asked_anew(affinity: Affinity, writer: Writer, reader: Writer) -> None:
    """A cpuset that shrinks and grows again must not leave the threads with less than the others."""
    affinity.stay(1000.0)
    bound = os.sched_getaffinity(0)
    os.sched_setaffinity(reader.id, bound)
    affinity.free()
    assert os.sched_getaffinity(0) == os.sched_getaffinity(writer.id) == bound
    os.sched_setaffinity(reader.id, CPUS)
    affinity.stay(2000.0)
    affinity.free()
    assert os.sched_getaffinity(0) == os.sched_getaffinity(writer.id) == CPUS


def test_a_cpu_that_can_not_be_is_not_stayed_on(affinity: Affinity, writer: Writer) -> None:
    affinity._read_cpu = lambda: -1
    affinity.stay(1000.0)
    assert affinity.leave_ms == inf
    assert os.sched_getaffinity(0) == os.sched_getaffinity(writer.id) == CPUS


def test_what_somebody_else_says_stands(affinity: Affinity, writer: Writer) -> None:
    affinity.stay(1000.0)
    (cpu,) = os.sched_getaffinity(0)
    other = min(CPUS - {cpu})
    os.sched_setaffinity(writer.id, {other})
    affinity.leave(2000.0)
    assert os.sched_getaffinity(writer.id) == {other}
    assert os.sched_getaffinity(0) == CPUS


def test_where_the_kernel_refuses_they_are_free(affinity: Affinity, writer: Writer) -> None:
    writer.end()
    affinity.stay(1000.0)
    assert affinity.leave_ms == inf
    assert os.sched_getaffinity(0) == CPUS


def test_a_writer_that_ends_during_a_stay(affinity: Affinity, writer: Writer) -> None:
    affinity.stay(1000.0)
    writer.end()
    affinity.leave(2000.0)
    assert os.sched_getaffinity(0) == CPUS


def test_no_descriptor_is_left(affinity: Affinity, writer: Writer) -> None:
    affinity.stay(0.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        affinity.leave(1000.0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    affinity.stay(1000.0 + FREE_MS - 1)
    assert os.sched_getaffinity(0) == os.sched_getaffinity(writer.id) == CPUS


@pytest.mark.parametrize("name", ["stat", "schedstat"])
@pytest.mark.parametrize("content", [b"", b"1 (kvnode) S", b"0 0 0"])
def test_where_the_kernel_does_not_tell_they_are_free(
    affinity: Affinity, writer: Writer, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    """As kernels that are built otherwise, or are none, show these files."""
    tell(monkeypatch, lambda path: content if path.name == name else None)
    affinity.stay(1000.0)
    assert affinity.leave_ms == inf
    assert os.sched_getaffinity(0) == os.sched_getaffinity(writer.id) == CPUS


@pytest.mark.parametrize("whose", ["loop", "writer"])
def test_a_quarter_of_the_time_is_too_much_to_wait(
    affinity: Affinity, writer: Writer, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    """Of either thread, to the millisecond, as no real load gives it."""
    thread = str(writer.id if whose == "writer" else threading.get_native_id())
    waited_ns = 0

    def times(path: Path) -> bytes | None:
        if path.name != "schedstat":
            return None
        return b"1 %d 1" % (waited_ns if path.parent.name == thread else 0)

    tell(monkeypatch, times)
    affinity.stay(1000.0)
    waited_ns += 12_000_000
    affinity.leave(1050.0)
    affinity.stay(1050.0 + GAP_MS)
    assert affinity.leave_ms < inf
    waited_ns += 13_000_000
    affinity.leave(1100.0 + GAP_MS)
    affinity.stay(1100.0 + GAP_MS + FREE_MS - 1)
    assert affinity.leave_ms == inf


def tell(monkeypatch: pytest.MonkeyPatch, content_of: Callable[[Path], bytes | None]) -> None:
    """Let files have other contents; None: their own."""
    read_bytes = Path.read_bytes

    def read(path: Path) -> bytes:
        content = content_of(path)
        return read_bytes(path) if content is None else content

    monkeypatch.setattr(Path, "read_bytes", read)
