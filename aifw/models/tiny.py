"""A random Llama of some ten thousand weights and a vocabulary of bytes, for tests of whatever takes a `TextModel`."""

from __future__ import annotations

from pathlib import Path

from aifw.job import Input
from aifw.models.describe import describe
from aifw.models.load import quiet

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_model(folder: Path, *, seed: int = 0, template: str | None = TEMPLATE, digest: str = "") -> Input:
    """Write a model in the format of transformers.

    Args:
        folder: Made if it is not there.
        seed: Of the weights.
        template: Chat template, or None for a model that knows no roles.
        digest: What the input claims; default the name of the folder and the seed.

    Returns:
        The model as a job's input.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: index for index, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=special[0], eos_token=special[2], additional_special_tokens=special[1:2]
    )
    tokenizer.chat_template = template
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    before = torch.get_rng_state()
    try:
        torch.manual_seed(seed)
        module = LlamaForCausalLM(config)
    finally:
        torch.set_rng_state(before)
    with quiet():
        module.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    facts = {**describe(folder), "provenance": f"a random Llama with seed {seed}", "licence": "MIT"}
    return Input(folder.name, folder, facts, digest or f"{folder.name}-{seed}")
