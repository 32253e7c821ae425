"""The rows of the command table that the node answers itself: they are about a connection, the node or the cluster."""

from __future__ import annotations

from kvnode.store.command import Arg, Command, Kind


def _session(name: str, arity: int, summary: str, group: str, *arguments: Arg, complexity: str = "O(1)") -> Command:
    return Command(name, arity, Kind.SESSION, summary, group, complexity=complexity, arguments=arguments)


def _container(name: str, summary: str, group: str, *subcommands: Command, arity: int = -2) -> Command:
    """A command that is nothing but its subcommands; each of them has a HELP beside."""
    help_ = _session(f"{name}|HELP", 2, f"What the subcommands of {name} do", group)
    return Command(name, arity, Kind.SESSION, summary, group, subcommands=(*subcommands, help_))


ON_OFF = Arg.choice("mode", "ON", "OFF")
CONNECTION_NAME = Arg("connection-name")

CONNECTION_COMMANDS = (
    _session("PING", -1, "PONG, or the message", "connection", Arg("message", optional=True)),
    _session("ECHO", 2, "The message", "connection", Arg("message")),
    _session("QUIT", -1, "Close the connection after the replies that are due", "connection"),
    _session("RESET", 1, "Put the connection back to how it began", "connection"),
    _session("SELECT", 2, "Choose a database; there is 0 alone", "connection", Arg("index", "integer")),
    _session(
        "HELLO",
        -1,
        "Choose RESP2 or RESP3; answers what kind of server this is",
        "connection",
        Arg(
            "arguments",
            "block",
            optional=True,
            arguments=(
                Arg("protover", "integer"),
                Arg("clientname", "string", "SETNAME", optional=True),
            ),
        ),
    ),
    _container(
        "CLIENT",
        "About client connections",
        "connection",
        _session("CLIENT|GETNAME", 2, "The name of this connection", "connection"),
        _session("CLIENT|ID", 2, "The number of this connection", "connection"),
        _session("CLIENT|INFO", 2, "This connection in one line", "connection"),
        _session(
            "CLIENT|KILL",
            -3,
            "Close a connection",
            "connection",
            Arg("ip:port", optional=True),
            Arg("client-id", "integer", "ID", optional=True),
            Arg("address", "string", "ADDR", optional=True),
        ),
        _session("CLIENT|LIST", -2, "The connections of this node, one per line", "connection"),
        _session("CLIENT|NO-EVICT", 3, "Accepted, without effect", "connection", ON_OFF),
        _session("CLIENT|NO-TOUCH", 3, "Accepted, without effect", "connection", ON_OFF),
        _session(
            "CLIENT|REPLY",
            3,
            "Whether this connection is answered",
            "connection",
            Arg.choice("mode", "ON", "OFF", "SKIP"),
        ),
        _session(
            "CLIENT|REPLYSEQ",
            3,
            "Answer [seq, reply], with the sequence number at which the command took effect",
            "connection",
            ON_OFF,
        ),
        _session("CLIENT|SETINFO", 4, "What the client library is", "connection", Arg("attribute"), Arg("value")),
        _session("CLIENT|SETNAME", 3, "Name this connection", "connection", CONNECTION_NAME),
    ),
)

SERVER_COMMANDS = (
    _container(
        "COMMAND",
        "What each command is",
        "server",
        _session("COMMAND|COUNT", 2, "How many commands there are", "server"),
        _session(
            "COMMAND|DOCS",
            -2,
            "The documentation of commands",
            "server",
            Arg("command-name", optional=True, multiple=True),
            complexity="O(N), N commands",
        ),
        _session(
            "COMMAND|INFO",
            -2,
            "Arity, flags and key positions of commands",
            "server",
            Arg("command-name", optional=True, multiple=True),
            complexity="O(N), N commands",
        ),
        _session(
            "COMMAND|LIST",
            -2,
            "The names of the commands",
            "server",
            Arg("pattern", "pattern", "FILTERBY PATTERN", optional=True),
            complexity="O(N), N commands",
        ),
        arity=-1,
    ),
    _container(
        "CONFIG",
        "The configuration of this node",
        "server",
        _session("CONFIG|GET", -3, "Settings whose names match", "server", Arg("parameter", multiple=True)),
    ),
    _container(
        "DEBUG",
        "For tests and diagnosis",
        "server",
        _session(
            "DEBUG|DIGEST",
            2,
            "A digest of all keys and values, equal at nodes that hold the same",
            "server",
            complexity="O(N), N keys in the store",
        ),
    ),
    _session("INFO", -1, "The state of this node as text", "server", Arg("section", optional=True, multiple=True)),
    _session("ROLE", 1, "master at the leader, slave elsewhere, and the replication position", "server"),
    _session("TIME", 1, "The time at this node: seconds, microseconds", "server"),
)

CLUSTER_COMMANDS = (
    _session("READONLY", 1, "Let this connection read what this node has, possibly stale", "cluster"),
    _session("READWRITE", 1, "Let this connection read linearizably again", "cluster"),
    _session(
        "WAIT",
        3,
        "Wait until that many other members hold this connection's last write durably",
        "generic",
        Arg("numreplicas", "integer"),
        Arg("timeout", "integer"),
    ),
)

SESSION_COMMANDS = CONNECTION_COMMANDS + SERVER_COMMANDS + CLUSTER_COMMANDS
