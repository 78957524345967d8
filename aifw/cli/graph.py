"""`aifw graph`: the spec's resources as Mermaid or DOT."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aifw.cli.options import spec_options
from aifw.cli.project import open_spec, state_option
from aifw.cli.terminal import print_json, show
from aifw.errors import ExitStatus

if TYPE_CHECKING:
    from aifw.spec.models import Spec


@click.command()
@spec_options
@state_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["mermaid", "dot", "json"]),
    default="mermaid",
    show_default=True,
    help="Mermaid for Markdown, DOT for Graphviz, or JSON.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def command(files: tuple[Path, ...], sets: tuple[str, ...], state: Path | None, *, form: str, as_json: bool) -> int:
    """Draw what is made from what. What is read through an alias is a dashed line."""
    spec, _ = open_spec(files, sets, state)
    if as_json or form == "json":
        print_json(document(spec))
    else:
        show("\n".join(mermaid(spec) if form == "mermaid" else dot(spec)))
    return ExitStatus.DONE


def document(spec: Spec) -> dict[str, Any]:
    """Nodes and edges as data; an edge goes from what is used to what uses it."""
    return {
        "nodes": [{"address": address, "kind": resource.kind.name} for address, resource in spec.resources.items()],
        "edges": [
            {"from": each.address, "to": address, "field": each.field, "output": each.output, "alias": each.alias}
            for address, resource in spec.resources.items()
            for each in resource.references
        ],
        "aliases": [{"name": name, "initial": each.address} for name, each in spec.aliases.items()],
    }


def mermaid(spec: Spec) -> Iterable[str]:
    """A Mermaid flowchart, resources grouped by section."""
    yield "flowchart LR"
    for section in dict.fromkeys(address.partition(".")[0] for address in spec.resources):
        yield f"  subgraph {section}"
        for address, resource in spec.resources.items():
            if address.startswith(f"{section}."):
                name = address.partition(".")[2]
                yield f'    {_identifier(address)}["{name}<br/><i>{resource.kind.name}</i>"]'
        yield "  end"
    for address, resource in spec.resources.items():
        for each in resource.references:
            label = f"@{each.alias}" if each.alias else _output(spec, each.address, each.output)
            arrow = "-.->" if each.alias else "-->"
            text = f'|"{label}"|' if label else ""
            yield f"  {_identifier(each.address)} {arrow}{text} {_identifier(address)}"


def dot(spec: Spec) -> Iterable[str]:
    """A Graphviz digraph, resources grouped by section."""
    yield f'digraph "{spec.name}" {{'
    yield "  rankdir=LR; node [shape=box, style=rounded];"
    for section in dict.fromkeys(address.partition(".")[0] for address in spec.resources):
        yield f'  subgraph "cluster_{section}" {{ label="{section}";'
        for address, resource in spec.resources.items():
            if address.startswith(f"{section}."):
                name = address.partition(".")[2]
                yield f'    "{address}" [label="{name}\\n{resource.kind.name}"];'
        yield "  }"
    for address, resource in spec.resources.items():
        for each in resource.references:
            label = f"@{each.alias}" if each.alias else _output(spec, each.address, each.output)
            drawn = [f'label="{label}"'] if label else []
            drawn += ["style=dashed"] if each.alias else []
            attributes = f" [{', '.join(drawn)}]" if drawn else ""
            yield f'  "{each.address}" -> "{address}"{attributes};'
    yield "}"


def _output(spec: Spec, address: str, output: str) -> str:
    """The output's name, where there are several."""
    return output if len(spec.resources[address].kind.produces) > 1 else ""


def _identifier(address: str) -> str:
    """A word Mermaid takes as an identifier, different for different addresses."""
    return re.sub(r"[^A-Za-z0-9]", lambda match: f"_{ord(match[0]):x}_" if match[0] != "." else "__", address)
