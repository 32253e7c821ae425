"""structlog, imported without rich.

structlog imports rich where it is there, to print tracebacks in colours. A node prints none, and importing that would
be a fifth of what its start takes: 0.46 s instead of 0.57, in turn on one machine.
"""

from __future__ import annotations

import sys

_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]  # Python's own way to say: can not be imported
try:
    import structlog
finally:
    if _rich is None:
        del sys.modules["rich"]
    else:
        sys.modules["rich"] = _rich

__all__ = ["structlog"]
