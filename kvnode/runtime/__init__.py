"""The world around a node: event loop, sockets, threads of the disk, clock, signals, the operator's log.

It turns what happens into events, lets the node take a turn, and carries out the outputs. What it decides itself is
small: when to dial a member again, when a client that does not read is cut off, and that an exception on the path of
data ends the process.

    serve.py        from a Config to an exit code
    loop.py         turns
    disk.py         the writer thread and the reader thread
    connections.py  protocols of asyncio for clients and members, and the dialing of members
    loading.py      what clients hear while the log is read
    notes.py        the operator's log
"""

from kvnode.runtime.serve import StartError, serve

__all__ = ["StartError", "serve"]
