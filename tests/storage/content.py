"""Content for tests of the store: bytes of a size, and a spec with layers of a few shapes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.encoding import Kind
from protocol.spec import Spec

_PERIOD = bytes((31 * i + 7) % 251 for i in range(251))
SHAPES = ((4, 24), (24, 4), (3, 7))


def content(size: int) -> bytes:
    """Return `size` bytes: byte i is (31 * (i mod 251) + 7) mod 251."""
    return (_PERIOD * (size // 251 + 1))[:size]


def spec_of(*shapes: tuple[int, ...]) -> Spec:
    """Return a spec with layers of these shapes."""
    digest = "00" * 32
    base = {"name": "test", "revision": "1", "weights_digest": digest}
    schedule = {"learning_rate": 0.1, "scheduler": "constant", "warmup_steps": 0, "seed": 0}
    return Spec.model_validate(
        {
            "base_model": {**base, "tokenizer_digest": digest, "chat_template_digest": digest},
            "quantization": {
                "kind": "none",
                "double_quantization": False,
                "compute_dtype": "float32",
            },
            "adapter": {
                "kind": "lora",
                "rank": 4,
                "alpha": 8,
                "dropout": 0.0,
                "targets": ["a"],
                "mode": "fedit",
            },
            "encoding": {"grid_bits": 13, "grid_every": 0},
            "layers": [
                {"name": f"{index:03d}", "shape": list(shape)} for index, shape in enumerate(shapes)
            ],
            "training": {**schedule, "batch_size": 1, "steps": 1, "sequence_length": 8},
            "evaluation_digest": digest,
            "screening": {"min_norm": 1},
            "scoring": "equal",
            "privacy": "clear",
            "libraries": {},
        }
    )


def values_of(spec: Spec, kind: Kind, seed: int) -> list[NDArray[Any]]:
    """Return random values for every layer of an update or a model."""
    rng = np.random.default_rng(seed)
    dtype: Any = np.int8 if kind == "update" else np.int32
    return [rng.integers(-99, 99, layer.shape, dtype) for layer in spec.layers]
