"""One training on preference pairs in a process of its own, by aifw or by TRL, timed step by step. `dpo.py` starts it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

RATE, BETA = 1e-4, 0.1


def now() -> tuple[float, float]:
    """Processor seconds of all threads, and wall seconds."""
    return time.process_time(), time.perf_counter()


def main() -> None:
    """Read what to do from the file named first, and write what was measured to the descriptor named second."""
    wanted = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import torch

    torch.set_num_threads(wanted["threads"])
    with os.fdopen(int(sys.argv[2]), "w", buffering=1) as pipe:

        def tell(line: str) -> None:
            pipe.write(line + "\n")

        found = (trl if wanted["side"] == "trl" else ours)(wanted, tell)
        tell(json.dumps(found))


def ours(wanted: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """The product's own code, given a job."""
    from aifw.job import Input, Job
    from aifw.models.chat import EncodedPair
    from aifw.models.describe import describe
    from aifw.models.pairs import Encoded, Pair
    from aifw.training import dpo
    from aifw.training.kinds import DpoSettings

    tokens = [EncodedPair(*map(tuple, row)) for row in wanted["pairs"]]
    pairs = [Pair(str(index), str(index), (), "", "") for index in range(len(tokens))]
    dpo._usable = lambda _job, _model: Encoded(pairs, tokens)
    dpo.lay_out = lambda *_: wanted["order"]
    marks: list[tuple[float, float]] = []
    scored: list[tuple[float, float]] = []

    def report(name: str, data: Any) -> None:
        if name == "progress":
            (scored if data["unit"] == "reference pair" else marks).append(now())

    folder = Path(wanted["model"])
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(
            DpoSettings.model_validate(
                {
                    "model": "m",
                    "data": "d",
                    "effective_batch": wanted["batch"],
                    "micro_batch": wanted["options"].get("micro_batch", "auto"),
                    "learning_rate": RATE,
                    "beta": BETA,
                    "schedule": "constant",
                    "warmup": 0,
                    "lora": {"r": 8, "alpha": 16},
                    "precision": wanted["options"]["precision"],
                    "checkpoint_every": "1h",
                }
                | {key: value for key, value in wanted["options"].items() if key in {"compile", "processes"}}
            ),
            out=Path(scratch) / "out",
            inputs={"model": Input("m", folder, describe(folder)), "data": Input("d", folder)},
            seed=7,
            threads=wanted["threads"],
            device=wanted["device"],
            report=report,
        )
        tell("training")
        dpo.train(job)
        tell("after")
        curve = json.loads((job.output("adapter") / "metrics.json").read_text())["curve"]
        heldout = _heldout(job.output("model"), wanted)
    return {
        "reference": _between(scored),
        "steps": _steps(marks),
        "losses": [row["loss"] for row in curve],
        "heldout": heldout,
    }


def trl(wanted: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """TRL's trainer, given the same tokens in the same order."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    from aifw.models.load import quiet

    options = wanted["options"]
    marks: list[tuple[float, float]] = []
    losses: list[float] = []
    scored: list[tuple[float, float]] = []

    class Trainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, *arguments: Any) -> Any:
            scored.append(now())
            found = super()._precompute_ref_logps(*arguments)
            scored.append(now())
            return found

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(now())

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    rows = [
        dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), wanted["pairs"][index], strict=True))
        for index in wanted["order"]
    ]
    micro = options["micro_batch"]
    narrow = options["precision"] == "bf16"
    defaults = options.get("defaults", False)
    chosen: dict[str, Any] = {} if defaults else {
        "bf16": narrow,
        "activation_checkpointing": False,
        "precompute_ref_log_probs": options["stored_reference"],
        "precompute_ref_batch_size": options.get("reference_batch", micro),
    }  # fmt: skip
    with quiet(), tempfile.TemporaryDirectory() as scratch:
        os.environ["HF_DATASETS_CACHE"] = scratch
        model = AutoModelForCausalLM.from_pretrained(
            wanted["model"], dtype=torch.bfloat16 if narrow else torch.float32, local_files_only=True
        )
        tell("training")
        trainer = Trainer(
            model=model,
            args=DPOConfig(
                output_dir=scratch,
                max_steps=len(wanted["order"]) // wanted["batch"],
                per_device_train_batch_size=micro,
                gradient_accumulation_steps=wanted["batch"] // micro,
                learning_rate=RATE,
                beta=BETA,
                lr_scheduler_type="constant",
                max_length=None,
                max_grad_norm=1.0,
                weight_decay=0.0,
                optim="adamw_torch",
                seed=7,
                use_cpu=wanted["device"] == "cpu",
                train_sampling_strategy="sequential",
                dataloader_pin_memory=False,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                **chosen,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(wanted["model"], local_files_only=True),
            peft_config=LoraConfig(
                r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )
        trainer.add_callback(Watch())
        trainer.train()
        tell("after")
        merged = trainer.accelerator.unwrap_model(trainer.model).float().merge_and_unload()
        target = Path(scratch) / "merged"
        merged.save_pretrained(target)
        AutoTokenizer.from_pretrained(wanted["model"]).save_pretrained(target)
        heldout = _heldout(target, wanted)
    return {"reference": _between(scored), "steps": _steps(marks), "losses": losses, "heldout": heldout}


def _heldout(folder: Path, wanted: dict[str, Any]) -> float | None:
    """Mean loss on pairs not trained on, under the same scorer for both sides."""
    if not wanted["heldout"]:
        return None
    import math

    from aifw.models.chat import EncodedPair
    from aifw.models.load import load, quiet
    from aifw.models.score import score_pairs

    pairs = [EncodedPair(*map(tuple, row)) for row in wanted["heldout"]]
    with quiet():
        after, before = (score_pairs(load(Path(path)), pairs) for path in (folder, wanted["model"]))
    losses = [math.log1p(math.exp(-BETA * (a.margin - b.margin))) for a, b in zip(after, before, strict=True)]
    return sum(losses) / len(losses)


def _between(marks: list[tuple[float, float]]) -> list[float] | None:
    return None if len(marks) < 2 else [marks[-1][0] - marks[0][0], marks[-1][1] - marks[0][1]]


def _steps(marks: list[tuple[float, float]]) -> list[list[float]]:
    """Processor and wall seconds of every step but the first."""
    return [[b[0] - a[0], b[1] - a[1]] for a, b in pairwise(marks)]


if __name__ == "__main__":
    main()
