"""`aifw compare`: two evaluations, item by item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aifw.cli.colour import style
from aifw.cli.options import spec_files
from aifw.cli.project import STATE_FOLDER, find_layout, open_store, state_option
from aifw.cli.terminal import print_json, show
from aifw.errors import ExitStatus, InputInvalid, UsageError

if TYPE_CHECKING:
    from aifw.cli.report_facts import Evaluation, Line

_LEAST_DIGEST = 4


@click.command()
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="SPEC",
    type=click.Path(path_type=Path),
    help="The spec whose state holds them, and its overlays; `spec.yaml` unless given.",
)
@state_option
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Accepted probability of seeing a difference where there is none; intervals cover one minus this.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    before: str, after: str, files: tuple[Path, ...], state: Path | None, *, alpha: float, as_json: bool
) -> int:
    """Compare what two evaluations measured, item by item.

    Each is a folder or file of an evaluation, or of the state: an address (its newest), an address with the first characters of a
    digest (`stages.check@3f2a`), such a digest alone, or the number of a run. Items that differ, or changed under their id, are
    refused.
    """
    pairs = _pairs(before, after, files, state)
    found = [(*pair, _compared(*pair, alpha)) for pair in pairs]
    shown = _adjusted([lines for _, _, lines in found], alpha)
    if as_json:
        print_json(
            {
                "alpha": alpha,
                "comparisons": [
                    _document(first, second, lines) for (first, second, _), lines in zip(found, shown, strict=True)
                ],
            }
        )
        return ExitStatus.DONE
    tested = sum(line.p is not None for lines in shown for line in lines)
    for place, ((first, second, _), lines) in enumerate(zip(found, shown, strict=True)):
        if place:
            show("")
        for text in _text(first, second, lines, alpha, tested):
            show(text)
    return ExitStatus.DONE


# Which evaluations


def _pairs(before: str, after: str, files: Sequence[Path], state: Path | None) -> list[tuple[Evaluation, Evaluation]]:
    """Evaluations to compare; those of two runs by the resources that made them."""
    from aifw.cli.report_facts import of_folders

    first, second = (of_folders([Path(name)]).evaluations if _is_path(name) else None for name in (before, after))
    if first is None or second is None:
        known = _known(files, state)
        first = _named(before, known) if first is None else first
        second = _named(after, known) if second is None else second
    if len(first) == len(second) == 1:
        return [(first[0], second[0])]
    there = {each.address: each for each in second}
    pairs = [(each, there[each.address]) for each in first if each.address in there]
    if not pairs:
        raise UsageError(f"{before} and {after} have no evaluation of one resource", hint="`aifw report` lists them")
    return pairs


def _is_path(name: str) -> bool:
    path = Path(name)
    return not name.isdigit() and path.exists() and (path.is_dir() or path.suffix in {".json", ".jsonl"})


def _known(files: Sequence[Path], state: Path | None) -> Sequence[Evaluation]:
    from aifw.cli.report_facts import of_state

    if not files and state is None and not Path("spec.yaml").exists() and not Path(STATE_FOLDER).exists():
        raise UsageError(
            "there is no spec here whose state could hold these evaluations",
            hint="name the spec by -f, or folders of evaluations",
        )
    used = spec_files(files[0] if files else None, tuple(files[1:]))
    with closing(open_store(find_layout(used, (), state))) as store:
        facts = of_state(store)
    if not facts.evaluations:
        problem = facts.unreadable[0].problem if facts.unreadable else "`aifw apply` makes what a spec evaluates"
        raise UsageError(f"`{facts.name}` has no evaluation that can be read", hint=problem)
    return facts.evaluations


def _named(name: str, known: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations a person means, one for each resource."""
    from aifw.cli.project import full_address

    if name.isdigit() and len(name) < _LEAST_DIGEST + 4:
        return _of_run(int(name), known)
    address, _, digest = name.rpartition("@")
    if not address and not _is_digest(digest):
        address, digest = name, ""
    found = list(known)
    if address:
        wanted = full_address(address, dict.fromkeys(each.address for each in known), "with an evaluation in the state")
        found = [each for each in found if each.address == wanted]
    if digest:
        found = [each for each in found if any(one.startswith(digest) for one in _digests(each))]
    if not found:
        raise UsageError(f"there is no evaluation {name} in the state", hint=_list(known))
    if digest and len({each.folder for each in found}) > 1:
        raise UsageError(f"`{name}` may be {' or '.join(map(_label, found))}", hint="give more of the digest")
    return [found[-1]]


def _of_run(run: int, known: Sequence[Evaluation]) -> list[Evaluation]:
    """What stood at the end of a run: one that made nothing new of a resource kept what was there."""
    found = {each.address: each for each in known if each.run is not None and each.run <= run}
    if not found:
        raise UsageError(f"nothing was evaluated up to run {run}", hint=_list(known))
    return list(found.values())


def _is_digest(text: str) -> bool:
    return len(text) >= _LEAST_DIGEST and set(text) <= set("0123456789abcdef")


def _digests(evaluation: Evaluation) -> tuple[str, ...]:
    """Of the artifact, as its folder is named, and of the report."""
    parts = evaluation.folder.parts
    return ("".join(parts[-3:-1]), str(evaluation.report["digest"]))


def _label(evaluation: Evaluation) -> str:
    run = f" (run {evaluation.run})" if evaluation.run is not None else ""
    return f"{evaluation.address}@{_digests(evaluation)[0 if evaluation.run is not None else 1][:_LEAST_DIGEST]}{run}"


def _list(known: Iterable[Evaluation]) -> str:
    labels = [_label(each) for each in known]
    return f"there are {', '.join(labels[-5:])}"


# Comparing


def _compared(first: Evaluation, second: Evaluation, alpha: float) -> list[Line]:
    """Every measure both have, without adjusted p-values."""
    from aifw.cli.report_facts import Line, level
    from aifw.evaluation.comparison import Side, comparisons_of, measures_of
    from aifw.evaluation.measures import named
    from aifw.evaluation.report import read, rows_of
    from aifw.evaluation.suites import find

    before, after = read(first.folder), read(second.folder)
    _see_comparable(first, second)
    found = []
    for name, suite in before.report["suites"].items():
        if name not in after.report["suites"]:
            continue
        other = after.report["suites"][name]
        rows = [rows_of(evidence, name, "subject") for evidence in (before, after)]
        entries, compared = (suite["subject"], other["subject"]), {}
        if all(rows):
            sides = [
                Side(find(name), each, label) for each, label in zip(rows, (_label(first), _label(second)), strict=True)
            ]
            compared = comparisons_of(*sides, alpha=alpha)
            # Intervals that reports have at another level are made anew.
            entries = tuple(
                entry if level(each.report) == alpha else entry | measures_of(side, alpha=alpha)
                for entry, each, side in zip(entries, (before, after), sides, strict=True)
            )
        doubt = _doubt(name, first.report, second.report)
        for measure in (each for each in entries[0] if each in entries[1]):
            against = compared.get(measure)
            if against is not None and doubt:
                against = {**against, "note": doubt}
            found.append(Line(name, named(measure), entries[1][measure], entries[0][measure], against, None, None))
    if not found:
        raise InputInvalid(
            f"{_label(first)} and {_label(second)} have no measure in common",
            hint=f"they have {', '.join(before.report['suites'])} and {', '.join(after.report['suites'])}",
        )
    return found


def _see_comparable(first: Evaluation, second: Evaluation) -> None:
    one, other = first.report["settings"], second.report["settings"]
    for key in sorted({*one, *other} - {"alpha"}):
        if one.get(key) != other.get(key):
            raise InputInvalid(
                f"{_label(first)} and {_label(second)} were measured differently: `{key}` is {one.get(key)!r} and {other.get(key)!r}",
                hint="measure both with the same settings",
            )


def _doubt(suite: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Why numbers of the clock do not say what the subjects are like, or nothing."""
    from aifw.evaluation.report import TIMED

    if suite not in TIMED:
        return ""
    if any(each["environment"]["contention"]["contended"] for each in (first, second)):
        return "measured under contention"
    places = [{key: each["environment"][key] for key in ("hardware", "device", "threads")} for each in (first, second)]
    return "measured on different machines" if places[0] != places[1] else ""


def _adjusted(found: Sequence[Sequence[Line]], alpha: float) -> list[list[Line]]:
    """The same with p-values adjusted over everything that is shown."""
    from dataclasses import replace

    from aifw.evaluation.comparison import adjusted, outcome

    entries = {
        f"{place}/{line.measure.name}": line.compared
        for place, lines in enumerate(found)
        for line in lines
        if line.compared is not None
    }
    p = adjusted(entries)
    shown = []
    for place, lines in enumerate(found):
        row = []
        for line in lines:
            value = p.get(f"{place}/{line.measure.name}")
            doubtful = line.compared is None or line.compared.get("note")
            word = (
                "inconclusive"
                if doubtful or line.compared is None
                else outcome(line.measure, line.compared, value, alpha)
            )
            row.append(replace(line, p=value, outcome=word))
        shown.append(row)
    return shown


# Telling


def _text(first: Evaluation, second: Evaluation, lines: Sequence[Line], alpha: float, tested: int) -> Iterable[str]:
    from aifw.cli.forecast_report import counted
    from aifw.cli.report_text import measure_table

    subjects = [each.report["subject"]["name"] or each.report["subject"]["address"] for each in (first, second)]
    items = counted(second.report["data"]["items"], "item")
    about = " → ".join(dict.fromkeys(subjects))
    yield f"{style(f'{_label(first)} → {_label(second)}', 'name')} · {about} · {items}"
    yield from measure_table(lines, alpha, tested=tested)
    for note in dict.fromkeys(_notes(lines)):
        yield style(f"   {note}", "faint")
    counts = Counter(line.outcome for line in lines)
    yield ", ".join(
        f"{counts[word]} {word}" for word in ("better", "worse", "different", "inconclusive") if counts[word]
    )


def _notes(lines: Sequence[Line]) -> Iterable[str]:
    for line in lines:
        if line.compared is not None and line.compared.get("note"):
            yield f"{line.measure.title}: {line.compared['note']}"


def _document(first: Evaluation, second: Evaluation, lines: Sequence[Line]) -> dict[str, Any]:
    def side(evaluation: Evaluation) -> dict[str, Any]:
        return {
            "address": evaluation.address,
            "run": evaluation.run,
            "folder": str(evaluation.folder),
            "digest": evaluation.report["digest"],
            "subject": evaluation.report["subject"],
        }

    return {
        "before": side(first),
        "after": side(second),
        "items": second.report["data"]["items"],
        "measures": [
            {
                "suite": line.suite,
                "measure": line.measure.name,
                **(line.compared or {"before": (line.baseline or {}).get("value"), "after": line.subject["value"]}),
                "adjusted_p": line.p,
                "outcome": line.outcome,
            }
            for line in lines
        ],
    }
