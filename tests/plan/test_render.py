"""A plan as text."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from aifw.hardware.machine import Accelerator, Cpu, Machine, Memory
from aifw.hardware.processor.cores import Cores
from aifw.kind import Estimate, Forecast
from aifw.plan.columns import columns
from aifw.plan.model import PENDING, Action, AliasChange, Placement, Plan, Reason, Step, Totals
from aifw.plan.render import MARKS, because, describe, render, tally, where

GIB = 1024**3
MACHINE = Machine("laptop", Cpu("cpu", 14), Memory(62 * GIB, 50 * GIB), detected=(Accelerator("npu", "Intel NPU"),))
TOTALS = Totals(11 * GIB, "stages.dpo", 48 * GIB, 1300, 1980, 2600, 0, 0)
FORECAST = Forecast(Estimate(9.8 * GIB, 10.4 * GIB, 11.2 * GIB), Estimate(1320, 1600, 1860), note="batch 32 (auto)")


def _plan(*steps: Step, totals: Totals = TOTALS, **more: object) -> Plan:
    plan = Plan("field-assistant", "3f2a1c" + "0" * 58, 12, "laptop", steps, (), totals)
    return replace(plan, **more)  # type: ignore[arg-type]


def _step(name: str, action: Action, reason: str = "new", **more: object) -> Step:
    forecast = FORECAST if action in PENDING else None
    step = Step(f"stages.{name}", "dpo", action, (Reason("new", reason),), device="cpu", forecast=forecast)
    return replace(step, **more)  # type: ignore[arg-type]


def test_a_row_says_what_where_how_much_and_why() -> None:
    text = render(_plan(_step("dpo", Action.UPDATE, "input preferences")), machine=MACHINE)
    assert "field-assistant · spec 3f2a1c · state #12 · laptop: 62.0 GiB pool, 14 cores, Intel NPU" in text
    row = next(line for line in text.splitlines() if "stages.dpo " in line)
    assert (
        row
        == " ~ stages.dpo   update   cpu   9.8\N{EN DASH}11.2 GiB   22\N{EN DASH}31 min   input preferences; batch 32 (auto)"
    )
    assert "Peak 11.0 GiB of 48.0 GiB at stages.dpo · about 33 min (22\N{EN DASH}43 min) · $0.00" in text
    assert "1 to update." in text


def test_every_action_has_a_mark_and_a_place_in_the_tally() -> None:
    steps = [_step(action.value, action) for action in Action]
    text = tally(_plan(*steps))
    assert set(MARKS) == set(Action)
    assert text.count("1 ") == len(Action)


def test_costs_are_a_range_of_what_is_certain_and_what_may_come() -> None:
    totals = replace(TOTALS, cost_low=1_500_000, cost_high=4_000_000)
    assert "$1.50\N{EN DASH}$4.00" in render(_plan(_step("dpo", Action.CREATE), totals=totals))


def test_warnings_aliases_and_targets_are_shown() -> None:
    plan = _plan(
        _step("dpo", Action.CREATE),
        warnings=("stages.dpo may need more than there is",),
        aliases=(AliasChange("champion", "models.base"),),
        targets=("stages.dpo",),
    )
    text = render(plan)
    assert "warning: stages.dpo may need more than there is" in text
    assert re.search(r"\+ @champion +set +starts as models.base", text)
    assert "only stages.dpo" in text
    assert "1 to create, 1 alias to set." in text


def test_unchanged_resources_are_counted_beyond_a_number() -> None:
    steps = [_step(f"s{index}", Action.REUSE) for index in range(9)]
    plan = _plan(_step("dpo", Action.CREATE), *steps)
    assert "stages.s1" not in render(plan)
    assert " = 9 unchanged (--all shows them)" in render(plan)
    assert " = 9 unchanged\n" in render(plan, most_unchanged=0)
    assert "stages.s8" in render(plan, most_unchanged=None)


def test_an_empty_plan_says_so_and_shows_what_is_held() -> None:
    plan = _plan(_step("promotion", Action.HELD, "held: inconclusive"), totals=Totals(0, "", GIB, 0, 0, 0, 0, 0))
    text = render(plan)
    assert " ! stages.promotion   held" in text
    assert "held: inconclusive" in text
    assert "Nothing to do: 1 held." in text
    assert "Peak" not in text


def test_a_machine_in_words() -> None:
    assert describe(MACHINE) == "laptop: 62.0 GiB pool, 14 cores, Intel NPU"
    layout = Cores({0: "performance", 1: "performance", 2: "efficient", 3: "low-power", 4: "low-power"}, "", ((0, 1),))
    hybrid = replace(MACHINE, cpu=Cpu("cpu", 5, layout=layout))
    assert describe(hybrid) == "laptop: 62.0 GiB pool, 1P+3E, Intel NPU"


def test_a_row_says_the_place_and_the_number_format_the_forecast_notes() -> None:
    step = _step("dpo", Action.CREATE, placement=Placement("integrated_gpu", "iGPU", "xpu:0", (), 1))
    assert where(step) == "iGPU"
    assert where(replace(step, forecast=replace(FORECAST, note="batch 32 (auto), bf16"))) == "iGPU bf16"
    assert where(replace(step, forecast=replace(FORECAST, note="bf16 rather than fp32"))) == "iGPU"
    assert where(_step("dpo", Action.REUSE, device="")) == ""
    assert "   iGPU   " in render(_plan(step))


NAMES = st.text(st.sampled_from("abcdefgh-日"), min_size=1, max_size=20)
STEPS = st.lists(
    st.builds(_step, NAMES, st.sampled_from(list(Action)), st.text(st.sampled_from("abc 日…"), max_size=120)),
    max_size=6,
    unique_by=lambda step: step.address,
)


@given(STEPS, st.integers(40, 200))
def test_no_line_is_wider_than_the_terminal_and_no_reason_is_lost(steps: list[Step], width: int) -> None:
    text = render(_plan(*steps), machine=MACHINE, width=width, most_unchanged=None)
    lines = text.splitlines()
    for line in lines:
        assert columns(line) <= width or " " not in line.strip(), line
    words = " ".join(lines).split()
    for step in steps:
        assert all(word in words for word in because(step).split())


@given(STEPS)
def test_colour_changes_nothing_but_colour(steps: list[Step]) -> None:
    plan = _plan(*steps)
    coloured = render(plan, width=80, style=lambda text, role: f"\x1b[1m{text}\x1b[0m")
    assert re.sub(r"\x1b\[\dm", "", coloured) == render(plan, width=80)
