from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from aifw.errors import DependencyMissing, InputInvalid
from aifw.evaluation.evaluate import evaluate
from aifw.evaluation.kinds import Evaluate, EvaluateSettings
from aifw.evaluation.language_model_harness import fetch, measure_of, rows_of_results
from aifw.evaluation.report import read
from aifw.job import Input, Job
from aifw.kind import Workspace, function
from aifw.models.tiny import write_tiny_model

INSTALLED = importlib.util.find_spec("lm_eval") is not None
needs_harness = pytest.mark.skipif(not INSTALLED, reason="lm-evaluation-harness is not installed")
# The harness and what it imports warn about themselves.
quiet = pytest.mark.filterwarnings("ignore")

CHOICE = """
task: colours
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""
WRITING = """
task: writing
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""
READING = """
task: reading
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list:
  - {{metric: word_perplexity}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    data = tmp_path / "data.json"
    rows = [{"question": f"The sky number {at} is", "choices": [" blue", " red"], "answer": at % 2} for at in range(6)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("colours", CHOICE), ("writing", WRITING), ("reading", READING)):
        (tmp_path / f"{name}.yaml").write_text(text.format(data=data))
    return tmp_path


def _job(folder: Path, harness: dict[str, Any], **inputs: Input) -> Job[EvaluateSettings]:
    settings: dict[str, Any] = dict.fromkeys(inputs, "x") | {"harness": harness}
    return Job(
        EvaluateSettings.model_validate(settings),
        out=folder / "out",
        inputs=inputs,
        root=folder,
        outputs=("evaluation",),
        cache_root=folder / "cache",
    )


@needs_harness
@quiet
def test_tasks_of_a_file_are_measured_item_by_item(folder: Path) -> None:
    subject, baseline = (write_tiny_model(folder / name, seed=seed) for name, seed in (("ours", 1), ("theirs", 2)))
    tasks = ["colours.yaml", "writing.yaml", "reading.yaml"]
    job = _job(folder, {"tasks": tasks, "limit": 4}, subject=subject, baseline=baseline)
    evaluate(job)
    report = read(job.out / "evaluation").report
    suite = report["suites"]["lm_eval"]
    assert set(report["suites"]) == {"lm_eval"}
    assert suite["subject"]["colours/acc"]["n"] == 4
    assert 0 <= suite["subject"]["colours/acc"]["value"] <= 1
    assert suite["compared"]["colours/acc"]["n"] == 4
    assert suite["subject"]["writing/exact_match"]["n"] == 4
    assert suite["subject"]["reading/word_perplexity"]["value"] > 1
    assert suite["details"]["subject"]["tasks"] == {"colours": 4, "reading": 1, "writing": 4}
    assert job.facts["evaluation"]["colours/acc"] == suite["subject"]["colours/acc"]["value"]
    assert job.facts["evaluation"]["baseline_colours/acc"] == suite["baseline"]["colours/acc"]["value"]


@needs_harness
@quiet
def test_tasks_that_are_not_there(folder: Path) -> None:
    subject = write_tiny_model(folder / "ours", seed=1)
    with pytest.raises(InputInvalid, match="has no task `hellaswig`") as found:
        evaluate(_job(folder, {"tasks": ["hellaswig"]}, subject=subject))
    assert "did you mean `hellaswag" in str(found.value.hint)
    with pytest.raises(InputInvalid, match=r"there is no task at .*/nothing\.yaml"):
        evaluate(_job(folder, {"tasks": ["nothing.yaml"]}, subject=subject))
    (folder / "data.json").unlink()
    with pytest.raises(InputInvalid, match=r"lm-evaluation-harness cannot load colours\.yaml"):
        evaluate(_job(folder, {"tasks": ["colours.yaml"]}, subject=subject))


def test_without_the_harness_how_to_install_it_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    subject = write_tiny_model(folder / "ours", seed=1)
    job = _job(folder, {"tasks": ["colours.yaml"]}, subject=subject)
    with pytest.raises(DependencyMissing, match="lm-evaluation-harness") as found:
        evaluate(job)
    assert found.value.hint == "pip install 'aifw[lm-eval]'"


def test_data_of_tasks_are_fetched_before() -> None:
    with_tasks = EvaluateSettings.model_validate({"subject": "s", "harness": {"tasks": ["arc_easy"]}})
    without = EvaluateSettings.model_validate({"subject": "s", "data": "d"})
    workspace = Workspace(Path(), lambda path: "digest")
    name = Evaluate().fetch(with_tasks, workspace, offline=False)
    assert name is not None
    assert function(name) is fetch
    assert Evaluate().fetch(without, workspace, offline=False) is None


def _sample(at: int, kept: str = "none", **metrics: Any) -> dict[str, Any]:
    return {"doc_id": at, "doc_hash": f"d{at}", "target_hash": "t", "filter": kept, "metrics": [*metrics], **metrics}


def test_what_the_harness_returns_becomes_rows() -> None:
    found = {
        "samples": {
            "b": [
                _sample(0, "strict", exact_match=1.0),
                _sample(0, "loose", exact_match=0.0),
                _sample(1, "strict", exact_match=0),
            ],
            "a": [_sample(0, acc=True, f1=(1, 0), speed=2.0), _sample(1, acc=False, f1=(1, 1), speed=3.0)],
            "c": [_sample(0, word_perplexity=(-3.0, 2)), _sample(1, word_perplexity=(-4.0, 2))],
        },
        "results": {
            "a": {"acc,none": 0.5, "acc_stderr,none": 0.5, "f1,none": 0.7, "speed,none": 2.5, "alias": "a"},
            "b": {"exact_match,strict": 0.5, "exact_match,loose": 0.0},
            "c": {"word_perplexity,none": 5.75},
        },
        "higher_is_better": {"a": {"acc": True, "speed": False}, "c": {"word_perplexity": False}},
    }
    rows, left_out = rows_of_results(found)
    by_id = {row["id"]: row for row in rows}
    assert by_id["a/0"]["values"] == {"a/acc": 1.0}
    assert by_id["b/0"]["values"] == {"b/exact_match/strict": 1.0, "b/exact_match/loose": 0.0}
    assert by_id["b/1"]["values"] == {"b/exact_match/strict": 0.0}
    assert by_id["c/0"]["corpus"] == {"c/word_perplexity": 5.75}
    assert by_id["a/0"]["item_digest"] != by_id["a/1"]["item_digest"]
    assert left_out == [
        "a/f1 is left out: the harness has no number for each item (all: 0.7)",
        "a/speed is left out: the harness says that lower is better",
    ]


def test_names_of_measures() -> None:
    assert measure_of("gsm8k", "exact_match", "strict-match").name == "gsm8k/exact_match/strict-match"
    assert measure_of("arc", "acc", "none").name == "arc/acc"
    assert measure_of("org/arc", "word_perplexity", "none").better == "lower"
