"""The commands that a node answers by itself: about the connection, the node and the table of commands.

One handler per row of the command table whose kind is SESSION (WAIT is the leader's: leading.py). A handler takes
(session, arguments) and returns a reply; it raises CommandError to refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvnode.node import info
from kvnode.node.session import Chunk, Command, Session
from kvnode.reply import OK, CommandError, Reply, Status, Verbatim
from kvnode.store import command_docs
from kvnode.store.arguments import parse_int64, printable, syntax_error
from kvnode.store.command import Command as Row
from kvnode.store.digest import digest
from kvnode.store.glob import matcher

if TYPE_CHECKING:
    from kvnode.node.node import Node

REDIS_VERSION = "7.0.15"
"""What clients take this server for when they choose features by version."""
PONG = Status("PONG")
NAME_BYTES_MAX = 256

Handler = Callable[[Session, Command], Reply]


class SessionCommands:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.handlers: dict[str, Handler] = {
            "PING": self._ping,
            "ECHO": lambda session, args: args[1],
            "QUIT": self._quit,
            "RESET": self._reset,
            "SELECT": self._select,
            "HELLO": self._hello,
            "CLIENT|GETNAME": lambda session, args: session.name or None,
            "CLIENT|ID": lambda session, args: session.id,
            "CLIENT|INFO": lambda session, args: Verbatim(self._describe(session) + "\n"),
            "CLIENT|KILL": self._client_kill,
            "CLIENT|LIST": self._client_list,
            "CLIENT|NO-EVICT": self._accept_on_off,
            "CLIENT|NO-TOUCH": self._accept_on_off,
            "CLIENT|REPLY": self._client_reply,
            "CLIENT|REPLYSEQ": self._client_replyseq,
            "CLIENT|SETINFO": self._client_setinfo,
            "CLIENT|SETNAME": self._client_setname,
            "CONFIG|GET": self._config_get,
            "DEBUG|DIGEST": self._digest,
            "INFO": lambda session, args: Verbatim(
                info.text(self.node, [printable(name).lower() for name in args[1:]])
            ),
            "READONLY": self._readonly,
            "READWRITE": self._readwrite,
            "ROLE": lambda session, args: info.role(self.node),
            "TIME": self._time,
        }

    def run(self, session: Session, row: Row, command: Command, deadline_ms: float) -> None:
        """Evaluate one command and put its reply in the order of the session's replies."""
        chunk = Chunk(session, [command], deadline_ms)
        chunk.gates = 1
        session.add(chunk, is_blocker=True)
        reply: Reply
        try:
            if row.name.startswith("COMMAND") or row.name.endswith("|HELP"):
                reply = command_docs.answer(row, command)
            else:
                reply = self.handlers[row.name](session, command)
        except CommandError as error:
            reply = error
        if reply is _NOTHING:
            chunk.replies, chunk.gates = [b""], 0
            self.node.release(session)
        elif reply is not _LONG:
            self.node.answer(chunk, reply)

    # The connection

    def _ping(self, session: Session, args: Command) -> Reply:
        if len(args) > 2:
            raise CommandError("ERR wrong number of arguments for 'ping' command")
        return args[1] if len(args) == 2 else PONG

    def _quit(self, session: Session, args: Command) -> Reply:
        self.node.close_when_answered(session)
        return OK

    def _reset(self, session: Session, args: Command) -> Reply:
        session.reset()
        session.name = b""
        return Status("RESET")

    def _select(self, session: Session, args: Command) -> Reply:
        if parse_int64(args[1]) != 0:
            raise CommandError("ERR DB index is out of range")
        return OK

    def _hello(self, session: Session, args: Command) -> Reply:
        protocol, options = session.protocol, args[2:]
        if len(args) > 1:
            if args[1] not in (b"2", b"3"):
                if not args[1].isdigit():
                    raise CommandError("ERR Protocol version is not an integer or out of range")
                raise CommandError("NOPROTO unsupported protocol version")
            protocol = int(args[1])
        name = session.name
        while options:
            option = options[0].upper()
            if option == b"SETNAME" and len(options) >= 2:
                name = _connection_name(options[1])
                options = options[2:]
            elif option == b"AUTH" and len(options) >= 3:
                raise CommandError("ERR AUTH is not supported: this server has no users and no passwords")
            else:
                raise CommandError(f"ERR Syntax error in HELLO option '{printable(options[0])}'")
        session.protocol, session.name = protocol, name
        return {
            b"server": b"redis",
            b"version": REDIS_VERSION.encode(),
            b"proto": protocol,
            b"id": session.id,
            b"mode": b"standalone",
            b"role": b"master",
            b"modules": [],
        }

    def _describe(self, session: Session) -> str:
        age_s = int((self.node.now_ms - session.started_ms) / 1000)
        library = {key.decode(): printable(value) for key, value in session.library.items()}
        return (
            f"id={session.id} addr={session.address} name={printable(session.name)} age={age_s} db=0 "
            f"resp={session.protocol} lib-name={library.get('LIB-NAME', '')} lib-ver={library.get('LIB-VER', '')}"
        )

    def _client_list(self, session: Session, args: Command) -> Reply:
        return Verbatim("".join(self._describe(each) + "\n" for each in self.node.sessions.values()))

    def _client_kill(self, session: Session, args: Command) -> Reply:
        if len(args) == 3:  # the old form: an address
            args = [*args[:2], b"ADDR", args[2]]
            is_old = True
        else:
            is_old = False
        if len(args) % 2:
            raise syntax_error()
        victims = list(self.node.sessions.values())
        for option, value in zip(args[2::2], args[3::2], strict=True):
            match option.upper():
                case b"ID":
                    number = parse_int64(value)
                    victims = [victim for victim in victims if victim.id == number]
                case b"ADDR":
                    victims = [victim for victim in victims if victim.address.encode() == value]
                case b"SKIPME" if value.lower() in (b"yes", b"no"):
                    if value.lower() == b"yes":
                        victims = [victim for victim in victims if victim is not session]
                case _:
                    raise syntax_error()
        for victim in victims:
            self.node.close_when_answered(victim)
        if is_old:
            if not victims:
                raise CommandError("ERR No such client")
            return OK
        return len(victims)

    def _accept_on_off(self, session: Session, args: Command) -> Reply:
        _on_off(args[2])
        return OK

    def _client_reply(self, session: Session, args: Command) -> Reply:
        mode = args[2].upper()
        if mode == b"ON":
            session.is_silent = session.skips_reply = False
            session.note_mode()
            return OK
        if mode == b"OFF":
            session.is_silent = True
        elif mode == b"SKIP":
            session.skips_reply = True
        else:
            raise syntax_error()
        session.note_mode()
        return _NOTHING

    def _client_replyseq(self, session: Session, args: Command) -> Reply:
        session.tells_seq = _on_off(args[2])
        session.note_mode()
        return OK

    def _client_setinfo(self, session: Session, args: Command) -> Reply:
        attribute = args[2].upper()
        if attribute not in (b"LIB-NAME", b"LIB-VER"):
            raise CommandError(f"ERR Unrecognized option '{printable(args[2])}'")
        if any(byte <= 0x20 or byte > 0x7E for byte in args[3]) or len(args[3]) > NAME_BYTES_MAX:
            name = attribute.decode().lower()
            raise CommandError(f"ERR {name} cannot contain spaces, newlines or special characters.")
        session.library[attribute] = args[3]
        return OK

    def _client_setname(self, session: Session, args: Command) -> Reply:
        session.name = _connection_name(args[2])
        return OK

    # The node

    def _config_get(self, session: Session, args: Command) -> Reply:
        matches = [matcher(pattern.lower()) for pattern in args[2:]]
        settings = info.settings(self.node)
        return {
            name.encode(): value.encode()
            for name, value in settings.items()
            if any(match(name.encode()) for match in matches)
        }

    def _digest(self, session: Session, args: Command) -> Reply:
        self.node.reads.start_long(session.chunks[-1], digest(self.node.applier.keyspace))
        return _LONG

    def _readonly(self, session: Session, args: Command) -> Reply:
        session.reads_locally = True
        return OK

    def _readwrite(self, session: Session, args: Command) -> Reply:
        session.reads_locally = False
        return OK

    def _time(self, session: Session, args: Command) -> Reply:
        seconds, microseconds = divmod(int(self.node.wall_ms * 1000), 1_000_000)
        return [b"%d" % seconds, b"%d" % microseconds]


_LONG = Status("this reply comes later")
_NOTHING = Status("CLIENT REPLY has silenced this one")


def _on_off(value: bytes) -> bool:
    if value.upper() not in (b"ON", b"OFF"):
        raise syntax_error()
    return value.upper() == b"ON"


def _connection_name(value: bytes) -> bytes:
    if any(byte <= 0x20 or byte > 0x7E for byte in value) or len(value) > NAME_BYTES_MAX:
        raise CommandError("ERR Client names cannot contain spaces, newlines or special characters.")
    return value
