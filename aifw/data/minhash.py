"""Candidates for near-duplicates among more texts than can be compared exactly: MinHash signatures in bands.

The smallest value of a hash function over the shingles of two texts is the same with the probability of their Jaccard index
(Broder, 1997, "On the resemblance and containment of documents"). A signature holds the smallest values of `HASHES` functions; it is cut
into b bands of r values, and two texts are candidates if all values of any band agree, which for a Jaccard index s happens with the
probability `1 - (1 - s^r)^b` (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", 3.4). Candidates are compared exactly afterwards, so
that nothing is found that is not there; what may be missed is stated by `miss_probability`.

Of every text only one 32-bit key a band is kept, in a file for each band; memory holds one band at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aifw.data.near_duplicates import SHINGLE, stable_hash

HASHES = 160
"""Values of a signature."""

LARGEST_MISS = 1e-5
"""Bands are made as selective as they can be while a pair at the threshold is missed more rarely than this."""

MOST_COMPARED = 64
"""Of the texts that share a band's key, each is compared with at most so many that are not in its cluster yet."""

_SHINGLES_AT_ONCE = 2048

Numbers = npt.NDArray[np.uint64]
Hashes = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]


def bands_for(threshold: float) -> tuple[int, int]:
    """Number of bands and values a band for a Jaccard index, above 0."""
    rows = max(
        (rows for rows in range(1, HASHES + 1) if _missed(threshold, HASHES // rows, rows) <= LARGEST_MISS),
        default=1,
    )
    return HASHES // rows, rows


def miss_probability(threshold: float) -> float:
    """The probability that two texts whose Jaccard index is just the threshold are in no band together; less for those nearer."""
    return _missed(threshold, *bands_for(threshold))


def _missed(similarity: float, bands: int, rows: int) -> float:
    return float((1 - similarity**rows) ** bands)


def mixed(numbers: Numbers) -> Numbers:
    """Spread the bits of 64-bit numbers: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


class Signatures:
    """Hash functions of signatures: `(a * shingle + b) mod 2^32` with an odd a, a permutation of the shingles' 32-bit hashes.

    Args:
        seed: Which functions; other ones miss other pairs.
    """

    def __init__(self, seed: str = "") -> None:
        draws = [stable_hash("minhash", seed, str(number)) for number in range(2 * HASHES)]
        self._factors = np.array([draw >> 32 | 1 for draw in draws[:HASHES]], np.uint32)[:, None]
        self._terms = np.array([draw >> 32 for draw in draws[HASHES:]], np.uint32)[:, None]

    def of(self, texts: list[str]) -> Hashes:
        """Signatures of normalised texts, (texts, HASHES)."""
        hashed, begins, ends = _shingle_hashes(texts)
        found = np.full((len(texts), HASHES), np.iinfo(np.uint32).max, np.uint32)
        start = 0
        while start < len(texts):
            stop = int(np.searchsorted(ends, begins[start] + _SHINGLES_AT_ONCE, "right"))
            if stop > start:
                found[start:stop] = self._smallest(hashed, begins[start:stop], ends[start:stop])
            else:  # a long text is gone through in pieces
                stop = start + 1
                for begin in range(int(begins[start]), int(ends[start]), _SHINGLES_AT_ONCE):
                    piece = np.array([begin]), np.array([min(begin + _SHINGLES_AT_ONCE, int(ends[start]))])
                    found[start] = np.minimum(found[start], self._smallest(hashed, *piece)[0])
            start = stop
        return found

    def _smallest(self, hashed: Hashes, begins: Places, ends: Places) -> Hashes:
        """Smallest values over some ranges of shingles, (ranges, HASHES)."""
        first = begins[0]
        values = self._factors * hashed[first : ends[-1]]
        values += self._terms
        # What lies between two texts is reduced too, and left out: every other result is of a text.
        edges = np.stack([begins, ends], axis=1).reshape(-1)[:-1] - first
        return np.asarray(np.minimum.reduceat(values, edges, axis=1)[:, ::2].T)


def _shingle_hashes(texts: list[str]) -> tuple[Hashes, Places, Places]:
    """Numbers for every run of `SHINGLE` characters of the texts, one behind the other; where those of each text begin and end."""
    padded = [text.ljust(SHINGLE, "\0") for text in texts]
    letters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in padded])
    begins = np.cumsum(lengths) - lengths
    number = np.zeros(len(letters) - SHINGLE + 1, np.uint64)
    for offset in range(SHINGLE):
        number *= np.uint64(0x100000001B3)
        number += letters[offset : offset + len(number)]
    return (mixed(number) >> np.uint64(32)).astype(np.uint32), begins, begins + lengths - SHINGLE + 1


class Bands:
    """Keys of all bands of many signatures, on disk.

    Args:
        folder: Empty, for one file a band.
        threshold: Jaccard index.
        seed: Of the hash functions.
    """

    def __init__(self, folder: Path, threshold: float, seed: str = "") -> None:
        self._folder = folder
        self._bands, self._rows = bands_for(threshold)
        self._signatures = Signatures(seed)

    def write(self, batches: Iterable[list[str]]) -> None:
        """Write the keys of normalised texts, in their order."""
        with ExitStack() as stack:
            files = [stack.enter_context(self._path(band).open("wb")) for band in range(self._bands)]
            for batch in batches:
                signatures = self._signatures.of(batch)
                for band, file in enumerate(files):
                    file.write(self._keys(signatures[:, band * self._rows : (band + 1) * self._rows]).tobytes())

    @property
    def count(self) -> int:
        """How many bands there are."""
        return self._bands

    def candidates(self, band: int) -> Iterator[list[int]]:
        """Groups of positions that share the key of a band, at least two to a group, ascending."""
        keys = np.fromfile(self._path(band), np.uint32)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        ends = np.r_[begins[1:], len(ordered)]
        shared = ends - begins > 1
        for begin, end in zip(begins[shared].tolist(), ends[shared].tolist(), strict=True):
            yield order[begin:end].tolist()

    def _path(self, band: int) -> Path:
        return self._folder / f"band-{band:03d}"

    @staticmethod
    def _keys(values: Hashes) -> Hashes:
        key = np.zeros(len(values), np.uint64)
        for column in values.T:
            key = mixed(key + np.uint64(0x9E3779B97F4A7C15) + column)
        return (key >> np.uint64(32)).astype(np.uint32)
