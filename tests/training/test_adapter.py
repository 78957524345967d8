from __future__ import annotations

from typing import Any

import torch

from aifw.job import Input
from aifw.models.load import load, quiet
from aifw.training.adapter import add_adapter, drop_in_adapter_only, sum_in_place
from aifw.training.kinds import LoraSettings


def _model(source: Input, **settings: Any) -> Any:
    with quiet():
        model = add_adapter(load(source.path).module, LoraSettings(r=4, **settings), 3)
    drop_in_adapter_only(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    return model


def _gradients(model: Any, half: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    ids = torch.randint(3, 200, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = model(input_ids=ids).logits
    logits.float().square().mean().backward()
    return logits.detach().float(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_a_sum_in_place_is_the_sum_of_peft(dpo_inputs: dict[str, Input]) -> None:
    plain, summed = _model(dpo_inputs["model"]), _model(dpo_inputs["model"])
    sum_in_place(summed)
    (theirs, of_theirs), (ours, of_ours) = _gradients(plain, False), _gradients(summed, False)
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
    assert of_ours.keys() == of_theirs.keys()
    assert len(of_ours) == 2 * 2 * 7
    for name, gradient in of_theirs.items():
        assert (of_ours[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_in_half_precision_it_is_as_exact(dpo_inputs: dict[str, Input]) -> None:
    plain, summed = _model(dpo_inputs["model"]), _model(dpo_inputs["model"])
    exact = _gradients(_model(dpo_inputs["model"]), False)
    sum_in_place(summed)
    theirs, ours = _gradients(plain, True), _gradients(summed, True)
    assert (ours[0] - exact[0]).norm() <= 1.3 * (theirs[0] - exact[0]).norm()
    wrong = [sum(float((each[1][name] - exact[1][name]).norm()) for name in exact[1]) for each in (ours, theirs)]
    assert wrong[0] <= 1.3 * wrong[1]


def test_fewer_tensors_are_written(dpo_inputs: dict[str, Input]) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Written(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor) and found._base is None and "view" not in str(func):
                self.numbers += found.numel()
            return found

    written = []
    for change in (False, True):
        model = _model(dpo_inputs["model"])
        if change:
            sum_in_place(model)
        with Written() as seen:
            model(input_ids=torch.full((2, 32), 5))
        written.append(seen.numbers)
    assert written[1] < 0.85 * written[0]


def test_layers_with_dropout_stay_as_they_are(dpo_inputs: dict[str, Input]) -> None:
    model = _model(dpo_inputs["model"], dropout=0.2)
    before = [module.forward for module in model.modules()]
    sum_in_place(model)
    assert [module.forward for module in model.modules()] == before
