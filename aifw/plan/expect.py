"""What the jobs of a plan are expected to need, where they are put for it, and what they are expected to make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aifw.kind import Forecast, History, InputFacts
from aifw.plan.model import PlannedInput, Step
from aifw.plan.place import Surroundings, choose
from aifw.plan.snapshot import Snapshot
from aifw.spec.models import Resource, Spec

_NO_HISTORY = History()


class Expectations:
    """Places one job after another, each after the jobs whose outputs it reads.

    Args:
        spec: Limits what may be used.
        snapshot: Machine, facts of what is there, and history.
    """

    def __init__(self, spec: Spec, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._around = Surroundings(spec, snapshot)
        self._forecasts: dict[str, Forecast] = {}
        self._planned: dict[str, float] = {}

    def placed(self, step: Step, resource: Resource, steps: Mapping[str, Step]) -> Step:
        """The step with where it computes and what it needs there.

        Args:
            step: Of a job that may have to run.
            resource: Of the step.
            steps: By address, those before it.

        Raises:
            Refused: It can run nowhere, or fits nowhere.
        """
        inputs = {each.field: self._facts(each, steps) for each in step.inputs}
        observation = self._snapshot.observations.get(resource.address)
        if observation is not None:
            inputs["observation"] = InputFacts(resource.address, observation.facts, certain=True)
        history = self._snapshot.history.get(resource.kind.name, _NO_HISTORY)
        placement, forecast = choose(resource, inputs, history, self._around, self._planned)
        self._forecasts[resource.address] = forecast
        self._planned[placement.device] = self._planned.get(placement.device, 0.0) + forecast.seconds.mid
        return replace(step, device=placement.device, placement=placement, forecast=forecast)

    def alike(self, address: str, twin: str) -> None:
        """Expect of one resource what is expected of another that makes the very same."""
        if twin in self._forecasts:
            self._forecasts[address] = self._forecasts[twin]

    def _facts(self, planned: PlannedInput, steps: Mapping[str, Step]) -> InputFacts:
        artifacts = self._snapshot.artifacts
        if planned.artifact and planned.digest is not None:
            return InputFacts(planned.address, artifacts[planned.artifact].outputs[planned.output].facts, certain=True)
        maker = steps.get(planned.address)
        forecast = self._forecasts.get(planned.address)
        expected = forecast.facts.get(planned.output, {}) if forecast is not None else {}
        former = {}
        if maker is not None and maker.artifact and maker.artifact in artifacts:
            record = artifacts[maker.artifact].outputs.get(planned.output)
            former = dict(record.facts) if record is not None else {}
        return InputFacts(planned.address, {**former, **expected}, certain=False)
