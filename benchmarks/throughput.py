"""SET and GET per second, kvnode beside Redis, measured in one run.

    python -m benchmarks.throughput [--rounds 3] [--seconds 2] [--json]

The systems take turns within each round, so that what else happens on the machine meets all of them; the median of the
rounds is reported. All processes and the load generator share this machine. Values have 64 bytes, keys are drawn from
100,000.

    set, get       by redis-benchmark. A Redis that answers a SET promises less than kvnode: see `Redis` in servers.py.
    durable-set    by load.py: at Redis `WAIT 1` follows each SET or pipeline, so that a write is at two servers when it
                   counts, as at kvnode, which needs no WAIT for it
"""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.servers import HOST, Kvnode, NotReady, Redis, Servers, fsync_ms

OUTPUT = Path(__file__).parent / "out"
KEYS = 100_000
VALUE_BYTES = 64
REQUESTS_MAX = 5_000_000
RUN_SECONDS_MAX = 120


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load."""

    command: str
    clients: int
    pipeline: int


@dataclass(frozen=True, slots=True)
class Result:
    """One run of redis-benchmark: requests per second, and latencies in milliseconds."""

    system: str
    case: Case
    per_second: float
    p50_ms: float
    p99_ms: float


def numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """A list like 1,50,200."""
    try:
        found = tuple(int(item) for item in value.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise click.BadParameter("wanted are positive numbers like 1,50,200")
    return found


@click.command(help=__doc__.split("\n", 1)[0])
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="The median of them is shown.")
@click.option("--seconds", type=click.FloatRange(0.1), default=2.0, show_default=True, help="Length of one run.")
@click.option("--clients", callback=numbers, default="1,50,200", show_default=True, help="Connections.")
@click.option("--pipelines", callback=numbers, default="1,16", show_default=True, help="Commands in flight on each.")
@click.option(
    "--commands",
    default="set,get,durable-set",
    show_default=True,
    help="Of set, get, durable-set and other tests of redis-benchmark.",
)
@click.option("--only", type=click.Choice(["kvnode", "redis"]), help="Leave the other out.")
@click.option("--at", type=click.Choice(["leader", "follower"]), default="leader", show_default=True,
              help="Which kvnode node to measure at.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="All results as one JSON object on standard output.")
@click.option("--keep", is_flag=True, help="Keep the data and the output of the servers.")
def main(
    rounds: int,
    seconds: float,
    clients: tuple[int, ...],
    pipelines: tuple[int, ...],
    commands: str,
    only: str | None,
    at: str,
    as_json: bool,
    keep: bool,
) -> None:
    """The command."""
    if not shutil.which("redis-benchmark"):
        raise click.ClickException("redis-benchmark is not installed (Debian: apt install redis-tools)")
    cases = [Case(command, c, p) for command in commands.split(",") for p in pipelines for c in clients]
    OUTPUT.mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(dir=OUTPUT, prefix=time.strftime("%Y%m%d-%H%M%S-")))
    try:
        about = describe_machine(home)
        say(", ".join(f"{name} {value}" for name, value in about.items()))
        with ExitStack() as stack:
            systems = [stack.enter_context(system) for system in choose(home, only, at)]
            results = measure(systems, cases, rounds, seconds)
    except NotReady as error:
        keep = True
        raise click.ClickException(str(error)) from None
    finally:
        if not keep:
            shutil.rmtree(home)
    if as_json:
        click.echo(json.dumps({"about": about, "results": [asdict(result) for result in results]}, indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else 120).print(table(results))


def choose(home: Path, only: str | None, at: str) -> list[Servers]:
    """The systems to measure."""
    systems: list[Servers] = []
    if only != "redis":
        systems.append(Kvnode(home / "kvnode", at))
    if only != "kvnode":
        if shutil.which("redis-server"):
            systems.append(Redis(home / "redis"))
        else:
            say("redis-server is not installed (Debian: apt install redis-server): Redis is left out")
    return systems


def measure(systems: Sequence[Servers], cases: Sequence[Case], rounds: int, seconds: float) -> list[Result]:
    """Every case at every system, `rounds` times. A first trial tells how many requests fill the time."""
    for system in systems:
        run(system, Case("set", 50, 16), 3 * KEYS)  # so that GET finds 95 of 100 keys
    results = []
    counts: dict[tuple[str, Case], int] = {}
    for number in range(rounds):
        for case in cases:
            # Whoever comes second finds warmer caches and a busier disk: they change places from round to round.
            for system in systems if number % 2 == 0 else reversed(systems):
                if (system.name, case) not in counts:
                    trial = run(system, case, 100 * case.clients * case.pipeline)
                    counts[system.name, case] = int(trial.per_second * seconds)
                result = run(system, case, counts[system.name, case])
                counts[system.name, case] = int(result.per_second * seconds)
                results.append(result)
                say(
                    f"round {number + 1}/{rounds} {system.name:6} {case.command} clients={case.clients} "
                    f"pipeline={case.pipeline}: {result.per_second:,.0f}/s"
                )
    return results


def run(system: Servers, case: Case, count: int) -> Result:
    """One run with about `count` requests. Raises ClickException when it fails."""
    count = min(max(count, 2 * case.clients * case.pipeline), REQUESTS_MAX)
    return run_load(system, case, count) if case.command == "durable-set" else run_redis_benchmark(system, case, count)


def run_load(system: Servers, case: Case, count: int) -> Result:
    """One run of load.py."""
    numbers = [str(number) for number in (system.port, case.clients, case.pipeline, count)]
    command = [sys.executable, "-m", "benchmarks.load", *numbers, *(["--wait"] if system.needs_wait else [])]
    found = json.loads(output_of(system, command))
    return Result(system.name, case, found["per_second"], found["p50_ms"], found["p99_ms"])


def output_of(system: Servers, command: list[str]) -> str:
    """What a load generator prints. Raises ClickException when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise click.ClickException(f"{system.name}: {' '.join(command)} did not end in {RUN_SECONDS_MAX} s") from None
    if done.returncode:
        raise click.ClickException(f"{system.name}: {' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def run_redis_benchmark(system: Servers, case: Case, count: int) -> Result:
    """One run of redis-benchmark."""
    port = system.port
    command = ["redis-benchmark", "-h", HOST, "-p", str(port), "-t", case.command, "-c", str(case.clients), "--csv"]
    command += ["-P", str(case.pipeline), "-n", str(count), "-r", str(KEYS), "-d", str(VALUE_BYTES)]
    # Anything before the heading is a warning of redis-benchmark.
    lines = output_of(system, command).splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith('"test"')), len(lines))
    rows = list(csv.DictReader(lines[start:]))
    if not rows:
        raise click.ClickException(f"{system.name}: {' '.join(command)} measured nothing")
    row = rows[0]
    return Result(system.name, case, float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]))


def table(results: Sequence[Result]) -> Table:
    """The medians, one row per case, the systems beside each other."""
    systems = list(dict.fromkeys(result.system for result in results))
    shown = Table(box=box.SIMPLE_HEAD, caption="requests per second; latency p50 / p99 in ms; medians of the rounds")
    for name in ("command", "clients", "pipeline"):
        shown.add_column(name, justify="left" if name == "command" else "right")
    for system in systems:
        shown.add_column(f"{system} /s", justify="right")
        shown.add_column("p50 / p99", justify="right")
    if len(systems) == 2:
        shown.add_column(f"{systems[0]} : {systems[1]}", justify="right")
    for case in dict.fromkeys(result.case for result in results):
        row = [case.command.upper(), str(case.clients), str(case.pipeline)]
        rates = []
        for system in systems:
            runs = [result for result in results if result.case == case and result.system == system]
            rates.append(statistics.median(result.per_second for result in runs))
            p50 = statistics.median(result.p50_ms for result in runs)
            p99 = statistics.median(result.p99_ms for result in runs)
            row += [f"{rates[-1]:,.0f}", f"{p50:.2f} / {p99:.2f}"]
        if len(systems) == 2:
            row.append(f"{rates[0] / rates[1]:.2f}")
        shown.add_row(*row)
    return shown


def describe_machine(home: Path) -> dict[str, str]:
    """What the numbers depend on."""
    about = {"cores": str(os.cpu_count()), "python": platform.python_version(), "fsync": f"{fsync_ms(home):.2f} ms"}
    for program in ("redis-benchmark", "redis-server"):
        if shutil.which(program):
            told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
            version = re.search(r"\d+(\.\d+)+", told)
            about[program] = version[0] if version else "?"
    return about


def say(text: str) -> None:
    """Progress, on standard error."""
    click.echo(text, err=True)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.throughput")
