"""Make `vectors.npy` and `ids.npy` from `passages.txt`: one vector of 512 dimensions for each line.

There is no model in it. A passage is the groups of three letters it consists of, each counted in one of 512 places; passages that
share many groups are near each other, whatever they mean.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from zlib import crc32

import numpy as np

HERE = Path(__file__).parent
DIMENSIONS = 512


def passages() -> dict[int, str]:
    """Text by id."""
    lines = (HERE / "passages.txt").read_text(encoding="utf-8").splitlines()
    return {int(number): text for number, text in (line.split("\t") for line in lines)}


def groups(text: str) -> Counter[str]:
    """How often each group of three letters occurs in a word or at one of its ends."""
    words = "".join(each if each.isalnum() else " " for each in text.lower()).split()
    # Short words say little.
    padded = [f" {word} " for word in words if len(word) > 3]
    return Counter(word[at : at + 3] for word in padded for at in range(len(word) - 2))


def vector(text: str) -> np.ndarray:
    """512 numbers of float32."""
    found = np.zeros(DIMENSIONS, np.float32)
    for group, count in groups(text).items():
        place = crc32(group.encode())
        found[place % DIMENSIONS] += count if place & DIMENSIONS else -count
    return found


if __name__ == "__main__":
    known = passages()
    np.save(HERE / "vectors.npy", np.stack([vector(text) for text in known.values()]))
    np.save(HERE / "ids.npy", np.array(list(known), dtype=np.int64))
    print(f"{len(known)} vectors of {DIMENSIONS} dimensions in vectors.npy, their ids in ids.npy")
