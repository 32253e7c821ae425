"""What every command passes through is compiled by mypyc: the same Python, two to three times as fast.

Dialing, opening and healing the log, and the command line stay interpreted, and so do tests that look inside of a
node: they import the source. Without a C compiler and Python's headers, or with KVNODE_PURE=1 in the environment,
nothing is compiled, and everything works.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

COMPILED = {
    "kvnode": "invariant packing record_head reply",
    "kvnode/log": "files mark notes packed record recovery scan segment wal watched window healing/runs "
    "viewing/compare",
    "kvnode/net": "frames inline replies requests shapes",
    "kvnode/node": "applying catch_up deeds disk_state following gets joining leading links node peers reads session "
    "tail wire",
    "kvnode/raft": "candidate core enough follower index leader messages rounds trailing",
    "kvnode/runtime": "connections disk loop slow_fsyncs writing",
    "kvnode/store": "arguments command data_commands keyspace limits numbers overlay partitions snapshot strings table",
}
"""What a command passes through, and what inherits from that: compiling all of it would take three times as long, and
make nothing faster. Constants in them are Final: any other is looked up by its name each time it is used. Not so the
limits that the simulator draws (tests/simulation/options.py), for a Final is compiled in. mypyc does not know classes
that are made of built-in ones, as in net/refused.py."""


def extensions() -> list[Extension]:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    if os.environ.get("KVNODE_PURE") or shutil.which(compiler) is None or not headers.is_file():
        return []
    from mypyc.build import mypycify

    paths = [f"{package}/{name}.py" for package, names in COMPILED.items() for name in names.split()]
    # -O2: a record costs some percent less than with -O1, which takes 72 seconds here instead of 88; -O3 gains nothing.
    return list(mypycify(paths, opt_level="2", debug_level="0"))


setup(ext_modules=extensions())
