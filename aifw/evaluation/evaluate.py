"""Measures a model and a baseline on the same items, one model in memory at a time unless they are timed; or predictions that were brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aifw.errors import InputInvalid
from aifw.evaluation.environment import Environment
from aifw.evaluation.kinds import EvaluateSettings, Prices
from aifw.evaluation.predictions import Brought, is_predictions, read_predictions
from aifw.evaluation.report import build, write
from aifw.evaluation.runs import Run
from aifw.evaluation.stated import state
from aifw.evaluation.suites import Row
from aifw.job import Input, Job

SIDES = ("subject", "baseline")

_RECORDS = frozenset({"classification", "retrieval", "reflection", "rag", "routing", "adaptation", "search"})


def evaluate(job: Job[EvaluateSettings]) -> None:
    """Write the output `evaluation`: `report.json` and `items.jsonl`.

    Raises:
        InputInvalid: There is no item, or the two sides cannot be compared on the same ones.
        DependencyMissing: A suite needs a package that is not installed.
        JobStopped: Stopped on request.
        JobError: A score is not a number.
    """
    environment = Environment.begin(job)
    brought = {side: is_predictions(job.inputs[side]) for side in SIDES if side in job.inputs}
    if len(set(brought.values())) > 1:
        raise InputInvalid(
            f"{job.inputs['subject'].address} and {job.inputs['baseline'].address} are a model and predictions",
            hint="compare two models, or the predictions of both",
        )
    measured = _predictions(job) if brought["subject"] else _models(job)
    report, items = build(
        subject=named(job.inputs["subject"]),
        baseline=named(job.inputs["baseline"]) if "baseline" in job.inputs else None,
        data=measured["data"],
        settings=measured["settings"],
        rows=measured["rows"],
        environment=environment.end(),
        seed=job.seed,
    )
    write(job.output("evaluation"), report, items)
    state(job, report)


def named(source: Input) -> dict[str, str]:
    """What a report says about an input."""
    provenance = source.facts.get("provenance")
    return {
        "address": source.address,
        "digest": source.digest,
        "name": source.address if provenance is None else str(provenance),
    }


# Predictions


def _predictions(job: Job[EvaluateSettings]) -> dict[str, Any]:
    settings = job.settings
    subject = read_predictions(job.inputs["subject"], settings.max_items)
    baseline = read_predictions(job.inputs["baseline"], settings.max_items) if "baseline" in job.inputs else None
    if settings.suites is not None and settings.suites != (subject.suite,):
        raise InputInvalid(
            f"{job.inputs['subject'].address} has rows of suite `{subject.suite}`, "
            f"`suites` asks for {', '.join(settings.suites)}",
            hint="leave `suites` out; predictions are measured by the suite they are rows of",
        )
    if baseline is not None and baseline.suite != subject.suite:
        raise InputInvalid(
            f"{job.inputs['subject'].address} has rows of suite `{subject.suite}`, "
            f"{job.inputs['baseline'].address} of `{baseline.suite}`"
        )
    return {
        "data": {**named(job.inputs["subject"]), "digest": subject.digest()},
        "settings": {"max_items": settings.max_items},
        "rows": {subject.suite: (subject.rows, None if baseline is None else baseline.rows)},
    }


# Models


def _models(job: Job[EvaluateSettings]) -> dict[str, Any]:
    from aifw.evaluation.runs.items import HeldOut, read_as, read_held_out, same_items
    from aifw.evaluation.runs.side import Side
    from aifw.hardware.libraries.backend import use_threads

    settings = job.settings
    suites = settings.of_a_model()
    _see_suites(job, suites)
    use_threads(job.threads)
    held_out = HeldOut("no data", [], preferences=False)
    if "data" in job.inputs:
        held_out = read_held_out(job.inputs["data"].path, job.inputs["data"].address, settings.max_items)
    same = "baseline" in job.inputs and _same(job.inputs["subject"], job.inputs["baseline"])
    on_items, on_tasks = _runs(job, suites, held_out, paired="baseline" in job.inputs and not same)
    models = [side for side in SIDES if side in job.inputs and not (same and side == "baseline")]
    total = len(models) * sum(run.steps for run in (*on_items, *on_tasks))
    done = 0

    def tell(number: int) -> None:
        job.obey()
        job.progress(done + number, total, "item")

    job.obey()
    precision, read = "", None
    for name in models:
        side = Side(job, name, tell)
        precision = precision or side.backend.precision
        if on_items:
            items = read_as(
                held_out,
                side.tokenizer,
                side.context,
                max_prompt=settings.max_prompt_tokens,
                max_answer=settings.max_completion_tokens,
            )
            if read is not None:
                same_items(items, read)
            read = items if read is None else read
            for run in on_items:
                run.measure(side, items)
                done += run.steps
                tell(0)
        for run in on_tasks:
            run.measure(side, None)
            done += run.steps
            tell(0)
        side.close()
    for note in read.encoded.notes() if read is not None else ():
        job.note(note)
    rows = _rows([*on_items, *on_tasks], suites, both="baseline" in job.inputs, same=same)
    data: dict[str, Any] = named(job.inputs["data"]) if "data" in job.inputs else _of_tasks(rows["lm_eval"][0])
    if read is not None:
        data |= {"dropped": dict(sorted(read.encoded.dropped.items())), "cut": dict(sorted(read.encoded.cut.items()))}
    return {
        "data": data,
        "settings": _settings(settings, suites, precision),
        "rows": rows,
    }


def _of_tasks(rows: Sequence[Row]) -> dict[str, str]:
    """What a report says about items that only tasks of the harness brought."""
    tasks = sorted({str(row["id"]).partition("/")[0] for row in rows})
    return {"address": "", "digest": Brought("lm_eval", rows).digest(), "name": ", ".join(tasks)}


def _see_suites(job: Job[EvaluateSettings], suites: Sequence[str]) -> None:
    """See that what is asked for can be measured of a model.

    Raises:
        InputInvalid: It cannot.
    """
    brought = [suite for suite in suites if suite in _RECORDS]
    if brought:
        raise InputInvalid(
            f"{job.inputs['subject'].address} is a model; {', '.join(brought)} measure predictions",
            hint="bring rows: `{kind: predictions, path: ..., suite: ...}`, and name them as `subject`",
        )
    if "data" not in job.inputs and set(suites) != {"lm_eval"}:
        raise InputInvalid(
            f"{job.inputs['subject'].address} is a model, and there are no items to measure it on",
            hint="`data` names held-out pairs or conversations",
        )


def _runs(
    job: Job[EvaluateSettings], suites: Sequence[str], held_out: Any, *, paired: bool
) -> tuple[list[Run], list[Any]]:
    """What has to be run on items, and on tasks that bring their own. What is timed comes first, while the process is fresh."""
    from aifw.evaluation.runs.contamination import ContaminationRun
    from aifw.evaluation.runs.generation import GenerationRun
    from aifw.evaluation.runs.language_model import LanguageModelRun
    from aifw.evaluation.runs.preference import PreferenceRun
    from aifw.evaluation.runs.timing import TIMED, TimingRun

    settings, steps = job.settings, len(held_out.pairs)
    found: list[Run] = []
    if set(TIMED) & set(suites):
        found.append(TimingRun(suites, steps, settings.timing, settings.prices or Prices(), paired=paired))
    preference = PreferenceRun(steps) if "preference" in suites else None
    if preference is not None:
        found.append(preference)
    if "language_model" in suites:
        found.append(LanguageModelRun(steps, settings.language_model, preference))
    if "generation" in suites:
        found.append(GenerationRun(steps, settings.generation, job.seed))
    if "contamination" in suites:
        trained = {
            str(reference): job.inputs[f"trained_on.{number}"].path
            for number, reference in enumerate(settings.trained_on)
        }
        found.append(ContaminationRun(held_out, trained, settings.near_duplicates))
    if settings.harness is None:
        return found, []
    from aifw.evaluation.language_model_harness import HarnessRun

    return found, [HarnessRun(settings.harness, job.root, offline=job.offline)]


def _rows(
    runs: Sequence[Run], suites: Sequence[str], *, both: bool, same: bool
) -> dict[str, tuple[Sequence[Row], Sequence[Row] | None]]:
    """Rows of both sides by suite. A model measured against itself is measured once."""
    found: dict[str, tuple[Sequence[Row], Sequence[Row] | None]] = {}
    for run in runs:
        subject = run.rows("subject")
        baseline = (subject if same else run.rows("baseline")) if both else {}
        for suite in suites:
            if suite in subject:
                found[suite] = (subject[suite], baseline.get(suite) if suite != "contamination" else None)
    return found


def _settings(settings: EvaluateSettings, suites: Sequence[str], precision: str) -> dict[str, Any]:
    """What the numbers depend on, as far as it was used."""
    used: dict[str, Any] = {
        "precision": precision,
        "max_items": settings.max_items,
        "max_prompt_tokens": settings.max_prompt_tokens,
        "max_completion_tokens": settings.max_completion_tokens,
    }
    named_options: Mapping[str, tuple[str, ...]] = {
        "language_model": ("language_model",),
        "generation": ("generation",),
        "timing": ("latency", "throughput", "resources", "cost"),
        "prices": ("cost",),
        "near_duplicates": ("contamination",),
        "harness": ("lm_eval",),
    }
    whole = settings.model_dump(mode="json")
    return used | {
        name: whole[name] for name, those in named_options.items() if set(those) & set(suites) and whole[name]
    }


def _same(subject: Input, baseline: Input) -> bool:
    return (bool(subject.digest) and subject.digest == baseline.digest) or subject.path == baseline.path
