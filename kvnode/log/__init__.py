"""The write-ahead log of a node: record.py the format, recovery.py opening, wal.py writing.

    healing/   damage: told from what a crash leaves behind, and written anew
    viewing/   looking at a log from outside

docs/LOG_FORMAT.md describes every file of a data directory.
"""

from __future__ import annotations

from kvnode.log.ballot import Ballot
from kvnode.log.damage import Finding, Hole
from kvnode.log.discard import Cut
from kvnode.log.errors import (
    DamageError,
    DiskError,
    DoesNotFit,
    ForeignLogError,
    LockedError,
    LogError,
    NoSpaceError,
)
from kvnode.log.healing.damaged import DamagedLog
from kvnode.log.healing.survey import Survey
from kvnode.log.identity import Identity, cluster_id
from kvnode.log.record import BadRecord, Record
from kvnode.log.recovery import Recovered, open_log
from kvnode.log.wal import LogOptions, WriteAheadLog

__all__ = [
    "BadRecord",
    "Ballot",
    "Cut",
    "DamageError",
    "DamagedLog",
    "DiskError",
    "DoesNotFit",
    "Finding",
    "ForeignLogError",
    "Hole",
    "Identity",
    "LockedError",
    "LogError",
    "LogOptions",
    "NoSpaceError",
    "Record",
    "Recovered",
    "Survey",
    "WriteAheadLog",
    "cluster_id",
    "open_log",
]
