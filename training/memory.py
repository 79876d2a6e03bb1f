"""How much memory training will take, from a formula, before any weight is loaded.

With h the hidden size, i the width of the MLP, k the width of keys and values, V the vocabulary,
T = batch size x sequence length, c the bytes of the compute type and s those of the residual stream
(4 where the base model is quantised, as norms and embeddings are float32 then), in bytes:

    weights       a quantised value takes 0.5 (nf4) or 1 (int8) and its constants, others their type
    adapter       16 a value: float32 itself, its gradient and AdamW's two moments
    activations   T · (8h + c(2h + 2k) + 3c·i + inputs of adapted modules) a layer, or, with
                  gradient checkpointing, T · s · h a layer and the full sum for one layer only
    logits        T · V · (s + 12): logits, their float32 copy, probabilities, gradient
    working       the largest weight matrix de-quantised once

It bounds what the longest batch takes: rows are rarely all of full length. Measured against it:
tests/training/test_memory.py (what autograd saves) and docs/results.md.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel

from protocol.errors import Misconfigured
from protocol.spec import Lora, Quantization, Spec, Training
from training.model import empty_adapted_model, empty_model

RUNTIME_BYTES: Final = 1 << 30
"""Python, torch, transformers and their buffers, for who asks before they are loaded: 0.6 to 0.9
GiB were seen on a CPU."""

_TYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# A block of 64 values shares one float32 constant; double quantisation makes that 8 bits, and one
# float32 for each 256 of them (arXiv:2305.14314, section 3).
_NF4_BYTES = {False: 0.5 + 4 / 64, True: 0.5 + 1 / 64 + 4 / (64 * 256)}
_CUDA_CONTEXT_BYTES = 500 * 2**20


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training step takes at most, by what they are for."""

    weights: int
    adapter: int
    activations: int
    logits: int
    working: int

    @property
    def total(self) -> int:
        """The sum in bytes."""
        return sum(asdict(self).values())


def check_room(folder: Path, spec: Spec) -> MemoryEstimate:
    """Return the estimate for training by `spec`; Misconfigured when this machine has less free."""
    estimate = estimate_memory(folder, spec.quantization, spec.lora, spec.training)
    free = free_memory()
    if free is not None and estimate.total > free:
        raise Misconfigured(
            f"training needs about {estimate.total / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are "
            "free: shorten sequence_length, lower batch_size, set gradient_checkpointing, or "
            "quantise to nf4"
        )
    return estimate


def check_room_for_weights(folder: Path) -> None:
    """Raise Misconfigured unless this machine can hold the model in `folder` as float32."""
    needed, free = 4 * sum(each.numel() for each in empty_model(folder).parameters()), free_memory()
    if free is not None and needed > free:
        raise Misconfigured(
            f"the model needs {needed / 2**30:.1f} GiB as float32 and {free / 2**30:.1f} GiB are "
            "free: use a larger machine"
        )


def estimate_memory(
    folder: Path, quantization: Quantization, lora: Lora, training: Training
) -> MemoryEstimate:
    """Return the memory that training the model in `folder` takes; reads its configuration only."""
    model = empty_adapted_model(folder, lora)
    is_quantized = quantization.kind in ("nf4", "int8")
    compute = 2 if quantization.kind == "bf16" else _TYPE_BYTES[quantization.compute_dtype]
    sizes = _Sizes.of(model.config, compute, 4 if is_quantized else compute, lora)
    tokens = training.batch_size * training.sequence_length
    layers = sizes.layers
    full = tokens * sizes.layer_bytes_a_token()
    kept = tokens * sizes.stream * sizes.hidden
    is_checkpointed = training.gradient_checkpointing
    return MemoryEstimate(
        weights=_weight_bytes(model, quantization, compute, lora),
        adapter=16 * sum(p.numel() for n, p in model.named_parameters() if _is_trained(n, lora)),
        activations=layers * kept + full if is_checkpointed else layers * full,
        logits=tokens * sizes.vocabulary * (sizes.stream + 12),
        working=compute * _largest_weight(model) if is_quantized else 0,
    )


def free_memory() -> int | None:
    """Return the bytes free on the GPU, or without one in main memory; None where unknown."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0]) - _CUDA_CONTEXT_BYTES
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    facts = {
        name: int(rest.split()[0]) for name, _, rest in (each.partition(":") for each in lines)
    }
    free = facts["MemAvailable"] * 1024
    limit, used = (_number(Path("/sys/fs/cgroup") / f"memory.{n}") for n in ("max", "current"))
    return free if limit is None or used is None else min(free, limit - used)


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
    lora: Lora

    @classmethod
    def of(cls, config: Any, compute: int, stream: int, lora: Lora) -> "_Sizes":
        hidden, heads = config.hidden_size, config.num_attention_heads
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
            lora=lora,
        )

    def layer_bytes_a_token(self) -> int:
        """Bytes that autograd keeps of one layer for one token."""
        hidden, inner, compute = self.hidden, self.inner, self.compute
        norms = 2 * 4 * hidden
        attention = compute * (2 * hidden + 2 * self.keys) + 4 * self.heads + 8
        return norms + attention + 3 * compute * inner + self._adapter_inputs()

    def _adapter_inputs(self) -> int:
        """Each adapted module keeps its input in float32, alike ones once, and A's output."""
        wide = sum(name in _FROM_INNER for name in self.lora.targets)
        narrow = len(self.lora.targets) - wide
        shared = min(narrow, 2) if self.stream == 4 else narrow
        inputs = 4 * (shared * self.hidden + wide * self.inner)
        return inputs + 4 * self.lora.rank * len(self.lora.targets)


_FROM_INNER = ("down_proj", "dense_4h_to_h", "fc2", "c_proj")


def _is_trained(name: str, lora: Lora) -> bool:
    return ".lora_B." in name or (".lora_A." in name and lora.mode == "fedit")


def _weight_bytes(model: PeftModel, quantization: Quantization, compute: int, lora: Lora) -> int:
    kind = quantization.kind
    head = model.get_output_embeddings()
    linear = {
        module.weight
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    each = {"nf4": _NF4_BYTES[quantization.double_quantization], "int8": 1.0}.get(kind, compute)
    other = 4 if kind in ("nf4", "int8") else compute
    total = 0.0
    for name, parameter in model.named_parameters():
        if not _is_trained(name, lora):  # a frozen A is among the weights
            size = 4 if ".lora_" in name else each if parameter in linear else other
            total += size * parameter.numel()
    return round(total)


def _largest_weight(model: PeftModel) -> int:
    sizes = [p.numel() for name, p in model.named_parameters() if ".lora_" not in name]
    return int(max(sizes))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not in a container, or "max"
        return None
