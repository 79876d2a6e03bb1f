"""Adapter folders that plain peft loads, the layers of an adapter, and models with it merged in.

A folder holds adapter_config.json and adapter_model.safetensors, so that
`PeftModel.from_pretrained(base, folder)` loads it, and the tokenizer. peft ignores `template.txt`,
which names the template for `load_adapter_folder`, and `base_model.json`, which has the digests of
the base model for `check_base`. Only merging and loading read the base model's weights.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel, get_peft_model_state_dict, load_peft_weights
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerBase

from protocol.errors import Misconfigured
from protocol.spec import Adapter, BaseModelIdentity, Quantization, Spec
from protocol.text import parse_json
from training.adapter import all_layers, check_arrays, initial_array, write_adapter
from training.folders import create_folder
from training.memory import check_room_for_weights
from training.model import (
    attach_lora,
    empty_adapted_model,
    has_conv1d,
    load_base,
    load_tokenizer,
    lora_config,
)
from training.portable import copy_config, copy_tokenizer
from training.quiet import quiet
from training.sources import HUB_NAME, ModelSource, check_identity, describe_source
from training.templates import TEMPLATES, Template

_TEMPLATE_FILE: Final = "template.txt"
_BASE_FILE: Final = "base_model.json"
_PLAIN: Final = Quantization(kind="none", double_quantization=False, compute_dtype="float32")


def describe_layers(base: Path, adapter: Adapter) -> list[tuple[str, tuple[int, ...]]]:
    """Return (name, shape) of each layer of an adapter to the model in `base`, sorted by name."""
    return list(_trained(_all_shapes(base, adapter), adapter).items())


def initial_adapter(base: Path, adapter: Adapter, seed: int) -> dict[str, NDArray[np.float32]]:
    """Return a federation's initial adapter, float32: A from `seed`, B zero."""
    layers = describe_layers(base, adapter)
    return {name: initial_array(name, shape, seed) for name, shape in layers}


def save_adapter_folder(
    arrays: Mapping[str, NDArray[np.floating]],
    folder: Path,
    *,
    base: Path,
    base_name: str,
    adapter: Adapter,
    seed: int,
    template: Template = "chat",
    revision: str | None = None,
    identity: BaseModelIdentity | None = None,
    card: str | None = None,
) -> None:
    """Write `arrays` as a peft adapter folder, which is complete or absent afterwards.

    `base` is the model's local folder, of which configuration and tokenizer are read, `base_name`
    and `revision` its name in adapter_config.json, by which peft's AutoPeft classes find it. The
    tokenizer is written beside, `identity` as base_model.json for `check_base`, and `card` as
    README.md. Raises Misconfigured when the arrays do not fit the model, or when `folder` exists.
    """
    if folder.exists():
        raise Misconfigured(f"{folder} exists: choose another place for the adapter")
    shapes = _all_shapes(base, adapter)
    check_arrays(arrays, _trained(shapes, adapter))
    # peft expects A in the file even where it does not train (mode `ffa`): the seed gives it.
    tensors = {
        name: np.ascontiguousarray(arrays[name], dtype=np.float32)
        if name in arrays
        else initial_array(name, shape, seed)
        for name, shape in shapes.items()
    }

    def fill(temporary: Path) -> None:
        config = lora_config(adapter)
        config.base_model_name_or_path = base_name
        config.revision = revision
        config.inference_mode = True  # peft loads it frozen, as its own exports are
        config.fan_in_fan_out = has_conv1d(base)
        config.save_pretrained(temporary)
        save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
        copy_tokenizer(base, temporary)
        (temporary / _TEMPLATE_FILE).write_text(f"{template}\n")
        if identity is not None:
            (temporary / _BASE_FILE).write_text(identity.model_dump_json(indent=2) + "\n")
        if card is not None:
            (temporary / "README.md").write_text(card)

    create_folder(folder, fill)


def load_adapter_folder(
    base: Path, folder: Path
) -> tuple[PeftModel, PreTrainedTokenizerBase, Template]:
    """Return the model in float32 with the adapter of a peft folder, its tokenizer and template.

    The template is `chat` when the folder names none, as other programs' do. Raises Misconfigured
    for anything but an adapter to this model that has all of its layers.
    """
    template = _named_template(folder)
    tokenizer = load_tokenizer(base, template)
    check_room_for_weights(base)
    model = load_base(base, _PLAIN)
    try:
        with quiet(), warnings.catch_warnings():
            # Missing layers are an error below; tied ones (modules_to_save) load as they are.
            warnings.filterwarnings("ignore", category=UserWarning, module="peft")
            adapted = PeftModel.from_pretrained(model, folder)
            names = load_peft_weights(str(folder), device="cpu").keys()
            expected = get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Misconfigured(f"{folder} is no peft adapter for this model: {reason}") from error
    # peft warns and goes on: the base model would answer in the adapter's name.
    for name in sorted(names - expected):
        raise Misconfigured(f"{folder} has a layer {name} that this model has no place for")
    for name in sorted(expected - names):
        raise Misconfigured(f"{folder} lacks layer {name}, which its configuration asks for")
    return adapted, tokenizer, template


def _named_template(folder: Path) -> Template:
    file = folder / _TEMPLATE_FILE
    named = file.read_text().strip() if file.is_file() else "chat"
    template = next((each for each in TEMPLATES if each == named), None)
    if template is None:
        raise Misconfigured(f"{folder}: unknown template {named!r}")
    return template


def check_base(folder: Path, source: ModelSource) -> None:
    """Raise Misconfigured when a peft folder says that it was made for another model than `source`.

    Ours say so by the base model's digests, those of other programs by its name on the hub.
    """
    try:
        if (folder / _BASE_FILE).is_file():
            pinned = BaseModelIdentity.model_validate_json((folder / _BASE_FILE).read_bytes())
            needs_chat = _named_template(folder) == "chat"
            check_identity(describe_source(source, needs_chat=needs_chat), pinned, source.name)
            return
        config = parse_json((folder / "adapter_config.json").read_bytes())
    except (OSError, ValueError):  # said when it is loaded
        return
    # Only names on the hub mean the same on every machine; a folder may hold any model.
    named = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    are_hub_names = isinstance(named, str) and all(
        HUB_NAME.fullmatch(each) and not Path(each).exists() for each in (named, source.name)
    )
    if are_hub_names and named != source.name:
        raise Misconfigured(f"{folder} is an adapter to {named}, and --source is {source.name}")


def save_merged(
    arrays: Mapping[str, NDArray[np.floating]],
    folder: Path,
    *,
    base: Path,
    spec: Spec,
    precision: Literal["fp16", "fp32"],
    card: str | None = None,
) -> None:
    """Write the whole model of `spec` with `arrays` merged into its weights.

    Configuration and tokenizer are those in the folder `base`, for transformers 4 and 5 (see
    training/portable.py); `card` is written as README.md. `folder` is complete or absent
    afterwards. Raises Misconfigured when it exists, when the arrays do not fit, or when memory is
    short.
    """
    if folder.exists():
        raise Misconfigured(f"{folder} exists: choose another place for the model")
    check_room_for_weights(base)
    # The weights as published, in float32, not in the quantised form that the adapter was trained
    # beside: its rounding would stay for good.
    adapted = attach_lora(load_base(base, _PLAIN), spec.adapter, seed=spec.training.seed)
    write_adapter(adapted, arrays)
    with quiet():
        merged = adapted.merge_and_unload()
    dtype = torch.float16 if precision == "fp16" else torch.float32
    merged = merged.to(dtype)

    def fill(temporary: Path) -> None:
        with quiet():
            merged.save_pretrained(temporary)
        copy_config(base, temporary, str(dtype).removeprefix("torch."))
        copy_tokenizer(base, temporary)
        if card is not None:
            (temporary / "README.md").write_text(card)

    create_folder(folder, fill)


def _all_shapes(base: Path, adapter: Adapter) -> dict[str, tuple[int, ...]]:
    layers = all_layers(empty_adapted_model(base, adapter))
    return {name: tuple(tensor.shape) for name, tensor in layers.items()}


def _trained(shapes: dict[str, tuple[int, ...]], adapter: Adapter) -> dict[str, tuple[int, ...]]:
    if adapter.mode == "fedit":
        return shapes
    return {name: shape for name, shape in shapes.items() if ".lora_B." in name}
