"""`kvnode` with defects planted: from SIGUSR1 on a method raises what nobody expects.

    python -m tests.matrix.defective FILE start --id A …

FILE then holds the name of one of PLACES.
"""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kvnode.cli import main
from kvnode.node.node import Node
from kvnode.runtime.connections import ClientConnection, LinkConnection
from kvnode.runtime.loop import Runtime
from kvnode.runtime.writing import Reading, Writing
from kvnode.store.keyspace import KeySpace


class Place(NamedTuple):
    """A method, and for which of its calls: `concerns(*arguments)`."""

    owner: type
    name: str
    concerns: Callable[..., bool] = lambda *_: True


PLACES = {
    "writer": Place(Writing, "perform"),
    "reader": Place(Reading, "perform"),
    "applier": Place(KeySpace, "apply"),
    "turn": Place(Node, "turn"),
    "timer": Place(Runtime, "_on_timer"),
    "client": Place(ClientConnection, "data_received"),
    "member": Place(LinkConnection, "data_received"),
    "dialer": Place(LinkConnection, "__init__", lambda self, runtime, member=None, lane="": member is not None),
}


class Planted(Exception):
    pass


def plant(name: str, place: Place, armed: set[str]) -> None:
    original = getattr(place.owner, place.name)

    @functools.wraps(original)
    def defective(*arguments: Any, **options: Any) -> Any:
        if name in armed and place.concerns(*arguments, **options):
            raise Planted(f"in {original.__qualname__}")
        return original(*arguments, **options)

    setattr(place.owner, place.name, defective)


if __name__ == "__main__":
    file, armed = Path(sys.argv.pop(1)), set[str]()
    for name, place in PLACES.items():
        plant(name, place, armed)
    signal.signal(signal.SIGUSR1, lambda *_: armed.add(file.read_text()))
    main(prog_name="kvnode")
