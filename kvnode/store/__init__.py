"""The key space, the command table and the evaluation of commands: deterministic, without clock, disk or network.

effects     what an entry of the log says
keyspace    the applied state: keys and values, an ordered index that is kept lazily
snapshot    one moment of the key space, read in slices while entries go on being applied
overlay     the leader's view: the key space and what is logged but not yet applied
table       every command: arity, kind, keys, evaluation, documentation
digest      a fingerprint of the key space
"""
