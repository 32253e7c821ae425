"""A broken local invariant is a bug: it stops the node, with a message that a person understands."""


class InvariantError(Exception):
    """Something that this node took for certain does not hold. Nothing that follows can be trusted."""


def invariant(condition: object, message: str) -> None:
    """Raise InvariantError with `message` unless `condition` is true. Unlike `assert` it is there under -O too."""
    if not condition:
        raise InvariantError(message)
