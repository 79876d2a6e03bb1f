"""Specs, and layer files of random values, for the benchmarks that need nothing but bytes."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from protocol.encoding import MAX_STEPS, layer_bytes
from protocol.spec import Spec
from storage.layers import LayerFolder

GRID: Final = 13
"""A step is 2^-13, so no value moves further than 1/64 in a round."""
_LARGEST: Final = 2**20  # in quanta: values of a model are within ±1/16, as an adapter's are

Layers = Sequence[tuple[str, tuple[int, ...]]]
"""Names and shapes, in any order."""


def spec_of(layers: Layers) -> Spec:
    """Return a spec of these layers; everything that has no effect on bytes is made up."""
    digest = "0" * 64
    base = {"name": "bench", "revision": "1", "weights_digest": digest}
    schedule = {"learning_rate": 1.0, "scheduler": "constant", "warmup_steps": 0, "seed": 0}
    numeric = {"kind": "none", "double_quantization": False, "compute_dtype": "float32"}
    return Spec.model_validate(
        {
            "base_model": {**base, "tokenizer_digest": digest, "chat_template_digest": digest},
            "quantization": numeric,
            "adapter": {"rank": 1, "alpha": 1, "dropout": 0.0, "targets": ["all"], "mode": "fedit"},
            "encoding": {"grid_bits": GRID, "grid_every": 0},
            "layers": [{"name": name, "shape": shape} for name, shape in sorted(layers)],
            "training": {**schedule, "batch_size": 1, "steps": 1, "sequence_length": 1},
            "evaluation_digest": digest,
            "screening": {"min_norm": 1},
            "libraries": {},
        }
    )


def square_spec(layers: int, side: int) -> Spec:
    """Return a spec of so many layers, each a square matrix."""
    return spec_of([(f"layer{index:03d}", (side, side)) for index in range(layers)])


def write_random(spec: Spec, folder: LayerFolder, seed: int) -> None:
    """Write the layer files of a random model or update, by the folder's kind."""
    folder.path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index, layer in enumerate(spec.layers):
        if folder.kind == "model":
            values = rng.integers(-_LARGEST, _LARGEST, layer.shape, np.int32)
        else:
            values = rng.integers(-MAX_STEPS, MAX_STEPS, layer.shape, np.int8, endpoint=True)
        folder.layer_path(index).write_bytes(layer_bytes(values, folder.kind))
