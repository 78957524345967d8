"""Human preferences learnt by `aifw apply`: does SmolLM2-135M-Instruct prefer what people chose, on pairs it has not seen, and what else changed?

Applies docs/results/human-preferences.yaml in a folder, then has both models answer held-out prompts, and writes the table and the curve.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import human_pairs
from surroundings import load, machine, packages

HERE = Path(__file__).resolve().parent
SPEC = HERE.parent / "docs/results/human-preferences.yaml"


def feedback(path: Path) -> int:
    """Write the pairs as comparisons, the better answer shown first or second by the toss of a seeded coin."""
    toss = random.Random(5)
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, (messages, better, worse) in enumerate(human_pairs.read(), 1):
            first = toss.random() < 0.5
            row: dict[str, Any] = {
                "id": f"hh-{count:05}",
                "kind": "comparison",
                "conversation": f"hh-{count:05}",
                "rater": "hh",
                "time": "2022-04-12T00:00:00Z",
                "prompt": messages[-1]["content"],
                "answer_a": better if first else worse,
                "answer_b": worse if first else better,
                "preferred": "a" if first else "b",
            }
            if len(messages) > 1:
                row["turns"] = messages[:-1]
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count


def aifw(folder: Path, *words: str) -> str:
    """The command, as a user would give it."""
    done = subprocess.run(
        [sys.executable, "-m", "aifw", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode not in {0, 5}:
        raise SystemExit(f"aifw {' '.join(words)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def place(folder: Path, address: str) -> Path:
    """Folder of the latest artifact of a resource."""
    return Path(json.loads(aifw(folder, "show", address, "--json"))["bound"]["path"])


def seconds_of_first_run(folder: Path) -> float:
    """From start to end; a later one had nothing to do."""
    first = min(json.loads(aifw(folder, "history", "--json")), key=lambda run: run["id"])
    started, ended = (datetime.fromisoformat(first[name]) for name in ("started", "ended"))
    return (ended - started).total_seconds()


def answers(model: Path, prompts: Sequence[Sequence[int]], most: int, threads: int) -> list[list[int]]:
    """Greedy answers, one by one."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    module = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, local_files_only=True).eval()
    found = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            whole = module.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=False
            )
        found.append(whole[0, len(prompt) :].tolist())
    return found


def divergence(model: Path, other: Path, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]) -> float:
    """Mean over tokens of answers of KL(model || other), from all probabilities."""
    import torch
    from transformers import AutoModelForCausalLM

    first, second = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True).eval()
        for path in (model, other)
    )
    total, tokens = 0.0, 0
    for prompt, text in zip(prompts, texts, strict=True):
        if not text:
            continue
        ids = torch.tensor([[*prompt, *text]])
        with torch.inference_mode():
            ours, theirs = (
                each(input_ids=ids, logits_to_keep=len(text) + 1).logits[0, :-1].float().log_softmax(-1)
                for each in (first, second)
            )
        total += float((ours.exp() * (ours - theirs)).sum())
        tokens += len(text)
    return total / tokens


def main() -> None:
    """Do all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/human-preferences"))
    parser.add_argument("--prompts", type=int, default=64, help="held-out prompts that both models answer")
    parser.add_argument("--write", type=Path, help="folder for human-preferences.md and its picture; needs matplotlib")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    before = load()
    count = feedback(folder / "feedback.jsonl")
    (folder / "spec.yaml").write_bytes(SPEC.read_bytes())
    aifw(folder, "feedback", "import", "feedback.jsonl", "--into", "sqlite:///feedback.db")
    print(aifw(folder, "apply", "spec.yaml", "--yes"))
    found = look(folder, arguments.prompts)
    found |= {"rows": count, "seconds": seconds_of_first_run(folder), "load": [before, load()], "machine": machine()}
    found["versions"] = packages(("aifw", "torch", "transformers", "peft"))
    (folder / "found.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    text = report(found)
    print(text)
    if arguments.write:
        arguments.write.mkdir(parents=True, exist_ok=True)
        (arguments.write / "human-preferences.md").write_text(text, encoding="utf-8")
        plot(found, arguments.write / "human-preferences.png")


def look(folder: Path, count: int) -> dict[str, Any]:
    """What the run left behind, and what both models answer."""
    from aifw.models.load import load_tokenizer
    from aifw.models.pairs import choose, encode, read_pairs

    base, dpo = place(folder, "models.base") / "model", place(folder, "stages.dpo")
    evaluation = json.loads((place(folder, "stages.check") / "evaluation/report.json").read_text(encoding="utf-8"))
    preferences = place(folder, "datasets.preferences")
    pairs = choose(read_pairs(preferences / "heldout"), count)
    encoded = encode(pairs, load_tokenizer(base), max_prompt=192, max_answer=96, context=2048, keep_equal=True)
    prompts = [pair.prompt for pair in encoded.tokens]
    threads = len(os.sched_getaffinity(0))
    written = {name: answers(path, prompts, 96, threads) for name, path in (("base", base), ("dpo", dpo / "model"))}
    ends = {name: sum(len(text) < 96 for text in texts) for name, texts in written.items()}
    return {
        "evaluation": evaluation,
        "course": json.loads((dpo / "adapter/metrics.json").read_text(encoding="utf-8")),
        "lengths": {
            name: {
                "mean": statistics.mean(map(len, texts)),
                "median": statistics.median(map(len, texts)),
                "ended": ends[name] / len(texts),
            }
            for name, texts in written.items()
        },
        "human": {
            "chosen": statistics.mean(len(pair.chosen) for pair in encoded.tokens),
            "rejected": statistics.mean(len(pair.rejected) for pair in encoded.tokens),
        },
        "answered": len(prompts),
        "divergence": divergence(dpo / "model", base, prompts, written["dpo"]),
        "trained": sum(1 for _ in (preferences / "train/pairs.jsonl").open(encoding="utf-8")),
        "heldout": sum(1 for _ in (preferences / "heldout/pairs.jsonl").open(encoding="utf-8")),
    }


def report(found: dict[str, Any]) -> str:
    """The page in Markdown."""
    suite = found["evaluation"]["suites"]["preference"]

    def row(name: str, label: str) -> str:
        base, ours, change = suite["baseline"][name], suite["subject"][name], suite["compared"][name]
        relative = change["difference"] / base["value"]
        return (
            f"| {label} | {base['value']:.3f} | {ours['value']:.3f} | {change['difference']:+.3f} "
            f"({change['low']:+.3f} to {change['high']:+.3f}), {relative:+.0%} of the former; p {change['p']:.2g} |"
        )

    before, after = found["lengths"]["base"], found["lengths"]["dpo"]
    heading = found["machine"]
    lines = [
        "# Human preferences",
        "",
        "Written by `python benchmarks/human_preferences.py --write docs/results`, which applies",
        "[human-preferences.yaml](human-preferences.yaml). The model is SmolLM2-135M-Instruct, dequantised Q4_1; the pairs are human judgements of",
        f"answers (Anthropic's hh-rlhf, harmless, its test part: {found['rows']:,} rows). {found['course']['pairs']:,} of {found['trained']:,} were trained on, {found['heldout']:,}",
        "held out; no conversation, prompt or answer is on both sides.",
        "",
        f"On {heading['cpu']}, with {heading['cores']} of its cores, the whole of `aifw apply` took {found['seconds'] / 60:.0f} minutes, fetching included. "
        + ", ".join(f"{name} {number}" for name, number in found["versions"].items())
        + f"; load {found['load'][0][0]} before and {found['load'][1][0]} after.",
        "",
        "| on held-out pairs | untouched | trained | difference, 95 % interval of pairs compared by cluster |",
        "|---|---|---|---|",
        row("preference_accuracy", "the chosen answer is more probable per token"),
        row("preference_accuracy_sum", "the chosen answer is more probable as a whole"),
        "",
        f"The shorter answer is the chosen one in {suite['details']['subject']['shorter_wins']:.3f} of the pairs: what knowing nothing but length would reach.",
        "",
        f"| {found['answered']} greedy answers of at most 96 tokens | untouched | trained | people: chosen, rejected |",
        "|---|---|---|---|",
        f"| mean length in tokens | {before['mean']:.1f} | {after['mean']:.1f} | {found['human']['chosen']:.1f}, {found['human']['rejected']:.1f} |",
        f"| median | {before['median']:.0f} | {after['median']:.0f} | |",
        f"| ended by themselves | {before['ended']:.0%} | {after['ended']:.0%} | |",
        "",
        f"Divergence of the trained model from the untouched one, KL per token over its own answers: {found['divergence']:.3f} nats.",
        "",
        "The project's target is stated as “+15 to 25 % response quality”. What is measured here is how often a model ranks answers as people did,",
        "relative change in the table. That is not response quality: nobody judged what the trained model writes.",
        "",
        "![Loss, margin and accuracy of the training, step by step](human-preferences.png)",
    ]
    return "\n".join(lines) + "\n"


def plot(found: dict[str, Any], path: Path) -> None:
    """The course of the training."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    curve = found["course"]["curve"]
    steps = [row["step"] for row in curve]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3))
    for axis, name in zip(axes, ("loss", "margin", "accuracy"), strict=True):
        values = [row[name] for row in curve]
        axis.plot(steps, values, color="#bbbbbb", lw=1)
        width = 8
        smooth = [statistics.mean(values[max(0, at - width + 1) : at + 1]) for at in range(len(values))]
        axis.plot(steps, smooth, color="#1b9e77", lw=1.8)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("step")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
