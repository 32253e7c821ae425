"""Links to the other members: handshake, two lanes each way, records in order.

Every node dials every other, once per lane, and sends on the connections that it dialed; what comes in arrives on those
that others dialed. So a member can be reached when both lanes to it are up, whatever works in the other direction.

    dialing side    ["kvnode peer", version, cluster id, my id, your id, lane]
    accepting side  ["welcome", version]  or  ["refused", reason] and close

**S** The cluster id is made of the member ids and the cluster's name: another set of members is another cluster,
refused.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from kvnode.net.frames import FrameError, Frames, frame, unpack
from kvnode.node import wire
from kvnode.node.deeds import ReadRecords
from kvnode.node.wire import DATA, LANES
from kvnode.raft import messages as m

if TYPE_CHECKING:
    from kvnode.node.node import Node

HANDSHAKE_TIMEOUT_MS = 5000.0


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


class Peers:
    def __init__(self, node: Node, cluster_id: str) -> None:
        self.node = node
        self._cluster_id = cluster_id
        self._frame_bytes_max = node.config.record_bytes_max + wire.ENVELOPE_BYTES_MAX
        self._links: dict[int, Link] = {}
        self._dialed: dict[tuple[str, str], Link] = {}  # open ones, by (peer, lane)
        self._accepted: dict[tuple[str, str], Link] = {}
        self._queues: dict[str, deque[_Waiting]] = {}
        self._last_token = 0
        self._reading: dict[str, int] = {}  # member -> token of what is being read for it
        self._last_append: tuple[m.Append, bytes] | None = None
        self._refusals: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Peers up={','.join(peer for peer in self.node.raft.peers if self.is_up(peer))}"

    def is_up(self, peer: str) -> bool:
        """Whether both lanes to the member are open."""
        return all((peer, lane) in self._dialed for lane in LANES)

    def can_forward_to(self, leader: str) -> bool:
        """Whether it can be reached, and can answer: replies come on the lane that it dialed."""
        return self.is_up(leader) and (leader, DATA) in self._accepted

    # Links come and go

    def on_dialed(self, link_id: int, peer: str, lane: str, address: str) -> None:
        self._links[link_id] = Link(link_id, address, peer, lane, is_dialed=True, now_ms=self.node.now_ms)
        hello = [wire.MAGIC, wire.VERSION, self._cluster_id, self.node.raft.id, peer, lane]
        self.node.outputs.link_writes.append((link_id, frame(hello)))

    def on_accepted(self, link_id: int, address: str) -> None:
        self._links[link_id] = Link(link_id, address, "", "", is_dialed=False, now_ms=self.node.now_ms)

    def on_closed(self, link_id: int) -> None:
        link = self._links.pop(link_id, None)
        if link is None or not link.is_open:
            return
        table = self._dialed if link.is_dialed else self._accepted
        if table.get((link.peer, link.lane)) is not link:
            return  # it has been replaced
        was_up = self.is_up(link.peer)
        del table[link.peer, link.lane]
        if link.is_dialed and was_up:
            self.node.note("warning", "member can not be reached", {"member": link.peer, "address": link.address})
            self._queues.pop(link.peer, None)
            self.node.raft.link_down(link.peer, self.node.now_ms)
        self.node.following.on_link_down(link.peer)
        if not link.is_dialed and link.lane == DATA:
            self.node.drop_remote(link.peer)

    def drop(self, peer: str, reason: str) -> None:
        """What came from the member can not be trusted: close what it dialed. It will dial again."""
        for lane in LANES:
            link = self._accepted.get((peer, lane))
            if link is not None:
                self._close(link, reason)

    def _close(self, link: Link, reason: str, level: str = "warning") -> None:
        self.node.note(level, "link dropped", {"member": link.peer or "?", "address": link.address, "reason": reason})
        self.node.outputs.link_closes.append(link.id)
        self.on_closed(link.id)

    def expire(self) -> None:
        """Close what has not shaken hands in time."""
        oldest_ms = self.node.now_ms - HANDSHAKE_TIMEOUT_MS
        for link in list(self._links.values()):
            if not link.is_open and link.since_ms < oldest_ms:
                self._close(link, "no handshake in time")

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
            self._close(link, str(error))
            return
        if link.frames.fault is not None:
            self._close(link, link.frames.fault)

    def _take(self, link: Link, body: bytes) -> None:
        if link.is_dialed:
            raise FrameError("a message on a connection that is for sending alone")
        message = wire.decode(body)
        if wire.lane_of(message) != link.lane:
            raise FrameError(f"a {type(message).__name__} on the {link.lane} lane")
        self.node.on_peer_message(link.peer, message)

    def _shake_hands(self, link: Link, hello: list[Any]) -> None:
        if link.is_dialed:
            self._on_answer(link, hello)
            return
        reason = self._why_refuse(hello)
        if reason is not None:
            self.node.outputs.link_writes.append((link.id, frame(["refused", reason])))
            self._close(link, reason)
            return
        link.peer, link.lane = hello[3], hello[5]
        older = self._accepted.get((link.peer, link.lane))
        if older is not None:
            self._close(older, "replaced by a newer connection", "debug")
        self._open(link)
        self._accepted[link.peer, link.lane] = link
        self.node.outputs.link_writes.append((link.id, frame(["welcome", wire.VERSION])))

    def _why_refuse(self, hello: list[Any]) -> str | None:
        if len(hello) < 6 or hello[0] != wire.MAGIC:
            return "this is not a member of a kvnode cluster"
        _, version, cluster_id, sender, receiver, lane = hello[:6]
        if version != wire.VERSION:
            return f"protocol version {version!r:.20}, this node speaks {wire.VERSION}"
        if cluster_id != self._cluster_id:
            return f"another cluster or another set of members ({cluster_id!r:.80}, this is {self._cluster_id})"
        if receiver != self.node.raft.id:
            return f"meant for member {receiver!r:.80}, this is {self.node.raft.id}"
        if sender not in self.node.raft.peers or lane not in LANES:
            return f"{sender!r:.80} is not another member, or {lane!r:.20} is not a lane"
        return None

    def _on_answer(self, link: Link, answer: list[Any]) -> None:
        if answer[:1] != ["welcome"]:
            reason = str(answer[1]) if len(answer) > 1 else "refused"
            if self._refusals.get(link.peer) != reason:  # it is dialed again and again: say it once
                self._refusals[link.peer] = reason
                self.node.note("error", "refused by member", {"member": link.peer, "reason": f"{reason:.300}"})
            self.node.outputs.link_closes.append(link.id)
            del self._links[link.id]
            return
        self._refusals.pop(link.peer, None)
        self._open(link)
        self._dialed[link.peer, link.lane] = link
        if self.is_up(link.peer):
            self.node.note("info", "member reached", {"member": link.peer, "address": link.address})
            self._queues[link.peer] = deque()
            self.node.raft.link_up(link.peer, self.node.now_ms)

    def _open(self, link: Link) -> None:
        link.is_open = True
        link.frames.frame_bytes_max = self._frame_bytes_max

    # Sending

    def send(self, peer: str, message: wire.PeerMessage) -> None:
        """Send, or drop where the lane is down: nobody relies on a message that was not answered."""
        link = self._dialed.get((peer, wire.lane_of(message)))
        if link is None:
            return
        if isinstance(message, m.Append):
            self._send_append(peer, link, message)
        else:
            self.node.outputs.link_writes.append((link.id, wire.encode(message)))

    def _send_append(self, peer: str, link: Link, append: m.Append) -> None:
        """At once if the records are in memory; else their beginning is read from the disk. Nothing overtakes it."""
        queue = self._queues.get(peer)
        if queue is None:
            return
        raw = self.node.tail.read(append.prev_seq, append.last_seq)
        if raw is not None and not queue:
            self._write_append(link, append, raw)
            return
        if queue and queue[-1].append.last_seq != append.prev_seq:
            queue.clear()  # the leader has begun anew elsewhere
        waiting = _Waiting(append, raw)
        queue.append(waiting)
        if raw is None:
            index = self.node.raft.index
            waiting.middle_seq = min(self.node.tail.begins_after(), append.last_seq)
            waiting.rest = self.node.tail.read(waiting.middle_seq, append.last_seq) or b""
            waiting.size = index.bytes_until(waiting.middle_seq) - index.bytes_until(append.prev_seq)
            self._maybe_read(peer)

    def _maybe_read(self, peer: str) -> None:
        """Have the next records read from the disk; one piece at a time for each member, so that what a leader that
        begins anew elsewhere no longer wants does not pile up before what it wants."""
        waiting = next((each for each in self._queues.get(peer, ()) if each.raw is None), None)
        if waiting is None or peer in self._reading:
            return
        self._last_token += 1
        self._reading[peer] = waiting.token = self._last_token
        self.node.outputs.reads.append(
            ReadRecords(peer, waiting.token, waiting.append.prev_seq, waiting.middle_seq, waiting.size)
        )

    def _write_append(self, link: Link, append: m.Append, raw: bytes) -> None:
        last = self._last_append
        if last is None or last[0] is not append:
            last = self._last_append = (append, wire.encode_append(append, raw))
        self.node.outputs.link_writes.append((link.id, last[1]))

    def on_read(self, peer: str, token: int, data: bytes) -> None:
        """Records came from the disk, as they stand in the file: send what waited for them, in order."""
        self._reading.pop(peer, None)
        self._send_read(peer, token, data)
        self._maybe_read(peer)

    def _send_read(self, peer: str, token: int, data: bytes) -> None:
        queue, link = self._queues.get(peer), self._dialed.get((peer, DATA))
        waiting = next((each for each in queue or () if each.token == token), None)
        if queue is None or link is None or waiting is None:
            return  # asked before the link broke, or before another term began
        if len(data) != waiting.size:
            self.node.note("error", "records could not be read for a member", {"member": peer, "bytes": len(data)})
            queue.clear()
            self.node.raft.lost_append(peer)
            return
        waiting.raw = data + waiting.rest if waiting.rest else data
        while queue and (raw := queue[0].raw) is not None:
            self._write_append(link, queue.popleft().append, raw)

    def on_change(self) -> None:
        """**S** Another term or leader: what waits for the disk was asked for by a leader that is no more."""
        for queue in self._queues.values():
            queue.clear()


class _Waiting:
    """An Append on its way, in order. `raw` is None while its beginning is read from the disk: `size` bytes, up to
    `middle_seq`; `rest` follows that."""

    __slots__ = ("append", "middle_seq", "raw", "rest", "size", "token")

    def __init__(self, append: m.Append, raw: bytes | None) -> None:
        self.append = append
        self.raw = raw
        self.rest = b""
        self.middle_seq = self.size = self.token = 0
