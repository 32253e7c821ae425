"""What is installed is compiled from the source, and plays the same seeds in the same way, event for event.

So what the simulator finds out about the source holds for what people run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.harness import ROOT, is_installed_as_it_stands
from tests.simulation.run import run

SEEDS = range(2_000_000, 2_000_006)
PLAY = f"""
import json, kvnode.node.node, tests.simulation.run
assert kvnode.node.node.__file__.endswith(".so"), kvnode.node.node.__file__
results = [tests.simulation.run.run(seed) for seed in range({SEEDS.start}, {SEEDS.stop})]
print(json.dumps([[result.violation, result.events, result.trace] for result in results]))
"""


@pytest.mark.skipif(not is_installed_as_it_stands(), reason="kvnode is not compiled here, or was changed since")
def test_compiled_nodes_play_a_seed_as_their_source_does(tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")  # and nothing else that python could take for kvnode
    done = subprocess.run([sys.executable, "-c", PLAY], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for seed, (violation, events, trace) in zip(SEEDS, json.loads(done.stdout), strict=True):
        result = run(seed)
        assert (violation, result.violation) == (None, None)
        assert (events, trace) == (result.events, result.trace), f"seed {seed}"
