"""What the commands share: how they fail, and the options that come from the table of configuration keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from kvnode.config import DEFAULT_CLUSTER, KEYS, MIB

AnyCallable = TypeVar("AnyCallable", bound=Callable[..., object])


class Failure(click.ClickException):
    """The command ended badly: one line on standard error, exit code 1."""

    exit_code = 1

    def show(self, file: object = None) -> None:
        click.echo(f"kvnode: {self.message}", err=True)


class Refusal(Failure):
    """The command can not begin: one line on standard error, exit code 2."""

    exit_code = 2


config_option = click.option(
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="TOML file with the keys named like these options. [KVNODE_CONFIG]",
)
cluster_option = click.option(
    "--cluster",
    metavar="MEMBERS",
    help=f"All members, the same at every node: ID=host:port[/peerport],… [default: {DEFAULT_CLUSTER}]",
)


def key_options(command: AnyCallable) -> AnyCallable:
    """One option for each key of the configuration that has a default. Values stay strings: `load` checks them."""
    for name, key in reversed(KEYS.items()):
        summary = key.metadata["summary"]
        text = f"{summary[0].upper()}{summary[1:]}."
        if key.default != "":
            text += f" [default: {describe_default(name, key.default)}]"
        kind = "BYTES" if "bytes" in name else "MS" if name.endswith("_ms") else "N" if key.default else "TEXT"
        kind = "LEVEL" if name == "log_level" else kind
        command = click.option("--" + name.replace("_", "-"), name, metavar=kind, help=text)(command)
    return command


def describe_default(name: str, value: object) -> str:
    """A default as a person writes it: 65536 bytes are 64KiB."""
    if "bytes" not in name or not isinstance(value, int):
        return str(value)
    return f"{value // MIB}MiB" if value % MIB == 0 else f"{value // 1024}KiB"
