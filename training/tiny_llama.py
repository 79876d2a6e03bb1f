"""A Llama of 0.36 million parameters generated from a seed: runs in seconds, downloads nothing.

It knows no language. With it, tests, `configs/tiny.toml` and machines without a network run the
code that trains real models.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save_file

from training.seeded import uniform_values

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS = 128, 256, 2, 4, 2
HEAD_WIDTH = HIDDEN // HEADS
SPECIAL_TOKENS = ("<|pad|>", "<|im_start|>", "<|im_end|>")
VOCABULARY = 256 + len(SPECIAL_TOKENS)
POSITIONS = 1024
# Wide enough for tied logits to reach ±10; otherwise an adapter alone could not lower the loss.
EMBEDDING_BOUND = 0.2

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


_LAYER_NORMS: Final = ("input_layernorm", "post_attention_layernorm")
# Every file is written by hand, so that the model's digests depend on no library's version.
_CONFIG: Final = {
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
_TOKENIZER_CONFIG: Final = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": POSITIONS,
    "pad_token": SPECIAL_TOKENS[0],
    "bos_token": SPECIAL_TOKENS[1],
    "eos_token": SPECIAL_TOKENS[2],
}


def _byte_symbols() -> list[str]:
    """Return the character for each byte in a byte-level tokenizer, by GPT-2's rule."""
    # Printable bytes stand for themselves, the others for the characters from U+0100 on, in order.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


_BYTE_LEVEL: Final = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": False,
}
_TOKENIZER: Final = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
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
    ],
    "normalizer": None,
    "pre_tokenizer": _BYTE_LEVEL,
    "post_processor": None,
    "decoder": _BYTE_LEVEL,
    # No merges: one token per byte.
    "model": {
        "type": "BPE",
        "vocab": {symbol: byte for byte, symbol in enumerate(_byte_symbols())},
        "merges": [],
    },
}


def write_tiny_llama(folder: Path, seed: int) -> None:
    """Write config.json, model.safetensors (float32) and a byte-level tokenizer into `folder`."""
    # 1. The shape of each matrix, (outputs, inputs). The output layer is tied to the embedding.
    shapes = {"embed_tokens": (VOCABULARY, HIDDEN)}
    norms = ["norm"]
    for layer in range(LAYERS):
        attention, mlp = f"layers.{layer}.self_attn", f"layers.{layer}.mlp"
        shapes[f"{attention}.q_proj"] = shapes[f"{attention}.o_proj"] = (HIDDEN, HIDDEN)
        shapes[f"{attention}.k_proj"] = (KV_HEADS * HEAD_WIDTH, HIDDEN)
        shapes[f"{attention}.v_proj"] = (KV_HEADS * HEAD_WIDTH, HIDDEN)
        shapes[f"{mlp}.gate_proj"] = shapes[f"{mlp}.up_proj"] = (INTERMEDIATE, HIDDEN)
        shapes[f"{mlp}.down_proj"] = (HIDDEN, INTERMEDIATE)
        norms += [f"layers.{layer}.{name}" for name in _LAYER_NORMS]
    # 2. Values: uniform with a variance of 1/inputs, so that a layer's outputs are as large as its
    # inputs; norms start at one.
    weights = {f"model.{name}.weight": np.ones(HIDDEN, dtype=np.float32) for name in norms}
    for name, shape in shapes.items():
        bound = EMBEDDING_BOUND if name == "embed_tokens" else (3.0 / shape[1]) ** 0.5
        weights[f"model.{name}.weight"] = uniform_values(f"tiny-llama/{seed}/{name}", shape, bound)
    # 3. The files.
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", _CONFIG)
    _write_json(folder / "tokenizer.json", _TOKENIZER)
    _write_json(folder / "tokenizer_config.json", _TOKENIZER_CONFIG)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
