"""Pairs on disk, and of each the few numbers in memory that comparing, splitting and choosing need: about 70 bytes a pair."""

from __future__ import annotations

import json
import shutil
import sqlite3
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from aifw.data.confidence import Source
from aifw.data.events import encode
from aifw.data.kinds import EXACT_CHARACTERS
from aifw.data.near_duplicates import stable_hash
from aifw.data.pairs import Pair
from aifw.data.text_table import Found, Tell, TextTable

SALT = "aifw held-out split"
"""Never changed: it decides which items were held out in every artifact ever made."""

SOURCES: tuple[Source, ...] = get_args(Source)

Names = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]
"""Positions in a table."""


def _silent(_done: float, _total: float) -> None:
    pass


@dataclass(frozen=True)
class Columns:
    """Numbers of pairs, one entry a pair in the order they were added.

    Attributes:
        id: The pair's id, read as a number.
        opening: Hash of the first message: what decides the side of a split.
        context: Number of the text; as `chosen` and `rejected`.
        context_length: Characters; as `chosen_length` and `rejected_length`.
        age: Seconds.
        source: Position in `SOURCES`.
        link_pair: A pair, and beside it in `link_name` the hash of a conversation it was found in.
    """

    id: Names
    opening: Names
    confidence: npt.NDArray[np.float64]
    age: npt.NDArray[np.float64]
    source: npt.NDArray[np.int8]
    context: Numbers
    chosen: Numbers
    rejected: Numbers
    context_length: Numbers
    chosen_length: Numbers
    rejected_length: Numbers
    link_pair: Numbers
    link_name: Names


@dataclass(frozen=True, slots=True)
class Likeness:
    """Clusters of contexts and of answers that are nearly the same."""

    contexts: Found
    answers: Found


class PairTable:
    """Pairs by position.

    Args:
        folder: For temporary files.
        exact_characters: Up to so many characters of contexts, and of answers, all texts are compared.
    """

    def __init__(self, folder: Path, exact_characters: int = EXACT_CHARACTERS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "pairs.db"
        self._path.unlink(missing_ok=True)
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        for line in (
            "PRAGMA journal_mode=OFF",
            "PRAGMA synchronous=OFF",
            "CREATE TABLE pairs (number INTEGER PRIMARY KEY, text TEXT NOT NULL)",
            "BEGIN",
        ):
            self._connection.execute(line)
        self.contexts = TextTable(folder, "contexts", exact_characters)
        self.answers = TextTable(folder, "answers", exact_characters)
        self._id, self._opening, self._link_name = array("Q"), array("Q"), array("Q")
        self._confidence, self._age, self._source = array("d"), array("d"), array("b")
        self._texts = tuple(array("i") for _ in range(3))
        self._lengths = tuple(array("i") for _ in range(3))
        self._link_pair = array("i")

    def __len__(self) -> int:
        return len(self._id)

    def add(self, pair: Pair) -> None:
        """Keep a pair."""
        number = len(self)
        context = pair.context
        self._connection.execute("INSERT INTO pairs VALUES (?, ?)", (number, _encoded(pair)))
        self._id.append(int(pair.id, 16))
        self._opening.append(stable_hash(SALT, pair.opening))
        self._confidence.append(pair.confidence)
        self._age.append(pair.age)
        self._source.append(SOURCES.index(pair.source))
        for column, table, text in zip(
            self._texts,
            (self.contexts, self.answers, self.answers),
            (context, pair.chosen, pair.rejected),
            strict=True,
        ):
            column.append(table.number(text))
        for column, text in zip(self._lengths, (context, pair.chosen, pair.rejected), strict=True):
            column.append(len(text))
        for conversation in pair.conversations:
            self._link_pair.append(number)
            self._link_name.append(stable_hash(conversation))

    def pair(self, number: int) -> Pair:
        """The pair at a position."""
        found = self._connection.execute("SELECT text FROM pairs WHERE number = ?", (int(number),)).fetchone()
        identifier, conversations, messages, chosen, rejected, confidence, source, age = json.loads(found[0])
        turns = tuple((role, content) for role, content in messages)
        return Pair(identifier, tuple(conversations), turns, chosen, rejected, confidence, source, age)

    def pairs(self, rows: Rows) -> Iterator[Pair]:
        """Those at some positions, one after the other."""
        return (self.pair(number) for number in rows.tolist())

    def columns(self) -> Columns:
        """The numbers of all pairs. No pair can be added while they are in use."""
        context, chosen, rejected = (np.frombuffer(column, np.int32) for column in self._texts)
        context_length, chosen_length, rejected_length = (np.frombuffer(column, np.int32) for column in self._lengths)
        return Columns(
            np.frombuffer(self._id, np.uint64),
            np.frombuffer(self._opening, np.uint64),
            np.frombuffer(self._confidence, np.float64),
            np.frombuffer(self._age, np.float64),
            np.frombuffer(self._source, np.int8),
            context,
            chosen,
            rejected,
            context_length,
            chosen_length,
            rejected_length,
            np.frombuffer(self._link_pair, np.int32),
            np.frombuffer(self._link_name, np.uint64),
        )

    def likeness(self, threshold: float, tell: Tell = _silent) -> Likeness:
        """Which of the texts are nearly the same; `tell` is called as by `TextTable.clusters`."""
        contexts = self.contexts.clusters(threshold, tell=tell)
        return Likeness(contexts, self.answers.clusters(threshold, tell=tell))

    def close(self) -> None:
        """Remove the temporary files."""
        self._connection.close()
        self._path.unlink(missing_ok=True)
        self.contexts.close()
        self.answers.close()


def _encoded(pair: Pair) -> str:
    return encode(
        [
            pair.id,
            pair.conversations,
            pair.messages,
            pair.chosen,
            pair.rejected,
            pair.confidence,
            pair.source,
            pair.age,
        ]
    )


def remove(folder: Path) -> None:
    """Remove the folder of a table, also after an error."""
    shutil.rmtree(folder, ignore_errors=True)
