"""Everything about one step, as text."""

from __future__ import annotations

from dataclasses import replace

from aifw.kind import Estimate, Forecast
from aifw.plan.explanation import explain
from aifw.plan.model import Action, Placement, Plan, PlannedInput, Reason, Step, Totals

GIB = 1024**3
FORECAST = Forecast(Estimate(9.8 * GIB, 10.4 * GIB, 11.2 * GIB), Estimate(1320, 1600, 1860), note="batch 32 (auto)")
STEP = Step(
    "stages.dpo",
    "dpo",
    Action.UPDATE,
    (Reason("setting", "beta 0.1 → 0.2"),),
    device="xpu:0",
    placement=Placement("integrated_gpu", "iGPU", "xpu:0", (), 1, "best for DPO", "cloud: good; P-cores: acceptable"),
    forecast=FORECAST,
)


def explained(step: Step) -> str:
    totals = Totals(11 * GIB, "stages.dpo", 48 * GIB, 1300, 1980, 2600, 0, 0)
    return explain(Plan("field-assistant", "3f2a1c" + "0" * 58, 12, "laptop", (step,), (), totals), step.address)


def test_reasons_inputs_forecast_and_identity() -> None:
    step = replace(
        STEP,
        inputs=(
            PlannedInput("model", "models.base", "model", None, "ab" * 32, "cd" * 32),
            PlannedInput("data", "datasets.p", "train", "best", None, None),
        ),
        identity='{"settings":{"beta":0.2}}',
        recipe="12" * 32,
        start=90.0,
    )
    text = explained(step)
    for part in (
        "beta 0.1 → 0.2",
        "model: models.base, output model, abababababab",
        "data: @best, datasets.p, output train, not made yet",
        "10.4 GiB, between 9.8 GiB and 11.2 GiB",
        "declared by the kind",
        "batch 32 (auto)",
        "1 min 30 s after the run begins",
        '"beta": 0.2',
        "12" * 32,
        "not known before its inputs are made",
    ):
        assert part in text


def test_the_place_and_what_was_next_best() -> None:
    text = explained(STEP)
    assert "  place      iGPU (xpu:0): best for DPO\n" in text
    assert "  next best  cloud: good\n             P-cores: acceptable\n" in text
    assert "  computes   1 thread on any processor\n" in text
    placement = Placement("performance_cores", "P-cores", "cpu", (0, 1, 2, 3, 8), 3)
    assert "  computes   3 threads on processors 0-3,8\n" in explained(replace(STEP, placement=placement))


def test_what_memory_is_made_of_largest_first() -> None:
    forecast = replace(FORECAST, parts={"logits": 1.4 * GIB, "weights": 9.0 * GIB, "reference": 0.0})
    assert "\n             weights 9.0 GiB · logits 1.4 GiB\n" in explained(replace(STEP, forecast=forecast))


def test_what_is_wider_than_the_terminal_is_wrapped_beside_its_name() -> None:
    plan = Plan(
        "a",
        "3f" * 32,
        1,
        "laptop",
        (replace(STEP, identity='{"name":"' + "x" * 90 + '"}'),),
        (),
        Totals(0, "", 0, 0, 0, 0, 0, 0),
    )
    parts = {"worker": 0.3 * GIB, "weights": 9.0 * GIB, "activations": 2.0 * GIB}
    plan = replace(plan, steps=(replace(plan.steps[0], forecast=replace(FORECAST, parts=parts)),))
    text = explain(plan, STEP.address, width=50)
    assert "\n             weights 9.0 GiB · activations 2.0 GiB\n             · worker 307 MiB\n" in text
    assert "x" * 90 in text


def test_what_the_kind_had_stated_before_it_was_corrected() -> None:
    assert "stated" not in explained(STEP)
    text = explained(replace(STEP, forecast=replace(FORECAST, uncorrected=(8.0 * GIB, 1200.0))))
    assert "  stated     8.0 GiB and 20 min by the kind" in text


def test_a_step_that_runs_nowhere_has_no_place() -> None:
    text = explained(replace(STEP, action=Action.REUSE, placement=None, forecast=None, device=""))
    assert "place" not in text
