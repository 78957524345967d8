from __future__ import annotations

import json
from typing import Annotated, Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from aifw.kind import ArtifactKind, Observation, Output
from aifw.plan.identity import canonical, combine, differences, own_identity
from aifw.settings import Ref, Settings, execution
from aifw.spec.models import Reference, Resource


class Inner(Settings):
    rank: int = 8
    scale: float = 1.0


class Example(Settings):
    beta: float = 0.1
    label: str = "a"
    inner: Inner = Field(default_factory=Inner)
    maybe: Inner | None = None
    from_: Annotated[Ref[Output] | None, Field(alias="from")] = None
    many: list[Ref[Output]] = []
    named: dict[str, Ref[Output]] = {}
    speed: Annotated[int, execution] = 1
    batch_size: Annotated[int, Field(alias="batch"), execution] = 1


class ExampleKind(ArtifactKind[Example]):
    name = "example"
    section = "stages"
    settings = Example
    run = "nowhere:run"


class Seeded(ExampleKind):
    seeded = True


class Newer(ExampleKind):
    version = 3


def identity(kind: Any = None, *, references: Any = (), observation: Any = None, seed: int = 0, **settings: Any) -> str:
    typed = Example.model_validate(settings)
    resource = Resource("stages.x", (kind or ExampleKind)(), typed, tuple(Reference(*each) for each in references))
    return own_identity(resource, observation, seed)


def reasons(before: str, after: str) -> list[tuple[str, str]]:
    return [(reason.about, reason.text) for reason in differences(before, after, Example)]


def test_a_default_that_is_written_out_is_the_same() -> None:
    assert identity(beta=0.1, inner={"rank": 8}, many=[]) == identity()


def test_how_a_job_runs_is_no_part_of_it_whatever_its_name_in_a_spec() -> None:
    assert identity(speed=9, batch=64) == identity()


def test_the_name_of_an_input_is_no_part_of_it() -> None:
    one = identity(**{"from": "a"}, references=[("from", "a", "stages.a", "text")])
    assert one == identity(**{"from": "b"}, references=[("from", "b", "stages.b", "text")])
    one = identity(many=["a"], references=[("many.0", "a", "stages.a", "text")])
    assert one == identity(many=["b"], references=[("many.0", "b", "stages.b", "text")])
    one = identity(named={"x": "a"}, references=[("named.x", "a", "stages.a", "text")])
    assert one == identity(named={"x": "b"}, references=[("named.x", "b", "stages.b", "text")])


def test_the_seed_counts_only_for_kinds_that_use_it() -> None:
    assert identity(seed=1) == identity(seed=2)
    assert identity(Seeded, seed=1) != identity(Seeded, seed=2)


def test_differences_name_the_setting_and_both_values() -> None:
    assert reasons(identity(), identity(beta=0.2)) == [("setting", "beta 0.1 → 0.2")]
    assert reasons(identity(label="b"), identity()) == [("setting", "label b → a")]
    assert reasons(identity(inner={"rank": 4}), identity()) == [("setting", "inner.rank 4 → 8")]
    assert reasons(identity(), identity(maybe={"rank": 4})) == [("setting", 'maybe unset → {"rank":4}')]
    two = reasons(identity(), identity(beta=0.2, inner={"scale": 2.0}))
    assert two == [("setting", "beta 0.1 → 0.2"), ("setting", "inner.scale 1.0 → 2.0")]


def test_a_long_value_is_cut() -> None:
    ((_, text),) = reasons(identity(), identity(label="x" * 500))
    assert len(text) < 80
    assert text.endswith("...")


def test_more_inputs_are_counted_not_shown_as_blanks() -> None:
    before = identity(many=["a"], references=[("many.0", "a", "stages.a", "text")])
    after = identity(many=["a", "b"], references=[("many.0", "a", "", ""), ("many.1", "b", "", "")])
    assert reasons(before, after) == [("input", "many: 1 → 2 inputs")]
    assert reasons(identity(), before) == [("input", "many: 0 → 1 inputs")]


def test_differences_name_version_seed_and_kind() -> None:
    assert reasons(identity(), identity(Newer)) == [("version", "example version 1 → 3")]
    assert reasons(identity(Seeded, seed=1), identity(Seeded, seed=2)) == [("seed", "seed 1 → 2")]
    other = canonical({**json.loads(identity()), "kind": "other"})
    assert reasons(other, identity(beta=0.2)) == [("kind", "kind other → example")]


def test_differences_tell_what_was_seen() -> None:
    before, after = (identity(observation=Observation(mark, f"{mark} events")) for mark in ("512", "726"))
    assert reasons(before, after) == [("observation", "512 events → 726 events")]
    again = identity(observation=Observation("other", "512 events"))
    assert reasons(before, again) == [("observation", "content changed (512 events)")]
    assert reasons(identity(), before) == [("observation", "unknown → 512 events")]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_canonical_text_is_the_same_after_a_round_trip(value: Any) -> None:
    assert canonical(json.loads(canonical(value))) == canonical(value)


@given(st.dictionaries(st.text(), st.text(), min_size=1), st.data())
def test_a_key_depends_on_every_input_and_on_no_order(inputs: dict[str, str], data: st.DataObject) -> None:
    key = combine("own", inputs)
    assert combine("own", dict(data.draw(st.permutations(list(inputs.items()))))) == key
    assert combine("other", inputs) != key
    name = data.draw(st.sampled_from(sorted(inputs)))
    assert combine("own", {**inputs, name: inputs[name] + "x"}) != key
    assert combine("own", {each: digest for each, digest in inputs.items() if each != name}) != key
