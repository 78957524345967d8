"""A reward model: a language model whose output layer is one number, read at the end of an answer.

It is transformers' `AutoModelForSequenceClassification` with one label, so whoever has transformers can load it. As there, the reward is read at
the last token that is not the padding token; where a tokenizer pads with the token that ends a turn, that is the one before it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aifw.errors import InputInvalid
from aifw.hardware.libraries.backend import Backend
from aifw.models.chat import EncodedPair
from aifw.models.describe import weights
from aifw.models.kinds import model_files
from aifw.models.load import LanguageModel, load_tokenizer
from aifw.models.memory_training import HALF_MULTIPLE
from aifw.training.pair_rows import lay_rows
from aifw.training.policy import tried

if TYPE_CHECKING:
    from torch import Tensor

HEAD = "score"
"""What transformers calls the layer that gives the reward."""
_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}
"""Of a reward, relative to the size of rewards or to one, between two ways to compute it."""


def load_reward_model(folder: Path, backend: Backend, seed: int = 0) -> LanguageModel:
    """Load a `RewardModel`, or a `TextModel` with a new output layer.

    Args:
        folder: Where it is.
        backend: How it is to be run.
        seed: Of a new output layer.

    Raises:
        InputInvalid: The folder holds no model that can be read, or its architecture has no form with one output.
    """
    from transformers import AutoModelForSequenceClassification

    tokenizer = load_tokenizer(folder)
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        module = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=1,
            dtype=backend.dtype(),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise InputInvalid(f"{folder} holds no model that can be read with one output: {error}") from error
    finally:
        torch.set_rng_state(before)
    module.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    module = module.to(backend.target).eval()
    context = getattr(module.config.get_text_config(), "max_position_embeddings", None)
    return LanguageModel(module, tokenizer, backend.device, backend.precision, int(context or 2**31))


def merge_reward_adapter(base: Path, adapter: Path, out: Path, seed: int) -> None:
    """Write a reward model: the weights with an adapter added to them, and the trained output layer.

    The sum is computed in fp32 and written in the number format the model is stored in. Tokenizer and licence are those of the model.

    Args:
        base: Folder of a `TextModel`.
        adapter: Folder of an `Adapter` with an output layer.
        out: Existing empty folder.
        seed: Of the output layer the training began with, which is replaced.
    """
    from peft import PeftModel

    counted = weights(base)
    stored = getattr(torch, max(sorted(counted), key=lambda name: counted[name]))
    model = load_reward_model(base, Backend("torch", "cpu", "cpu", "fp32"), seed).module
    merged = PeftModel.from_pretrained(model, adapter, is_trainable=False).merge_and_unload()
    merged.to(stored).save_pretrained(out, max_shard_size="1000GB")
    for file in model_files(base):
        if not file.name.startswith("model") and file.name not in {"config.json", "generation_config.json"}:
            shutil.copyfile(file, out / file.name)
    for written in out.iterdir():
        written.chmod(0o644)


@dataclass(frozen=True, slots=True)
class Rewards:
    """A reward model that is asked about answers, with gradients where they are wanted.

    Attributes:
        module: A sequence classifier of transformers with one label.
        padding: Token for the ends of shorter rows; a reward is never read at it.
        device: Where it is.
        precision: Format of the arithmetic.
        shares: Whether prompts are computed once for both answers of a pair.
    """

    module: Any
    padding: int
    device: str
    precision: str
    shares: bool = False

    @classmethod
    def of(cls, model: LanguageModel, longest: EncodedPair) -> Rewards:
        """The shorter way where it is right.

        Args:
            model: From `load_reward_model`, in evaluation mode.
            longest: Pair with the longest sequence, on which both ways are compared.
        """
        apart = cls(model.module, model.tokenizer.pad_token_id, model.device, model.precision)
        shared = replace(apart, shares=True)

        def agree() -> bool:
            changed = EncodedPair(longest.prompt, (longest.chosen[0],) * len(longest.chosen), longest.rejected)
            for pair in (longest, changed):
                one, other = apart.of_pairs([pair]), shared.of_pairs([pair])
                if float((one - other).abs().max()) > _TOLERANCE[model.precision] * max(1.0, float(one.abs().max())):
                    return False
            return True

        return shared if hasattr(model.module, HEAD) and tried(agree, otherwise=False) else apart

    def of_pairs(self, pairs: Sequence[EncodedPair]) -> Tensor:
        """Rewards of chosen and rejected answers; [pairs, 2] in fp32."""
        if not self.shares:
            texts = [(pair.prompt, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
            return self.of_answers(texts).view(-1, 2)
        half = self.precision == "bf16"
        dtype = torch.bfloat16 if half else torch.float32
        rows = lay_rows(pairs, self.padding, self.device, dtype, HALF_MULTIPLE if half else 1)
        row, column = [], []
        for index, pair in enumerate(pairs):
            prompt, chosen = len(pair.prompt), len(pair.chosen)
            row += [index, index]
            column += [
                self._last(pair.prompt, pair.chosen, prompt),
                self._last(pair.prompt, pair.rejected, prompt + chosen),
            ]
        with self._autocast():
            states = self.module.base_model(
                input_ids=rows.ids, attention_mask=rows.mask, position_ids=rows.positions, use_cache=False
            ).last_hidden_state[row, column]
            rewards: Tensor = getattr(self.module, HEAD)(states).float().view(-1, 2)
        return rewards

    def of_answers(self, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Tensor:
        """Rewards of answers to prompts, a row each, as transformers computes them; [texts] in fp32."""
        longest = max(len(prompt) + len(answer) for prompt, answer in texts)
        ids = torch.full((len(texts), longest), self.padding)
        there = torch.zeros((len(texts), longest), dtype=torch.long)
        for index, (prompt, answer) in enumerate(texts):
            end = len(prompt) + len(answer)
            ids[index, :end] = torch.tensor([*prompt, *answer])
            there[index, :end] = 1
        with self._autocast():
            output = self.module(
                input_ids=ids.to(self.device), attention_mask=there.to(self.device), use_cache=False
            ).logits
        rewards: Tensor = output.float().squeeze(-1)
        return rewards

    def _last(self, prompt: Sequence[int], answer: Sequence[int], begins: int) -> int:
        """Where in a row the reward of an answer is read that begins at `begins`, behind a prompt that begins at 0."""
        for place in range(len(answer) - 1, -1, -1):
            if answer[place] != self.padding:
                return begins + place
        return max((place for place, token in enumerate(prompt) if token != self.padding), default=0)

    def _autocast(self) -> Any:
        return torch.autocast(self.device.partition(":")[0], dtype=torch.bfloat16, enabled=self.precision == "bf16")
