"""What is measured of an export, against plain reckoning, and that limits bind."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch

from aifw.errors import InputInvalid, JobError
from aifw.export import export
from aifw.export.kinds import ValidateSettings
from aifw.export.validate import Closeness, check_limits, measure
from aifw.hardware.libraries.backend import backend_for
from aifw.job import Input
from aifw.models.load import load
from aifw.models.openvino_model import OpenvinoLanguageModel, load_openvino
from aifw.models.pairs import encode, read_pairs

FAR = Closeness(
    texts=3,
    tokens=120,
    perplexity_before=10.0,
    perplexity_after=10.5,
    top1_agreement=0.95,
    kl=0.02,
    greedy_agreement=0.7,
    greedy_texts=3,
    greedy_tokens=90,
)


def _limits(**limits: float) -> ValidateSettings:
    return ValidateSettings.model_validate({"data": "d", **limits})


def test_measures_are_those_of_their_definitions(source: Input, pairs: Path, exported: Callable[[str], Path]) -> None:
    before = load(source.path)
    after = load_openvino(exported("int4"), backend_for("cpu", "fp32", library="openvino"))
    texts = encode(
        read_pairs(pairs), before.tokenizer, max_prompt=64, max_answer=64, context=256, keep_equal=True
    ).tokens
    told: list[tuple[int, int]] = []
    found = measure(before, after, texts, _limits(greedy_texts=2), frozenset(), lambda *each: told.append(each))
    losses, same, divergence, tokens = [0.0, 0.0], 0, 0.0, 0
    for text in texts:
        ids = torch.tensor([[*text.prompt, *text.chosen]])
        with torch.inference_mode():
            theirs = before.module(ids).logits[0].double().log_softmax(-1)
        ours = torch.from_numpy(after.logits(ids.tolist(), 0)[0]).double().log_softmax(-1)
        for place, token in enumerate(text.chosen, len(text.prompt) - 1):
            p, q = theirs[place], ours[place]
            losses[0] -= float(p[token])
            losses[1] -= float(q[token])
            same += int(p.argmax() == q.argmax())
            divergence += float((p.exp() * (p - q)).sum())
            tokens += 1
    assert (found.texts, found.tokens) == (len(texts), tokens)
    assert found.perplexity_before == pytest.approx(exp(losses[0] / tokens), rel=1e-5)
    assert found.perplexity_after == pytest.approx(exp(losses[1] / tokens), rel=1e-4)
    assert found.kl == pytest.approx(divergence / tokens, rel=1e-2)
    assert abs(found.top1_agreement - same / tokens) <= 1 / tokens
    assert found.kl > 1e-3
    assert found.greedy_texts == 2
    assert told[-1] == (len(texts) + 2, len(texts) + 2)


def test_a_model_agrees_with_itself(source: Input, pairs: Path, exact: OpenvinoLanguageModel) -> None:
    before = load(source.path)
    texts = encode(read_pairs(pairs), before.tokenizer, max_prompt=64, max_answer=64, context=256, keep_equal=True)
    found = measure(before, exact, texts.tokens, _limits(), frozenset())
    assert abs(found.perplexity_increase) < 1e-5
    assert found.top1_agreement == found.greedy_agreement == 1
    assert found.kl < 1e-8


def test_agreement_falls_with_the_bits(exported: Callable[[str], Path]) -> None:
    found = [
        json.loads((exported(precision) / "validation.json").read_text())["kl"]["value"]
        for precision in ("fp32", "fp16", "int8", "int4")
    ]
    assert found == sorted(found)
    assert found[0] < 1e-8 < found[1] < found[2] < found[3]


def test_limits_that_hold() -> None:
    check_limits(FAR, _limits(), "mine")
    held = _limits(max_perplexity_increase=0.051, min_top1_agreement=0.95, max_kl=0.02, min_greedy_agreement=0.7)
    check_limits(FAR, held, "mine")


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("max_perplexity_increase", 0.049, "perplexity increase +5.00%, at most +4.90% wanted"),
        ("min_top1_agreement", 0.951, "top-1 agreement 0.9500, at least 0.9510 wanted"),
        ("max_kl", 0.019, "KL divergence 0.02, at most 0.019 wanted"),
        ("min_greedy_agreement", 0.71, "greedy agreement 0.7000, at least 0.7100 wanted"),
    ],
)
def test_a_limit_that_is_exceeded(limit: str, value: float, said: str) -> None:
    with pytest.raises(JobError) as error:
        check_limits(FAR, _limits(**{limit: value}), "mine")
    assert said in error.value.message
    assert "measured on 120 tokens of 3 texts" in error.value.message


def test_no_number_is_no_agreement() -> None:
    broken = Closeness(3, 120, 10.0, float("nan"), 0.95, 0.02, 0.7, 3, 90)
    with pytest.raises(JobError, match="perplexity increase"):
        check_limits(broken, _limits(max_perplexity_increase=1), "mine")


def test_logits_that_are_no_numbers_are_no_agreement(
    source: Input, pairs: Path, exact: OpenvinoLanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = OpenvinoLanguageModel.logits

    def logits(*given: Any) -> Any:
        found = really(*given).copy()
        found[:, -2] = float("nan")
        return found

    before = load(source.path)
    texts = encode(read_pairs(pairs), before.tokenizer, max_prompt=64, max_answer=64, context=256, keep_equal=True)
    monkeypatch.setattr(OpenvinoLanguageModel, "logits", logits)
    limits = _limits(max_kl=1, greedy_texts=1, greedy_tokens=2)
    found = measure(before, exact, texts.tokens[:1], limits, frozenset())
    with pytest.raises(JobError, match="KL divergence nan, at most 1 wanted"):
        check_limits(found, limits, "mine")
    with pytest.raises(JobError, match="gives logits that are not numbers"):
        export(source.path, tmp_path / "out", data=pairs, precision="fp32", validate={"greedy_texts": 1})


def test_an_export_that_is_too_far_fails(source: Input, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"top-1 agreement 0\.\d+, at least 1\.0000 wanted"):
        export(
            source.path,
            tmp_path / "out",
            data=pairs,
            precision="int4",
            validate={"min_top1_agreement": 1, "greedy_texts": 1, "greedy_tokens": 2},
        )


def test_texts_that_are_none(source: Input, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "pairs.jsonl").touch()
    with pytest.raises(InputInvalid, match="none of the 0 pairs of empty can be used"):
        export(source.path, tmp_path / "out", data=empty, precision="fp32")
