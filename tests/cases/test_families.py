"""Families of models with random weights: each trains in four bits, and its exports agree."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.cases import models
from tests.training.conftest import EXAMPLES, lora, make_spec, quantization
from training.adapter import initial_array
from training.export import save_adapter_folder, save_merged
from training.model import load_base, resolve_targets
from training.session import open_session
from training.sources import ModelSource, resolve_source

IDS = torch.arange(30)[None]
LLAMA: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 16,
}
PLAIN = {name: LLAMA[name] for name in LLAMA if name not in ("num_key_value_heads", "head_dim")}
EXPERTS = {"moe_intermediate_size": 64, "shared_expert_intermediate_size": 64, "num_experts": 4}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma": LLAMA,
    "gemma2": LLAMA,
    "phi": PLAIN,
    "phi3": LLAMA,
    "gpt_neox": PLAIN,
    "opt": {
        "hidden_size": 64,
        "word_embed_proj_dim": 64,
        "ffn_dim": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
    },
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
    "qwen2_moe": {**LLAMA, **EXPERTS, "num_experts_per_tok": 2},
    "mixtral": {**LLAMA, "num_local_experts": 4},
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_in_four_bits_and_its_exports_agree(tmp_path: Path, family: str) -> None:
    torch.set_num_threads(1)
    tiny = resolve_source("tiny-llama", tmp_path).folder
    folder = models.of_family(family, tiny, tmp_path / "model", **FAMILIES[family])
    source = ModelSource(family, "local", folder, folder)
    adapter = resolve_targets(folder, lora(targets=("all-linear",)))
    spec = make_spec(source, adapter=adapter, steps=8, learning_rate=0.02)
    spec = spec.model_copy(update={"quantization": quantization("nf4")})
    session = open_session(spec, str(folder), tmp_path)
    start = {layer.name: initial_array(layer.name, layer.shape, 3) for layer in spec.layers}
    trained, report = session.train_arrays(start, EXAMPLES, 3)
    assert report.last_loss < report.mean_loss
    given = {"base": folder, "base_name": family, "adapter": adapter, "seed": 3}
    save_adapter_folder(trained, tmp_path / "adapter", **given)  # type: ignore[arg-type]
    save_merged(trained, tmp_path / "merged", base=folder, spec=spec, precision="fp32")
    with torch.no_grad():
        federation = session._model.eval()(IDS).logits
        beside = load_base(folder, spec.quantization)
        quantised = PeftModel.from_pretrained(beside, tmp_path / "adapter").eval()(IDS).logits
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        plain = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(IDS).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()(IDS).logits
    torch.testing.assert_close(quantised, federation, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(merged, plain, atol=1e-3, rtol=1e-3)
