"""One run of `forecast_grid.py` in a process of its own; `forecast.py` starts it and looks at its memory from outside.

    python benchmarks/forecast_work.py FOLDER NAME DESCRIPTOR     # a run of the grid
    python benchmarks/forecast_work.py FOLDER idle:TASK DESCRIPTOR  # the same imports, and nothing done
    python benchmarks/forecast_work.py FOLDER make:MODEL DESCRIPTOR # write a model
    python benchmarks/forecast_work.py FOLDER accelerate:MODEL DESCRIPTOR  # what accelerate estimates for it
    python benchmarks/forecast_work.py FOLDER convert:MODEL:WEIGHTS DESCRIPTOR  # write it for OpenVINO

A word is written to the descriptor at the beginning of every phase, and `{"done": ..., "seconds": ..., "cpu_seconds": ...}` in the end.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1", OPENVINO_TELEMETRY="0")

from forecast_grid import GRID, MODELS, Run

STEPS = 3
SCORED_PAIRS = 24

Tell = Callable[[str], None]
Moment = tuple[float, float]
"""Seconds on the clock, and of processor time of all threads, which other work on the machine does not lengthen as much."""


def now() -> Moment:
    """This moment."""
    return time.monotonic(), time.process_time()


def between(start: Moment, end: Moment, times: int = 1) -> Moment:
    """What passed, of each of so many times."""
    return (end[0] - start[0]) / times, (end[1] - start[1]) / times


def main() -> None:
    folder, what, descriptor = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    warnings.simplefilter("ignore")

    def tell(text: str) -> None:
        os.write(descriptor, text.encode() + b"\n")

    verb, _, name = what.partition(":")
    if verb == "make":
        make_model(folder, name)
    elif verb == "accelerate":
        tell(json.dumps(accelerate_estimate(folder / name)))
    elif verb == "convert":
        model, weights = name.split(":")
        _conversion()
        openvino_convert(folder, Run("openvino_convert", model, 1, 16, weights=weights), tell)
    elif verb == "idle":
        PREPARE[name]()
        tell("idle")
        time.sleep(0.3)
    else:
        run = next(each for each in GRID if each.name == what)
        PREPARE[run.task]()
        tell("idle")
        time.sleep(0.1)
        start = now()
        seconds, cpu_seconds = WORK[run.task](folder, run, tell)
        whole, cpu = between(start, now())
        tell(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "whole": whole, "cpu": cpu, "done": True}))


def make_model(folder: Path, name: str) -> None:
    """Write a model of the grid: random weights, a tokenizer of bytes."""
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    from aifw.models.tiny import write_tiny_model

    shape, path = MODELS[name], folder / name
    torch.manual_seed(0)
    sizes = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": shape.context,
    }
    if shape.architecture == "bert":
        BertModel(BertConfig(**sizes)).save_pretrained(path)
        return
    write_tiny_model(path)
    config = LlamaConfig(
        **sizes,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).to(getattr(torch, shape.stored)).save_pretrained(path)


def accelerate_estimate(folder: Path) -> dict[str, int]:
    """Bytes of running and of training a model in fp32, as `accelerate estimate-memory` computes them."""
    from accelerate import init_empty_weights
    from accelerate.commands.estimate import estimate_training_usage
    from accelerate.utils import calculate_maximum_sizes
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    kind = AutoModel if config.model_type == "bert" else AutoModelForCausalLM
    config.dtype = "float32"
    with init_empty_weights():
        model = kind.from_config(config)
    total, _ = calculate_maximum_sizes(model)
    return {"running": total, "training": max(estimate_training_usage(total, "float32").values())}


def _torch() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401

    import aifw.evaluation.report
    import aifw.evaluation.runs.preference  # noqa: F401

    torch.set_num_threads(1)


def _bert() -> None:
    import torch
    from transformers import AutoModel, BertModel  # noqa: F401

    torch.set_num_threads(1)


def _training() -> None:
    _torch()
    import datasets  # noqa: F401
    from peft import LoraConfig  # noqa: F401
    from transformers import Trainer  # noqa: F401
    from trl import DPOTrainer, SFTTrainer  # noqa: F401


def _adapting() -> None:
    _torch()
    import peft  # noqa: F401

    import aifw.training.dpo  # noqa: F401


def _openvino() -> None:
    import numpy as np  # noqa: F401
    import openvino  # noqa: F401


def _conversion() -> None:
    _torch()
    import nncf  # noqa: F401
    import openvino  # noqa: F401


PREPARE: dict[str, Callable[[], None]] = {
    "dpo": _adapting,
    "trl_dpo": _training,
    "trl_sft": _training,
    "sft": _training,
    "generate": _torch,
    "score": _torch,
    "openvino_convert": _conversion,
    "openvino_infer": _openvino,
    "embed": _bert,
}


def _length(run: Run, most: int, index: int) -> int:
    return most if not run.varied or index % 4 == 0 else random.Random(index).randint(most // 2, most)


def _facts(folder: Path, run: Run) -> dict[str, Any]:
    from aifw.models.describe import describe

    return {**describe(folder / run.model), "licence": "none", "provenance": run.model}


def dpo(folder: Path, run: Run, tell: Tell) -> Moment:
    """The product's own training of preferences."""
    from aifw.job import Input, Job
    from aifw.training.dpo import train
    from aifw.training.kinds import DpoSettings

    effective = run.batch * run.accumulate
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch)
        write_pairs(place / "data", run, effective * STEPS)
        settings = DpoSettings.model_validate(
            {
                "model": "model",
                "data": "data",
                "epochs": 1,
                "effective_batch": effective,
                "micro_batch": run.batch,
                "lora": {"r": run.rank},
                "precision": run.precision,
                "max_prompt_tokens": run.prompt,
                "max_completion_tokens": run.answer,
            }
        )
        model = Input("models.model", folder / run.model, _facts(folder, run), digest=run.model)
        moments: list[Moment] = []

        def report(event: str, data: Any) -> None:
            if event == "progress":
                if data["unit"] == "step":
                    moments.append(now())
                tell("merge" if len(moments) == STEPS else data["unit"])

        (place / "out").mkdir()
        train(
            Job(
                settings,
                place / "out",
                inputs={"model": model, "data": Input("datasets.data", place / "data", {}, "data")},
                threads=1,
                report=report,
            )
        )
        assert len(moments) == STEPS
        return between(moments[0], moments[-1], STEPS - 1)


def write_pairs(folder: Path, run: Run, count: int) -> None:
    """Pairs whose tokens, in bytes, are as many as the run says; limits of the settings cut what is longer."""
    folder.mkdir()
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for index in range(count):
            answer = _length(run, run.answer, index)
            row = {
                "id": f"{index:06d}",
                "group": f"{index:06d}",
                "prompt": [{"role": "user", "content": "a" * _length(run, run.prompt, index)}],
                "chosen": "b" * (answer - 1 if run.varied else answer),
                "rejected": "c" * (answer - 1 if run.varied else answer),
            }
            file.write(json.dumps(row) + "\n")


def _loaded(folder: Path, run: Run, tell: Tell) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder / run.model, dtype=torch.float32, attn_implementation=run.attention, local_files_only=True
    )
    tell("loaded")
    return model


def _adapter(run: Run) -> Any:
    from peft import LoraConfig

    if run.rank is None:
        return None
    return LoraConfig(r=run.rank, lora_alpha=2 * run.rank, target_modules="all-linear", task_type="CAUSAL_LM")


def _arguments(run: Run, scratch: str) -> dict[str, Any]:
    return {
        "output_dir": scratch,
        "max_steps": STEPS,
        "per_device_train_batch_size": run.batch,
        "gradient_accumulation_steps": run.accumulate,
        "activation_checkpointing": run.checkpointing,
        "use_cpu": True,
        "bf16": False,
        "optim": "adamw_torch",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "dataloader_pin_memory": False,
    }


def _watch(tell: Tell, moments: list[Moment]) -> Any:
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            tell("step")
            moments.append(now())

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            tell("optimizer")

        def on_train_end(self, *_: Any, **__: Any) -> None:
            moments.append(now())

    return Watch()


def _per_step(moments: list[Moment]) -> Moment:
    assert len(moments) == STEPS + 1
    return between(moments[1], moments[-1], STEPS - 1)


def _ids(count: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(3, 250), k=count)


def trl_dpo(folder: Path, run: Run, tell: Tell) -> Moment:
    """Preferences through TRL, with given tokens."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Trainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    rows = [
        {
            "prompt_ids": _ids(run.prompt, index),
            "chosen_ids": _ids(run.answer, -index - 1),
            "rejected_ids": _ids(run.answer, index + 10_000),
            **({"ref_chosen_logps": -500.0, "ref_rejected_logps": -500.0} if run.stored_reference else {}),
        }
        for index in range(run.batch * run.accumulate * STEPS)
    ]
    model = _loaded(folder, run, tell)
    separate = run.rank is None and not run.stored_reference
    moments: list[Moment] = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        trainer = Trainer(
            model=model,
            ref_model=_loaded(folder, run, tell) if separate else None,
            args=DPOConfig(**_arguments(run, scratch), max_length=None),
            train_dataset=Dataset.from_list(rows),
            processing_class=_tokenizer(folder, run),
            peft_config=_adapter(run),
        )
        trainer.precompute_ref_logps = run.stored_reference
        if run.stored_reference:
            trainer.ref_model = None
        trainer.add_callback(_watch(tell, moments))
        trainer.train()
    return _per_step(moments)


def _tokenizer(folder: Path, run: Run) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder / run.model, local_files_only=True)


def trl_sft(folder: Path, run: Run, tell: Tell) -> Moment:
    """Texts through TRL, with given tokens."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [{"input_ids": _ids(run.prompt, index)} for index in range(run.batch * run.accumulate * STEPS)]
    moments: list[Moment] = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        trainer = SFTTrainer(
            model=_loaded(folder, run, tell),
            args=SFTConfig(**_arguments(run, scratch), max_length=None, dataset_kwargs={"skip_prepare_dataset": True}),
            train_dataset=Dataset.from_list(rows),
            processing_class=_tokenizer(folder, run),
            peft_config=_adapter(run),
        )
        trainer.add_callback(_watch(tell, moments))
        trainer.train()
    return _per_step(moments)


def sft(folder: Path, run: Run, tell: Tell) -> Moment:
    """Texts through the trainer of transformers: logits of all positions at once."""
    from datasets import Dataset
    from peft import get_peft_model
    from transformers import Trainer, TrainingArguments

    texts = [_ids(run.prompt, index) for index in range(run.batch * run.accumulate * STEPS)]
    rows = [{"input_ids": text, "labels": text, "attention_mask": [1] * len(text)} for text in texts]
    model = _loaded(folder, run, tell)
    if run.rank is not None:
        model = get_peft_model(model, _adapter(run))
        if run.checkpointing:
            model.enable_input_require_grads()
    moments: list[Moment] = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        trainer = Trainer(
            model=model, args=TrainingArguments(**_arguments(run, scratch)), train_dataset=Dataset.from_list(rows)
        )
        trainer.add_callback(_watch(tell, moments))
        trainer.train()
    return _per_step(moments)


def generate(folder: Path, run: Run, tell: Tell) -> Moment:
    """Greedy continuation with a cache of keys and values."""
    import torch

    model = _loaded(folder, run, tell).eval()
    ids = torch.tensor([_ids(run.prompt, row) for row in range(run.batch)])
    start = now()
    with torch.inference_mode():
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=run.answer,
            min_new_tokens=run.answer,
            do_sample=False,
        )
    return between(start, now())


def score(folder: Path, run: Run, tell: Tell) -> Moment:
    """The product's own scores of pairs; it chooses its batches itself."""
    from aifw.models.chat import EncodedPair
    from aifw.models.load import load
    from aifw.models.score import score_pairs

    pairs = [
        EncodedPair(
            tuple(_ids(_length(run, run.prompt, index), index)),
            tuple(_ids(_length(run, run.answer, index), -index - 1)),
            tuple(_ids(_length(run, run.answer, index), index + 10_000)),
            False,
            False,
        )
        for index in range(SCORED_PAIRS)
    ]
    model = load(folder / run.model)
    tell("loaded")
    start = now()
    score_pairs(model, pairs)
    return between(start, now())


def _converted(folder: Path, run: Run, tell: Tell) -> Any:
    import openvino
    import torch

    model = _loaded(folder, run, tell).eval()

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits

    ids = torch.tensor([_ids(run.prompt, row) for row in range(2)])
    with torch.inference_mode():
        converted = openvino.convert_model(
            Logits(), example_input={"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        )
    tell("converted")
    return converted


def openvino_convert(folder: Path, run: Run, tell: Tell) -> Moment:
    """From torch to OpenVINO, its weights compressed to INT8 where the run says so, written to disk."""
    import openvino

    start = now()
    converted = _converted(folder, run, tell)
    if run.weights == "int8":
        import nncf

        converted = nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_ASYM)
        tell("compressed")
    folder.joinpath("openvino").mkdir(exist_ok=True)
    openvino.save_model(converted, folder / "openvino" / f"{run.model}-{run.weights}.xml", compress_to_fp16=False)
    return between(start, now())


def openvino_infer(folder: Path, run: Run, tell: Tell) -> Moment:
    """A converted model read, compiled for the processor, and asked three times."""
    import numpy as np
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / "openvino" / f"{run.model}-{run.weights}.xml")
    tell("read")
    options = {"INFERENCE_NUM_THREADS": "1", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", options)
    tell("compiled")
    request = compiled.create_infer_request()
    ids = np.array([_ids(run.prompt, row) for row in range(run.batch)])
    start = now()
    for _ in range(STEPS):
        request.infer({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    return between(start, now(), STEPS)


def embed(folder: Path, run: Run, tell: Tell) -> Moment:
    """Texts through an encoder, the mean of their positions kept."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder / run.model, attn_implementation=run.attention).eval()
    tell("loaded")
    kept = []
    start = now()
    with torch.inference_mode():
        for step in range(STEPS):
            ids = torch.tensor([_ids(run.prompt, 1000 * step + row) for row in range(run.batch)])
            mask = torch.ones_like(ids)
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            kept.append((hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True))
    return between(start, now(), STEPS)


WORK: dict[str, Callable[[Path, Run, Tell], Moment]] = {
    "dpo": dpo,
    "trl_dpo": trl_dpo,
    "trl_sft": trl_sft,
    "sft": sft,
    "generate": generate,
    "score": score,
    "openvino_convert": openvino_convert,
    "openvino_infer": openvino_infer,
    "embed": embed,
}

if __name__ == "__main__":
    main()
