from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import spec_of

from aifw.plan.graph import edges, order, upstream


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    names = draw(st.permutations([f"n{index}" for index in range(draw(st.integers(0, 9)))]))
    return {
        name: tuple(draw(st.lists(st.sampled_from(names[:index]), unique=True))) if index else ()
        for index, name in enumerate(names)
    }


@given(graphs())
def test_everything_comes_after_what_it_waits_for(waits_for: dict[str, tuple[str, ...]]) -> None:
    done = order(waits_for)
    assert sorted(done) == sorted(waits_for)
    position = {name: index for index, name in enumerate(done)}
    assert all(position[each] < position[name] for name in waits_for for each in waits_for[name])


@given(graphs(), st.randoms())
def test_the_order_written_does_not_matter(waits_for: dict[str, tuple[str, ...]], random: object) -> None:
    names = list(waits_for)
    random.shuffle(names)  # type: ignore[attr-defined]
    assert order({name: waits_for[name] for name in names}) == order(waits_for)


@given(graphs(), st.data())
def test_upstream_is_closed_and_no_more_than_that(waits_for: dict[str, tuple[str, ...]], data: st.DataObject) -> None:
    if not waits_for:
        return
    targets = data.draw(st.lists(st.sampled_from(sorted(waits_for)), unique=True))
    found = upstream(waits_for, targets)
    assert set(targets) <= found
    assert all(set(waits_for[name]) <= found for name in found)
    assert all(name in targets or any(name in waits_for[each] for each in found) for name in found)


@pytest.mark.usefixtures("toy_kinds")
def test_an_alias_is_an_edge_only_until_it_is_set() -> None:
    spec = spec_of(
        {"stages": {"base": {"kind": "toy"}, "user": {"kind": "toy", "sources": ["@champion"]}}},
        aliases={"champion": {"initial": "base"}},
    )
    assert edges(spec, [])["stages.user"] == ("stages.base",)
    assert edges(spec, ["champion"])["stages.user"] == ()
