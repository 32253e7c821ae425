"""A node that reads its log leaves the processors to those that serve."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from kvnode.runtime.opening import NICENESS, below_others


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own elsewhere")
def test_long_work_has_a_low_priority_and_nothing_else() -> None:
    before = priority()
    assert asyncio.run(below_others(priority)) == min(before + NICENESS, 19)
    assert priority() == before


def test_what_goes_wrong_is_told() -> None:
    def fail() -> None:
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        asyncio.run(below_others(fail))
