"""Who a data directory belongs to: the file `identity`, a note that is replaced as a whole.

    ["kvnode identity", 1, cluster id, node id, [member ids, sorted], may vote, set aside]

It is the last file that is made in a new directory: with it the directory is complete, without it nothing was ever
recorded there. The right to vote begins as false and is stored once it has been earned. A node that may have lost
something gives it up: `set aside` says why, until a leader has brought the node up to date. A file of an earlier
version ends with `may vote`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import msgpack

from kvnode.log.errors import ForeignLogError
from kvnode.log.notes import decode_note, encode_note
from kvnode.log.record import BadRecord

KIND = "kvnode identity"
NAME = "identity"


@dataclass(frozen=True, slots=True)
class Identity:
    """`members`: the ids of all members, sorted; their addresses may change. `may_vote`: DESIGN part 4.

    `set_aside`: why the right to vote was taken away, one sentence; "" when it was not.
    """

    cluster_id: str
    node_id: str
    members: tuple[str, ...]
    may_vote: bool
    set_aside: str = ""


def cluster_id(members: Iterable[str], name: str = "") -> str:
    """The id of the cluster with these member ids and this name, 32 hex digits; the order does not matter."""
    return blake2b(msgpack.packb([name, sorted(members)]), digest_size=16).hexdigest()


def encode_identity(identity: Identity) -> bytes:
    fields = [identity.cluster_id, identity.node_id, list(identity.members), identity.may_vote, identity.set_aside]
    return encode_note(KIND, fields)


def decode_identity(data: bytes) -> Identity:
    """Raises BadRecord."""
    fields = decode_note(data, KIND, (str, str, list, bool))
    cluster, node, members, may_vote = fields[:4]
    set_aside = fields[4] if len(fields) > 4 else ""
    if not all(type(text) is str for text in (*members, set_aside)):
        raise BadRecord("a field of the identity is not a text")
    return Identity(cluster, node, tuple(members), may_vote, set_aside)


def refuse_foreign(place: object, found: Identity, wanted: Identity) -> None:
    """Raise ForeignLogError unless the two are the same node of the same cluster."""
    if found.node_id != wanted.node_id:
        raise ForeignLogError(
            f"{place} belongs to node {found.node_id}, but this node is {wanted.node_id}. Nothing was touched. "
            f"Start it with --id {found.node_id}, or give node {wanted.node_id} a directory of its own."
        )
    if found.members != wanted.members:
        raise ForeignLogError(
            f"{place} belongs to a cluster of {', '.join(found.members)}, but this node was told that the members are "
            f"{', '.join(wanted.members)}. Nothing was touched. The set of members of a cluster can not be changed."
        )
    if found.cluster_id != wanted.cluster_id:
        raise ForeignLogError(
            f"{place} belongs to another cluster (id {found.cluster_id}, this node's is {wanted.cluster_id}): the "
            "cluster's name differs. Nothing was touched."
        )
