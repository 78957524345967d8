"""Aliases: what they start with, and the resources that move them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

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
    if not _interchangeable(made, wanted):
        is_made = f"is {one(made)}" if candidate.alias is not None else f"makes {several(made)}"
        resolver.complain(
            at,
            "AIFW030",
            f"alias `{name}` points to {one(wanted)}, `{candidate.text}` {is_made}",
            f"the alias starts with `{initial.text}`",
        )


def check_followers(resources: Mapping[str, Resource], resolver: Resolver) -> None:
    """Check that whoever refers to an alias can take everything it may move to, where that is of another type than it starts with."""
    if resolver.aliases is None:
        return
    for alias, mover, made in _moves(resources, resolver):
        for resource in resources.values():
            for reference in resource.references:
                types = resolver.types_wanted(resource, reference) if reference.alias == alias else (Output,)
                if not issubclass(made, types):
                    wants = " or ".join(one(each) for each in types)
                    resolver.complain(
                        resolver.place_of(resource.address, reference.field),
                        "AIFW030",
                        f"`{reference.field}` wants {wants}, `{reference.text}` may become {one(made)}",
                        f"`{mover}` may move the alias to one",
                    )


def _moves(resources: Mapping[str, Resource], resolver: Resolver) -> Iterator[tuple[str, str, type[Output]]]:
    """Alias, mover and type of every candidate of another type than its alias starts with."""
    assert resolver.aliases is not None
    for resource in resources.values():
        if resource.kind.moves_alias is None:
            continue
        alias_field, candidate_field = resource.kind.moves_alias
        alias = getattr(resource.settings, alias_field)
        initial = resolver.aliases.get(alias) if isinstance(alias, str) else None
        candidate = next((each for each in resource.references if each.field == candidate_field), None)
        if initial is not None and candidate is not None:
            made = resolver.kind_of(candidate).produces[candidate.output]
            if made is not resolver.kind_of(initial).produces[initial.output]:
                yield alias, resource.address, made


def _interchangeable(made: type[Output], wanted: type[Output]) -> bool:
    """Whether one alias may point to either: they are the same, or forms of the same thing, side by side."""
    shared = set(made.__mro__[1:]) & set(wanted.__mro__[1:])
    return made is wanted or any(issubclass(each, Output) and each is not Output for each in shared)


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
