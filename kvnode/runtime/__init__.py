"""The world around a node: event loop, sockets, threads of the disk, clock, signals, the operator's log.

It turns what happens into events, lets the node take a turn, and carries out the outputs. What it decides itself is
small: when to dial a member again, when a client that does not read is cut off, and that an exception on the path of
data ends the process.

    serve.py           from a Config to an exit code, over one or several lives
    opening.py         what a life begins with: the log is opened, a node made, or one that is set aside
    loop.py            turns
    disk.py            the writer thread and the reader thread
    writing.py         what they do, and what becomes of deeds while the disk is full
    connections.py     protocols of asyncio for clients and members, and the dialing of members
    loading.py         what clients hear while the log is read or healed
    notes.py           the operator's log
    repairing.py       healing a stopped log, with records_client.py, which asks running members
"""

from kvnode.runtime.opening import StartError
from kvnode.runtime.serve import serve

__all__ = ["StartError", "serve"]
