"""An adapter as a folder that plain peft loads, and its layers, both without loading any weights.

A folder holds adapter_config.json and adapter_model.safetensors:
`PeftModel.from_pretrained(base, folder)`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from protocol.errors import Misconfigured
from protocol.spec import Lora
from training.adapter import all_layers, check_arrays, initial_array
from training.folders import create_folder
from training.model import empty_adapted_model, lora_config


def describe_layers(base: Path, lora: Lora) -> list[tuple[str, tuple[int, ...]]]:
    """Return the adapter's (name, shape) for the model folder `base`, sorted: the spec's layers."""
    return list(_trained(_all_shapes(base, lora), lora).items())


def initial_adapter(base: Path, lora: Lora, seed: int) -> dict[str, NDArray[np.float32]]:
    """Return the adapter that a federation starts from: A from `seed`, B zero, float32."""
    return {name: initial_array(name, shape, seed) for name, shape in describe_layers(base, lora)}


def save_adapter_folder(
    arrays: Mapping[str, NDArray[np.floating]],
    folder: Path,
    *,
    base: Path,
    base_name: str,
    lora: Lora,
    seed: int,
) -> None:
    """Write `arrays` as a peft adapter folder; `folder` must not exist and is whole or absent.

    `base` is the model's local folder, of which only the configuration is read, `base_name` what
    adapter_config.json calls it. In mode `ffa` the frozen A is made again from `seed`.
    Misconfigured when the arrays do not fit the model or the folder exists.
    """
    if folder.exists():
        raise Misconfigured(f"{folder} exists: choose another place for the adapter")
    shapes = _all_shapes(base, lora)
    check_arrays(arrays, _trained(shapes, lora))
    tensors = {
        name: np.ascontiguousarray(arrays[name], dtype=np.float32)
        if name in arrays
        else initial_array(name, shape, seed)
        for name, shape in shapes.items()
    }

    def fill(temporary: Path) -> None:
        config = lora_config(lora)
        config.base_model_name_or_path = base_name
        config.inference_mode = True
        config.save_pretrained(temporary)
        save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})

    create_folder(folder, fill)


def _all_shapes(base: Path, lora: Lora) -> dict[str, tuple[int, ...]]:
    layers = all_layers(empty_adapted_model(base, lora))
    return {name: tuple(tensor.shape) for name, tensor in layers.items()}


def _trained(shapes: dict[str, tuple[int, ...]], lora: Lora) -> dict[str, tuple[int, ...]]:
    if lora.mode == "fedit":
        return shapes
    return {name: shape for name, shape in shapes.items() if ".lora_B." in name}
