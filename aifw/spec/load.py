"""Files to a `Spec`: read, merge, interpolate, check."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from json import JSONEncoder
from pathlib import Path
from typing import Any

from aifw.spec import parse
from aifw.spec.check import Checker
from aifw.spec.diagnose import Diagnostic, Report, SpecInvalid
from aifw.spec.interpolate import interpolate
from aifw.spec.models import Header, Place, Reference, Resource, Spec, Target
from aifw.spec.overlay import apply_set, document_of_set, merge
from aifw.spec.source import Document, Source, Span

_encode = JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def load(files: Sequence[Path], sets: Sequence[str] = (), *, environment: Mapping[str, str] | None = None) -> Spec:
    """Read a spec.

    Args:
        files: The spec, then overlays; later ones win.
        sets: `KEY=VALUE` each, as after `--set`; these win over every file.
        environment: What `${oc.env:NAME}` sees; the environment of this process if None.

    Raises:
        SpecInvalid: Something is wrong; carries everything that was found, with positions.
    """
    report = Report()
    with _no_collector():
        documents = [document for path in files if (document := _read(path, report)) is not None]
        overrides = [document for text in sets if (document := document_of_set(text, report)) is not None]
        report.raise_if_any()
        data = _merged(documents, overrides, report)
        report.raise_if_any()
        source = Source([*documents, *overrides])
        interpolated: frozenset[tuple[str | int, ...]] = frozenset()
        try:
            if any(document.interpolated for document in source.documents):
                variables = os.environ if environment is None else environment
                interpolated = interpolate(data, source, variables, report)
            header, resources, aliases, targets = Checker(data, source, report, interpolated).check()
            report.raise_if_any()
        except SpecInvalid as invalid:
            from aifw.spec.mask import masked

            raise masked(invalid, data, source) from None
        assert header is not None
        return _spec(files, data, header, resources, aliases, targets)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Keep the garbage collector out while many small objects are made, none of which can be let go yet.

    It would go through all of them again and again, which makes reading slower than linear.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _read(path: Path, report: Report) -> Document | None:
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(parse.MOST_BYTES + 1)
    except OSError as error:
        report.add(
            Diagnostic("AIFW001", f"cannot read {name}: {(error.strerror or str(error)).lower()}", Place(name, 1, 1))
        )
        return None
    if len(raw) > parse.MOST_BYTES:
        report.add(
            Diagnostic(
                "AIFW007",
                f"{name} is larger than {parse.MOST_BYTES // 1024**2} MiB",
                Place(name, 1, 1),
                notes=("a spec says what is wanted; data belongs into files that it names",),
            )
        )
        return None
    document = parse.decode(name, raw, report)
    if document is None:
        return None
    before = len(report.diagnostics)
    parse.read(document, report)
    if len(report.diagnostics) == before and not isinstance(document.data, dict):
        report.add(_not_a_mapping(document))
    return document


def _not_a_mapping(document: Document) -> Diagnostic:
    if document.data is None:
        return Span(document, 0, 1).diagnostic(
            "AIFW015", "this file says nothing", notes=("`aifw init` writes a spec to start with",)
        )
    what = "a list" if isinstance(document.data, list) else "a single value"
    return document.find(()).value.diagnostic(
        "AIFW015", f"a spec is a mapping, this is {what}", "start with `apiVersion: aifw/v1`"
    )


def _merged(documents: Sequence[Document], overrides: Sequence[Document], report: Report) -> dict[str, Any]:
    data: dict[str, Any] = documents[0].data if documents else {}
    for document in documents[1:]:
        merge(data, document.data)
    for document in overrides:
        apply_set(data, document, report)
    return data


def _spec(
    files: Sequence[Path],
    data: dict[str, Any],
    header: Header,
    resources: Mapping[str, Resource],
    aliases: Mapping[str, Reference],
    targets: tuple[Target, ...],
) -> Spec:
    content = {key: value for key, value in data.items() if key != "defaults" and value is not None}
    return Spec(
        name=header.metadata.name,
        root=files[0].absolute().parent,
        files=tuple(str(path) for path in files),
        resources=resources,
        aliases=aliases,
        digest=sha256(_encode(content).encode()).hexdigest(),
        seed=header.seed,
        hardware=header.hardware,
        policy=header.policy,
        targets=targets,
    )
