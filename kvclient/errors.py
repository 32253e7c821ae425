"""What a call of the client can end with, other than a reply.

KVError
├── CommandError     a node read the command and refused it; not applied. `text` is the error reply
│   └── NoSuchKey    UPD of a key that does not exist
├── NotApplied       no node took the command: it was not applied and never will be; sending it again is safe
└── Unknown          it may have been applied, or may yet be: only reading can tell
"""

from __future__ import annotations

# Error codes with which a node says that it did not, and will not, apply the command (DESIGN part 7).
NOT_APPLIED_CODES = frozenset({"LOADING", "CLUSTERDOWN", "MISCONF"})
# Those of them that another node may answer better: it may be up, or on the majority's side of a partition.
ELSEWHERE_CODES = frozenset({"LOADING", "CLUSTERDOWN"})
UNKNOWN_CODE = "UNKNOWN"


class KVError(Exception):
    """Base of all errors that a call raises. `text` is the whole message, one line."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    @property
    def code(self) -> str:
        """The first word: ERR, WRONGTYPE, CLUSTERDOWN, … ; "" where no node said anything."""
        word = self.text.partition(" ")[0]
        return word if word.isupper() else ""


class CommandError(KVError):
    """The node refused the command itself: wrong arguments, wrong type, too large."""


class NoSuchKey(CommandError):
    """UPD of a key that does not exist."""


class NotApplied(KVError):
    """The command was not applied and never will be. Sending it again is safe."""


class Unknown(KVError):
    """The command was sent and its outcome is not known: it may have been applied, or may yet be."""


def from_reply(text: str) -> KVError:
    """The error that an error reply stands for. `text`: the reply without its leading '-'."""
    code = text.partition(" ")[0]
    if code == UNKNOWN_CODE:
        return Unknown(text)
    if code in NOT_APPLIED_CODES:
        return NotApplied(text)
    if text == "ERR no such key":
        return NoSuchKey(text)
    return CommandError(text)
