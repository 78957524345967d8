"""Attention over shared prompts without a mask in memory, for accelerators: blocks that nothing sees are not computed.

(FlexAttention: Dong et al. 2024, arXiv:2412.05496.) Whether it is there, gives the same numbers and has gradients is found out by trying it;
otherwise attention gets a mask of numbers, which is right everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aifw.models.chat import EncodedPair

if TYPE_CHECKING:
    from torch import Tensor

NAME = "flex_attention"
"""What transformers calls it."""


def has_flexible_attention(device: str) -> bool:
    """Whether it may pay to try: on a processor it has no gradients, and elsewhere its kernels need Triton."""
    from importlib.util import find_spec

    return device.partition(":")[0] == "cuda" and find_spec("triton") is not None


def seen(pairs: Sequence[EncodedPair], device: str) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Says of row, head, token and other token whether the token sees the other, in rows of `aifw.training.pair_rows`.

    Args:
        pairs: One a row.
        device: Where the rows are.
    """
    import torch

    prompt = torch.tensor([len(pair.prompt) for pair in pairs], device=device)
    rejected = torch.tensor([len(pair.prompt) + len(pair.chosen) for pair in pairs], device=device)

    def sees(row: Tensor, _head: Tensor, token: Tensor, other: Tensor) -> Tensor:
        of_the_chosen = (other >= prompt[row]) & (other < rejected[row])
        return (other <= token) & ~((token >= rejected[row]) & of_the_chosen)

    return sees


def blocks_seen(pairs: Sequence[EncodedPair], length: int, device: str) -> Any:
    """The same as a `BlockMask` for rows of a length."""
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(seen(pairs, device), len(pairs), None, length, length, device=device)


@contextmanager
def attending(module: Any) -> Iterator[None]:
    """Have a model of transformers attend so meanwhile.

    Raises:
        ValueError: Its architecture does not.
    """
    before = module.config.get_text_config()._attn_implementation
    module.set_attn_implementation(NAME)
    try:
        yield
    finally:
        module.set_attn_implementation(before)
