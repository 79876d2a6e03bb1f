"""How much memory a participant needs, told before a model is loaded."""

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from protocol.errors import Misconfigured
from protocol.spec import Spec

RUNTIME_BYTES: Final = 1 << 30
"""Python, torch, transformers and their buffers: 0.6 to 0.9 GiB were seen on a CPU."""

_WEIGHT_BYTES: Final = {"nf4": 0.57, "int8": 1.1, "bf16": 2.0, "none": 4.0}
_ADAPTER_BYTES: Final = 16  # value, gradient and Adam's two moments, in float32
_ACTIVATION_BYTES: Final = (
    80  # float32 a token, hidden unit and layer: attention, MLP, their inputs
)
_LOGIT_BYTES: Final = 12  # float32 logits, their softmax and its gradient


def estimate_memory(spec: Spec, folder: Path) -> int:
    """Return the bytes that one round of training takes at most, as an estimate.

    The runtime; the base model's matrices as quantised and its embedding in float32; the adapter
    with its optimizer; the activations of one batch. `folder` is in transformers' layout. On a GPU
    all but the runtime is the GPU's. Misconfigured when the folder is no model.
    """
    config = _read_config(folder)
    hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    vocabulary = int(config["vocab_size"])
    embedding = hidden * vocabulary
    matrices = max(sum(_tensor_sizes(folder)) - embedding, 0)
    weights = matrices * _WEIGHT_BYTES[spec.quantization.kind] + embedding * 4
    adapter = sum(math.prod(layer.shape) for layer in spec.layers) * _ADAPTER_BYTES
    tokens = spec.training.batch_size * spec.training.sequence_length
    activations = tokens * (layers * hidden * _ACTIVATION_BYTES + vocabulary * _LOGIT_BYTES)
    return RUNTIME_BYTES + round(weights) + adapter + activations


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise Misconfigured(f"{folder} is not a model: {error}") from error
    for key in ("hidden_size", "num_hidden_layers", "vocab_size"):
        if not isinstance(config.get(key), int):
            raise Misconfigured(f"{folder}/config.json has no {key}: memory cannot be estimated")
    return config


def _tensor_sizes(folder: Path) -> Iterator[int]:
    """Yield the number of values of every tensor; reads the headers of the files only."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        yield from (math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
