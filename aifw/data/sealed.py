"""Nothing that is trained on may be in a set that is sealed: held out here or elsewhere, by prompt or answer, exactly or nearly.

Used by the job that makes pairs, and by whatever trains on pairs, before its first step.
"""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from aifw.data.text_table import TextTable
from aifw.errors import InputInvalid, SealedDataLeaked

THRESHOLD = 0.8
"""Jaccard index from which texts count as the same where nothing else is set."""

_SHOWN = 60

Note = Callable[[str], None]


def _silent(_text: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Texts:
    """What may leak of a pair."""

    id: str
    context: str
    answers: tuple[str, str]


def read_texts(folder: Path) -> Iterator[Texts]:
    """The texts of a `PreferencePairs` folder.

    Raises:
        InputInvalid: A row is broken; it is named.
    """
    path = folder / "pairs.jsonl"
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield _texts(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise InputInvalid(f"{path}:{number}: not a preference pair: {error!r}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputInvalid(f"{path} cannot be read: {error}") from error


def _texts(row: Any) -> Texts:
    context = "\n".join(str(turn["content"]) for turn in row["prompt"])
    return Texts(str(row["id"]), context, (str(row["chosen"]), str(row["rejected"])))


class SealedTexts:
    """Numbers of the texts of sealed sets in tables that hold the texts of other pairs too.

    Args:
        contexts: Table of contexts.
        answers: Table of answers.
        sets: Folders of `PreferencePairs`, by the name a user knows them by.
    """

    def __init__(self, contexts: TextTable, answers: TextTable, sets: Mapping[str, Path]) -> None:
        self._numbers: dict[str, tuple[array[int], array[int]]] = {}
        self.pairs = 0
        for name, folder in sets.items():
            numbers = array("i"), array("i")
            for texts in read_texts(folder):
                numbers[0].append(contexts.number(texts.context))
                numbers[1].extend(answers.number(text) for text in texts.answers)
                self.pairs += 1
            self._numbers[name] = numbers

    def closed(self, contexts: npt.NDArray[np.int32], answers: npt.NDArray[np.int32]) -> tuple[set[int], set[int]]:
        """Clusters of contexts and of answers that hold a sealed text, from the clusters of all."""
        prompts = [contexts[np.frombuffer(numbers[0], np.int32)] for numbers in self._numbers.values()]
        said = [answers[np.frombuffer(numbers[1], np.int32)] for numbers in self._numbers.values()]
        return {int(root) for roots in prompts for root in roots}, {int(root) for roots in said for root in roots}

    def sharing(
        self,
        contexts: npt.NDArray[np.int32],
        answers: npt.NDArray[np.int32],
        context: npt.NDArray[np.int32],
        chosen: npt.NDArray[np.int32],
        rejected: npt.NDArray[np.int32],
    ) -> dict[str, npt.NDArray[np.bool_]]:
        """Which pairs share a prompt or an answer with each set.

        Args:
            contexts: Cluster of each context.
            answers: Cluster of each answer.
            context: Of each pair the number of its context.
            chosen: Of its chosen answer.
            rejected: Of its rejected answer.
        """
        found = {}
        for name, (prompts, said) in self._numbers.items():
            closed = answers[np.frombuffer(said, np.int32)]
            found[name] = (
                np.isin(contexts[context], contexts[np.frombuffer(prompts, np.int32)])
                | np.isin(answers[chosen], closed)
                | np.isin(answers[rejected], closed)
            )
        return found


def leaked(found: Counter[str], pairs: int, example: str, threshold: float) -> SealedDataLeaked:
    """The error that names sets and counts.

    Args:
        found: Training pairs by the set they share something with.
        pairs: That were looked at.
        example: Prompt of one of them.
        threshold: Jaccard index.
    """
    sets = ", ".join(f"{count:,} with {name}" for name, count in sorted(found.items()) if count)
    return SealedDataLeaked(
        f"of {pairs:,} training pairs some share a prompt or an answer with a sealed set, at an overlap of {threshold:.0%} or more: "
        f"{sets}; one begins {example[:_SHOWN]!r}",
        hint="take them out of the feedback, or let `preferences` drop and count them with `on_sealed: drop`",
    )


def check_sealed(
    pairs: Path,
    sealed: Mapping[str, Path],
    *,
    threshold: float = THRESHOLD,
    scratch: Path | None = None,
    note: Note = _silent,
) -> int:
    """Refuse to go on if a training pair shares a nearly identical prompt or answer with a sealed set.

    Args:
        pairs: Folder of `PreferencePairs` that is to be trained on.
        sealed: Folders of `PreferencePairs` nobody may train on, by the name a user knows them by; at least one.
        threshold: Jaccard index of 5-character shingles from which texts count as the same.
        scratch: Folder for temporary files.
        note: Called with a sentence where not everything was compared.

    Returns:
        How many pairs were checked.

    Raises:
        SealedDataLeaked: They share something; sets and counts are named.
        InputInvalid: A row is broken.
    """
    sharing, texts = _compared(read_texts(pairs), sealed, threshold, scratch, note)
    counts = Counter({name: int(shared.sum()) for name, shared in sharing.items()})
    size = len(next(iter(sharing.values()), ()))
    if counts.total():
        raise leaked(counts, size, texts, threshold)
    return size


def touching(
    pairs: Iterable[Texts],
    sealed: Mapping[str, Path],
    *,
    threshold: float = THRESHOLD,
    scratch: Path | None = None,
    note: Note = _silent,
) -> npt.NDArray[np.bool_]:
    """Which pairs share a nearly identical prompt or answer with any of the sealed sets; arguments as of `check_sealed`.

    Raises:
        InputInvalid: A row of a sealed set is broken.
    """
    sharing, _ = _compared(pairs, sealed, threshold, scratch, note)
    return np.asarray(np.any([*sharing.values()], axis=0))


def _compared(
    pairs: Iterable[Texts], sealed: Mapping[str, Path], threshold: float, scratch: Path | None, note: Note
) -> tuple[dict[str, npt.NDArray[np.bool_]], str]:
    """For each set which pairs share something with it; the prompt of the first that does."""
    with TemporaryDirectory(prefix=f"sealed-{os.getpid()}-", dir=scratch) as name:
        folder = Path(name)
        with closing(TextTable(folder, "contexts")) as contexts, closing(TextTable(folder, "answers")) as answers:
            closed = SealedTexts(contexts, answers, sealed)
            columns = tuple(array("i") for _ in range(3))
            for texts in pairs:
                columns[0].append(contexts.number(texts.context))
                for column, text in zip(columns[1:], texts.answers, strict=True):
                    column.append(answers.number(text))
            # Other hash functions than those the pairs were made with, so that what these missed is not missed again.
            found = [table.clusters(threshold, seed="sealed") for table in (contexts, answers)]
            roots = [each.roots for each in found]
            skipped = sum(each.skipped for each in found)
            if skipped:
                note(
                    f"not everything was compared with {' and '.join(sealed)}: {skipped:,} comparisons of very common texts were left out"
                )
            numbers = [np.frombuffer(column, np.int32) for column in columns]
            sharing = closed.sharing(roots[0], roots[1], numbers[0], numbers[1], numbers[2])
            first = min((int(np.argmax(shared)) for shared in sharing.values() if shared.any()), default=None)
            return sharing, "" if first is None else contexts.plain(int(numbers[0][first]))
