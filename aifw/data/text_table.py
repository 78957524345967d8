"""Many texts on disk, each normalised form once, and which of them are nearly the same.

Up to `EXACT_CHARACTERS` the near-duplicates are found by the exact join of `aifw.data.near_duplicates`, which misses none; beyond, its memory would
grow with the data, and MinHash proposes what is compared exactly (`aifw.data.minhash`). In memory are 4 bytes a text.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aifw.data.kinds import EXACT_CHARACTERS
from aifw.data.minhash import MOST_COMPARED, Bands, miss_probability
from aifw.data.near_duplicates import Clusters, near_pairs, normalised, overlap, shingles, text_digest

_BATCH = 256
_REMEMBERED = 512
_TELL_EVERY = 2_000

Roots = npt.NDArray[np.int32]

Tell = Callable[[float, float], None]
"""Takes how much is done, and of how much."""


def _silent(_done: float, _total: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Found:
    """Clusters of texts that are nearly the same.

    Attributes:
        roots: Of each text, the smallest number in its cluster.
        exact: Whether all texts were compared.
        missed: Probability that two texts just at the threshold were not compared; 0 where all were.
        skipped: Comparisons left out because too many texts shared a band's key.
    """

    roots: Roots
    exact: bool
    missed: float
    skipped: int = 0


class _Window:
    """The newest texts of a group that share a band's key, which each further one is compared with.

    Groups can be of all texts there are, where these are made from a template, so no text is compared with more than `MOST_COMPARED`
    others: where there are more, one of each cluster stays, and of these the newest.

    Args:
        clusters: Joined where texts are near.
        threshold: Jaccard index.
        shingles_of: A text by its number.
    """

    def __init__(self, clusters: Clusters, threshold: float, shingles_of: Callable[[int], frozenset[str]]) -> None:
        self._clusters = clusters
        self._threshold = threshold
        self._shingles_of = shingles_of
        self._kept: list[int] = []
        self._gone: Counter[int] = Counter()
        """Texts that are no longer in the window, by the root of their cluster."""
        self._all_gone = 0
        self.skipped = 0
        """Comparisons of texts in different clusters that were left out."""

    def add(self, number: int) -> None:
        """Join a text with those it is near to."""
        clusters = self._clusters
        root = clusters.root(number)
        for other in reversed(self._kept):
            theirs = clusters.root(other)
            if theirs == root or overlap(self._shingles_of(number), self._shingles_of(other)) < self._threshold:
                continue
            clusters.join(number, other)
            root, former = min(root, theirs), max(root, theirs)
            if former in self._gone:
                self._gone[root] += self._gone.pop(former)
        self.skipped += self._all_gone - self._gone[root]
        self._kept.append(number)
        if len(self._kept) > MOST_COMPARED:
            self._make_room()

    def _make_room(self) -> None:
        newest: dict[int, int] = {}
        for number in reversed(self._kept):
            root = self._clusters.root(number)
            if root in newest or len(newest) == MOST_COMPARED:
                self._gone[root] += 1
                self._all_gone += 1
            else:
                newest[root] = number
        self._kept = [*reversed(newest.values())]


class TextTable:
    """Texts by number, from 0 on.

    Args:
        folder: For temporary files.
        name: Of these, different for each table.
        exact_characters: Up to so many characters all texts are compared.
    """

    def __init__(self, folder: Path, name: str, exact_characters: int = EXACT_CHARACTERS) -> None:
        self._folder = folder / f"{name}-bands"
        self._path = folder / f"{name}.db"
        self._path.unlink(missing_ok=True)
        self._exact_characters = exact_characters
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        for line in (
            "PRAGMA journal_mode=OFF",
            "PRAGMA synchronous=OFF",
            "PRAGMA cache_size=-16000",
            "CREATE TABLE texts (number INTEGER PRIMARY KEY, plain TEXT NOT NULL)",
            "CREATE TABLE digests (digest BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID",
            "BEGIN",
        ):
            self._connection.execute(line)
        self._size = self._characters = 0

    def __len__(self) -> int:
        return self._size

    def number(self, text: str) -> int:
        """The number of a text; texts of the same normalised form share it."""
        plain = normalised(text)
        digest = text_digest(plain)
        found = self._connection.execute("SELECT number FROM digests WHERE digest = ?", (digest,)).fetchone()
        if found is not None:
            return int(found[0])
        number = self._size
        self._connection.execute("INSERT INTO digests VALUES (?, ?)", (digest, number))
        self._connection.execute("INSERT INTO texts VALUES (?, ?)", (number, plain))
        self._size += 1
        self._characters += len(plain)
        return number

    def plain(self, number: int) -> str:
        """The normalised text of that number."""
        found = self._connection.execute("SELECT plain FROM texts WHERE number = ?", (number,)).fetchone()
        return str(found[0])

    def clusters(self, threshold: float, seed: str = "", tell: Tell = _silent) -> Found:
        """Join texts whose shingles overlap by at least `threshold`.

        Args:
            threshold: Jaccard index, above 0, at most 1.
            seed: Of the hash functions where MinHash is used.
            tell: Called with how much is done, and of how much; it may raise to stop.
        """
        if threshold >= 1 or self._size < 2:
            return Found(np.arange(self._size, dtype=np.int32), exact=True, missed=0.0)
        clusters = Clusters(self._size)
        if self._characters <= self._exact_characters:
            texts = [text for batch in self._batches() for text in batch]
            for one, other in near_pairs(texts, threshold):
                clusters.join(one, other)
            return Found(clusters.roots(), exact=True, missed=0.0)
        self._folder.mkdir()
        bands = Bands(self._folder, threshold, seed)
        # Writing the bands and going through them take about as long.
        bands.write(self._told(tell))
        skipped = self._join(bands, clusters, threshold, tell)
        shutil.rmtree(self._folder)
        return Found(clusters.roots(), exact=False, missed=miss_probability(threshold), skipped=skipped)

    def _told(self, tell: Tell) -> Iterator[list[str]]:
        done = 0
        for batch in self._batches():
            yield batch
            done += len(batch)
            tell(done, 2 * self._size)

    def _join(self, bands: Bands, clusters: Clusters, threshold: float, tell: Tell) -> int:
        skipped = 0
        remembered: OrderedDict[int, frozenset[str]] = OrderedDict()

        def of(number: int) -> frozenset[str]:
            known = remembered.pop(number, None) or shingles(self.plain(number))
            remembered[number] = known
            if len(remembered) > _REMEMBERED:
                remembered.popitem(last=False)
            return known

        done = 0
        for band in range(bands.count):
            for group in bands.candidates(band):
                window = _Window(clusters, threshold, of)
                for number in group:
                    window.add(number)
                    done += 1
                    if done % _TELL_EVERY == 0:
                        tell(self._size + done / bands.count, 2 * self._size)
                skipped += window.skipped
            done = self._size * (band + 1)
            tell(self._size + done / bands.count, 2 * self._size)
        return skipped

    def _batches(self) -> Iterator[list[str]]:
        cursor = self._connection.execute("SELECT plain FROM texts ORDER BY number")
        while rows := cursor.fetchmany(_BATCH):
            yield [row[0] for row in rows]

    def close(self) -> None:
        """Remove the temporary files."""
        self._connection.close()
        self._path.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)
