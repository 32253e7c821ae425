"""The click commands: each makes a request, sends it, and prints the reply.

Exit status: 0, or 1 for an error (its message on standard error), or 2 for wrong usage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import click

from kvclient import requests
from kvclient.client import CALL_TIMEOUT_S, NODE_TIMEOUT_S, KVClient, Timeouts
from kvclient.errors import KVError
from kvclient.nodes import NODES_VARIABLE, default_nodes, parse_nodes
from kvclient.output import Form, Output
from kvclient.requests import Request
from kvclient.typed import TypedParser, Verbatim

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Options:
    """What the common options say; those of a command go before those of the group."""

    nodes: tuple[str, ...] = ()
    form: Form | None = None
    timeout_s: float | None = None

    def client(self) -> KVClient:
        timeout_s = self.timeout_s
        timeouts = Timeouts() if timeout_s is None else Timeouts(node_s=timeout_s, call_s=timeout_s)
        typed = {} if self.output().form is Form.RAW else {"parser": TypedParser}
        return KVClient(self.addresses(), timeouts=timeouts, **typed)

    def addresses(self) -> list[str]:
        """The nodes to ask; a fault in them, or in the environment, is one of usage."""
        try:
            nodes = parse_nodes(self.nodes) if self.nodes else default_nodes(os.environ)
        except ValueError as error:
            raise click.UsageError(str(error) if self.nodes else f"{NODES_VARIABLE}: {error}") from None
        return [str(node) for node in nodes]

    def output(self) -> Output:
        return Output.chosen(self.form)


def _store(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value not in (None, ()):
            setattr(context.ensure_object(Options), name, value)

    return callback


def common_options(function: F) -> F:
    """The options of the group and of every command: --node, --raw, --pretty, --json, --timeout."""
    decorators = [
        click.option(
            "--node",
            "nodes",
            multiple=True,
            metavar="HOST:PORT",
            expose_value=False,
            callback=_store("nodes"),
            help=f"A node to ask; may be given more than once. Default: ${NODES_VARIABLE}, or localhost 3000 to 3002.",
        ),
        click.option(
            "--timeout",
            "timeout_s",
            type=click.FloatRange(min=0.05),
            metavar="SECONDS",
            expose_value=False,
            callback=_store("timeout_s"),
            help=f"Give up after this time. Default: {NODE_TIMEOUT_S:g} for one node, {CALL_TIMEOUT_S:g} for all.",
        ),
        *(
            click.option(
                f"--{form.value}",
                f"form_{form.value}",
                flag_value=form,
                type=click.UNPROCESSED,
                default=None,
                expose_value=False,
                callback=_store("form"),
                help=text,
            )
            for form, text in (
                (Form.RAW, "Bytes as they are; the default except on a terminal."),
                (Form.PRETTY, "As redis-cli shows them; the default on a terminal."),
                (Form.JSON, "One line of JSON."),
            )
        ),
    ]
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


class Command(click.Command):
    """A command whose arguments may be negative numbers: `-5` is no option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" not in args and ctx.allow_interspersed_args:
            numbers = [arg for arg in args if _is_negative(arg)]
            if numbers:
                # Behind a "--" nothing is an option. Order among the arguments must stay, so all of them move there.
                args = _arguments_last(self, ctx, args)
        return super().parse_args(ctx, args)


def _is_negative(arg: str) -> bool:
    return len(arg) > 1 and arg[0] == "-" and arg[1].isdigit()


def _arguments_last(command: click.Command, ctx: click.Context, args: list[str]) -> list[str]:
    """The options first, then "--", then all other words in their order."""
    with_value = {
        name
        for parameter in command.get_params(ctx)
        if isinstance(parameter, click.Option) and not parameter.is_flag
        for name in parameter.opts
    }
    options: list[str] = []
    arguments: list[str] = []
    words = iter(args)
    for word in words:
        if not word.startswith("-") or word == "-" or _is_negative(word):
            arguments.append(word)
        elif word in with_value:
            options += [word, *([value] if (value := next(words, None)) is not None else [])]
        else:
            options.append(word)
    return [*options, "--", *arguments]


class Group(click.Group):
    """Commands in the order of their definition, which is by topic."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _version() -> str:
    try:
        return version("kvnode")
    except PackageNotFoundError:
        return "unknown"


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="kvclient")
@common_options
@click.pass_context
def main(context: click.Context) -> None:
    """Talk to a kvnode cluster: a shell, or one command at a time.

    Values that begin with "-" go after "--".
    """
    context.ensure_object(Options)


def carry_out(options: Options, request: Request[Any]) -> None:
    """Send, print, and leave with status 1 on an error."""
    output = options.output()
    with options.client() as client:
        try:
            reply = client.command(*request.args)
        except KVError as error:
            fail(error)
        output.reply(reply)


def fail(error: KVError) -> None:
    """The end of a command whose request failed."""
    colour = "red" if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else None
    click.secho(f"(error) {error.text}", err=True, fg=colour, color=colour is not None)
    raise SystemExit(1)


pass_options = click.make_pass_decorator(Options, ensure=True)
word = click.UNPROCESSED


def argument(name: str, **settings: Any) -> Callable[[F], F]:
    """An argument that is a key, a value or a pattern, as the bytes that the user gave."""

    def convert(_: click.Context, __: click.Parameter, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(os.fsencode, value))
        return None if value is None else os.fsencode(value)

    return click.argument(name, type=word, callback=convert, **settings)


def read_value(value: bytes) -> bytes:
    """The value itself; "-" stands for standard input, whole."""
    return sys.stdin.buffer.read() if value == b"-" else value


# --- the shell ---


@main.command()
@common_options
@pass_options
def shell(options: Options) -> None:
    """Open a shell, or carry out the commands of a pipe.

    From a pipe: one command per line, one reply per command, and the exit status of the last.
    """
    from kvclient.shell import run_shell

    raise SystemExit(run_shell(options.addresses(), options.output()))


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@argument("command")
@argument("args", nargs=-1)
@common_options
@pass_options
def raw(options: Options, command: bytes, args: tuple[bytes, ...]) -> None:
    """Send any command, as in: raw SET k v NX."""
    carry_out(options, requests.command(command, *args))


# --- one key ---


@main.command()
@argument("key")
@click.option("-n", "--no-newline", is_flag=True, help="Write the value's bytes and nothing else.")
@common_options
@pass_options
def get(options: Options, key: bytes, no_newline: bool) -> None:
    """Print the value of a key.

    When there is none: (nil) on a terminal, an empty line elsewhere, null with --json."""
    if not no_newline:
        carry_out(options, requests.get(key))
        return
    with options.client() as client:
        try:
            sys.stdout.buffer.write(client.get(key) or b"")
        except KVError as error:
            fail(error)


@main.command(name="set")
@argument("key")
@argument("value")
@click.option("--nx", is_flag=True, help="Only if the key does not exist.")
@click.option("--xx", is_flag=True, help="Only if the key exists.")
@click.option("--get", "is_get", is_flag=True, help="Print the value before.")
@common_options
@pass_options
def set_(options: Options, key: bytes, value: bytes, nx: bool, xx: bool, is_get: bool) -> None:
    """Create a key or replace its value.

    The value "-" is read from standard input."""
    if nx and xx:
        raise click.UsageError("--nx and --xx exclude each other")
    make = requests.set_get if is_get else requests.set
    carry_out(options, make(key, read_value(value), nx=nx, xx=xx))


@main.command()
@argument("key")
@argument("value")
@common_options
@pass_options
def upd(options: Options, key: bytes, value: bytes) -> None:
    """Replace the value of an existing key.

    The value "-" is read from standard input."""
    carry_out(options, requests.upd(key, read_value(value)))


@main.command(name="del")
@argument("keys", nargs=-1, required=True)
@common_options
@pass_options
def del_(options: Options, keys: tuple[bytes, ...]) -> None:
    """Delete keys; print how many there were."""
    carry_out(options, requests.delete(*keys))


@main.command()
@argument("keys", nargs=-1, required=True)
@common_options
@pass_options
def exists(options: Options, keys: tuple[bytes, ...]) -> None:
    """Print how many of the keys exist."""
    carry_out(options, requests.exists(*keys))


@main.command()
@argument("key")
@argument("value")
@common_options
@pass_options
def append(options: Options, key: bytes, value: bytes) -> None:
    """Add to the end of a value; print its length.

    The value "-" is read from standard input."""
    carry_out(options, requests.append(key, read_value(value)))


@main.command()
@argument("key")
@common_options
@pass_options
def getdel(options: Options, key: bytes) -> None:
    """Delete a key and print its value."""
    carry_out(options, requests.getdel(key))


@main.command()
@argument("key")
@common_options
@pass_options
def strlen(options: Options, key: bytes) -> None:
    """Print the length of a value in bytes."""
    carry_out(options, requests.strlen(key))


@main.command(name="type")
@argument("key")
@common_options
@pass_options
def type_(options: Options, key: bytes) -> None:
    """Print the type of a value, "none" when there is none."""
    carry_out(options, requests.type(key))


@main.command()
@argument("key")
@click.option("--by", type=int, default=1, show_default=True, help="What to add.")
@common_options
@pass_options
def incr(options: Options, key: bytes, by: int) -> None:
    """Add to a number; print the sum."""
    carry_out(options, requests.incr(key, by))


@main.command()
@argument("key")
@click.option("--by", type=int, default=1, show_default=True, help="What to subtract.")
@common_options
@pass_options
def decr(options: Options, key: bytes, by: int) -> None:
    """Subtract from a number; print the result."""
    carry_out(options, requests.decr(key, by))


# --- several keys ---


@main.command()
@argument("keys", nargs=-1, required=True)
@common_options
@pass_options
def mget(options: Options, keys: tuple[bytes, ...]) -> None:
    """Print the values of several keys, one per line."""
    carry_out(options, requests.mget(*keys))


@main.command()
@argument("pairs", nargs=-1, required=True, metavar="KEY VALUE [KEY VALUE]...")
@common_options
@pass_options
def mset(options: Options, pairs: tuple[bytes, ...]) -> None:
    """Set several keys at once."""
    if len(pairs) % 2:
        raise click.UsageError("each key needs a value")
    carry_out(options, requests.mset(dict(zip(pairs[::2], pairs[1::2], strict=True))))


@main.command()
@argument("pattern", default="*")
@common_options
@pass_options
def keys(options: Options, pattern: bytes) -> None:
    """Print all keys, or those that match.

    PATTERN is a glob: * ? [abc] [a-z]. The keys come in one reply; where they are many, `scan` is kinder."""
    carry_out(options, requests.keys(pattern))


@main.command()
@click.option("--match", metavar="PATTERN", help="Only keys that match a glob pattern.")
@click.option("--count", type=click.IntRange(min=1), default=1000, show_default=True, help="Keys looked at per step.")
@common_options
@pass_options
def scan(options: Options, match: str | None, count: int) -> None:
    """Print all keys, step by step.

    When the node asked is lost, the scan begins again at another: keys may then come twice."""
    output = options.output()
    with options.client() as client:
        try:
            for key in client.scan(None if match is None else os.fsencode(match), count):
                output.reply(key)
        except KVError as error:
            fail(error)


@main.command(name="range")
@argument("start", default="-")
@argument("end", default="+")
@click.option("--limit", type=click.IntRange(min=0), help="At most so many keys.")
@common_options
@pass_options
def range_(options: Options, start: bytes, end: bytes, limit: int | None) -> None:
    """Print keys and values in order.

    From START up to, not with, END. "-" is before the first key, "+" past the last.
    """
    carry_out(options, requests.range(start, end, limit))


@main.command()
@common_options
@pass_options
def dbsize(options: Options) -> None:
    """Print the number of keys."""
    carry_out(options, requests.dbsize())


@main.command()
@click.confirmation_option(prompt="Delete every key of the cluster?")
@common_options
@pass_options
def flushall(options: Options) -> None:
    """Delete every key."""
    carry_out(options, requests.flushall())


# --- the nodes ---


@main.command()
@common_options
@pass_options
def ping(options: Options) -> None:
    """Ask whether a node answers."""
    carry_out(options, requests.ping())


@main.command()
@click.argument("sections", nargs=-1)
@common_options
@pass_options
def info(options: Options, sections: tuple[str, ...]) -> None:
    """Print what a node tells of itself."""
    request = requests.info(*sections)
    output = options.output()
    with options.client() as client:
        try:
            reply = client.command(*request.args)
        except KVError as error:
            fail(error)
        output.reply(requests.parse_info(reply) if output.form is Form.JSON else Verbatim(reply))


@main.command()
@common_options
@pass_options
def status(options: Options) -> None:
    """Show where every node is.

    Exit status 1 unless one of them leads."""
    from kvclient.status import leads, show

    with options.client() as client:
        statuses = client.status()
    show(statuses, options.output())
    raise SystemExit(0 if any(map(leads, statuses)) else 1)
