"""Resolved data to typed resources: sections, kinds, settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from aifw import kind as kinds
from aifw.kind import AnyKind
from aifw.spec.agreement import check_agreement
from aifw.spec.aliases import check_followers, check_mover, resolve_aliases
from aifw.spec.diagnose import Report
from aifw.spec.interpolate import origins
from aifw.spec.models import NAME_PATTERN, SECTIONS, Header, Reference, Resource, Target
from aifw.spec.references import Declared, Resolver, report_cycles
from aifw.spec.source import Path, Source
from aifw.spec.targets import resolve_targets

M = TypeVar("M", bound=BaseModel)

_NAME = re.compile(NAME_PATTERN)
_HEADER = ("apiVersion", "kind", "metadata", "seed", "hardware", "policy", "aliases", "targets", "defaults")


class Checker:
    """Checks the data of one spec.

    Args:
        data: The whole spec, interpolated.
        source: Where everything was written.
        report: Takes what is wrong.
        interpolated: Paths of values that were not written out.
    """

    def __init__(
        self, data: dict[str, Any], source: Source, report: Report, interpolated: frozenset[Path] = frozenset()
    ) -> None:
        self.data = data
        self.source = source
        self.report = report
        self.interpolated = interpolated
        self.declared: dict[str, Declared] = {}
        self.known: dict[str, AnyKind | None] = {}

    def check(self) -> tuple[Header | None, dict[str, Resource], dict[str, Reference], tuple[Target, ...]]:
        """Header, resources, aliases and targets; complete only if nothing was reported."""
        header = self.header()
        typed = dict(self.resources())
        resolver = Resolver(self.declared, self.source, self.data, self.report)
        aliases = resolve_aliases(header, resolver)
        resources = {}
        for address, (kind, settings) in typed.items():
            resources[address] = Resource(
                address, kind, settings, resolver.of_resource(address, settings), self.source.of_resource
            )
            if kind.moves_alias is not None:
                check_mover(resources[address], resolver)
        check_followers(resources, resolver)
        check_agreement(resources, resolver)
        targets = resolve_targets(header, resolver)
        report_cycles({address: resource.references for address, resource in resources.items()}, resolver)
        return header, resources, aliases, targets

    def header(self) -> Header | None:
        """What stands beside the sections; reports top-level keys that mean nothing."""
        meant: set[str | None] = set()
        for key in self.data:
            if key not in SECTIONS and key not in _HEADER and not self.is_section(key):
                from aifw.spec.wording import closest

                close = closest(key, [*_HEADER, *SECTIONS])
                label = f"did you mean `{close}`?" if close else f"sections: {', '.join(SECTIONS)}"
                self.complain((key,), "AIFW010", f"unknown section `{key}`", label, key=True)
                meant.add(close)
                if close in SECTIONS and isinstance(self.data[key], dict):
                    # What stands in a misspelt section is there; more about it would be noise.
                    self.declared.update(
                        (f"{close}.{name}", Declared(f"{close}.{name}", None)) for name in self.data[key]
                    )
        header = {key: self.data[key] for key in _HEADER if key in self.data}
        for key in ("hardware", "policy", "aliases", "targets", "defaults"):
            # A section whose entries are all commented out reads as null. One that is missing is filled in as well:
            # making the default of a nested class would build that class a second time, which costs milliseconds.
            if header.get(key) is None:
                header[key] = {}
        hardware = header["hardware"]
        if isinstance(hardware, dict):
            header["hardware"] = {"memory": {}, **hardware}
        for key in _HEADER:
            if key in meant and key not in self.data:
                self.report.broken.add((key,))
        return self.validate(Header, header, (), "a spec")

    def is_section(self, name: str) -> bool:
        """True if a kind of another package declares this section."""
        return isinstance(self.data[name], dict | None) and any(kind.section == name for kind in kinds.all_kinds())

    def resources(self) -> Iterator[tuple[str, tuple[AnyKind, BaseModel]]]:
        """Every resource whose kind is known and whose settings are valid."""
        for section, entries in self.data.items():
            if section in _HEADER or entries is None:
                continue
            if section not in SECTIONS and not self.is_section(section):
                continue
            if not isinstance(entries, dict):
                self.complain(
                    (section,),
                    "AIFW015",
                    f"`{section}` must be a mapping of names to resources",
                    "write `name: {kind: ...}`",
                )
                continue
            for name, entry in entries.items():
                path = (section, name)
                address = f"{section}.{name}"
                if not _NAME.match(name):
                    self.complain(
                        path,
                        "AIFW016",
                        f"`{name}` cannot be a name",
                        "names are letters, digits, `_` and `-`, and start with a letter or `_`",
                        key=True,
                    )
                kind = self.kind(entry, path)
                self.declared[address] = Declared(address, kind)
                if kind is None:
                    continue
                settings = {key: value for key, value in entry.items() if key != "kind"}
                typed = self.validate(kind.settings, settings, path, f"kind `{kind.name}`")
                if typed is not None:
                    yield address, (kind, typed)

    def kind(self, entry: Any, path: Path) -> AnyKind | None:
        """The kind of a resource, or None and a report."""
        section, name = path
        if not isinstance(entry, dict):
            self.complain(
                path, "AIFW015", f"`{name}` must be a mapping with a `kind`", f"write `{name}: {{kind: ...}}`"
            )
            return None
        try:
            written = entry["kind"]
        except KeyError:
            self.complain(path, "AIFW014", f"`{name}` needs a `kind`", self.choices(str(section)), key=True)
            return None
        at = (*path, "kind")
        if not isinstance(written, str):
            self.complain(at, "AIFW011", "`kind` must be the name of a kind", self.choices(str(section)))
            return None
        if at in self.interpolated:
            self.complain(
                at,
                "AIFW011",
                "`kind` must be written out: it decides what everything beside it means",
                self.choices(str(section)),
            )
            return None
        if written not in self.known:
            self.known[written] = kinds.find(written)
        kind = self.known[written]
        if kind is None:
            from aifw.spec.wording import closest

            close = closest(written, [each.name for each in kinds.all_kinds() if each.section == section])
            close = close or closest(written, [each.name for each in kinds.all_kinds()])
            label = f"did you mean `{close}`?" if close else self.choices(str(section))
            self.complain(at, "AIFW011", f"there is no kind `{written}`", label)
        elif kind.section != section:
            self.complain(
                at,
                "AIFW013",
                f"kind `{written}` belongs in section `{kind.section}`, not in `{section}`",
                f"move `{name}` below `{kind.section}:`",
            )
        return kind

    def choices(self, section: str) -> str:
        """Kinds of a section, for a message."""
        from aifw.spec.wording import shorten

        names = [kind.name for kind in kinds.all_kinds() if kind.section == section]
        return f"kinds here: {shorten(names)}" if names else "no kind that is installed belongs in this section"

    def validate(self, model: type[M], data: dict[str, Any], path: Path, subject: str) -> M | None:
        """Settings as their class, or None and a report.

        Validation is strict, as the published schema is: text is no number and 1 is not true. It goes by way of JSON because
        there a list may become a tuple even so.
        """
        try:
            return model.model_validate_json(to_json(data, inf_nan_mode="constants"), strict=True)
        except ValidationError as error:
            if _integral(error, data):
                return self.validate(model, data, path, subject)
            from aifw.spec.wording import findings

            for diagnostic in findings(error, data, path, model, subject, self.source, self.data, self.report):
                self.report.add(diagnostic)
            return None

    def complain(self, path: Path, code: str, message: str, label: str = "", *, key: bool = False) -> None:
        """Report something about a key or a value."""
        if not self.report.covers(path):
            span = self.source.at_key(path) if key else self.source.at_value(path)
            notes = () if key else origins(self.source, path, self.data)
            self.report.add(span.diagnostic(code, message, label, notes))


def _integral(error: ValidationError, data: Any) -> bool:
    """Turn `3.0` into 3 where a whole number is expected, as JSON Schema does; true if there was such a number."""
    changed = False
    for each in error.errors(include_url=False, include_context=False):
        value = each["input"]
        if each["type"] in {"int_type", "int_from_float"} and isinstance(value, float) and value.is_integer():
            container, key, at = None, None, data
            for part in each["loc"]:
                try:
                    container, key, at = at, part, at[part]
                except (KeyError, IndexError, TypeError):
                    continue
            if isinstance(at, float) and container is not None:
                container[key] = int(at)
                changed = True
    return changed
