"""Where a spec's state lies, and the addresses and aliases people may name, without more of the spec than is needed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aifw.errors import UsageError
from aifw.state.layout import Layout

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from aifw.spec.models import Spec
    from aifw.state.store import Store

F = TypeVar("F", bound=Callable[..., Any])

STATE_FOLDER = ".aifw"


def state_option(verb: F) -> F:
    """Add `--state DIR`; the verb gets `state: Path | None`."""
    return click.option(
        "--state",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help=f"Where state and artifacts lie; `{STATE_FOLDER}` beside the spec unless given.",
    )(verb)


def base_folder(files: Sequence[Path], state: Path | None) -> Path:
    """The folder that holds states and artifacts."""
    return state if state is not None else files[0].parent / STATE_FOLDER


def open_spec(files: Sequence[Path], sets: Sequence[str], state: Path | None) -> tuple[Spec, Layout]:
    """Load a spec, and say where its state lies.

    Raises:
        SpecInvalid: Something is wrong with it.
    """
    from aifw.spec.load import load

    spec = load(files, sets)
    return spec, Layout(base_folder(files, state).absolute(), spec.name)


def find_layout(files: Sequence[Path], sets: Sequence[str], state: Path | None) -> Layout:
    """Where the state of a spec lies. The spec need not be valid beyond its name.

    Raises:
        SpecInvalid: Not even the name can be read, and it is not plain which state is meant.
    """
    base = base_folder(files, state).absolute()
    name = _name(files, sets)
    if name is not None:
        return Layout(base, name)
    states = [path.parent.name for path in base.glob("*/state.db")]
    if len(states) == 1:
        return Layout(base, states[0])
    spec, layout = open_spec(files, sets, state)
    assert spec.name
    return layout


def _name(files: Sequence[Path], sets: Sequence[str]) -> str | None:
    found = None
    for data in [*map(read_loosely, files), *(_set(text) for text in sets)]:
        metadata = data.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if name is not None:
            found = name
    return found if isinstance(found, str) and found and not {"$", "/", "."} & set(found) else None


def _set(text: str) -> dict[str, Any]:
    key, _, value = text.partition("=")
    return {"metadata": {"name": value.strip()}} if key.strip() == "metadata.name" else {}


def read_loosely(path: Path) -> dict[str, Any]:
    """A file's YAML as plain data; nothing if it cannot be read."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = yaml.load(path.read_bytes(), Loader=loader)  # noqa: S506 - both loaders are safe ones
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def open_store(layout: Layout) -> Store:
    """Open a state that should be there.

    Raises:
        UsageError: Nothing was ever applied.
    """
    from aifw.state.store import Store

    store = Store.existing(layout)
    if store is None:
        raise UsageError(f"`{layout.name}` has no state yet", hint="`aifw apply` makes one")
    return store


def full_address(name: str, addresses: Iterable[str], what: str = "in the spec") -> str:
    """The address a person means by an address or a plain name.

    Raises:
        UsageError: None or several fit.
    """
    known = list(addresses)
    if name in known:
        return name
    short = [address for address in known if address.rpartition(".")[2] == name]
    if len(short) == 1:
        return short[0]
    if short:
        raise UsageError(f"`{name}` may be {' or '.join(short)}", hint="name it with its section")
    raise UsageError(f"there is no resource `{name}` {what}", hint=_meant(name, known))


def _meant(name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    candidates = [*known, *(address.rpartition(".")[2] for address in known)]
    close = get_close_matches(name, candidates, n=1)
    return f"did you mean `{close[0]}`?" if close else "`aifw status` lists what there is"


def as_typed(files: Sequence[Path], sets: Sequence[str], state: Path | None) -> str:
    """The arguments that name this spec, as they would be typed again."""
    words: list[str] = []
    if files[0] != Path("spec.yaml"):
        words.append(str(files[0]))
    for path in files[1:]:
        words += ["-f", str(path)]
    for text in sets:
        words += ["--set", text]
    if state is not None:
        words += ["--state", str(state)]
    return " ".join(["", *map(shlex.quote, words)])


def complete_address(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Addresses of the spec named so far on the command line, for the shell."""
    from click.shell_completion import CompletionItem

    found = _addresses(_files_so_far(context))
    if incomplete and "." not in incomplete:
        found += [(address.rpartition(".")[2], f"{address}, {kind}") for address, kind in found]
    return [CompletionItem(name, help=text) for name, text in found if name.startswith(incomplete)]


def complete_alias(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Aliases of the spec named so far on the command line, for the shell."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in _aliases(_files_so_far(context)) if name.startswith(incomplete)]


def complete_name(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Addresses and aliases, for the shell."""
    return [*complete_address(context, parameter, incomplete), *complete_alias(context, parameter, incomplete)]


def _files_so_far(context: click.Context) -> list[Path]:
    spec = context.params.get("spec") or Path("spec.yaml")
    return [Path(spec), *map(Path, context.params.get("overlays") or ())]


def _addresses(files: Iterable[Path]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for data in map(read_loosely, files):
        for section, entries in data.items():
            if isinstance(entries, Mapping):
                for name, entry in entries.items():
                    if isinstance(entry, Mapping) and isinstance(entry.get("kind"), str):
                        found[f"{section}.{name}"] = entry["kind"]
    return list(found.items())


def _aliases(files: Iterable[Path]) -> list[str]:
    found: dict[str, None] = {}
    for data in map(read_loosely, files):
        aliases = data.get("aliases")
        if isinstance(aliases, Mapping):
            found.update(dict.fromkeys(map(str, aliases)))
    return list(found)
