"""What clients hear while a node can not serve: each command is answered -LOADING, and so certainly not applied."""

from __future__ import annotations

from kvnode.net.replies import encode_error
from kvnode.net.requests import Requests

READING = "this node is reading its log"
SET_ASIDE = "this node is set aside: it heals its log with the records of other members"


class LoadingClient:
    """One connection. `requests` goes on to the node, with whatever part of a command it holds."""

    def __init__(self, request_bytes_max: int) -> None:
        self.requests = Requests(request_bytes_max)

    def answer(self, data: bytes, reason: str) -> bytes:
        replies = [encode_error(f"LOADING {reason}; the command was not applied")] * len(self.requests.feed(data))
        if self.requests.fault is not None:
            replies.append(encode_error(self.requests.fault))
        return b"".join(replies)
