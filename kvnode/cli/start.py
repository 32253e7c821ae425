"""`kvnode start`: one node, in the foreground."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import click

from kvnode.cli.common import Refusal, cluster_option, config_option, key_options
from kvnode.config import Config, ConfigError, load


@click.command(short_help="Run one node.")
@click.option("--id", "id", metavar="ID", help="Which member of the cluster this node is.")
@click.option("--data", metavar="DIR", help="Where the log is; made where it is missing. [default: data/ID]")
@cluster_option
@config_option
@key_options
def start(file: Path | None, **options: str | None) -> None:
    """Run one node until SIGTERM or Ctrl-C.

    An option goes before the variable KVNODE_… of its name, and that before the file of --config.
    Sizes take KiB, MiB and GiB.
    """
    try:
        config = load(options, os.environ, file)
    except ConfigError as error:
        raise Refusal(f"bad configuration: {error}") from None
    sys.exit(_serve(config))


def _serve(config: Config) -> int:
    # The event loop and all that hangs on it take a while to import, and --help should not. Looking for garbage among
    # what is imported would be a tenth of that.
    gc.disable()
    from kvnode.runtime import StartError, serve

    gc.enable()
    try:
        return serve(config)
    except StartError as error:
        raise Refusal(str(error)) from None
