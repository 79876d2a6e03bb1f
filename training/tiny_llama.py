"""A Llama of 0.36 million parameters made from a seed: runs in seconds, downloads nothing.

It knows no language; it exists so that tests, `configs/tiny.toml` and machines without a network
run the code that trains real models. Every file is written by hand, so its digests do not depend on
the version of any library.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from training.seeded import uniform_values

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS = 128, 256, 2, 4, 2
HEAD_WIDTH = HIDDEN // HEADS
SPECIAL_TOKENS = ("<|pad|>", "<|im_start|>", "<|im_end|>")
VOCABULARY = 256 + len(SPECIAL_TOKENS)
POSITIONS = 1024
# Wide enough for tied logits to reach ±10, or an adapter alone could not lower the loss.
EMBEDDING_BOUND = 0.2

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_tiny_llama(folder: Path, seed: int) -> None:
    """Write config.json, model.safetensors (float32) and a byte-level tokenizer into `folder`."""
    save_file(_weights(seed), folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", _config())
    _write_json(folder / "tokenizer.json", _tokenizer())
    _write_json(folder / "tokenizer_config.json", _tokenizer_config())
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def _weights(seed: int) -> dict[str, NDArray[np.float32]]:
    shapes = {"embed_tokens": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        attention, mlp = f"layers.{layer}.self_attn", f"layers.{layer}.mlp"
        shapes[f"{attention}.q_proj"] = shapes[f"{attention}.o_proj"] = (HIDDEN, HIDDEN)
        shapes[f"{attention}.k_proj"] = (KV_HEADS * HEAD_WIDTH, HIDDEN)
        shapes[f"{attention}.v_proj"] = (KV_HEADS * HEAD_WIDTH, HIDDEN)
        shapes[f"{mlp}.gate_proj"] = shapes[f"{mlp}.up_proj"] = (INTERMEDIATE, HIDDEN)
        shapes[f"{mlp}.down_proj"] = (HIDDEN, INTERMEDIATE)
    weights = {}
    for name, shape in shapes.items():
        bound = EMBEDDING_BOUND if name == "embed_tokens" else (3.0 / shape[1]) ** 0.5
        weights[f"model.{name}.weight"] = uniform_values(f"tiny-llama/{seed}/{name}", shape, bound)
    norms = [f"layers.{layer}.{name}" for layer in range(LAYERS) for name in _NORMS] + ["norm"]
    weights |= {f"model.{name}.weight": np.ones(HIDDEN, dtype=np.float32) for name in norms}
    return weights


_NORMS = ("input_layernorm", "post_attention_layernorm")


def _config() -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_WIDTH,
        "max_position_embeddings": POSITIONS,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": True,
        "pad_token_id": 256,
        "bos_token_id": 257,
        "eos_token_id": 258,
    }


def _tokenizer() -> dict[str, object]:
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    added = [
        {
            "id": 256 + index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, token in enumerate(SPECIAL_TOKENS)
    ]
    vocabulary = {symbol: number for number, symbol in enumerate(_byte_symbols())}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }


def _tokenizer_config() -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": POSITIONS,
        "pad_token": SPECIAL_TOKENS[0],
        "bos_token": SPECIAL_TOKENS[1],
        "eos_token": SPECIAL_TOKENS[2],
    }


def _byte_symbols() -> list[str]:
    """Return the character that stands for each byte in a byte-level tokenizer (GPT-2's rule)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
