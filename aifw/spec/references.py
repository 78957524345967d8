"""References: which resource, which output, of the right type, and in no circle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import BaseModel

from aifw.kind import AnyKind, Output
from aifw.settings import Ref, reference_paths
from aifw.spec.diagnose import Report
from aifw.spec.interpolate import origins
from aifw.spec.models import Reference, Resource
from aifw.spec.source import Path, Source

Types = tuple[type[Output], ...]


@dataclass(eq=False, repr=False)
class Declared:
    """A resource as far as it is known while references are resolved.

    Attributes:
        address: `section.name`.
        kind: None if it could not be determined; nothing is said about references to it then.
    """

    address: str
    kind: AnyKind | None


@dataclass(eq=False, repr=False)
class Resolver:
    """Resolves references among the resources of one spec.

    Args:
        declared: Every resource, by address.
        source: Where everything was written.
        data: The whole spec.
        report: Takes what is wrong.
    """

    declared: Mapping[str, Declared]
    source: Source
    data: Any
    report: Report
    aliases: dict[str, Reference | None] | None = field(default_factory=dict)
    settings: dict[str, BaseModel] = field(default_factory=dict)
    resolved: dict[tuple[str, Types], tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sections: set[str] = set()
        self.by_name: dict[str, list[str]] = {}
        for address in self.declared:
            section, _, name = address.partition(".")
            self.sections.add(section)
            self.by_name.setdefault(name, []).append(address)

    def of_resource(self, address: str, settings: BaseModel) -> tuple[Reference, ...]:
        """Resolve every reference in the settings of a resource."""
        self.settings[address] = settings
        found = []
        for names, attribute, types in _reference_fields(type(settings)):
            if attribute is not None:
                value = getattr(settings, attribute)
                written: Iterable[tuple[Path, str]] = ((names, value),) if type(value) is Ref else ()
            else:
                written = _values(settings, names)
            for field_path, text in written:
                reference = self.resolve(text, types, address, field_path)
                if reference is not None:
                    found.append(reference)
        return tuple(found)

    def resolve(self, text: str, types: Types, address: str, field_path: Path) -> Reference | None:
        """Resolve one reference, or report why that is not possible.

        Args:
            text: As written.
            types: Output types that fit.
            address: Where it stands: a resource, or `aliases.name`.
            field_path: Path of the field in the settings.
        """
        key = (text, types)
        known = self.resolved.get(key)
        if known is None:
            at = (*address.split(".", 1), *field_path)
            known = self._alias(text, types, at) if text.startswith("@") else self._output(text, types, at)
            if known is None:
                return None
            self.resolved[key] = known
        name = field_path[0] if len(field_path) == 1 else ".".join(map(str, field_path))
        return Reference(name, text, *known)  # type: ignore[arg-type]

    def _output(self, text: str, types: Types, at: Path) -> tuple[str, str] | None:
        """Address and output of a reference that is no alias."""
        found = self._target(text, at)
        if found is None:
            return None
        address, output = found
        kind = self.declared[address].kind
        if kind is None:
            return None
        if output is None:
            fitting = [name for name, made in kind.produces.items() if issubclass(made, types)]
            if len(fitting) == 1:
                return address, fitting[0]
            if fitting:
                choices = ", ".join(f"{text}.{name}" for name in fitting)
                self.complain(at, "AIFW033", f"`{text}` has several outputs that fit here", f"write one of: {choices}")
            else:
                self._wrong_type(text, tuple(kind.produces.values()), types, at)
            return None
        made = kind.produces.get(output)
        if made is None:
            self._no_output(text, address, output, kind, at)
            return None
        if not issubclass(made, types):
            self._wrong_type(text, (made,), types, at)
            return None
        return address, output

    def _target(self, text: str, at: Path) -> tuple[str, str | None] | None:
        """Address and output that a text names; reports if there is none or more than one."""
        parts = text.split(".")
        if len(parts) == 1:
            addresses = self.by_name.get(text, [])
            if len(addresses) == 1:
                return addresses[0], None
            if addresses:
                self.complain(
                    at, "AIFW032", f"`{text}` is the name of several resources", f"write one of: {', '.join(addresses)}"
                )
            else:
                self._nothing(text, text, at)
            return None
        if len(parts) == 3:
            address = f"{parts[0]}.{parts[1]}"
            if address in self.declared:
                return address, parts[2]
            self._nothing(text, parts[1], at)
            return None
        named = self.by_name.get(parts[0], [])
        meant: list[tuple[str, str | None]] = [(text, None)] if text in self.declared else []
        meant += [(address, parts[1]) for address in named if self._may_have(address, parts[1])]
        if len(meant) == 1:
            return meant[0]
        if meant:
            choices = ", ".join(address if output is None else f"{address}.{output}" for address, output in meant)
            self.complain(at, "AIFW032", f"`{text}` can be read in several ways", f"write one of: {choices}")
            return None
        if len(named) == 1:
            return named[0], parts[1]
        self._nothing(text, parts[1] if parts[0] in self.sections else parts[0], at)
        return None

    def place_of(self, address: str, field_name: str) -> Path:
        """Path in the spec of a field that holds a reference."""
        settings = self.settings[address]
        for names, _ in reference_paths(type(settings)):
            for path, _ in _values(settings, names):
                if ".".join(map(str, path)) == field_name:
                    return (*address.split(".", 1), *path)
        raise KeyError(field_name)

    def types_wanted(self, resource: Resource, reference: Reference) -> Types:
        """Output types that fit where a reference of a resource stands."""
        for names, types in reference_paths(type(resource.settings)):
            for path, _ in _values(resource.settings, names):
                if ".".join(map(str, path)) == reference.field:
                    return types
        raise KeyError(reference.field)

    def kind_of(self, reference: Reference) -> AnyKind:
        """The kind of the resource that a resolved reference leads to."""
        kind = self.declared[reference.address].kind
        assert kind is not None
        return kind

    def _may_have(self, address: str, output: str) -> bool:
        kind = self.declared[address].kind
        return kind is None or output in kind.produces

    def _alias(self, text: str, types: Types, at: Path) -> tuple[str, str, str] | None:
        name = text[1:]
        if self.aliases is None:
            return None
        if name not in self.aliases:
            from aifw.spec.wording import closest

            close = closest(name, list(self.aliases))
            label = f"did you mean `@{close}`?" if close else f"declare it: `aliases: {{{name}: {{initial: ...}}}}`"
            self.complain(at, "AIFW035", f"there is no alias `{name}`", label)
            return None
        initial = self.aliases[name]
        if initial is None:
            return None
        made = self.kind_of(initial).produces[initial.output]
        if not issubclass(made, types):
            self._wrong_type(text, (made,), types, at)
            return None
        return initial.address, initial.output, name

    def _nothing(self, text: str, name: str, at: Path) -> None:
        from aifw.spec.wording import closest

        close = closest(name, list(self.by_name))
        address = closest(text, list(self.declared)) if "." in text else None
        if address:
            label = f"did you mean `{address}`?"
        elif close:
            addresses = self.by_name[close]
            label = f"did you mean `{close if len(addresses) == 1 else addresses[0]}`?"
        else:
            label = "nothing in this spec has that name"
        self.complain(at, "AIFW031", f"`{text}` refers to nothing", label)

    def _no_output(self, text: str, address: str, output: str, kind: AnyKind, at: Path) -> None:
        from aifw.spec.wording import closest

        close = closest(output, list(kind.produces))
        prefix = text.rpartition(".")[0]
        if close:
            label = f"did you mean `{prefix}.{close}`?"
        else:
            label = f"outputs: {', '.join(kind.produces)}" if kind.produces else "it has no outputs"
        self.complain(at, "AIFW033", f"`{address}` has no output `{output}`", label)

    def _wrong_type(self, text: str, made: Types, types: Types, at: Path) -> None:
        wants = " or ".join(one(each) for each in types)
        makes = " and ".join(dict.fromkeys(several(each) for each in made)) or "nothing that can be referred to"
        what = " or ".join(several(each) for each in types)
        here = at[-1] if isinstance(at[-1], str) else at[-2]
        verb = "is" if text.startswith("@") else "makes"
        message = f"`{here}` wants {wants}, `{text}` {verb} {makes}"
        self.complain(at, "AIFW030", message, self.choices(what, at, lambda _, made: issubclass(made, types)))

    def choices(self, what: str, at: Path, fits: Callable[[AnyKind, type[Output]], bool]) -> str:
        """Name the outputs of this spec that fit at a path, for a message."""
        from aifw.spec.wording import shorten

        names = [self._short(each) for each in self._fitting(fits) if at[:2] != tuple(each.split(".")[:2])]
        return f"{what} here: {shorten(names)}" if names else f"nothing in this spec makes {what}"

    def _fitting(self, fits: Callable[[AnyKind, type[Output]], bool]) -> Iterator[str]:
        for address, declared in self.declared.items():
            kind = declared.kind
            if kind is not None:
                fitting = [name for name, made in kind.produces.items() if fits(kind, made)]
                if len(fitting) == 1:
                    yield address
                else:
                    yield from (f"{address}.{name}" for name in fitting)

    def _short(self, address: str) -> str:
        section, name, *output = address.split(".")
        short = name if len(self.by_name[name]) == 1 else f"{section}.{name}"
        return ".".join([short, *output])

    def complain(self, at: Path, code: str, message: str, label: str, notes: Sequence[str] = ()) -> None:
        """Report something about the value at a path."""
        if not self.report.covers(at):
            came = origins(self.source, at, self.data)
            self.report.add(self.source.at_value(at).diagnostic(code, message, label, [*came, *notes]))


def _values(settings: Any, names: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Reference texts below `settings`, each with its path as written."""
    if not names:
        # Beside a reference a field may accept something else; only what was validated as a reference is one.
        if isinstance(settings, Ref):
            yield (), str(settings)
        return
    name, rest = names[0], names[1:]
    if isinstance(settings, BaseModel):
        attribute = _attributes(type(settings)).get(name)
        if attribute is None:
            return
        items: Any = ((name, getattr(settings, attribute)),)
    elif name != "*":
        return
    elif isinstance(settings, dict):
        items = settings.items()
    elif isinstance(settings, list | tuple):
        items = enumerate(settings)
    else:
        return
    for key, child in items:
        for path, text in _values(child, rest):
            yield (key, *path), text


@cache
def _reference_fields(settings: type[BaseModel]) -> tuple[tuple[tuple[str, ...], str | None, Types], ...]:
    """Path as written, types, and the attribute where one look at it is enough, as it nearly always is."""
    attributes = _attributes(settings)
    return tuple(
        (names, attributes[names[0]] if len(names) == 1 else None, types) for names, types in reference_paths(settings)
    )


@cache
def _attributes(settings: type[BaseModel]) -> dict[str, str]:
    """Names of the fields as written, and the attributes that hold them."""
    return {field.alias or name: name for name, field in settings.model_fields.items()}


def several(output: type[Output]) -> str:
    """Outputs of a type, in words."""
    text = getattr(output, "name", output.__name__).replace("_", " ")
    if text.endswith("s"):
        return str(text)
    return f"{text}es" if text.endswith("x") else f"{text}s"


def one(output: type[Output]) -> str:
    """An output of a type, in words."""
    text = getattr(output, "name", output.__name__).replace("_", " ")
    if text.endswith("s"):
        return str(text)
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def report_cycles(references: Mapping[str, Sequence[Reference]], resolver: Resolver) -> None:
    """Report every circle of resources once, at the reference that closes it, with the whole way round."""
    state: dict[str, int] = {}
    for start in references:
        if start in state:
            continue
        # An explicit stack: a chain of resources may be longer than Python's.
        way: list[tuple[str, Iterator[Reference]]] = [(start, iter(references[start]))]
        state[start] = 1
        while way:
            address, left = way[-1]
            reference = next(left, None)
            if reference is None:
                state[address] = 2
                way.pop()
                continue
            if reference.alias is not None or reference.address not in references:
                continue
            seen = state.get(reference.address, 0)
            if seen == 0:
                state[reference.address] = 1
                way.append((reference.address, iter(references[reference.address])))
            elif seen == 1:
                names = [each for each, _ in way]
                circle = [*names[names.index(reference.address) :], reference.address]
                at = resolver.place_of(address, reference.field)
                resolver.report.add(
                    resolver.source.at_value(at).diagnostic(
                        "AIFW034",
                        "resources need each other in a circle: " + " → ".join(_shorten(circle)),
                        "this closes the circle" if len(circle) > 2 else "this refers to itself",
                        ("to use what an earlier run made, refer to an alias (`@name`)",),
                    )
                )


def _shorten(circle: Sequence[str]) -> list[str]:
    """All of a circle that a person could follow; of a longer one its ends."""
    if len(circle) <= 50:
        return list(circle)
    return [*circle[:20], f"({len(circle) - 40:,} more)", *circle[-20:]]
