"""An estimate of the memory that training takes, made before any weight is loaded.

h is the hidden size, i the width of the MLP, k the width of keys and values, V the vocabulary,
T = batch size x sequence length, c the bytes of the compute type and s those of the residual stream
(4 where the base model is quantised, since norms and embeddings are float32 then). In bytes:

    weights       0.5 (nf4) or 1 (int8) per quantised value, plus constants; others by their type
    adapter       16 per value: float32 itself, its gradient and AdamW's two moments
    activations   T · (8h + c(2h + 2k) + 3c·i + inputs of adapted modules) per layer, or, with
                  gradient checkpointing, T · s · h per layer and the full sum for one layer only
    logits        T · V · (s + 12): logits, their float32 copy, probabilities, gradient
    working       the largest weight matrix, de-quantised once

This is an upper bound, reached by a batch whose rows all have full length. It is compared with what
autograd saves in tests/training/test_memory.py, and with a GPU in docs/results.md.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import torch

from protocol.errors import Misconfigured
from protocol.spec import Adapter, Quantization, Spec, Training
from training.model import empty_adapted_model, empty_model, linear_modules

# Python, torch, transformers and their buffers, for callers that estimate before loading them:
# 0.6 to 0.9 GiB were measured on a CPU.
RUNTIME_BYTES: Final = 1 << 30

_TYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# A block of 64 values shares one float32 constant; double quantisation makes that 8 bits, and one
# float32 for each 256 of them (arXiv:2305.14314, section 3).
_NF4_BYTES = {False: 0.5 + 4 / 64, True: 0.5 + 1 / 64 + 4 / (64 * 256)}
_CUDA_CONTEXT_BYTES = 500 * 2**20
_CGROUP: Final = Path("/sys/fs/cgroup")
# Modules that read the MLP's wide side, as Llama, GPT-NeoX, Phi and GPT-2 name them.
_FROM_INNER = ("down_proj", "dense_4h_to_h", "fc2", "c_proj")


@dataclass(frozen=True)
class MemoryEstimate:
    """The most bytes that a training step takes, by purpose."""

    weights: int
    adapter: int
    activations: int
    logits: int
    working: int

    @property
    def total(self) -> int:
        """The sum, in bytes."""
        return sum(asdict(self).values())


def check_room(folder: Path, spec: Spec) -> MemoryEstimate:
    """Return the estimate for training by `spec`; raise Misconfigured if too little is free."""
    estimate = estimate_memory(folder, spec.quantization, spec.adapter, spec.training)
    free = free_memory()
    if estimate.total > free:
        raise Misconfigured(
            f"training needs about {estimate.total / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are "
            "free: shorten sequence_length, lower batch_size, set gradient_checkpointing, or "
            "quantise to nf4"
        )
    return estimate


def check_room_for_weights(folder: Path) -> None:
    """Raise Misconfigured unless this machine can hold the model in `folder` as float32."""
    needed, free = 4 * sum(each.numel() for each in empty_model(folder).parameters()), free_memory()
    if needed > free:
        raise Misconfigured(
            f"the model needs {needed / 2**30:.1f} GiB as float32 and {free / 2**30:.1f} GiB are "
            "free: use a larger machine"
        )


def estimate_memory(
    folder: Path, quantization: Quantization, adapter: Adapter, training: Training
) -> MemoryEstimate:
    """Return the memory that training the model in `folder` takes; reads its configuration only."""
    model = empty_adapted_model(folder, adapter)
    kind = quantization.kind
    is_quantized = kind in ("nf4", "int8")
    compute = 2 if kind == "bf16" else _TYPE_BYTES[quantization.compute_dtype]
    stream = 4 if is_quantized else compute

    # 1. Values: those that train, those that are kept as they are, the largest matrix among them.
    base = model.get_base_model()
    # All but the head, which quantisation leaves as it is.
    linear = {base.get_submodule(name).weight for name in linear_modules(base)}
    packed = {"nf4": _NF4_BYTES[quantization.double_quantization], "int8": 1.0}.get(kind, compute)
    weights, trained, largest = 0.0, 0, 0
    for name, parameter in model.named_parameters():
        count = parameter.numel()
        if ".lora_B." in name or (".lora_A." in name and adapter.mode == "fedit"):
            trained += count
        elif ".lora_A." in name:  # frozen: among the weights, in float32 like the rest of peft's
            weights += 4 * count
        else:
            weights += count * (packed if parameter in linear else stream)
            largest = max(largest, count)

    # 2. Activations: with checkpointing each layer keeps its input only, and the backward pass
    # computes one layer at a time again in full.
    sizes = _Sizes.of(model.config, compute, stream, adapter)
    tokens = training.batch_size * training.sequence_length
    full, kept = tokens * sizes.layer_bytes_per_token(), tokens * stream * sizes.hidden
    is_checkpointed = training.gradient_checkpointing
    return MemoryEstimate(
        weights=round(weights),
        adapter=16 * trained,
        activations=sizes.layers * kept + full if is_checkpointed else sizes.layers * full,
        logits=tokens * sizes.vocabulary * (stream + 12),
        working=compute * largest if is_quantized else 0,
    )


def free_memory() -> int:
    """Return the bytes free on the GPU, or in main memory if there is no GPU."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0]) - _CUDA_CONTEXT_BYTES
    free: int = psutil.virtual_memory().available
    # In a container that figure is the whole machine's; the container's own limit is the cgroup's.
    try:
        limit, used = (
            int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current")
        )
    except (OSError, ValueError):  # not in a container, or "max": no limit
        return free
    return min(free, limit - used)


@dataclass(frozen=True)
class _Sizes:
    hidden: int
    inner: int
    keys: int
    heads: int
    layers: int
    vocabulary: int
    compute: int
    stream: int
    adapter: Adapter

    @classmethod
    def of(cls, config: Any, compute: int, stream: int, adapter: Adapter) -> "_Sizes":
        # Some architectures' configurations leave out what follows from the rest, and those without
        # attention what it has.
        config = config.get_text_config()
        hidden, heads = config.hidden_size, getattr(config, "num_attention_heads", 1)
        head = getattr(config, "head_dim", None) or hidden // heads
        return cls(
            hidden=hidden,
            inner=getattr(config, "intermediate_size", None) or 4 * hidden,
            keys=head * (getattr(config, "num_key_value_heads", None) or heads),
            heads=heads,
            layers=config.num_hidden_layers,
            vocabulary=config.vocab_size,
            compute=compute,
            stream=stream,
            adapter=adapter,
        )

    def layer_bytes_per_token(self) -> int:
        """Return the bytes that autograd keeps of one layer for one token."""
        hidden, inner, compute = self.hidden, self.inner, self.compute
        targets = self.adapter.targets
        norms = 2 * 4 * hidden  # computed in float32 whatever the stream's type
        attention = compute * (2 * hidden + 2 * self.keys) + 4 * self.heads + 8
        # An adapted module keeps its input in float32, and the output of its A. Where the stream is
        # float32 anyway nothing is copied: all modules of attention share one input, and all of the
        # MLP's narrow side another.
        wide = sum(name in _FROM_INNER for name in targets)
        narrow = len(targets) - wide
        shared = min(narrow, 2) if self.stream == 4 else narrow
        adapted = 4 * (shared * hidden + wide * inner + self.adapter.rank * len(targets))
        return norms + attention + 3 * compute * inner + adapted
