from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def write(parts, directory):
    return directory
