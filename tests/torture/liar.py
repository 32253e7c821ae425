"""A node that lies, to see that it is found out: it stands before the client port of a real one, and answers some reads
with what the key held earlier. Writes, and the seqs that replies tell, are the real node's."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from random import Random
from types import TracebackType
from typing import Any, Self

import hiredis

from tests.cluster.harness import HOST
from tests.torture.clients import Address

READS = (b"GET", b"MGET")
LIES = 0.05


class Liar:
    """Lives in a thread of its own from `with` on; `address` is where it answers."""

    def __init__(self, address: Address, seed: int = 1, chance: float = LIES) -> None:
        self.address: Address
        self.lies = 0
        self._node = address
        self._random = Random(f"liar {seed}")
        self._chance = chance
        self._before: dict[bytes, list[Any]] = defaultdict(list)  # what reads of a key have answered
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="liar", daemon=True)

    def __repr__(self) -> str:
        return f"Liar before {self._node} lies={self.lies}"

    def __enter__(self) -> Self:
        self._thread.start()
        started = asyncio.start_server(self._serve, HOST, 0)
        self._server = asyncio.run_coroutine_threadsafe(started, self._loop).result()
        self.address = self._server.sockets[0].getsockname()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        node, to_node = await asyncio.open_connection(*self._node)
        asked: deque[list[bytes]] = deque()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(client, to_node, asked))
                group.create_task(self._answer(node, to_client, asked))
        finally:
            to_client.close()
            to_node.close()

    async def _pass_on(
        self, client: asyncio.StreamReader, to_node: asyncio.StreamWriter, asked: deque[list[bytes]]
    ) -> None:
        requests = hiredis.Reader()
        while data := await client.read(65536):
            for line in data.splitlines(keepends=True) if data.startswith(b"CLIENT") else [data]:
                if line.startswith(b"CLIENT"):  # the greeting is inline
                    asked.append([line])
                else:
                    requests.feed(line)
            while (request := requests.gets()) is not False:
                asked.append(request)
            to_node.write(data)
        to_node.close()

    async def _answer(
        self, node: asyncio.StreamReader, to_client: asyncio.StreamWriter, asked: deque[list[bytes]]
    ) -> None:
        replies = hiredis.Reader()
        while data := await node.read(65536):
            replies.feed(data)
            while (reply := replies.gets()) is not False:
                to_client.write(encode(self._maybe_lie(asked.popleft(), reply)))
        to_client.close()

    def _maybe_lie(self, request: list[bytes], reply: Any) -> Any:
        if request[0] not in READS or not isinstance(reply, list):
            return reply
        seq, truth = reply
        before = self._before[b" ".join(request)]
        before.append(truth)
        if before[0] != truth and self._random.random() < self._chance:
            self.lies += 1
            return [seq, self._random.choice([each for each in before if each != truth])]
        return reply


def encode(reply: Any) -> bytes:
    """In RESP2; what was a simple string becomes a bulk string, which reads alike."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, hiredis.ReplyError):
        return b"-%b\r\n" % str(reply).encode()
    if isinstance(reply, list):
        return b"*%d\r\n%b" % (len(reply), b"".join(map(encode, reply)))
    return b"$%d\r\n%b\r\n" % (len(reply), reply)
