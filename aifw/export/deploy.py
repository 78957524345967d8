"""Compiles an exported model for the best device it may run on, and measures there how fast it answers.

Devices are tried in order; one that is not here or cannot compile the model is passed over, with the reason kept. What was compiled
is kept for the next time, apart for every device, driver and version of OpenVINO.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aifw.errors import AifwError, JobError
from aifw.export.artifact import write_json
from aifw.export.graph import import_openvino
from aifw.export.kinds import DeploymentSettings
from aifw.export.static import StaticDecoder
from aifw.hardware.libraries.backend import Backend, backend_for, measured_beside
from aifw.hardware.libraries.openvino_core import shared_core
from aifw.hardware.libraries.versions import OPENVINO, installed_versions
from aifw.job import Job
from aifw.models.answer import Decoder
from aifw.models.load import quiet
from aifw.models.openvino_model import Compile, first_line, load_openvino
from aifw.units import format_seconds

FORMAT_VERSION = 1
_ENOUGH_FOR_P99 = 1000
"""Samples below which the 99th percentile is one or two of them."""
_DRIVER = ("NPU_DRIVER_VERSION", "GPU_DEVICE_ID", "FULL_DEVICE_NAME")
"""Properties of a device that say whether something compiled for it still fits."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of every request: to its first token, and of each further one.

    Attributes:
        first: One of every request.
        rest: One of every token after the first.
    """

    first: tuple[float, ...]
    rest: tuple[float, ...]


def deploy(job: Job[DeploymentSettings]) -> None:
    """Write the output `deployment`: `smoke.json`.

    Raises:
        JobError: No device takes the model, or a latency is above its limit.
        JobStopped: Stopped on request.
    """
    import_openvino()
    with quiet():
        decoder, backend, passed_over = _first_that_works(job)
        for device, reason in passed_over.items():
            job.note(f"{device} was passed over: {reason}")
        for note in backend.notes:
            job.note(note)
        latency = measure(decoder, job)
    summary = {
        "first_token": percentiles(latency.first),
        "token": percentiles(latency.rest),
    }
    source = job.inputs["model"]
    static = isinstance(decoder, StaticDecoder)
    document = {
        "version": FORMAT_VERSION,
        "model": {"address": source.address, "digest": source.digest, "name": source.facts.get("provenance")},
        "device": backend.device,
        "target": backend.target,
        "precision": backend.precision,
        "threads": backend.threads,
        "shapes": "static" if static else "dynamic",
        "passed_over": passed_over,
        "openvino": installed_versions().get(OPENVINO),
        "requests": job.settings.requests,
        "prompt_tokens": job.settings.prompt_tokens,
        "tokens": job.settings.tokens,
        "seconds": summary,
    }
    write_json(job.output("deployment") / "smoke.json", document)
    _facts(job, document, summary)
    _check(job.settings, summary, backend.device)


def chain(device: str, wanted: Sequence[str]) -> list[str]:
    """Devices to try: the one the plan chose, then all others that are wanted, in the order of the user.

    Args:
        device: Of the job: `xpu:0`.
        wanted: Families, best first.
    """
    family = device.partition(":")[0]
    tried = [family, *(each for each in wanted if each != family)] if family in wanted else wanted
    return [device if each == family else f"{each}:0" if each == "xpu" else each for each in tried]


def _first_that_works(job: Job[DeploymentSettings]) -> tuple[Decoder, Backend, dict[str, str]]:
    passed_over: dict[str, str] = {}
    for device in chain(job.device, job.settings.devices):
        job.obey()
        try:
            backend = _backend(job, device)
            decoder = _open(job, backend)
            # Some devices refuse a model only when it is first asked, or asked as much as it will be.
            decoder.read([0] * job.settings.prompt_tokens)
            decoder.read([0])
        except (AifwError, RuntimeError, AssertionError) as error:
            passed_over[device] = error.message if isinstance(error, AifwError) else first_line(error)
            continue
        decoder.forget()
        return decoder, backend, passed_over
    reasons = "; ".join(f"{device}: {reason}" for device, reason in passed_over.items())
    raise JobError(
        f"{job.inputs['model'].address} runs on none of the devices allowed. {reasons}",
        hint="add `cpu` to `devices`, or see `aifw hardware --refresh` for what drivers and libraries find",
    )


def _backend(job: Job[DeploymentSettings], device: str) -> Backend:
    return backend_for(
        device,
        job.settings.precision,
        library="openvino",
        threads=job.threads,
        measured=measured_beside(job.cache_root),
    )


def _open(job: Job[DeploymentSettings], backend: Backend) -> Decoder:
    settings, folder = job.settings, job.inputs["model"].path
    static = settings.shapes == "static" or (settings.shapes == "auto" and backend.static_shapes)
    if backend.static_shapes and not static:
        raise JobError(f"{backend.device} takes static shapes only", hint="use `shapes: auto`")
    compile_graph = keeping(job, backend)
    if static:
        return StaticDecoder(folder, backend, settings.static.prompts, settings.static.positions, compile_graph)
    return load_openvino(folder, backend, compile_graph)


def keeping(job: Job[DeploymentSettings], backend: Backend) -> Compile:
    """A function that compiles graphs and keeps their compiled form in the job's cache, under everything it depends on."""
    import openvino

    core = shared_core()
    source = job.inputs["model"]
    identity = [
        source.digest or str(source.path.resolve()),
        openvino.get_version(),
        backend.target,
        dict(sorted(backend.config.items())),
        {name: _property(core, backend.target, name) for name in _DRIVER},
    ]
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    # OpenVINO fills the folder itself, and what it finds there it checks against the graph and its own version.
    folder = job.cache(f"compiled-{key[:32]}", lambda _: None)

    def compile_graph(graph: Any, target: str, config: dict[str, str]) -> Any:
        return core.compile_model(graph, target, {**config, "CACHE_DIR": str(folder)})

    return compile_graph


def _property(core: Any, target: str, name: str) -> str:
    try:
        return f"{core.get_property(target, name)}"
    except (RuntimeError, TypeError):
        return ""


def measure(decoder: Decoder, job: Job[DeploymentSettings]) -> Latency:
    """Answer prompts one after the other, after one that does not count.

    Prompts are of tokens chosen at random, each a new text: what they say does not matter to how long they take.
    """
    import numpy as np

    settings = job.settings
    size = len(decoder.read([0]))
    random = np.random.default_rng(0)
    first: list[float] = []
    rest: list[float] = []
    for number in range(settings.requests + 1):
        job.obey()
        job.progress(number, settings.requests + 1, "answer")
        prompt = [int(token) for token in random.integers(0, size, settings.prompt_tokens)]
        times = list(_timed(decoder, prompt, settings.tokens))
        if number:
            first.append(times[0])
            rest.extend(times[1:])
    job.progress(settings.requests + 1, settings.requests + 1, "answer")
    return Latency(tuple(first), tuple(rest))


def _timed(decoder: Decoder, prompt: Sequence[int], count: int) -> Iterator[float]:
    """Seconds of each token, whatever it is: a text that ends early would be too few samples."""
    decoder.forget()
    began = time.perf_counter()
    token = int(decoder.read(prompt).argmax())
    yield time.perf_counter() - began
    for _ in range(count - 1):
        began = time.perf_counter()
        token = int(decoder.read([token]).argmax())
        yield time.perf_counter() - began


def percentiles(samples: Sequence[float]) -> dict[str, Any]:
    """Nearest-rank percentiles, the smallest sample that at least that share is not above; the 99th only of a thousand samples or more."""
    ordered = sorted(samples)

    def rank(percent: int) -> float:
        return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

    return {
        "samples": len(ordered),
        "p50": rank(50),
        "p95": rank(95),
        "p99": rank(99) if len(ordered) >= _ENOUGH_FOR_P99 else "too few",
    }


def _facts(job: Job[DeploymentSettings], document: Mapping[str, Any], summary: Mapping[str, Mapping[str, Any]]) -> None:
    for name in ("device", "target", "shapes", "passed_over", "precision"):
        job.fact(name, document[name], "deployment")
    job.fact("model", document["model"]["digest"], "deployment")
    for name, found in summary.items():
        for percentile in ("p50", "p95", "p99"):
            job.fact(f"{name}_{percentile}", found[percentile], "deployment")
        job.fact(f"{name}_samples", found["samples"], "deployment")
    first, rest = (
        " / ".join(format_seconds(summary[name][each]) for each in ("p50", "p95")) for name in ("first_token", "token")
    )
    job.fact("summary", f"{document['device']}, first token {first}, then {rest} (p50 / p95)", "deployment")


def _check(settings: DeploymentSettings, summary: Mapping[str, Mapping[str, Any]], device: str) -> None:
    limits = {"first_token": settings.max_first_token_p95, "token": settings.max_token_p95}
    failed = [
        f"p95 of the {name.replace('_', ' ')} is {summary[name]['p95'] * 1000:,.1f} ms, at most {limit * 1000:,.1f} ms wanted"
        for name, limit in limits.items()
        if limit is not None and not summary[name]["p95"] <= limit
    ]
    if failed:
        raise JobError(
            f"the model is too slow on {device}: {'; '.join(failed)}",
            hint="use a smaller model or a coarser `precision`, or raise the limit",
        )
