"""Exports a model for OpenVINO: trace, compress, write, compare with what it was made from.

`export` is the call for programs, `make` the same as a job of the engine.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid, JobError, UsageError
from aifw.export.compress import check_group_size, compress, quantize, weight_types
from aifw.export.graph import check, convert, import_openvino, number_names
from aifw.export.kinds import ExportSettings
from aifw.export.tokenizers import write_tokenizers
from aifw.hardware.libraries.backend import backend_for, use_threads
from aifw.job import Input, Job
from aifw.models.answer import ends_of_turn
from aifw.models.kinds import OPENVINO_GRAPH, model_files
from aifw.models.load import LanguageModel, load, quiet
from aifw.models.openvino_model import is_openvino, load_openvino, read_graph
from aifw.models.pairs import Encoded, choose, encode, read_pairs
from aifw.units import format_bytes

FORMAT_VERSION = 1
_STEPS = 5
"""Of a run without validation and calibration: loading, tracing, checking, compressing, writing."""


def export(
    model: Path,
    out: Path,
    *,
    data: Path | None = None,
    calibration: Path | None = None,
    threads: int = 1,
    **settings: Any,
) -> dict[str, Any]:
    """Export a model without the engine.

    Args:
        model: Folder of a `TextModel`.
        out: Folder to write the `OpenvinoModel` to; made if it is not there.
        data: Folder of `PreferencePairs` to validate on; with `validate` among the settings.
        calibration: Folder of `PreferencePairs` to calibrate with; with `precision="int8_full"`.
        threads: To compute with.
        settings: As in a spec, without references: `precision="int4"`, `validate={"max_perplexity_increase": "2%"}`.

    Returns:
        Facts of what was written.

    Raises:
        UsageError: A setting does not exist or does not fit.
        InputInvalid: The folder holds no model that can be exported.
        JobError: The exported model is further from the model than a limit allows.
    """
    from pydantic import ValidationError

    from aifw.models.describe import describe

    inputs = {"model": Input(model.name, model, {})}
    for field, folder in (("validate", data), ("calibration", calibration)):
        if folder is not None:
            settings[field] = {**(settings.get(field) or {}), "data": field}
            inputs[f"{field}.data"] = Input(folder.name, folder)
    try:
        checked = ExportSettings.model_validate({"model": "model", **settings})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{where}: {first['msg']}" if where else first["msg"]) from error
    _refuse(model, model.name)
    with quiet():
        inputs["model"] = Input(model.name, model, {**describe(model), "provenance": model.name})
    job = Job(checked, out.parent, inputs, threads=threads, outputs=(out.name,))
    made = _Export(job, out.name)
    made.run()
    return job.facts[out.name]


def make(job: Job[ExportSettings]) -> None:
    """Write the output `model`.

    Raises:
        InputInvalid: The model or the texts cannot be used.
        JobError: A limit of `validate` is exceeded.
        JobStopped: Stopped on request.
    """
    _Export(job, "model").run()


class _Export:
    """One export, step by step.

    Args:
        job: With the inputs `model`, and `validate.data` and `calibration.data` where they are set.
        output: Name of the output to write.
    """

    def __init__(self, job: Job[ExportSettings], output: str) -> None:
        self.job = job
        self.settings = job.settings
        self.source = job.inputs["model"]
        self.output = output
        self.done = 0
        self.steps = _STEPS + (self.settings.validation is not None)

    def run(self) -> None:
        import_openvino()
        use_threads(self.job.threads)
        _refuse(self.source.path, self.source.address)
        out = self.job.output(self.output)
        self.refuse_shared()
        self.tell()
        with quiet():
            model = load(self.source.path)
            noted = self.checked_groups(model)
            self.step()
            graph = convert(model, self.source.address)
            self.step()
            difference = check(graph, model, self.source.address, self.job.threads)
            self.step()
            graph = self.compressed(graph, model)
            self.write(graph, model, out)
            del graph
            gc.collect()
            self.describe(out, difference, noted)
            if self.settings.validation is not None:
                self.validate(model, out)

    def refuse_shared(self) -> None:
        """Raise `InputInvalid` where ranges would be found on what is validated on."""
        calibration, validation = self.settings.calibration, self.settings.validation
        if calibration is None or validation is None:
            return
        found, held = self.job.inputs["calibration.data"], self.job.inputs["validate.data"]
        shared = {pair.id for pair in choose(read_pairs(found.path), calibration.texts)}
        shared &= {pair.id for pair in choose(read_pairs(held.path), validation.max_items)}
        if shared or (found.digest and found.digest == held.digest):
            what = f"{len(shared):,} pairs" if shared else "the same data"
            raise InputInvalid(
                f"`calibration` ({found.address}) and `validate` ({held.address}) use {what} in common,"
                " so the model would be measured on what its ranges were found on",
                hint="calibrate on training pairs and validate on held-out ones",
            )

    def tell(self) -> None:
        self.job.obey()
        self.job.progress(self.done, self.steps, "part")

    def step(self) -> None:
        self.done += 1
        self.tell()

    def checked_groups(self, model: LanguageModel) -> str | None:
        """What is done about layers that the group size does not divide."""
        if self.settings.precision != "int4":
            return None
        adjusts = self.settings.group_fallback == "adjust"
        assert self.settings.group is not None
        noted = check_group_size(model.module, self.settings.group, self.source.address, adjusts=adjusts)
        if noted is not None:
            self.job.note(noted)
        return noted

    def compressed(self, graph: Any, model: LanguageModel) -> Any:
        precision = self.settings.precision
        if precision in {"int8", "int4"}:
            return compress(graph, precision, self.settings.group)
        if precision == "int8_full":
            assert self.settings.calibration is not None
            most = min(self.settings.calibration.max_tokens, model.context)
            encoded = self.texts("calibration.data", model, self.settings.calibration.texts, most, most)
            texts = [[*pair.prompt, *pair.chosen][:most] for pair in encoded.tokens]
            return quantize(graph, texts, lambda _: self.job.obey())
        return graph

    def texts(self, field: str, model: LanguageModel, most: int, prompt: int, answer: int) -> Encoded:
        """Pairs of an input as tokens."""
        source = self.job.inputs[field]
        pairs = read_pairs(source.path)
        encoded = encode(
            choose(pairs, most),
            model.tokenizer,
            max_prompt=prompt,
            max_answer=answer,
            context=model.context,
            keep_equal=True,
        )
        for note in encoded.notes():
            self.job.note(note)
        if not encoded.pairs:
            raise InputInvalid(
                f"none of the {len(pairs)} pairs of {source.address} can be used",
                hint="; ".join(encoded.notes()) or "the data set is empty",
            )
        return encoded

    def write(self, graph: Any, model: LanguageModel, out: Path) -> None:
        """The graph, the tokenizers, and what of the model's folder is no weight."""
        import openvino

        # Whoever loads the graph computes as it was validated; the second says that activations stay as they are.
        graph.set_rt_info(self.settings.kv_cache, ["runtime_options", "KV_CACHE_PRECISION"])
        graph.set_rt_info("0", ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
        number_names(graph, "language_model")
        openvino.save_model(graph, out / OPENVINO_GRAPH, compress_to_fp16=self.settings.precision == "fp16")
        self.step()
        note = write_tokenizers(model.tokenizer, out, self.source.address)
        if note is not None:
            self.job.note(note)
        for file in model_files(self.source.path):
            if file.suffix != ".safetensors" and not file.name.endswith(".index.json"):
                shutil.copyfile(file, out / file.name)
        for written in out.iterdir():
            written.chmod(0o644)
        self.step()

    def describe(self, out: Path, difference: float, noted: str | None) -> None:
        """`export.json` and the facts."""
        from importlib.metadata import version

        facts, settings = self.source.facts, self.settings
        size = (out / "openvino_model.bin").stat().st_size
        share = size / (4 * facts["parameters"]) if facts.get("parameters") else None
        document = {
            "version": FORMAT_VERSION,
            "source": {"address": self.source.address, "digest": self.source.digest, "name": facts.get("provenance")},
            "precision": settings.precision,
            "group_size": settings.group,
            "kv_cache": settings.kv_cache,
            "bytes": size,
            "share_of_fp32": share,
            "bytes_by_type": weight_types(read_graph(out)),
            "difference_from_torch": difference,
            "notes": [noted] if noted else [],
            "libraries": {
                name: version(name) for name in ("nncf", "openvino", "openvino-tokenizers", "torch", "transformers")
            },
        }
        write_json(out / "export.json", document)
        kept = {**facts, "precision": settings.precision, "bytes": size, "share_of_fp32": share}
        kept["summary"] = f"{settings.precision}, {format_bytes(size)}"
        for key, value in kept.items():
            self.job.fact(key, value, self.output)

    def validate(self, model: LanguageModel, out: Path) -> None:
        """Compare, write `validation.json`, and fail where a limit is exceeded."""
        from aifw.export.validate import as_document, check_limits, measure

        settings = self.settings.validation
        assert settings is not None
        encoded = self.texts(
            "validate.data", model, settings.max_items, settings.max_prompt_tokens, settings.max_completion_tokens
        )
        # In fp32, so that what is measured is the compression and not the processor it was measured on.
        backend = backend_for("cpu", "fp32", library="openvino", threads=self.job.threads)
        compressed = load_openvino(out, backend)

        def tell(done: int, total: int) -> None:
            self.job.obey()
            self.job.progress(self.steps - 1 + done / total, self.steps, "part")

        closeness = measure(model, compressed, encoded.tokens, settings, ends_of_turn(out, model.tokenizer), tell)
        if not all(map(isfinite, (closeness.perplexity_before, closeness.perplexity_after, closeness.kl))):
            raise JobError(f"the model exported from {self.source.address} gives logits that are not numbers")
        source = self.job.inputs["validate.data"]
        data = {"address": source.address, "digest": source.digest}
        write_json(out / "validation.json", as_document(closeness, settings, data))
        for name in ("perplexity_increase", "top1_agreement", "kl", "greedy_agreement"):
            self.job.fact(name, getattr(closeness, name), self.output)
        self.job.fact("validated_texts", closeness.texts, self.output)
        self.job.fact("validated_tokens", closeness.tokens, self.output)
        made = self.job.facts[self.output]
        made["summary"] += (
            f", perplexity {closeness.perplexity_increase:+.2%}, top-1 {closeness.top1_agreement:.3f}"
            f" on {closeness.tokens:,} tokens"
        )
        check_limits(closeness, settings, self.source.address)


def _refuse(folder: Path, name: str) -> None:
    """Raise `InputInvalid` where a folder holds no model in safetensors."""
    if is_openvino(folder):
        raise InputInvalid(f"{name} is a model of OpenVINO already", hint="export the text model it was made from")
    model_files(folder)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document the same way every time."""
    path.write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
