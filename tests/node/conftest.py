"""A spec of three small layers."""

from typing import Any

from protocol.spec import Spec

GRID = 12


def small_spec(**changes: Any) -> Spec:
    """Return a spec of three small layers, for participants without torch."""
    digest = 64 * "0"
    fields: dict[str, Any] = {
        "base_model": {
            "name": "test",
            "revision": "1",
            "weights_digest": digest,
            "tokenizer_digest": digest,
            "chat_template_digest": digest,
        },
        "quantization": {
            "kind": "none",
            "double_quantization": False,
            "compute_dtype": "float32",
        },
        "adapter": {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["a"], "mode": "fedit"},
        "encoding": {"grid_bits": GRID, "grid_every": 0},
        "layers": [
            {"name": "a.lora_A.weight", "shape": [4, 24]},
            {"name": "a.lora_B.weight", "shape": [24, 4]},
            {"name": "b.lora_A.weight", "shape": [3, 7]},
        ],
        "training": {
            "learning_rate": 0.1,
            "batch_size": 4,
            "steps": 5,
            "sequence_length": 8,
            "scheduler": "constant",
            "warmup_steps": 0,
            "seed": 0,
        },
        "evaluation_digest": digest,
        "screening": {"min_norm": 1},
        "libraries": {},
    }
    return Spec.model_validate({**fields, **changes})
