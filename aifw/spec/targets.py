"""Targets: what measures them, and whether it can."""

from __future__ import annotations

from collections.abc import Sequence

from aifw.kind import Output
from aifw.spec.models import Header, Target, TargetSettings
from aifw.spec.references import Resolver, one
from aifw.spec.source import Path

_PREFIXES = ("baseline_", "difference_")


def resolve_targets(header: Header | None, resolver: Resolver) -> tuple[Target, ...]:
    """Targets with what measures them; complete only if nothing was reported."""
    found = []
    for name, settings in header.targets.items() if header is not None else ():
        reference = None
        better = settings.better
        if settings.of is not None:
            reference = resolver.resolve(settings.of, (Output,), f"targets.{name}", ("of",))
            if reference is None:
                continue
            output = resolver.kind_of(reference).produces[reference.output]
            place: Path = ("targets", name, "measure" if settings.measure is not None else "formula")
            _check(_names(settings), output, place, resolver)
            said = output.measures.get(_plain(settings.measure or ""))
            if better is None and said == "neither":
                resolver.complain(
                    place,
                    "AIFW024",
                    f"neither direction of `{settings.measure}` is better by itself",
                    "add `better: ...`",
                )
            elif better is None and said is not None and said != "neither":
                better = said
        found.append(Target(name, settings, reference, better or "higher"))
    return tuple(found)


def _names(settings: TargetSettings) -> Sequence[str]:
    if settings.formula is None:
        return (settings.measure or "",)
    from aifw.formula import parse

    return parse(settings.formula).names


def _plain(name: str) -> str:
    """A measure without what says which side of it is meant."""
    return next((name.removeprefix(each) for each in _PREFIXES if name.startswith(each)), name)


def _check(names: Sequence[str], output: type[Output], place: Path, resolver: Resolver) -> None:
    """See that an output whose measures are known has those that are asked for."""
    for name in names:
        plain = _plain(name)
        if not output.measures or name in output.measures or plain in output.measures or "/" in name:
            continue
        from aifw.spec.wording import closest, shorten

        close = closest(plain, list(output.measures))
        label = f"did you mean `{close}`?" if close else f"measures: {shorten(list(output.measures))}"
        resolver.complain(place, "AIFW022", f"{one(output)} has no measure `{name}`", label)
