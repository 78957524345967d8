"""What a report tells: evaluations by time, verdicts, targets and forecasts of a state, or evaluations from folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aifw.errors import AifwError, InputInvalid, UsageError
from aifw.evaluation.comparison import Outcome, adjusted, outcome
from aifw.evaluation.measures import MEASURES, SUITES, Measure, named
from aifw.evaluation.report import ITEMS, REPORT, read_report

if TYPE_CHECKING:
    from aifw.evaluation.targets import Tracked
    from aifw.plan.score import Score
    from aifw.state.store import Store

OUTPUT = "evaluation"
"""Name of the output that holds one."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation.

    Attributes:
        address: The resource that made it; of one from a folder, what it is about.
        run: That made it, or None.
        at: UTC.
        folder: With both files.
        report: Content of `report.json`.
    """

    address: str
    run: int | None
    at: str
    folder: Path
    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An evaluation that cannot be used, and why."""

    address: str
    folder: Path
    problem: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with what became of it.

    Attributes:
        address: The gate.
        at: UTC.
        candidate: What it is called: `int8@90c2`.
        incumbent: The same.
        moved: The alias pointed to the candidate afterwards.
        verdict: As it was reached.
    """

    address: str
    run: int
    at: str
    candidate: str
    incumbent: str
    moved: bool
    verdict: Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """All of it.

    Attributes:
        name: Of the spec, or of the folders.
        evaluations: The oldest first.
        unreadable: Those that cannot be used.
        judgements: The newest first.
        targets: As they stand.
        scores: Jobs that were forecast and measured, the newest first.
    """

    name: str
    evaluations: Sequence[Evaluation] = ()
    unreadable: Sequence[Unreadable] = ()
    judgements: Sequence[Judgement] = ()
    targets: Sequence[Tracked] = ()
    scores: Sequence[Score] = field(default_factory=tuple)

    @property
    def latest(self) -> dict[str, Evaluation]:
        """The newest evaluation by address, in the order of addresses."""
        return dict(sorted({each.address: each for each in self.evaluations}.items()))


@dataclass(frozen=True, slots=True)
class Line:
    """One measure of one evaluation.

    Attributes:
        suite: It belongs to.
        measure: What is measured.
        subject: Its entry, as reports have it.
        baseline: Entry of the baseline, or None.
        compared: Entry of the comparison, or None.
        p: Adjusted over all measures of the evaluation, or None.
        outcome: What the comparison shows, or None without one.
    """

    suite: str
    measure: Measure
    subject: Mapping[str, Any]
    baseline: Mapping[str, Any] | None
    compared: Mapping[str, Any] | None
    p: float | None
    outcome: Outcome | None


def of_state(store: Store, targets: Sequence[Tracked] = ()) -> Facts:
    """What a state holds.

    Args:
        store: The state.
        targets: Of its spec, as they stand.
    """
    from aifw.plan.score import score
    from aifw.state import reading

    evaluations: list[Evaluation] = []
    unreadable = []
    for each in reading.made(store, OUTPUT):
        folder = store.artifacts.path(each.artifact) / OUTPUT
        try:
            report = read_report(folder)
        except AifwError as error:
            unreadable.append(Unreadable(each.address, folder, error.message))
        else:
            evaluations.append(Evaluation(each.address, each.run, report["environment"]["time"], folder, report))
    return Facts(
        name=store.layout.name,
        evaluations=sorted(evaluations, key=lambda each: each.at),
        unreadable=unreadable,
        judgements=_judgements(store),
        targets=targets,
        scores=[
            score(store.layout.name, job.id, job.address, job.kind, job.started, job.forecast, job.actual)
            for job in reading.measured_jobs(store)
            if job.forecast is not None and job.actual is not None
        ],
    )


def _judgements(store: Store) -> list[Judgement]:
    from aifw.state import reading

    labels = reading.labels(store)
    moved = {
        (alias, move.digest)
        for alias in store.aliases()
        for move in reading.moves(store, alias)
        if move.cause == "promotion"
    }
    return [
        Judgement(
            each.address,
            each.run,
            each.at,
            labels.get(each.candidate, each.candidate[:12]),
            labels.get(each.incumbent, each.incumbent[:12]),
            (each.verdict.get("alias"), each.candidate) in moved and bool(each.verdict.get("promote")),
            each.verdict,
        )
        for each in reading.verdicts(store)
    ]


def of_folders(paths: Sequence[Path]) -> Facts:
    """What evaluations outside a state say.

    Raises:
        InputInvalid: One cannot be used.
        UsageError: One is no evaluation.
    """
    evaluations = []
    for path in paths:
        folder = evaluation_folder(path)
        report = read_report(folder)
        about = f"{report['subject']['address']} on {report['data']['address']}"
        evaluations.append(Evaluation(about, None, report["environment"]["time"], folder, report))
    name = str(paths[0]) if len(paths) == 1 else f"{len(paths)} evaluations"
    return Facts(name, sorted(evaluations, key=lambda each: each.at))


def is_evaluation(path: Path) -> bool:
    """Whether a path names an evaluation rather than a spec."""
    return path.is_dir() or path.suffix in {".json", ".jsonl"}


def evaluation_folder(path: Path) -> Path:
    """The folder of an evaluation, given itself, one of its files, or the artifact around it.

    Raises:
        UsageError: There is none.
    """
    if path.name in {REPORT, ITEMS} and path.is_file():
        return path.parent
    for folder in (path, path / OUTPUT):
        if (folder / REPORT).is_file():
            return folder
    raise UsageError(f"there is no evaluation at {path}", hint=f"expected a folder with {REPORT} and {ITEMS}")


def lines(report: Mapping[str, Any]) -> list[Line]:
    """Measures of an evaluation, in the order of the table of measures.

    Raises:
        InputInvalid: It has a measure that is not known here.
    """
    compared = {name: entry for suite in report["suites"].values() for name, entry in suite.get("compared", {}).items()}
    p = adjusted(compared)
    alpha = level(report)
    found = []
    for suite, content in sorted(report["suites"].items(), key=lambda each: _place(SUITES, each[0])):
        for name, entry in sorted(content["subject"].items(), key=lambda each: _place(MEASURES, each[0])):
            try:
                measure = named(name)
            except KeyError:
                raise InputInvalid(f"suite {suite} has no measure {name}", hint="it is of another aifw") from None
            against = compared.get(name)
            word = None if against is None else outcome(measure, against, p.get(name), alpha)
            if against is not None and against.get("contended"):
                word = "inconclusive"
            found.append(Line(suite, measure, entry, content.get("baseline", {}).get(name), against, p.get(name), word))
    return found


def _place(table: Mapping[str, Any], name: str) -> tuple[int, str]:
    return (list(table).index(name) if name in table else len(table), name)


def level(report: Mapping[str, Any]) -> float:
    """What intervals of a report leave out."""
    alpha = report["settings"].get("alpha", 0.05)
    return float(alpha) if isinstance(alpha, int | float) and 0 < alpha < 1 else 0.05


def course(evaluations: Iterable[Evaluation], address: str, name: str) -> list[tuple[Evaluation, Mapping[str, Any]]]:
    """Entries of one measure of the subjects of one resource's evaluations, the oldest first."""
    return [
        (each, suite["subject"][name])
        for each in evaluations
        if each.address == address
        for suite in each.report["suites"].values()
        if name in suite["subject"]
    ]


def document(facts: Facts) -> dict[str, Any]:
    """The same as JSON. Details and item sketches are in the reports themselves, at `folder`."""
    from dataclasses import asdict

    return {
        "name": facts.name,
        "evaluations": [
            {
                "address": each.address,
                "run": each.run,
                "time": each.at,
                "folder": str(each.folder),
                **{key: each.report[key] for key in ("digest", "subject", "baseline")},
                "data": {key: value for key, value in each.report["data"].items() if key != "sketch"},
                "contention": each.report["environment"]["contention"],
                "spec": each.report["environment"]["spec"],
                "measures": [_line_document(line) for line in lines(each.report)],
            }
            for each in facts.evaluations
        ],
        "unreadable": [{**asdict(each), "folder": str(each.folder)} for each in facts.unreadable],
        "verdicts": [asdict(each) for each in facts.judgements],
        "targets": [each.as_json() for each in facts.targets],
        "forecasts": [asdict(each) for each in facts.scores],
    }


def _line_document(line: Line) -> dict[str, Any]:
    return {
        "suite": line.suite,
        "measure": line.measure.name,
        "subject": line.subject,
        "baseline": line.baseline,
        "compared": None if line.compared is None else {**line.compared, "adjusted_p": line.p, "outcome": line.outcome},
    }
