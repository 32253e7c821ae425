"""Connections with other members: handshake, frames, and which lane of which member is open.

Every node dials every other, once per lane. On the lanes for sending alone (control and data) what comes in arrives on
the connections that others dialed; on the lane of records questions go out on what one has dialed, and their answers
come back there.

    dialing side    ["kvnode peer", version, cluster id, my id, your id, lane]
    accepting side  ["welcome", version]  or  ["refused", reason] and close

On the lane of records "your id" may be empty: `kvnode repair` knows an address alone.

**S** The cluster id is made of the member ids and the cluster's name: another set of members is another cluster,
refused.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from kvnode.net.frames import FrameError, Frames, frame, unpack
from kvnode.node import wire
from kvnode.node.deeds import Outputs

HANDSHAKE_TIMEOUT_MS: Final = 5000.0


class Link:
    """One connection. `is_open`: the handshake is done. A dialed one knows `peer` and `lane` from the beginning."""

    __slots__ = ("address", "frames", "id", "is_dialed", "is_open", "lane", "peer", "since_ms")

    def __init__(self, link_id: int, address: str, peer: str, lane: str, *, is_dialed: bool, now_ms: float) -> None:
        self.id = link_id
        self.address = address
        self.peer = peer
        self.lane = lane
        self.is_dialed = is_dialed
        self.is_open = False
        self.since_ms = now_ms
        self.frames = Frames(wire.HELLO_BYTES_MAX)

    def __repr__(self) -> str:
        arrow = "->" if self.is_dialed else "<-"
        return f"link {self.id} {arrow} {self.peer or '?'} {self.lane or '?'} {self.address} open={self.is_open}"


class Owner(Protocol):
    """Who the links belong to: told when one opens, brings a message or is gone (from its table already)."""

    @property
    def now_ms(self) -> float: ...
    @property
    def outputs(self) -> Outputs: ...
    def note(self, level: str, event: str, fields: dict[str, object]) -> None: ...
    def on_open(self, link: Link) -> None: ...
    def on_message(self, link: Link, message: wire.PeerMessage | wire.RecordsMessage) -> None: ...
    def on_gone(self, link: Link) -> None: ...


class Links:
    """`dialed` and `accepted` hold the open ones by (member, lane). `refuses` says why a lane is not served: lane ->
    reason."""

    def __init__(
        self, owner: Owner, cluster_id: str, node_id: str, peers: tuple[str, ...], frame_bytes_max: int
    ) -> None:
        self.dialed: dict[tuple[str, str], Link] = {}
        self.accepted: dict[tuple[str, str], Link] = {}
        self.refuses: dict[str, str] = {}
        self._owner = owner
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._peers = peers
        self._frame_bytes_max = frame_bytes_max
        self._links: dict[int, Link] = {}
        self._refusals: dict[str, dict[str, str]] = {peer: {} for peer in peers}  # member -> lane -> why

    def __repr__(self) -> str:
        return f"Links {len(self._links)} dialed={sorted(self.dialed)} accepted={sorted(self.accepted)}"

    def send(self, link: Link, message: wire.PeerMessage | wire.RecordsMessage) -> None:
        self._owner.outputs.link_writes.append((link.id, wire.encode(message)))

    def find(self, link_id: int) -> Link | None:
        """The open link of this id."""
        link = self._links.get(link_id)
        return link if link is not None and link.is_open else None

    # Links come and go

    def on_dialed(self, link_id: int, peer: str, lane: str, address: str) -> None:
        self._links[link_id] = Link(link_id, address, peer, lane, is_dialed=True, now_ms=self._owner.now_ms)
        hello = [wire.MAGIC, wire.VERSION, self._cluster_id, self._node_id, peer, lane]
        self._owner.outputs.link_writes.append((link_id, frame(hello)))

    def on_accepted(self, link_id: int, address: str) -> None:
        self._links[link_id] = Link(link_id, address, "", "", is_dialed=False, now_ms=self._owner.now_ms)

    def on_closed(self, link_id: int) -> None:
        link = self._links.pop(link_id, None)
        if link is None or not link.is_open:
            return
        table = self.dialed if link.is_dialed else self.accepted
        if table.get((link.peer, link.lane)) is link:  # else it has been replaced
            del table[link.peer, link.lane]
            self._owner.on_gone(link)

    def close(self, link: Link, reason: str, level: str = "warning") -> None:
        fields: dict[str, object] = {"member": link.peer or "?", "address": link.address, "reason": reason}
        self._owner.note(level, "link dropped", fields)
        self._owner.outputs.link_closes.append(link.id)
        self.on_closed(link.id)

    def expire(self) -> None:
        """Close what has not shaken hands in time."""
        oldest_ms = self._owner.now_ms - HANDSHAKE_TIMEOUT_MS
        for link in list(self._links.values()):
            if not link.is_open and link.since_ms < oldest_ms:
                self.close(link, "no handshake in time")

    # Bytes

    def on_bytes(self, link_id: int, data: bytes) -> None:
        link = self._links.get(link_id)
        if link is None:
            return
        bodies = link.frames.feed(data)
        try:
            for body in bodies:
                if link.is_open:
                    self._take(link, body)
                else:
                    self._shake_hands(link, unpack(body))
                    bodies_after = link.frames.feed(b"")
                    bodies += bodies_after
                if link.id not in self._links:
                    return
        except FrameError as error:
            self.close(link, str(error))
            return
        if link.frames.fault is not None:
            self.close(link, link.frames.fault)

    def _take(self, link: Link, body: bytes) -> None:
        if link.is_dialed and link.lane != wire.RECORDS:
            raise FrameError("a message on a connection that is for sending alone")
        message = wire.decode(body)
        if wire.lane_of(message) != link.lane:
            raise FrameError(f"a {type(message).__name__} on the {link.lane} lane")
        self._owner.on_message(link, message)

    def _shake_hands(self, link: Link, hello: list[Any]) -> None:
        if link.is_dialed:
            self._on_answer(link, hello)
            return
        reason = self._why_refuse(hello)
        if reason is not None:
            self._owner.outputs.link_writes.append((link.id, frame(["refused", reason])))
            self.close(link, reason, "debug" if reason in self.refuses.values() else "warning")
            return
        link.peer, link.lane = hello[3], hello[5]
        older = self.accepted.get((link.peer, link.lane))
        if older is not None:
            self.close(older, "replaced by a newer connection", "debug")
        self.accepted[link.peer, link.lane] = link
        self._owner.outputs.link_writes.append((link.id, frame(["welcome", wire.VERSION])))
        self._open(link)

    def _why_refuse(self, hello: list[Any]) -> str | None:
        if len(hello) < 6 or hello[0] != wire.MAGIC:
            return "this is not a member of a kvnode cluster"
        _, version, cluster_id, sender, receiver, lane = hello[:6]
        if version != wire.VERSION:
            return f"protocol version {version!r:.20}, this node speaks {wire.VERSION}"
        if cluster_id != self._cluster_id:
            return f"another cluster or another set of members ({cluster_id!r:.80}, this is {self._cluster_id})"
        if receiver != self._node_id and (receiver or lane != wire.RECORDS):
            return f"meant for member {receiver!r:.80}, this is {self._node_id}"
        if sender not in self._peers or lane not in wire.LANES:
            return f"{sender!r:.80} is not another member, or {lane!r:.20} is not a lane"
        return self.refuses.get(lane)

    def _on_answer(self, link: Link, answer: list[Any]) -> None:
        if answer[:1] != ["welcome"]:
            reason = str(answer[1]) if len(answer) > 1 else "refused"
            if reason not in self._refusals[link.peer].values():  # it is dialed again and again: say it once
                fields: dict[str, object] = {"member": link.peer, "reason": f"{reason:.300}"}
                self._owner.note("warning", "refused by member", fields)
            self._refusals[link.peer][link.lane] = reason
            self._owner.outputs.link_closes.append(link.id)
            del self._links[link.id]
            return
        self._refusals[link.peer].pop(link.lane, None)
        self.dialed[link.peer, link.lane] = link
        self._open(link)

    def _open(self, link: Link) -> None:
        link.is_open = True
        link.frames.frame_bytes_max = self._frame_bytes_max
        self._owner.on_open(link)
