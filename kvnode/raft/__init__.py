"""Consensus, sans I/O: Raft with pre-vote, check-quorum, read-index and leadership transfer.

`Raft` (core.py) owns what outlives a role: the ballot, the positions of the log, what is durable and what is committed.
The role it plays is an object of its own: follower.py, candidate.py, leader.py with rounds.py for its reads.
Messages come in through `step`, time through `tick`, completions of the disk through `durable` and `ballot_saved`; what
is to be done comes out in `Output`.

Sources: Ongaro's dissertation (sections are named where a rule comes from), and the pitfalls that others fell into.
Left out: change of members, and leases (they would trust a clock).
"""

from kvnode.raft.core import Cut, Options, Output, Raft, Role, SaveBallot
from kvnode.raft.index import LogIndex

__all__ = ["Cut", "LogIndex", "Options", "Output", "Raft", "Role", "SaveBallot"]
