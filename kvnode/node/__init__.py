"""The node: the one place where consensus, log, key space and protocols meet. It runs in turns and does no I/O."""
