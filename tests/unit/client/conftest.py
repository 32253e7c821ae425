from __future__ import annotations

import sys
from pathlib import Path

# The tests are no package: this makes fake_node importable for its neighbours.
sys.path.insert(0, str(Path(__file__).parent))
