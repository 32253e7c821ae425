"""kvnode: a replicated key-value store with a write-ahead log."""

__version__ = "0.1.0"
