"""Training from a plain call, without spec or engine: files and rows become the inputs of a job."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from aifw.errors import InputInvalid
from aifw.job import Input, Job, Report, latest_checkpoint
from aifw.models.describe import describe
from aifw.models.kinds import model_files
from aifw.settings import Settings

UNFINISHED = "unfinished"
"""Folder of outputs, checkpoints and pairs while a call is under way."""

S = TypeVar("S", bound=Settings)
Rows = Iterable[Mapping[str, Any]]


def job_for(
    settings: S,
    inputs: Mapping[str, Input],
    out: Path,
    *,
    outputs: tuple[str, ...],
    device: str = "cpu",
    threads: int | None = None,
    memory: int | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> Job[S]:
    """A job in a folder of its own, which goes on where an earlier call was interrupted. `finished` puts its outputs where they belong.

    Args:
        settings: Of the kind.
        inputs: By the names of the fields that refer to them.
        out: Gets a folder for each output, `cache`, and `unfinished` while it runs.
        outputs: Names of the outputs.
        device: Where to compute.
        threads: How many to use; default one for each processor this process may run on.
        memory: Limit in bytes.
        seed: Of every random choice.
        report: Called with the name of an event (`progress`, `note`, `metric`) and its data.

    Raises:
        InputInvalid: An input lies where an output goes.
    """
    for each in inputs.values():
        for name in outputs:
            if each.path == out / name or out / name in each.path.parents:
                raise InputInvalid(f"{each.path} lies where the result goes", hint="choose another folder for `out`")
    work = out / UNFINISHED
    shutil.rmtree(work / "out", ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    job = Job(
        settings,
        out=work / "out",
        inputs=inputs,
        root=Path.cwd(),
        device=device,
        threads=threads or len(os.sched_getaffinity(0)),
        memory=memory,
        seed=seed,
        resume=latest_checkpoint(work / "checkpoints"),
        outputs=outputs,
        cache_root=out / "cache",
        checkpoints=work / "checkpoints",
    )
    if report is not None:
        job.report = report
    return job


def finished(job: Job[Any], out: Path) -> None:
    """Put the outputs of a job where they belong, instead of those of an earlier call, and remove what it worked with."""
    for name in job.outputs:
        shutil.rmtree(out / name, ignore_errors=True)
        job.output(name).rename(out / name)
    shutil.rmtree(out / UNFINISHED)


def model_input(folder: str | os.PathLike[str]) -> Input:
    """A model on disk as an input.

    Raises:
        InputInvalid: It is no folder of a model in safetensors.
    """
    path = Path(folder).expanduser().resolve()
    files = model_files(path)
    if path.is_file():
        raise InputInvalid(f"{path} is a single file", hint="a folder with config.json and *.safetensors is wanted")
    return Input(path.name, path, describe(path), _digest(files))


def pairs_input(pairs: str | os.PathLike[str] | Rows, folder: Path) -> Input:
    """Pairs as an input: a folder with `pairs.jsonl`, such a file, or rows.

    A row needs `prompt` (text, or a list of messages with `role` and `content`), `chosen` and `rejected`; `id` and `group`, which tells what
    belongs together, are made from the prompt where they are missing.

    Args:
        pairs: Where they are, or themselves.
        folder: Gets a copy in the form that jobs read.

    Raises:
        InputInvalid: A row is broken; it is named.
    """
    name, rows = "rows", pairs
    if isinstance(rows, str | os.PathLike):
        path = Path(rows).expanduser().resolve()
        path = path / "pairs.jsonl" if path.is_dir() else path
        name, rows = path.name, _read(path)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "pairs.jsonl"
    with target.open("w", encoding="utf-8", newline="\n") as file:
        for number, row in enumerate(rows, 1):
            file.write(json.dumps(_pair(row, f"{name}:{number}"), ensure_ascii=False, sort_keys=True) + "\n")
    return Input(name, folder, digest=_digest([target]))


def _read(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputInvalid(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise InputInvalid(f"{path}:{number}: not JSON: {error}") from error


def _pair(row: Any, where: str) -> dict[str, Any]:
    try:
        prompt = row["prompt"]
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        found = {
            "prompt": [{"role": turn["role"], "content": turn["content"]} for turn in turns],
            "chosen": row["chosen"],
            "rejected": row["rejected"],
        }
    except (KeyError, TypeError) as error:
        raise InputInvalid(
            f"{where}: not a preference pair: {error!r}",
            hint='a row is {"prompt": "..." or [{"role": "user", "content": "..."}], "chosen": "...", "rejected": "..."}',
        ) from error
    if not all(isinstance(found[key], str) for key in ("chosen", "rejected")):
        raise InputInvalid(f"{where}: `chosen` and `rejected` must be text")
    group = hashlib.sha256(json.dumps(found["prompt"], sort_keys=True).encode()).hexdigest()[:16]
    whole = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]
    return {"id": str(row.get("id", whole)), "group": str(row.get("group", group)), **found}


def _digest(files: Iterable[Path]) -> str:
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            whole.update(f"{file.name} {hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
