"""`aifw generate`: let a language model that a spec made answer a prompt."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aifw.cli.options import spec_options
from aifw.cli.project import complete_name, find_layout, full_address, open_store, state_option
from aifw.cli.terminal import print_json, show
from aifw.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from aifw.state.store import Store


@click.command()
@click.argument("name", metavar="ADDRESS|ALIAS", shell_complete=complete_name)
@click.argument("prompt")
@spec_options
@state_option
@click.option("--max-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Tokens at most.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="How far to stray from the most probable token; 0 never does.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the choice.")
@click.option("--system", metavar="TEXT", help="What the model is told before the prompt.")
@click.option("--device", default="cpu", show_default=True, help="Where to compute: `cpu`, `xpu:0`, ...")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Number format of the arithmetic.",
)
@click.option("--threads", type=click.IntRange(min=1), help="How many to use; all there are unless given.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document at the end instead of the text as it comes."
)
def command(
    files: tuple[Path, ...],
    sets: tuple[str, ...],
    state: Path | None,
    *,
    name: str,
    prompt: str,
    max_tokens: int,
    temperature: float,
    seed: int,
    system: str | None,
    device: str,
    precision: str,
    threads: int | None,
    as_json: bool,
) -> int:
    """Let a language model answer PROMPT; the text is printed as it comes.

    ADDRESS is a resource that made one, or `@alias`; `address.output` picks one of several outputs. The model's chat template is
    applied. `-` as PROMPT reads it from standard input.
    """
    with closing(open_store(find_layout(files, sets, state))) as store:
        label, folder = find_model(store, name)
    # Through a name, since it imports what computes, and that no verb may know.
    from aifw.kind import function

    generate: Callable[..., Any] = function("aifw.models.answer:generate")
    messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": sys.stdin.read() if prompt == "-" else prompt})
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        click.echo(f"· {text}", err=True)

    answer = generate(
        folder,
        messages,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        device=device,
        precision=precision,
        threads=threads or len(os.sched_getaffinity(0)),
        tell=_silent if as_json else _stream,
        note=note,
    )
    if as_json:
        print_json(
            {
                "model": label,
                "text": answer.text,
                "tokens": list(answer.tokens),
                "prompt_tokens": answer.prompt_tokens,
                "stopped": answer.stopped,
                "notes": notes,
            }
        )
    else:
        show("")
    return ExitStatus.DONE


def _stream(text: str) -> None:
    show(text, newline=False)


def _silent(_text: str) -> None:
    pass


def find_model(store: Store, name: str) -> tuple[str, Path]:
    """What to call a language model in the store, and its folder.

    Raises:
        UsageError: Nothing of that name was made, or what was made is gone or no language model, or several are.
    """
    from aifw.state.reading import bindings, known_addresses, outputs

    aliases, addresses = store.aliases(), known_addresses(store)
    plain = name.removeprefix("@")
    short = [each for each in addresses if each.rpartition(".")[2] == plain]
    if plain in aliases and (name.startswith("@") or not short):
        pointer = aliases[plain]
        _there(store, pointer.artifact, f"{pointer.label}, which @{plain} points to,")
        rows = store.rows("select kind from artifact where digest = ?", pointer.artifact)
        folder = store.artifacts.path(pointer.artifact) / pointer.output
        if not _is_model(rows[0][0] if rows else "", pointer.output, folder):
            raise UsageError(f"@{plain} points to {pointer.label}, which is no language model")
        return pointer.label, folder
    known = [*addresses, *(f"@{alias}" for alias in aliases)]
    address, output = _address(name, known)
    bound = bindings(store).get(address)
    if bound is None or not bound.artifact:
        raise UsageError(f"`{address}` has not been made", hint="`aifw apply` makes it")
    _there(store, bound.artifact, f"what `{address}` made")
    made = [each for each in outputs(store, bound.artifact) if output in {None, each}]
    folders = {each: store.artifacts.path(bound.artifact) / each for each in made}
    models = {each: folder for each, folder in folders.items() if _is_model(bound.kind, each, folder)}
    if len(models) == 1:
        each, folder = models.popitem()
        return f"{address}.{each}" if len(made) > 1 else address, folder
    if models:
        raise UsageError(f"`{address}` has several language models", hint=f"name one: {_listed(address, models)}")
    if output is not None and not made:
        raise UsageError(
            f"`{address}` has no output `{output}`", hint=f"outputs: {', '.join(outputs(store, bound.artifact))}"
        )
    raise UsageError(
        f"`{name}` ({bound.kind}) made no language model", hint="name a model, or what trained or exported one"
    )


def _address(name: str, known: list[str]) -> tuple[str, str | None]:
    """Address and output that a name means: `address`, `address.output`, or either without its section."""
    try:
        return full_address(name, known, "in the state"), None
    except UsageError:
        before, _, output = name.rpartition(".")
        if before and any(before in {each, each.rpartition(".")[2]} for each in known):
            return full_address(before, known, "in the state"), output
        raise


def _listed(address: str, names: Mapping[str, Path]) -> str:
    return ", ".join(f"{address}.{each}" for each in names)


def _there(store: Store, artifact: str, what: str) -> None:
    if not store.artifacts.path(artifact).is_dir():
        raise UsageError(
            f"{what} is gone: artifact {artifact[:12]} was collected or deleted", hint="`aifw apply` makes it again"
        )


def _is_model(kind: str, output: str, folder: Path) -> bool:
    """Whether a kind says that an output is a language model; of a kind that is not installed here, whether it looks like one."""
    from aifw.kind import find
    from aifw.models.kinds import OPENVINO_GRAPH, LanguageModelOutput

    known = find(kind)
    if known is not None:
        made = known.produces.get(output)
        return made is not None and issubclass(made, LanguageModelOutput)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = config.get("architectures") or []
    except (OSError, ValueError, AttributeError):
        return False
    if not any(str(each).endswith("ForCausalLM") for each in architectures):
        return False
    return (folder / OPENVINO_GRAPH).is_file() or any(folder.glob("*.safetensors"))
