"""The other members: which can be reached, and what is sent to them, records in order.

A member can be reached when both lanes for sending to it are open, whatever works in the other direction. Its lane of
records is served and used by node/fetching.py and node/scrubbing.py.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from kvnode.node import wire
from kvnode.node.deeds import Outputs, ReadRecords
from kvnode.node.links import Link, Links
from kvnode.node.wire import CONTROL, DATA, RECORDS
from kvnode.raft import messages as m

if TYPE_CHECKING:
    from kvnode.node.node import Node

SENDING: Final = (CONTROL, DATA)


class Peers:
    def __init__(self, node: Node, cluster_id: str) -> None:
        self.node = node
        frame_bytes_max = node.config.record_bytes_max + wire.ENVELOPE_BYTES_MAX
        self.links = Links(self, cluster_id, node.raft.id, node.raft.peers, frame_bytes_max)
        self._queues: dict[str, deque[_Waiting]] = {}
        self._last_token = 0
        self._reading: dict[str, int] = {}  # member -> token of what is being read for it
        self._last_append: tuple[m.Append, bytes] | None = None

    def __repr__(self) -> str:
        return f"Peers up={','.join(peer for peer in self.node.raft.peers if self.is_up(peer))}"

    def is_up(self, peer: str) -> bool:
        """Whether both lanes to the member are open."""
        return all((peer, lane) in self.links.dialed for lane in SENDING)

    def can_forward_to(self, leader: str) -> bool:
        """Whether it can be reached, and can answer: replies come on the lane that it dialed."""
        return self.is_up(leader) and (leader, DATA) in self.links.accepted

    # What Links asks and tells

    @property
    def now_ms(self) -> float:
        return self.node.now_ms

    @property
    def outputs(self) -> Outputs:
        return self.node.outputs

    def note(self, level: str, event: str, fields: dict[str, object]) -> None:
        self.node.note(level, event, fields)

    def on_message(self, link: Link, message: wire.PeerMessage | wire.RecordsMessage) -> None:
        if isinstance(message, (wire.Fetch, wire.Fetched)):
            self.node.scrubbing.on_records_message(link, message)
        else:
            self.node.on_peer_message(link.peer, message)

    def on_open(self, link: Link) -> None:
        if link.is_dialed and link.lane != RECORDS and self.is_up(link.peer):
            self.note("info", "member reached", {"member": link.peer, "address": link.address})
            self._queues[link.peer] = deque()
            self.node.raft.link_up(link.peer, self.node.now_ms)

    def on_gone(self, link: Link) -> None:
        if link.lane == RECORDS:
            self.node.scrubbing.on_records_gone(link)
            return
        if link.is_dialed and link.peer in self.node.raft.links:
            self.note("warning", "member can not be reached", {"member": link.peer, "address": link.address})
            self._queues.pop(link.peer, None)
            self.node.raft.link_down(link.peer, self.node.now_ms)
        if link.lane == DATA:
            # Without it nothing more can be forwarded either. (A killed leader's connections end one after the other: a
            # client that was told on the first would send its next command into the others.)
            self.node.following.on_link_down(link.peer)
            if not link.is_dialed:
                self.node.drop_remote(link.peer)

    def drop(self, peer: str, reason: str) -> None:
        """What came from the member can not be trusted: close what it dialed. It will dial again."""
        for lane in SENDING:
            link = self.links.accepted.get((peer, lane))
            if link is not None:
                self.links.close(link, reason)

    # Sending

    def send(self, peer: str, message: wire.PeerMessage) -> None:
        """Send, or drop where the lane is down: nobody relies on a message that was not answered."""
        link = self.links.dialed.get((peer, wire.lane_of(message)))
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
            self.node.outputs.link_writes.append((link.id, self._encode_from_memory(append, raw)))
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

    def _encode_from_memory(self, append: m.Append, raw: bytes) -> bytes:
        """Once for all members that get the same. Not so with what was read from the disk: it may be damaged there, and
        healed when the same Append is sent again."""
        last = self._last_append
        if last is None or last[0] is not append:
            last = self._last_append = (append, wire.encode_append(append, raw))
        return last[1]

    def on_read(self, peer: str, token: int, data: bytes) -> None:
        """Records came from the disk, as they stand in the file: send what waited for them, in order."""
        self._reading.pop(peer, None)
        self._send_read(peer, token, data)
        self._maybe_read(peer)

    def _send_read(self, peer: str, token: int, data: bytes) -> None:
        queue, link = self._queues.get(peer), self.links.dialed.get((peer, DATA))
        waiting = next((each for each in queue or () if each.token == token), None)
        if queue is None or link is None or waiting is None:
            return  # asked before the link broke, or before another term began
        if len(data) != waiting.size:
            self.node.note("error", "records could not be read for a member", {"member": peer, "bytes": len(data)})
            self.node.scrubbing.suspect(waiting.append.prev_seq)
            queue.clear()
            self.node.raft.lost_append(peer)
            return
        waiting.raw = data + waiting.rest if waiting.rest else data
        while queue and (raw := queue[0].raw) is not None:
            self.node.outputs.link_writes.append((link.id, wire.encode_append(queue.popleft().append, raw)))

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
