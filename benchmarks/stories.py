"""stories260K as a folder that transformers loads: a trained Llama of 0.26 million weights.

    python -m benchmarks.stories FOLDER/stories260k TARGET

It is Andrej Karpathy's, in the format of llama2.c (`export.py`, version 0; `run.c` reads it):
stories260K.bin holds 7 int32 and float32 matrices, tok512.bin a vocabulary with the scores of a
SentencePiece BPE. Small enough for tests, and unlike a generated model it has learnt something.
"""

import json
import struct
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

MODEL_FILE: Final = "stories260K.bin"
TOKENIZER_FILE: Final = "tok512.bin"
_FIRST_PIECE: Final = 259  # after <unk>, <s>, </s> and 256 bytes
_SPACE: Final = "\u2581"
Array = NDArray[np.float32]


class _Header(NamedTuple):
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    positions: int


def convert_stories(source: Path, target: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer of the files in `source`."""
    header, weights = _read_weights(source / MODEL_FILE)
    target.mkdir(parents=True, exist_ok=True)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": header.vocabulary,
        "hidden_size": header.hidden,
        "intermediate_size": header.inner,
        "num_hidden_layers": header.layers,
        "num_attention_heads": header.heads,
        "num_key_value_heads": header.kv_heads,
        "max_position_embeddings": header.positions,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    _write_json(target / "config.json", config)
    _write_json(target / "tokenizer.json", _tokenizer(source / TOKENIZER_FILE, header.vocabulary))
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": header.positions}
    _write_json(target / "tokenizer_config.json", about | names)


def _read_weights(path: Path) -> tuple[_Header, dict[str, Array]]:
    raw = path.read_bytes()
    header = _Header(*struct.unpack("<7i", raw[:28]))
    values = np.frombuffer(raw, "<f4", offset=28)
    place = 0

    def take(*shape: int) -> Array:
        nonlocal place
        size = int(np.prod(shape))
        place += size
        return values[place - size : place].reshape(shape).astype(np.float32)

    h, layers = header, header.layers
    kv = h.hidden // h.heads * h.kv_heads
    weights = {"model.embed_tokens.weight": take(h.vocabulary, h.hidden)}
    # The file has each kind of matrix for all layers, in this order.
    stacked = {
        "input_layernorm": take(layers, h.hidden),
        "self_attn.q_proj": take(layers, h.hidden, h.hidden),
        "self_attn.k_proj": take(layers, kv, h.hidden),
        "self_attn.v_proj": take(layers, kv, h.hidden),
        "self_attn.o_proj": take(layers, h.hidden, h.hidden),
        "post_attention_layernorm": take(layers, h.hidden),
        "mlp.gate_proj": take(layers, h.inner, h.hidden),
        "mlp.down_proj": take(layers, h.hidden, h.inner),
        "mlp.up_proj": take(layers, h.inner, h.hidden),
    }
    weights["model.norm.weight"] = take(h.hidden)
    for name, heads in (("self_attn.q_proj", h.heads), ("self_attn.k_proj", h.kv_heads)):
        stacked[name] = _halves(stacked[name], heads)
    for name, matrices in stacked.items():
        for layer, matrix in enumerate(matrices):
            weights[f"model.layers.{layer}.{name}.weight"] = np.ascontiguousarray(matrix)
    return header, weights


def _halves(matrices: Array, heads: int) -> Array:
    """Return query or key matrices with the rows in transformers' order."""
    # llama2.c rotates neighbouring rows of a head, transformers row i with row i + half.
    layers, rows, columns = matrices.shape
    pairs = matrices.reshape(layers, heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(2, 3).reshape(matrices.shape)


def _tokenizer(path: Path, vocabulary: int) -> dict[str, Any]:
    """Return tokenizer.json: BPE with the merges that the scores stand for, and byte fallback."""
    pieces, scores = _read_pieces(path, vocabulary)
    vocab = {piece: index for index, piece in enumerate(pieces)}
    merges = []
    # SentencePiece joins the pair that makes the piece of the highest score.
    for piece in sorted(pieces[_FIRST_PIECE:], key=lambda each: -scores[vocab[each]]):
        cuts = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        merges += [[left, right] for left, right in cuts if left in vocab and right in vocab]
    special = ["<unk>", "<s>", "</s>"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": index, "content": token, "special": True, **flags}
        for index, token in enumerate(special)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "fuse_unk": True,
            "vocab": vocab,
            "merges": merges,
        },
    }


def _read_pieces(path: Path, vocabulary: int) -> tuple[list[str], list[float]]:
    raw, place = path.read_bytes(), 4  # the length of the longest comes first
    pieces, scores = [], []
    for _ in range(vocabulary):
        score, length = struct.unpack_from("<fi", raw, place)
        place += 8
        pieces.append(raw[place : place + length].decode().replace(" ", _SPACE))
        scores.append(score)
        place += length
    # llama2.c writes <s> and </s> with line breaks around them.
    pieces[:3] = ["<unk>", "<s>", "</s>"]
    return pieces, scores


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    convert_stories(Path(sys.argv[1]), Path(sys.argv[2]))
