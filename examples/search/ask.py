"""Find the passages nearest to a question in the index that `aifw apply` built: `python ask.py why does bread rise`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from vectors import HERE, passages, vector

from aifw.search import Index


def index() -> Index:
    """What stands for `passages` now."""
    command = [sys.executable, "-m", "aifw", "show", "passages", "--json"]
    shown = subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True).stdout
    return Index.open(Path(json.loads(shown)["bound"]["path"]) / "index")


def main(question: str) -> None:
    """Print the five nearest passages, the nearest first."""
    known = passages()
    ids, scores = index().search(vector(question), 5)
    for number, score in zip(ids.tolist(), scores.tolist(), strict=True):
        print(f"{score:.3f}  {number:>3}  {known[number]}")


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("say what to look for: python ask.py why does bread rise")
    main(" ".join(sys.argv[1:]))
