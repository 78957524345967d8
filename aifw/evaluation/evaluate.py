"""Measures a model and a baseline on the same items, one model in memory at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aifw.errors import InputInvalid, JobError
from aifw.evaluation import preference
from aifw.evaluation.kinds import EvaluateSettings
from aifw.hardware.libraries.backend import Backend, backend_for, measured_beside, use_threads
from aifw.job import Input, Job
from aifw.models.load import load, load_tokenizer, quiet
from aifw.models.openvino_model import configuration, context_of, is_openvino, load_openvino
from aifw.models.pairs import Encoded, Pair, choose, encode, read_pairs
from aifw.models.score import PairScore, score_pairs
from aifw.statistics import compare

REPORT_VERSION = 1


def evaluate(job: Job[EvaluateSettings]) -> None:
    """Write the output `evaluation`: `report.json` and `items.jsonl`.

    Raises:
        InputInvalid: There is no item, or the models cannot be compared on the same ones.
        JobStopped: Stopped on request.
        JobError: A score is not a number.
    """
    use_threads(job.threads)
    data = job.inputs["data"]
    pairs = choose(read_pairs(data.path), job.settings.max_items)
    same = _same_model(job.inputs["subject"], job.inputs["baseline"])
    subject_encoded, subject = _scored(job, "subject", pairs, 0, 1 if same else 2)
    baseline_encoded, baseline = (
        (subject_encoded, subject) if same else _scored(job, "baseline", pairs, len(subject), 2)
    )
    for note in subject_encoded.notes():
        job.note(note)
    used = {pair.id for pair in subject_encoded.pairs}
    if used != {pair.id for pair in baseline_encoded.pairs}:
        raise InputInvalid("the two models cannot use the same items: their tokenizers or windows differ too much")
    rows = [
        {
            "id": pair.id,
            "group": pair.group,
            "chosen_tokens": ours.chosen_tokens,
            "rejected_tokens": ours.rejected_tokens,
            "shorter_wins": preference.shorter_wins(ours),
            "subject": preference.item(ours),
            "baseline": preference.item(theirs),
        }
        for pair, ours, theirs in zip(subject_encoded.pairs, subject, baseline, strict=True)
    ]
    report = _report(job, rows, subject_encoded)
    out = job.output("evaluation")
    with (out / "items.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, sort_keys=True, allow_nan=False) + "\n" for row in rows)
    (out / "report.json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    measured = report["suites"]["preference"]
    job.fact("items", len(rows), "evaluation")
    job.fact("groups", report["data"]["groups"], "evaluation")
    job.fact("subject", job.inputs["subject"].digest, "evaluation")
    job.fact("baseline", job.inputs["baseline"].digest, "evaluation")
    for name in preference.MEASURES:
        job.fact(name, measured["subject"][name]["value"], "evaluation")
        job.fact(f"baseline_{name}", measured["baseline"][name]["value"], "evaluation")
    job.fact("shorter_wins", measured["shorter_wins"], "evaluation")
    job.fact("summary", _summary(measured, len(rows)), "evaluation")


def _summary(measured: Mapping[str, Any], items: int) -> str:
    """Both forms of the accuracy, and how far length alone would get."""
    per_token, summed = (
        f"{measured['baseline'][name]['value']:.3f} → {measured['subject'][name]['value']:.3f}"
        for name in ("preference_accuracy", "preference_accuracy_sum")
    )
    return f"preference accuracy {per_token} per token, {summed} summed; shorter wins {measured['shorter_wins']:.3f}; n {items:,}"


def _same_model(subject: Input, baseline: Input) -> bool:
    return (bool(subject.digest) and subject.digest == baseline.digest) or subject.path == baseline.path


def _scored(
    job: Job[EvaluateSettings], side: str, pairs: Sequence[Pair], before: int, models: int
) -> tuple[Encoded, list[PairScore]]:
    """Items one model can use and their scores; scores of the same model on the same items are kept between runs."""
    settings, source = job.settings, job.inputs[side]
    backend = _backend(job, source)
    with quiet():
        tokenizer = load_tokenizer(source.path)
        context = int(source.facts.get("context") or context_of(configuration(source.path)))
        encoded = encode(
            pairs,
            tokenizer,
            max_prompt=settings.max_prompt_tokens,
            max_answer=settings.max_completion_tokens,
            context=context,
            keep_equal=True,
        )
        if not encoded.pairs:
            raise InputInvalid(
                f"none of the {len(pairs)} items of {job.inputs['data'].address} can be used",
                hint="; ".join(encoded.notes()) or "the data set is empty",
            )

        def compute() -> list[PairScore]:
            def tell(done: int) -> None:
                job.obey()
                job.progress(before + done, models * len(encoded.tokens), "item")

            if is_openvino(source.path):
                return score_pairs(load_openvino(source.path, backend), encoded.tokens, tell)
            model = load(source.path, backend=backend)
            return score_pairs(replace(model, module=backend.optimised(model.module)), encoded.tokens, tell)

        scores = _kept(job, source, backend.precision, encoded, compute)
    for score in scores:
        if not (abs(score.chosen) < float("inf") and abs(score.rejected) < float("inf")):
            raise JobError(f"{source.address} gives scores that are not numbers", hint="try `precision: fp32`")
    return encoded, scores


def _kept(job: Job[EvaluateSettings], source: Input, precision: str, encoded: Encoded, compute: Any) -> list[PairScore]:
    if not source.digest:
        return list(compute())
    tokens = [[pair.prompt, pair.chosen, pair.rejected] for pair in encoded.tokens]
    key = hashlib.sha256(json.dumps(["scores", source.digest, precision, job.device, tokens]).encode()).hexdigest()
    folder = job.cache(
        f"scores-{key[:32]}",
        lambda into: _write(into / "scores.json", [[score.chosen, score.rejected] for score in compute()]),
    )
    rows = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return [
        PairScore(chosen, rejected, len(pair.chosen), len(pair.rejected))
        for (chosen, rejected), pair in zip(rows, encoded.tokens, strict=True)
    ]


def _write(path: Any, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _report(job: Job[EvaluateSettings], rows: list[dict[str, Any]], encoded: Encoded) -> dict[str, Any]:
    """Everything a reader or a gate needs, and nothing that changes between two equal runs."""
    measures = {side: preference.summary(rows, side) for side in ("subject", "baseline")}
    groups = {row["id"]: row["group"] for row in rows}
    compared = {}
    for name in preference.MEASURES:
        before, after = ({row["id"]: row[side][name] for row in rows} for side in ("baseline", "subject"))
        result = compare(before, after, groups)
        compared[name] = {
            "difference": result.difference,
            "low": result.low,
            "high": result.high,
            "p": result.p,
            "method": result.method,
        }
    return {
        "version": REPORT_VERSION,
        "subject": _named(job.inputs["subject"]),
        "baseline": _named(job.inputs["baseline"]),
        "data": {
            **_named(job.inputs["data"]),
            "items": len(rows),
            "groups": len(set(groups.values())),
            "dropped": dict(sorted(encoded.dropped.items())),
            "cut": dict(sorted(encoded.cut.items())),
        },
        "precision": _backend(job, job.inputs["subject"]).precision,
        "suites": {
            "preference": {
                **measures,
                "compared": compared,
                "shorter_wins": sum(row["shorter_wins"] for row in rows) / len(rows),
            }
        },
    }


def _backend(job: Job[EvaluateSettings], source: Input) -> Backend:
    """How one of the models is run: OpenVINO has no part for some of the devices that torch computes on."""
    measured = measured_beside(job.cache_root)
    wanted = job.settings.precision
    if not is_openvino(source.path):
        return backend_for(job.device, wanted, threads=job.threads, measured=measured)
    device = job.device if job.device.partition(":")[0] in {"cpu", "xpu"} else "cpu"
    return backend_for(device, wanted, library="openvino", threads=job.threads, measured=measured)


def _named(source: Input) -> dict[str, Any]:
    return {"address": source.address, "digest": source.digest, "name": source.facts.get("provenance")}
