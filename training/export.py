"""An adapter as a folder that plain peft loads, its layers, and a model with the adapter merged.

A folder holds adapter_config.json and adapter_model.safetensors:
`PeftModel.from_pretrained(base, folder)`. What we add is `template.txt` with the template's name,
for `load_adapter_folder`. Only merging and loading read the base model's weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerBase

from protocol.errors import Misconfigured
from protocol.spec import Lora, Quantization, Spec
from training.adapter import all_layers, check_arrays, initial_array, write_adapter
from training.folders import create_folder
from training.memory import check_room_for_weights
from training.model import (
    attach_lora,
    empty_adapted_model,
    load_base,
    load_tokenizer,
    lora_config,
)
from training.quiet import quiet
from training.templates import TEMPLATES, Template

_TEMPLATE_FILE: Final = "template.txt"
_PLAIN: Final = Quantization(kind="none", double_quantization=False, compute_dtype="float32")


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
    template: Template = "chat",
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
        (temporary / _TEMPLATE_FILE).write_text(f"{template}\n")

    create_folder(folder, fill)


def load_adapter_folder(
    base: Path, folder: Path
) -> tuple[PeftModel, PreTrainedTokenizerBase, Template]:
    """Return the model in float32 with the adapter of a peft folder, its tokenizer and template.

    A folder that another program wrote names no template: then it is `chat`. Misconfigured when it
    is no adapter, or one for another model.
    """
    named = (folder / _TEMPLATE_FILE).read_text().strip() if _has_template(folder) else "chat"
    template = next((each for each in TEMPLATES if each == named), None)
    if template is None:
        raise Misconfigured(f"{folder}: unknown template {named!r}")
    tokenizer = load_tokenizer(base, template)
    check_room_for_weights(base)
    try:
        with quiet():
            model = PeftModel.from_pretrained(load_base(base, _PLAIN), folder)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Misconfigured(f"{folder} is no peft adapter for this model: {reason}") from error
    return model, tokenizer, template


def save_merged(
    arrays: Mapping[str, NDArray[np.floating]],
    folder: Path,
    *,
    base: Path,
    spec: Spec,
    precision: Literal["fp16", "fp32"],
) -> None:
    """Write the whole model of `spec` with `arrays` added to its weights, and its tokenizer.

    The base weights are taken as published and merged in float32, not in the quantised form they
    were trained beside: their rounding would stay for good. `folder` is whole or absent.
    Misconfigured when it exists, the arrays do not fit or memory is short.
    """
    if folder.exists():
        raise Misconfigured(f"{folder} exists: choose another place for the model")
    check_room_for_weights(base)
    adapted = attach_lora(load_base(base, _PLAIN), spec.lora, seed=spec.training.seed)
    write_adapter(adapted, arrays)
    with quiet():
        merged = adapted.merge_and_unload()
    merged = merged.to(torch.float16 if precision == "fp16" else torch.float32)
    tokenizer = load_tokenizer(base, spec.template)

    def fill(temporary: Path) -> None:
        with quiet():
            merged.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)

    create_folder(folder, fill)


def _has_template(folder: Path) -> bool:
    return (folder / _TEMPLATE_FILE).is_file()


def _all_shapes(base: Path, lora: Lora) -> dict[str, tuple[int, ...]]:
    layers = all_layers(empty_adapted_model(base, lora))
    return {name: tuple(tensor.shape) for name, tensor in layers.items()}


def _trained(shapes: dict[str, tuple[int, ...]], lora: Lora) -> dict[str, tuple[int, ...]]:
    if lora.mode == "fedit":
        return shapes
    return {name: shape for name, shape in shapes.items() if ".lora_B." in name}
