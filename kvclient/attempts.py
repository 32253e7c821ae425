"""Which node is asked next, and how a call ends. Pure, and shared by the sync and the asyncio client.

A call tries each node at most once, beginning with the one that answered last. It goes on to another node only where
that cannot apply a command twice:

    could not connect                      the command was not sent        next node
    -LOADING, -CLUSTERDOWN                 not applied, never will be      next node
    sent, but no answer (lost, timeout)    a read                          next node
                                           anything else                   Unknown
    -UNKNOWN                               a read                          next node
                                           anything else                   Unknown
    any other error reply                                                  CommandError, or NotApplied (-MISCONF)
"""

from __future__ import annotations

from collections.abc import Sequence

from kvclient.errors import ELSEWHERE_CODES, NotApplied, Unknown, from_reply
from kvclient.nodes import Node


class Attempts:
    """The course of one call. Ask `next_node`, try it, report what happened; a report raises where the call ends."""

    __slots__ = ("_deadline", "_failures", "_is_read", "_left", "_node")

    def __init__(self, nodes: Sequence[Node], first: int, *, is_read: bool, deadline: float) -> None:
        """`first`: position of the node to begin with. `deadline`: on the caller's monotonic clock, in seconds."""
        self._left = [*nodes[first:], *nodes[:first]]
        self._left.reverse()
        self._is_read = is_read
        self._deadline = deadline
        self._failures: list[str] = []
        self._node: Node | None = None

    def __repr__(self) -> str:
        return f"Attempts at={self._node} left={len(self._left)} failed={self._failures}"

    def next_node(self, now: float) -> Node:
        """The node to try. Raises NotApplied when none is left, or no time: everything before was without effect."""
        if not self._left or (self._failures and now >= self._deadline):
            raise NotApplied(self._summary())
        self._node = self._left.pop()
        return self._node

    def time_left(self, now: float, at_most: float) -> float:
        """Seconds that this try may take."""
        return max(0.05, min(at_most, self._deadline - now))

    def not_sent(self, reason: object) -> None:
        """The node could not be reached, or refused the connection's greeting: the command was not sent."""
        self._failures.append(f"{self._node}: {reason}")

    def lost(self, reason: object) -> None:
        """The command left, wholly or in part, and no answer came."""
        if not self._is_read:
            raise Unknown(f"no answer from {self._node} ({reason}): the command may have been applied")
        self._failures.append(f"{self._node}: {reason}")

    def error_reply(self, text: str) -> None:
        """The node answered with an error."""
        error = from_reply(text)
        if error.code not in ELSEWHERE_CODES and not (self._is_read and isinstance(error, Unknown)):
            raise error
        self._failures.append(f"{self._node}: {text}")

    def _summary(self) -> str:
        return "no node took the command: " + "; ".join(self._failures)
