"""The `kvnode` command: parse, call, print.

    start        run one node
    cluster      run all members of a local cluster in one terminal
    status       a table of the members
    inspect-log  what the log of a data directory holds
    verify       whether a data directory is in order
    repair       heal the log of a stopped node from running ones

Exit codes: 0 done; 1 it ended badly, or the answer is no; 2 it did not begin (bad usage, configuration, port,
directory), with one line on standard error that says why.

What is imported on the way to `start` delays every start of a node: the other commands import what they need when they
run.
"""

from __future__ import annotations

import click

from kvnode import __version__
from kvnode.cli.cluster import cluster
from kvnode.cli.inspect_log import inspect_log
from kvnode.cli.repair import repair
from kvnode.cli.start import start
from kvnode.cli.status import status
from kvnode.cli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kvnode", message="%(prog)s %(version)s")
def main() -> None:
    """A replicated key-value store that speaks the Redis protocol and keeps a log that you can open."""


for command in (start, cluster, status, inspect_log, verify, repair):
    main.add_command(command)
