"""Find the passages nearest to a question in the index that `aifw apply` built: `python ask.py PATH QUESTION`."""

from __future__ import annotations

import sys

from vectors import passages, vector

from aifw.search import Index


def main(path: str, question: str) -> None:
    """Print the five nearest passages, the nearest first."""
    known = passages()
    ids, scores = Index.open(path).search(vector(question, list(known.values()))[None], 5)
    for number, score in zip(ids[0], scores[0], strict=True):
        print(f"{score:.3f}  {number:>3}  {known[int(number)]}")


if __name__ == "__main__":
    main(sys.argv[1], " ".join(sys.argv[2:]))
