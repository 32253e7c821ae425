"""See run.py. Exit code 0: nothing was found; 1: something was, as it must be with Redis."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from tests.torture.control import etcd, redis_server
from tests.torture.control.run import Findings, control_etcd, control_redis

SERVERS = {"etcd": (etcd, control_etcd, "etcd-server"), "redis": (redis_server, control_redis, "redis-server")}


@click.command()
@click.argument("server", type=click.Choice(sorted(SERVERS)))
@click.option("--seed", default=1, show_default=True)
@click.option("--rounds", type=int, help="How many; else what takes less than a minute.")
def main(server: str, seed: int, rounds: int | None) -> None:
    """Torture another server than kvnode, to see what is found."""
    module, control, package = SERVERS[server]
    if not module.is_installed():
        raise click.ClickException(f"there is no {module.PROGRAM} here (Debian: apt-get install {package})")
    with tempfile.TemporaryDirectory(prefix="kvnode-control-") as directory:
        options = {} if rounds is None else {"rounds": rounds}
        findings: Findings = control(Path(directory) / server, seed, **options)
    click.echo(str(findings))
    raise SystemExit(0 if findings.is_clean else 1)


main()
