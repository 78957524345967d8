"""Make `vectors.npy` and `ids.npy` from `passages.txt`: one vector of 256 dimensions for each line.

There is no model in it. A passage is the groups of three letters it consists of, each weighted by how rare it is and counted in one
of 256 places; passages that share unusual groups are near each other, whatever they mean.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from zlib import crc32

import numpy as np

HERE = Path(__file__).parent
DIMENSIONS = 256


def passages() -> dict[int, str]:
    """Text by id."""
    lines = (HERE / "passages.txt").read_text(encoding="utf-8").splitlines()
    return {int(number): text for number, text in (line.split("\t") for line in lines)}


def groups(text: str) -> Counter[str]:
    """How often each group of three letters occurs; blanks count as letters."""
    padded = f" {' '.join(''.join(each if each.isalnum() else ' ' for each in text.lower()).split())} "
    return Counter(padded[at : at + 3] for at in range(len(padded) - 2))


def vector(text: str, texts: list[str]) -> np.ndarray:
    """256 numbers of float32. `texts` are what a group is rare or frequent in."""
    found = np.zeros(DIMENSIONS, np.float32)
    for group, count in groups(text).items():
        rarity = math.log((1 + len(texts)) / (1 + sum(group in groups(each) for each in texts)))
        place = crc32(group.encode())
        found[place % DIMENSIONS] += (1 if place & 256 else -1) * count * rarity
    return found


if __name__ == "__main__":
    known = passages()
    texts = list(known.values())
    np.save(HERE / "vectors.npy", np.stack([vector(text, texts) for text in texts]))
    np.save(HERE / "ids.npy", np.array(list(known), dtype=np.int64))
    print(f"{len(known)} vectors of {DIMENSIONS} dimensions in vectors.npy, their ids in ids.npy")
