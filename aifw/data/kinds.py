"""Kinds of data sets: user feedback as it was when it was read, preference pairs made from it, and conversations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from aifw.errors import InputInvalid
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Estimate, Forecast, History, InputFacts, Observation, Output, Workspace
from aifw.settings import Duration, Ref, Settings, Share

SQLITE = "sqlite:///"

_FREEZING_BYTES = 36 * 1024**2
"""Anonymous and shared memory of the whole job; as these: measured with Python 3.11 on x86_64, at 500 to 1,000,000 rows."""
_PAIRING_BYTES = 47e6
_PAIRING_BYTES_OF_PAIR = 165.0
"""What stays in memory of a pair and the votes on it, whatever its texts; as the next one, for each pair that is expected, of which some are lost."""
_PAIRING_BYTES_OF_CHARACTER = 63.0
EXACT_CHARACTERS = 1_000_000
"""Up to so many characters of different prompts, or answers, all are compared with each other, which takes memory for each."""
_GUESSING_BYTES_OF_PAIR, _GUESSED_PAIRS = 15e3, 2500
"""What finding out takes whether words give the choice away, and of how many pairs at most."""
_SECONDS_TO_START = 0.8
_SECONDS_PER_EVENT = 1.2e-4
_SECONDS_PER_JUDGEMENT = 2.8e-4
_SECONDS_PER_CHARACTER = 1.7e-6
"""Of texts that are all compared with each other."""
_UNKNOWN_ROWS = 1000


class FeedbackEvents(Output):
    """`events.jsonl`: one accepted event a line, canonical, sorted by id; `rejected.jsonl`: id, line and reason of every broken row.

    Facts: `rows`, `conversations`, `raters`, `kinds` (rows by kind), `bytes`, `chars_prompt`, `chars_answer` (means), `first`, `last` (times), `rejected` (rows by reason).
    """

    name = "feedback_events"


class PreferencePairs(Output):
    """`pairs.jsonl`: one object a line, sorted by id.

    Keys: `id`, `group` (cluster of conversations), `prompt` (messages of `role` and `content`), `chosen`, `rejected`,
    `confidence` (0.5 to 1), `source` (comparison, correction, thumbs, stars or simulated).

    Facts: `rows`, `groups`, `chars_prompt`, `chars_chosen`, `chars_rejected` (means), `chars_longest` (of prompt and longer answer), `simulated` (rows).
    """

    name = "preference_pairs"


class DataCard(Output):
    """`card.json`, and the same as a page, `card.html`: what the pairs are, how sure they make us, how alike and how old they are, what
    was lost and why, whether they touch sealed sets, and whether surface features give the choice away.
    """

    name = "data_card"


class FeedbackSettings(Settings):
    """Settings of `feedback`."""

    source: str
    """`sqlite:///relative.db`, `sqlite:////absolute.db`, or the path of a `.jsonl` file. `aifw feedback import` makes the database."""
    table: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] = "feedback"
    """Table of the database. Rows are only ever added; a table that is changed in place is read again with `--replace`."""

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        if source.startswith(SQLITE) and len(source) > len(SQLITE):
            return source
        if "://" not in source and source.endswith(".jsonl"):
            return source
        raise PydanticCustomError("source", "expected `sqlite:///PATH` or the path of a `.jsonl` file")

    def path(self, root: Path) -> Path:
        """The file meant, from the folder of the spec."""
        return root / Path(self.source.removeprefix(SQLITE)).expanduser()

    @property
    def is_database(self) -> bool:
        """True for SQLite, False for JSON lines."""
        return self.source.startswith(SQLITE)


class PreferencesSettings(Settings):
    """Settings of `preferences`."""

    feedback: Annotated[Ref[FeedbackEvents], Field(alias="from")]
    """The feedback to make pairs from."""
    heldout: Annotated[Share, Field(gt=0, lt=1)] = 0.2
    """Share of conversations kept for evaluation. An item never changes sides as feedback grows."""
    min_confidence: Annotated[Share, Field(ge=0.5, lt=1)] = 0.6
    """Drop real pairs the raters are less sure of; 0.5 keeps everything that is not a tie."""
    raters: Literal["weighed", "equal"] = "weighed"
    """Whether raters who agree with others count more than those who do not, or all alike."""
    half_life: Annotated[Duration, Field(gt=0)] | None = None
    """Age at which a judgement counts half, measured from the newest event of the feedback: `90d`. Default: age does not matter."""
    simulate: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Pairs to simulate for a start with little feedback: a good answer against a good answer to another question. Only in `train`, and marked. The kind `simulated_pairs` lets a model answer instead."""
    most_simulated: Annotated[Share, Field(ge=0, lt=1)] = 0.5
    """Largest share of simulated pairs in `train`."""
    max_pairs: Annotated[int, Field(ge=1)] | None = None
    """Most pairs in `train`. Which ones stay is decided by hash, so that few change as feedback grows."""
    near_duplicates: Annotated[Share, Field(ge=0.5, le=1)] = 0.8
    """Texts count as the same from this overlap (Jaccard index of 5-character shingles) on. 100% finds exact repetitions only."""
    sealed: Annotated[list[Ref[PreferencePairs]], Field(default_factory=list)]
    """Other sets of pairs nobody may train on, such as `other.heldout`: `train` may share no prompt and no answer with them, not even nearly."""
    on_sealed: Literal["refuse", "drop"] = "refuse"
    """What becomes of training pairs that do share something with a sealed set: the job fails and names them, or they are dropped and counted."""


class Feedback(ArtifactKind[FeedbackSettings]):
    """A frozen copy of the usable feedback in a database or file."""

    name = "feedback"
    section = "datasets"
    settings = FeedbackSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"events": FeedbackEvents}
    requires: ClassVar[Mapping[str, str]] = {"sqlalchemy": "train"}
    run = "aifw.data.feedback:freeze"
    workload = "data"

    def observe(self, settings: FeedbackSettings, workspace: Workspace) -> Observation:
        """Fingerprint of the rows (SQLite: schema, highest row and count, and the content while it is small) or of the file.

        Raises:
            InputInvalid: The file or table is not there or cannot be read.
        """
        path = workspace.path(settings.source.removeprefix(SQLITE))
        if not path.is_file():
            raise InputInvalid(
                f"there is no feedback at {path}",
                hint=f"make it with `aifw feedback import FILE.jsonl --into {settings.source}`"
                if settings.is_database
                else "`source` is relative to the folder of the spec",
            )
        if settings.is_database:
            from aifw.data.observation import look_at_table

            return look_at_table(path, settings.table)
        from aifw.data.observation import look_at_lines

        return look_at_lines(path, workspace.digest_of)

    def forecast(
        self, settings: FeedbackSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Reads in bounded memory; time grows with rows."""
        observed = inputs["observation"].facts if "observation" in inputs else {}
        known = "rows" in observed
        rows = float(observed.get("rows", _UNKNOWN_ROWS))
        facts = {"rows": rows, "bytes": float(observed.get("bytes", rows * 600))} | {
            name: observed[name] for name in ("kinds", "chars_prompt", "chars_answer") if name in observed
        }
        return Forecast(
            memory=Estimate.around(_FREEZING_BYTES, 0.25),
            seconds=_seconds(rows, _SECONDS_PER_EVENT),
            basis=f"{rows:,.0f} rows" if known else "the number of rows is not known yet",
            work=rows,
            startup=_SECONDS_TO_START,
            facts={"events": facts},
        )


class Preferences(ArtifactKind[PreferencesSettings]):
    """Preference pairs from feedback: deduplicated, split without leaks, with a data card."""

    name = "preferences"
    version = 3
    section = "datasets"
    settings = PreferencesSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {
        "train": PreferencePairs,
        "heldout": PreferencePairs,
        "card": DataCard,
    }
    requires: ClassVar[Mapping[str, str]] = {"numpy": "train"}
    run = "aifw.data.preferences:build"
    workload = "data"

    def forecast(
        self, settings: PreferencesSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Texts stay on disk, so memory grows by little a pair; time grows with events, most of it for near-duplicates."""
        events: Mapping[str, Any] = inputs["from"].facts if "from" in inputs else {}
        rows = float(events.get("rows", _UNKNOWN_ROWS))
        size = float(events.get("bytes", rows * 600))
        pairs = _expected_pairs(events.get("kinds"), rows)
        compared = _compared(events, pairs, size)
        train = pairs * (1 - settings.heldout)
        simulated = min(settings.simulate, train * settings.most_simulated / (1 - settings.most_simulated))
        train += simulated
        if settings.max_pairs is not None:
            train = min(train, settings.max_pairs)
        heldout = pairs * settings.heldout
        lengths = {}
        if "chars_prompt" in events:
            answer = events["chars_answer"]
            lengths = {"chars_prompt": events["chars_prompt"], "chars_chosen": answer, "chars_rejected": answer}
        return Forecast(
            memory=Estimate.around(_pairing_bytes(pairs, compared), 0.35),
            seconds=Estimate.around(
                _SECONDS_TO_START + _SECONDS_PER_JUDGEMENT * rows + _SECONDS_PER_CHARACTER * sum(compared), 0.6
            ),
            basis=f"{rows:,.0f} events",
            work=rows,
            startup=_SECONDS_TO_START,
            facts={
                "train": {"rows": round(train), "groups": round(train), "simulated": round(simulated)} | lengths,
                "heldout": {"rows": round(heldout), "groups": round(heldout), "simulated": 0} | lengths,
            },
        )


def _compared(events: Mapping[str, Any], pairs: float, size: float) -> tuple[float, ...]:
    """Characters of prompts, and of answers, where they are few enough to compare all with each other."""
    prompts = pairs * float(events.get("chars_prompt", 0.2 * size / max(1.0, pairs)))
    answers = 2 * pairs * float(events.get("chars_answer", 0.3 * size / max(1.0, pairs)))
    return tuple(each for each in (prompts, answers) if each <= EXACT_CHARACTERS)


def _pairing_bytes(pairs: float, compared: tuple[float, ...]) -> float:
    """The exact join of prompts or answers while they are few, or what finding guesses takes, beside what stays of all pairs."""
    moment = max(
        _PAIRING_BYTES_OF_CHARACTER * max(compared, default=0.0), _GUESSING_BYTES_OF_PAIR * min(pairs, _GUESSED_PAIRS)
    )
    return _PAIRING_BYTES + _PAIRING_BYTES_OF_PAIR * pairs + moment


def _expected_pairs(kinds: Mapping[str, float] | None, rows: float) -> float:
    """A comparison or correction is a pair; thumbs and stars need two events for one."""
    if not kinds:
        return 0.75 * rows
    single = kinds.get("comparison", 0) + kinds.get("correction", 0)
    return float(single + (kinds.get("thumbs", 0) + kinds.get("stars", 0)) / 2)


def _seconds(rows: float, per_row: float) -> Estimate:
    return Estimate.around(_SECONDS_TO_START + rows * per_row, 0.6)


_UNKNOWN_BYTES = 1_000
_CONVERSATION_BYTES = 5
"""Anonymous memory for each byte of a file of conversations, which is held as objects."""
_SECONDS_PER_CONVERSATION = 5e-5


class Conversations(Output):
    """`conversations.jsonl`: one object of `id` and `messages` (of `role` and `content`) a line, sorted by id; `rejected.jsonl`: line and reason of every broken row.

    Facts: `rows`, `chars_prompt`, `chars_answer` (means: of what is not and of what is the assistant's), `chars_longest`, `rejected` (rows by reason).
    """

    name = "conversations"


class ConversationsSettings(Settings):
    """Settings of `conversations`."""

    path: Annotated[str, Field(pattern=r"\.jsonl$")]
    """A file of JSON lines, `{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}`."""


class ConversationLines(ArtifactKind[ConversationsSettings]):
    """A frozen copy of the usable conversations in a file, for supervised fine-tuning."""

    name = "conversations"
    section = "datasets"
    settings = ConversationsSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"conversations": Conversations}
    run = "aifw.data.conversations:freeze"
    workload = "data"

    def observe(self, settings: ConversationsSettings, workspace: Workspace) -> Observation:
        """Fingerprint of the file: its sha256.

        Raises:
            InputInvalid: It is not there or cannot be read.
        """
        from dataclasses import replace

        from aifw.data.observation import look_at_lines

        path = workspace.path(settings.path)
        if not path.is_file():
            raise InputInvalid(
                f"there are no conversations at {path}", hint="`path` is relative to the folder of the spec"
            )
        seen = look_at_lines(path, workspace.digest_of)
        rows = seen.facts["rows"]
        return replace(seen, summary=f"{rows:,} conversation{'' if rows == 1 else 's'}")

    def forecast(
        self, settings: ConversationsSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Conversations are held in memory; time grows with rows."""
        observed = inputs["observation"].facts if "observation" in inputs else {}
        known = "rows" in observed
        rows = float(observed.get("rows", _UNKNOWN_ROWS))
        size = float(observed.get("bytes", rows * _UNKNOWN_BYTES))
        return Forecast(
            memory=Estimate.around(_FREEZING_BYTES + _CONVERSATION_BYTES * size, 0.35),
            seconds=_seconds(rows, _SECONDS_PER_CONVERSATION),
            basis=f"{rows:,.0f} rows" if known else "the number of rows is not known yet",
            work=rows,
            startup=_SECONDS_TO_START,
            facts={"conversations": {"rows": rows}},
        )
