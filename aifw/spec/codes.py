"""Every code a diagnostic of a spec can have, and what there is to know about it."""

from __future__ import annotations

from typing import NamedTuple


class Explanation(NamedTuple):
    """What there is to know about a code: a title, and a paragraph for `aifw explain`."""

    title: str
    text: str


CODES: dict[str, Explanation] = {
    "AIFW001": Explanation(
        "A file cannot be read",
        "A spec or overlay that was named does not exist, is a folder, or may not be read by you. Paths are relative to the folder "
        "the command runs in.",
    ),
    "AIFW002": Explanation(
        "Not UTF-8",
        "A spec is UTF-8 text, with or without a byte order mark. The caret marks the first byte that is not; often the file was saved "
        "as Latin-1 or UTF-16. Editors can save it again as UTF-8.",
    ),
    "AIFW003": Explanation(
        "Not YAML",
        "The text cannot be read as YAML 1.2, so nothing after this place was looked at. Frequent reasons: a tab in the indentation, a "
        "quote or bracket that is never closed, a text with `: ` or a leading `@`, `*` or `%` without quotes.",
    ),
    "AIFW004": Explanation(
        "A key is given twice",
        "YAML wants the keys of a mapping to be unique. Many readers silently keep the last one; aifw refuses, because one of the two is "
        "not what was meant.",
    ),
    "AIFW005": Explanation(
        "A key is not text",
        "All keys of a spec are names. `1:`, `true:` and `null:` are a number, a truth value and nothing; quotes make them text. "
        "`yes`, `no`, `on` and `off` are text in YAML 1.2.",
    ),
    "AIFW006": Explanation(
        "YAML that a spec does not use",
        "A spec is one document of plain data: no tags beyond those of the core schema, no merge keys (`<<`, which YAML 1.2 does not have), "
        "no second document. Anchors and aliases are allowed; to share values, `defaults` and `${defaults.name}` say better where a value comes from.",
    ),
    "AIFW007": Explanation(
        "Too large or too deep",
        "A spec may have 4 MiB, 64 levels, and aliases that add at most 100,000 values. Data belongs into files that the spec names.",
    ),
    "AIFW008": Explanation(
        "An alias that repeats nothing",
        "`*name` repeats what stands at `&name` earlier in the same file. Nothing has that anchor there, or the alias stands inside of it. "
        "A text that starts with `*`, such as a file pattern, needs quotes.",
    ),
    "AIFW009": Explanation(
        "A malformed `--set`",
        "`--set` takes KEY=VALUE, where KEY is a path such as `stages.dpo.epochs` (a number leads into a list) and VALUE is YAML: `3`, `true`, `text`, "
        "`[a, b]`. `null` takes the entry away, so that its default applies.",
    ),
    "AIFW010": Explanation(
        "Unknown section",
        "Beside `apiVersion`, `kind`, `metadata`, `seed`, `hardware`, `policy`, `aliases` and `defaults`, a spec has sections of named resources. "
        "Values of your own go below `defaults`.",
    ),
    "AIFW011": Explanation(
        "Unknown kind",
        "`kind` says what a resource is. Kinds come with aifw or with packages that are installed beside it; `aifw explain KIND` describes one, "
        "`aifw schema` lists all.",
    ),
    "AIFW012": Explanation(
        "Unknown setting",
        "The kind of this resource has no setting of this name. `aifw explain KIND` lists the settings with their types and defaults.",
    ),
    "AIFW013": Explanation(
        "A kind in the wrong section",
        "Every kind belongs in one section; the address of a resource (`section.name`) tells what it is. Move the resource.",
    ),
    "AIFW014": Explanation(
        "A setting is missing",
        "This setting has no default. `aifw explain KIND` says what it means. Where an overlay gave it as `null`, it was taken away: "
        "`null` in an overlay removes an entry.",
    ),
    "AIFW015": Explanation(
        "Not a mapping",
        "A spec, a section and a resource are mappings (`name: value`). A resource at least says its `kind`.",
    ),
    "AIFW016": Explanation(
        "Not a name",
        "Names of resources are letters, digits, `_` and `-`, and start with a letter or `_`, so that references (`section.name.output`) can be told apart.",
    ),
    "AIFW020": Explanation(
        "Wrong type",
        "The value is of another type than the setting. Nothing is converted silently: text is no number, and `1` is not `true`. Environment variables are "
        "text; `${oc.decode:${oc.env:NAME}}` reads one as a number or truth value.",
    ),
    "AIFW021": Explanation(
        "Out of range",
        "The value is of the right type but too small, too large, too short or too long. Where it came from elsewhere, a note says from where.",
    ),
    "AIFW022": Explanation(
        "Not one of the choices",
        "The setting takes one of a few words. `aifw explain KIND` lists them with their meaning.",
    ),
    "AIFW023": Explanation(
        "Not of the right form",
        "The text does not have the form the setting wants: a size (`48GiB`), a duration (`6h`), a share (`25%`), an amount (`$200`), a source, a pattern.",
    ),
    "AIFW024": Explanation(
        "Settings that do not go together",
        "Each of the settings is fine by itself, but not all of them at once. The message names the rule.",
    ),
    "AIFW030": Explanation(
        "A reference to the wrong thing",
        "The setting wants the output of another resource, of a certain type; what is named makes something else. The label lists what would fit in this spec. "
        "What an alias may move to is of the type the alias starts with, or another form of the same: a text model or an OpenVINO model. Whoever refers to the alias must be able "
        "to take each of them.",
    ),
    "AIFW031": Explanation(
        "A reference to nothing",
        "No resource of this spec has this name. A reference is a plain name where that is unique, else `section.name`; `.output` picks one of several outputs; "
        "`@alias` means what an alias pointed to when the run began.",
    ),
    "AIFW032": Explanation(
        "An ambiguous reference",
        "Several resources have this name, or it can be read as a resource as well as an output. Write the whole address: `section.name` or `section.name.output`.",
    ),
    "AIFW033": Explanation(
        "Which output?",
        "The resource has several outputs that would fit, or none of the name given. Add `.output`; the label lists them.",
    ),
    "AIFW034": Explanation(
        "A circle",
        "Resources need each other in a circle, so none can be made first. To build on what an earlier run made, refer to an alias: `@champion` is the artifact the alias "
        "pointed to when the run began, and never an edge of the graph.",
    ),
    "AIFW035": Explanation(
        "Unknown alias",
        "`@name` refers to an alias that is declared below `aliases:` with what it starts as: `aliases: {champion: {initial: base}}`. "
        "A resource that moves an alias, such as a promotion, names one that is declared there as well, without the `@`.",
    ),
    "AIFW036": Explanation(
        "Not an artifact",
        "An alias points to an artifact: something a job made, which never changes and is kept. What lives outside of the store, or runs, "
        "changes or ends while the alias would still point to it. Name the output of a resource that makes an artifact.",
    ),
    "AIFW040": Explanation(
        "A value taken from nothing",
        "`${section.name.key}` takes a value from another place of the spec, counted from the top; there is no such place. For a literal `${`, write `\\${`.",
    ),
    "AIFW041": Explanation(
        "An environment variable is not set",
        "`${oc.env:NAME}` is the text of an environment variable. It is not set, and there is no default (`${oc.env:NAME,default}`). Secrets are not taken this way: "
        "a setting that needs one accepts `{env: NAME}` or `{file: PATH}`.",
    ),
    "AIFW042": Explanation(
        "Values that go round in a circle",
        "A value is taken from a place that, directly or not, takes it from here.",
    ),
    "AIFW043": Explanation(
        "A malformed interpolation",
        "`${...}` is a path (`${defaults.name}`), `${oc.env:NAME}`, or another form that OmegaConf defines, with its resolvers `oc.env`, `oc.decode`, `oc.select`, `oc.create`, "
        "`oc.dict.keys` and `oc.dict.values`. A mapping or list can be taken whole, but cannot be part of a text.",
    ),
    "AIFW044": Explanation(
        "Values that grow too large",
        "Taking values from values multiplied them beyond a million characters or a hundred thousand entries.",
    ),
}
"""Explanations by code. Codes are stable: one that is no longer given is not given to anything else."""
