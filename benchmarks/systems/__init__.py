"""The systems under test, each a context manager over real processes of three nodes on free ports of the loopback
interface, with its data on disk in a directory of its own.

    processes.py   what they have in common
    kvnode.py  redis.py  etcd.py  pysyncobj.py (with pysyncobj_node.py, which runs in an environment of its own)
    install.py     the peers that are missing on this machine
"""
