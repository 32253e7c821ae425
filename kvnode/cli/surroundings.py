"""What stands around the log in a data directory: who holds the lock, what does not belong there, what is kept aside.

Nothing is written and no lock is taken: who holds it stands in /proc/locks.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from kvnode.log.directory import LOCK, is_harmless, is_ours, is_strange
from kvnode.log.discard import DISCARDED
from kvnode.log.files import REAL, read_file
from kvnode.log.identity import NAME as IDENTITY
from kvnode.log.record import BadRecord, decode_header
from kvnode.log.reserve import NAME as RESERVE
from kvnode.log.segment import HEADER_BYTES_MAX, first_seq_of
from kvnode.log.viewing.strangers import describe_directory, describe_file

LOCKS = Path("/proc/locks")
TEMPORARY = ".tmp"
SNIFFED_BYTES = 4096
OTHERS = stat.S_IRWXG | stat.S_IRWXO


class NoDirectory(Exception):
    """There is no data directory at this path; the text is a sentence that says what is there."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`holder`: the process that has the directory open. `strangers`: names that are none of kvnode's, `leftovers`:
    files that were being made, `exposed`: (name, mode) of ours that others than the owner may touch, `owned`: ours that
    another user owns than the one of the directory, `zeros`: ours that begin with zeros alone, `discarded`: how many
    files are kept there, and their bytes."""

    holder: int | None = None
    strangers: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    exposed: tuple[tuple[str, int], ...] = ()
    owned: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    discarded: tuple[int, int] = (0, 0)


def look_around(directory: Path) -> Surroundings:
    """Raises OSError."""
    names = REAL.listdir(directory)
    ours = [name for name in names if is_ours(name) and name != DISCARDED]
    lasting = [name for name in ours if not name.endswith(TEMPORARY)]
    found = {name: status for name in lasting if (status := _status(directory / name)) is not None}
    modes = [(name, stat.S_IMODE(status.st_mode)) for name, status in found.items()]
    owner = directory.stat().st_uid
    discarded = [status.st_size for path in (directory / DISCARDED).glob("*") if (status := _status(path)) is not None]
    return Surroundings(
        holder=find_holder(directory / LOCK),
        strangers=tuple(name for name in names if is_strange(name)),
        leftovers=tuple(name for name in ours if name.endswith(TEMPORARY)),
        exposed=tuple((name, mode) for name, mode in modes if mode & OTHERS),
        owned=tuple(name for name, status in found.items() if status.st_uid != owner),
        zeros=tuple(name for name in lasting if name not in (LOCK, RESERVE) and _is_zeros(directory / name)),
        discarded=(len(discarded), sum(discarded)),
    )


def find_holder(lock: Path) -> int | None:
    """The id of the process that has locked the file, None where nobody has or the system does not tell."""
    try:
        status = lock.stat()
        owner = lock.read_text("ascii", "replace").strip()
        lines = LOCKS.read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    for line in lines:
        # 1: FLOCK  ADVISORY  WRITE 4711 fe:00:2146330 0 EOF        one that waits has "->" after the number
        words = line.split()
        if len(words) < 6 or words[1] != "FLOCK":
            continue
        place, _, inode = words[5].rpartition(":")
        # Some file systems (overlay, btrfs) show one device to stat and another one here.
        if inode == str(status.st_ino) and (place == device or words[4] == owner):
            return int(words[4])
    return None


def refuse_no_directory(path: Path) -> None:
    """Raise NoDirectory unless this is a data directory, in whatever state. Raises OSError."""
    if not path.is_dir():
        raise NoDirectory(_describe_no_directory(path))
    names = REAL.listdir(path)
    if IDENTITY in names:
        return
    if path.name == DISCARDED and (path.parent / IDENTITY).exists():
        raise NoDirectory(
            f"{path} holds what was cut off a log, and nothing reads it. The data directory is {path.parent}."
        )
    shown = [name for name in names if not is_harmless(name)]
    if not shown:
        raise NoDirectory(f"{path} is empty: there is nothing to look at, and a node would begin anew in it.")
    strangers = [name for name in shown if not is_ours(name)]
    if strangers:
        what = describe_directory(REAL, path)
        raise NoDirectory(f"{path} is not a kvnode data directory: {what} (it holds {strangers[0]!r}).")


def _describe_no_directory(path: Path) -> str:
    kind = REAL.kind(path)
    if kind is None or kind == "link":
        return f"can not read {path}: there is no such directory."
    if kind != "file":
        return f"{path} is neither a directory nor a file."
    data = read_file(REAL, path, HEADER_BYTES_MAX)
    try:
        header, _ = decode_header(data)
        owner = f" of node {header.node_id}"
    except BadRecord:
        owner = ""
    if not owner and (first_seq_of(path.name) is None or describe_file(data)):
        return (
            f"{path} is not a kvnode data directory: {describe_file(data) or 'it is a file that kvnode does not know'}."
        )
    return (
        f"{path} is one segment of the log{owner}, not a data directory: give {path.parent}. "
        "`kvnode inspect-log` reads a single segment."
    )


def _is_zeros(path: Path) -> bool:
    try:
        data = read_file(REAL, path, SNIFFED_BYTES)
    except OSError:  # the survey says so where it matters
        return False
    return bool(data) and not data.strip(b"\0")


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:  # a running node has taken it away
        return None
