"""Histories: what is recorded, what errors mean, and that a file gives back what was written to it."""

from __future__ import annotations

import gc
import io
import re
import sys
from collections.abc import Iterator
from itertools import count
from math import inf
from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvnode
from tests.checker import history
from tests.checker.history import FAIL, OK, UNKNOWN, Error, Operation, Recorder, status_of_error

VALUES = st.none() | st.binary(max_size=4)
RESULTS = VALUES | st.integers() | st.builds(Error, st.text(max_size=5)) | st.lists(VALUES, max_size=3).map(tuple)


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    status = draw(st.sampled_from([OK, FAIL, UNKNOWN]))
    return Operation(
        process=draw(st.integers(0, 9)),
        kind="SET",
        key=draw(st.binary(max_size=4) | st.lists(st.binary(max_size=2), min_size=2, max_size=3).map(tuple)),
        argument=draw(VALUES | st.lists(st.binary(max_size=2), max_size=3).map(tuple)),
        invoked=draw(st.integers(0, 10**18)),
        returned=inf if status is UNKNOWN else draw(st.floats(0, 1e9)),
        status=status,
        result=draw(RESULTS) if status is OK else None,
        seq=draw(st.none() | st.integers(0, 2**63)),
    )


@given(st.lists(operations(), max_size=5))
def test_a_file_gives_back_what_was_written(written: history.History) -> None:
    file = io.StringIO()
    history.write(written, file)
    assert list(history.read(file.getvalue().splitlines())) == written


def test_the_file_is_the_one_of_the_docstring() -> None:
    assert history.__doc__ is not None
    text = " ".join(line.strip() for line in history.__doc__.splitlines())
    (line,) = re.findall(r"\{\"process.*?\}", text)
    operation = Operation(1, "SET", b"k", b"v", 3, 5, OK, b"OK", 17)
    assert list(history.read([line])) == [operation]
    file = io.StringIO()
    history.write([operation], file)
    assert file.getvalue() == line + "\n"


def test_the_recorder_writes_down_what_happens() -> None:
    recorder = Recorder(count().__next__)
    one, two, three, four, five = (recorder.invoke(process, "GET", b"k") for process in range(5))
    recorder.answer(two, [b"v", None], seq=7)
    recorder.fail(one)
    assert recorder.error(three, "ERR no such key", seq=8) is OK
    assert recorder.error(four, "UNKNOWN the command may have been applied or not") is UNKNOWN
    recorder.invoke(5, "SET", b"k", b"v")
    assert recorder.error(five, "CLUSTERDOWN no leader within the time of the request") is FAIL
    assert [str(operation) for operation in recorder.history()] == [
        "0: GET k -> fail [0, 6]",
        "1: GET k -> v nil [1, 5] seq 7",
        "2: GET k -> (no such key) [2, 7] seq 8",
        "3: GET k -> unknown [3, inf]",
        "4: GET k -> fail [4, 9]",
        "5: SET k v -> unknown [8, inf]",
    ]


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads run in turn as often as can be, and whenever garbage is collected, which is all the time."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()

    def collecting(phase: str, info: dict[str, int]) -> None: ...

    sys.setswitchinterval(1e-6)
    gc.set_threshold(50)
    gc.callbacks.append(collecting)
    yield
    gc.callbacks.remove(collecting)
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless")
def test_it_can_be_read_while_threads_write() -> None:
    recorder, is_over = Recorder(count().__next__), Event()

    def write() -> None:
        while not is_over.is_set():
            recorder.invoke(1, "GET", b"k")

    threads = [Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        size = 0
        while size < 10_000:
            before, size = size, len(recorder.history())
            assert size >= before
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    "text", ["CLUSTERDOWN ", "LOADING ", "MISCONF ", "ERR max number of clients reached", "UNKNOWN "]
)
def test_the_texts_are_those_of_the_product(text: str) -> None:
    sources = Path(kvnode.__file__).parent.rglob("*.py")
    assert any(f'"{text}' in path.read_text() for path in sources)
    assert status_of_error(text) is (UNKNOWN if text == "UNKNOWN " else FAIL)


def test_other_errors_are_answers() -> None:
    assert status_of_error("ERR UNKNOWN ") is OK
    assert status_of_error("WRONGTYPE") is OK
