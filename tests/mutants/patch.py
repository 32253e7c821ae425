"""A mutant: one rule of the product taken out, kept as a patch.

A file of patches/ begins with what is done wrong and what that leads to; then comes a unified diff. Line numbers mean
nothing: the old lines of each hunk, context included, must stand in the file exactly once. So a mutant moves with the
code around it, and says so when what it takes out is no longer there, or is there twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PATCHES = Path(__file__).parent / "patches"
_NEW_FILE = re.compile(r"\+\+\+ b/(\S+)")


class DoesNotApply(Exception):
    """The product has changed where the patch takes something out."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """In the file `path`, relative to the root, `old` is replaced by `new`."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Patch:
    """`id`: M05; `name`: what is done wrong; `why`: the sentences at the top of the file."""

    id: str
    name: str
    why: str
    hunks: tuple[Hunk, ...]

    def changed(self, root: Path) -> dict[str, str]:
        """The new text of each file that the patch is for. Raises DoesNotApply."""
        texts: dict[str, str] = {}
        for hunk in self.hunks:
            if hunk.path not in texts:
                if not (root / hunk.path).is_file():
                    raise DoesNotApply(f"{self.id}: there is no {hunk.path}")
                texts[hunk.path] = (root / hunk.path).read_text()
            count = texts[hunk.path].count(hunk.old)
            if count != 1:
                raise DoesNotApply(f"{self.id}: these lines stand {count} times in {hunk.path}:\n{hunk.old}")
            texts[hunk.path] = texts[hunk.path].replace(hunk.old, hunk.new)
        return texts

    def apply(self, root: Path) -> None:
        """Change the files under `root`. Raises DoesNotApply; then none is changed."""
        for path, text in self.changed(root).items():
            (root / path).write_text(text)


def read_patches() -> dict[str, Patch]:
    """All of them, by id, in order."""
    patches = [read_patch(path) for path in sorted(PATCHES.glob("*.patch"))]
    return {patch.id: patch for patch in patches}


def read_patch(path: Path) -> Patch:
    why, _, diff = path.read_text().partition("\n\n")
    id, _, name = path.stem.partition("_")
    return Patch(id, name.replace("_", " "), " ".join(why.split()), tuple(_hunks(diff)))


def _hunks(diff: str) -> list[Hunk]:
    hunks: list[Hunk] = []
    target = ""
    for line in diff.splitlines(keepends=True):
        if line.startswith("--- "):
            continue
        if match := _NEW_FILE.match(line):
            target = match[1]
        elif line.startswith("@@"):
            hunks.append(Hunk(target, "", ""))
        elif line.startswith((" ", "-", "+")) and hunks:
            hunk = hunks[-1]
            old = hunk.old if line[0] == "+" else hunk.old + line[1:]
            new = hunk.new if line[0] == "-" else hunk.new + line[1:]
            hunks[-1] = Hunk(target, old, new)
        else:
            raise ValueError(f"this is no line of a unified diff: {line!r}")
    return hunks
