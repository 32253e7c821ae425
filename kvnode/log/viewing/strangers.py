"""What a file or directory is that somebody took for a log of kvnode. For people: a phrase, or None."""

from __future__ import annotations

import re
from pathlib import Path

from kvnode.log.ballot import KIND as BALLOT
from kvnode.log.discard import DISCARDED
from kvnode.log.files import Files
from kvnode.log.identity import KIND as IDENTITY
from kvnode.log.identity import NAME as IDENTITY_NAME
from kvnode.log.mark import KIND as MARK
from kvnode.log.segment import first_seq_of

_AOF = re.compile(rb"\*\d+\r\n\$\d+\r\n")
_REDIS_NAMES = re.compile(r"appendonly|dump\.rdb\Z|.+\.aof\Z")
SUGGESTIONS_MAX = 5


def describe_file(data: bytes) -> str | None:
    """What a file is that begins with `data`."""
    if not data:
        return "it is empty"
    if not data.strip(b"\0"):
        return "it begins with zeros only"
    if data.startswith(b"REDIS"):
        return "it is a snapshot (RDB) of Redis"
    if _AOF.match(data):
        return "it is an append-only file (AOF) of Redis"
    for kind in (IDENTITY, BALLOT, MARK):
        if kind.encode() in data[:64]:
            return f"it is the file `{kind.split()[1]}` of a data directory; give the directory"
    return None


def describe_directory(files: Files, path: Path) -> str:
    """What a directory is that holds no segment of a log: a sentence, with a hint where one can be given."""
    names = files.listdir(path)
    if IDENTITY_NAME in names:
        return "all segments of its log are missing"
    below = [path / name for name in names if _is_data_directory(files, path / name)]
    if below:
        shown = ", ".join(map(str, below[:SUGGESTIONS_MAX])) + (", …" if len(below) > SUGGESTIONS_MAX else "")
        return f"there are data directories in it, give one of them: {shown}"
    if path.name == DISCARDED:
        return "it holds what was cut off a log, give one of its files" if names else "nothing was cut off that log"
    if not names:
        return "it is empty"
    if any(_REDIS_NAMES.match(name) for name in names):
        return "it looks like a directory of Redis"
    return "there is no segment of a log in it"


def _is_data_directory(files: Files, path: Path) -> bool:
    if files.kind(path) != "directory" or path.name == DISCARDED:
        return False
    try:
        return any(first_seq_of(name) is not None for name in files.listdir(path))
    except OSError:
        return False
