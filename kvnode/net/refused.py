"""A request that is not run: a command of its own kind, in the place of one that is too large to be kept."""

from __future__ import annotations


class Refused(list[bytes]):
    """A request over the size limit: a command without a name, with the `text` of the error reply that it gets."""

    def __init__(self, text: str) -> None:
        super().__init__((b"",))
        self.text = text
