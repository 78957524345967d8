"""Aliases: what they start with, and the resources that move them."""

from __future__ import annotations

import re

from aifw.kind import Output
from aifw.spec.models import NAME_PATTERN, Header, Reference, Resource
from aifw.spec.references import Resolver, one, several
from aifw.spec.source import Path

_NAME = re.compile(NAME_PATTERN)
_FAMILIES = {"external": "something outside of the store", "service": "something that runs"}


def resolve_aliases(header: Header | None, resolver: Resolver) -> dict[str, Reference]:
    """What each alias starts with. Tells the resolver, which needs it for references to aliases."""
    if header is None:
        # Some part of the header is wrong: nothing more is said about aliases, nor, if it may be they, about references to them.
        written = resolver.data.get("aliases") or {}
        readable = isinstance(written, dict) and all(_NAME.match(name) for name in written)
        resolver.aliases = dict.fromkeys(written) if readable else None
        return {}
    found: dict[str, Reference] = {}
    for name, alias in header.aliases.items():
        at = ("aliases", name, "initial")
        if alias.initial.startswith("@"):
            resolver.complain(at, "AIFW035", "an alias cannot start with another alias", "name a resource")
            continue
        reference = resolver.resolve(alias.initial, (Output,), f"aliases.{name}", ("initial",))
        if reference is not None and _is_artifact(reference, resolver, at):
            found[name] = reference
    resolver.aliases = {name: found.get(name) for name in header.aliases}
    return found


def check_mover(resource: Resource, resolver: Resolver) -> None:
    """Check a resource that may move an alias: the alias is declared, and the candidate is of the type it points to."""
    assert resource.kind.moves_alias is not None
    alias_field, candidate_field = resource.kind.moves_alias
    name = getattr(resource.settings, alias_field)
    if resolver.aliases is None or not isinstance(name, str):
        return
    place = tuple(resource.address.split(".", 1))
    if name not in resolver.aliases:
        written = type(resource.settings).model_fields[alias_field].alias or alias_field
        _unknown(name, list(resolver.aliases), (*place, written), resolver)
        return
    candidate = next((each for each in resource.references if each.field == candidate_field), None)
    initial = resolver.aliases[name]
    at = (*place, *candidate_field.split("."))
    if candidate is None or not _is_artifact(candidate, resolver, at) or initial is None:
        return
    made = resolver.kind_of(candidate).produces[candidate.output]
    wanted = resolver.kind_of(initial).produces[initial.output]
    if made is not wanted:
        is_made = f"is {one(made)}" if candidate.alias is not None else f"makes {several(made)}"
        resolver.complain(
            at,
            "AIFW030",
            f"alias `{name}` points to {one(wanted)}, `{candidate.text}` {is_made}",
            f"the alias starts with `{initial.text}`",
        )


def _unknown(name: str, known: list[str], at: Path, resolver: Resolver) -> None:
    from aifw.spec.wording import closest, shorten

    close = closest(name, known)
    listed = f"aliases here: {shorten(known)}"
    if close:
        label = f"did you mean `{close}`?"
    else:
        label = listed if known else f"declare it: `aliases: {{{name}: {{initial: ...}}}}`"
    notes = (listed,) if close and len(known) > 1 else ()
    resolver.complain(at, "AIFW035", f"there is no alias `{name}`", label, notes)


def _is_artifact(reference: Reference, resolver: Resolver, at: Path) -> bool:
    kind = resolver.kind_of(reference)
    if kind.family == "artifact":
        return True
    resolver.complain(
        at,
        "AIFW036",
        f"an alias points to an artifact; `{reference.text}` is {_FAMILIES[kind.family]}",
        resolver.choices("artifacts", at, lambda each, _: each.family == "artifact"),
    )
    return False
