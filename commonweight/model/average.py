"""Average whole checkpoints without a federation: `commonweight model average`.

Tensors are read through the files' own headers, block by block: no model is loaded, and memory is a
few blocks whatever the size (commonweight/model/checkpoint.py).
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import frexp, isfinite, prod
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from commonweight.model.checkpoint import (
    ADAPTER,
    ADAPTER_CONFIG,
    WHOLE,
    Checkpoint,
    Tensor,
    check_alike,
    read_checkpoint,
)
from protocol.encoding import FRACTION_BITS, LEAF_VALUES, encode_values, padded_bytes
from protocol.errors import Misconfigured, Rejected
from rounds.average import MODEL_VALUE, Layout, write_mean
from storage.capacity import check_disk
from storage.files import write_json
from storage.layers import LayerFolder

_RESULT: Final = "layers.json"
_PIECE: Final = 1 << 20  # values decoded at a time
# What belongs to a model beside its weights, as transformers and peft write it.
_COMPANIONS: Final = (
    ADAPTER_CONFIG,
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "template.txt",
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def average_checkpoints(
    paths: Sequence[Path],
    weights: Sequence[int],
    output: Path,
    fraction_bits: int = FRACTION_BITS,
) -> dict[str, Any]:
    """Write the weighted mean to the folder `output`, and describe it.

    Layers are the floating-point tensors, sorted by name, in the encoding of a model
    (docs/protocol.md §2 and §3); the mean is exact, rounded to the nearest quantum, and `root` the
    tree root of §4. layers.json lists them. Beside the layer files the mean stands as float32 in
    model.safetensors or adapter_model.safetensors, with the tensors that are equal in all, such as
    counters, and the first checkpoint's configuration and tokenizer: transformers or peft open it.

    Raises Misconfigured when the checkpoints differ in more than values, the disk is too small, or
    `output` has anything but an earlier mean, which is replaced; and Rejected for a value that
    cannot be encoded with so many `fraction_bits`.
    """
    # 1. The headers of all checkpoints, before anything is written.
    if len(weights) != len(paths):
        raise Misconfigured(f"{len(paths)} checkpoints and {len(weights)} weights were given")
    if not 0 <= fraction_bits <= FRACTION_BITS:
        raise Misconfigured(f"fraction bits {fraction_bits}: expected 0 to {FRACTION_BITS}")
    checkpoints = [read_checkpoint(path) for path in paths]
    check_alike(checkpoints)
    if any(output.resolve() in (path.resolve(), path.resolve().parent) for path in paths):
        raise Misconfigured(f"{output} has a checkpoint to average: choose another folder")
    first = checkpoints[0]
    # Sorted: the order in a file is its writer's choice, and the root depends on the order.
    names = [name for name in sorted(first.tensors) if first.tensors[name].is_averaged]
    shapes = {name: first.tensors[name].shape for name in names}
    if not shapes:
        raise Misconfigured(f"checkpoint {first.path}: it has no floating-point tensors to average")
    # 2. Room on the disk: a mean is as large as a checkpoint in float32, and stands there twice.
    size = sum(padded_bytes(shape, "model") for shape in shapes.values())
    check_disk(output, 2 * size, f"the mean of {len(paths)} checkpoints")
    _clear(output)
    # 3. The mean, by the same stream as a round's: in slabs, hashed as they are written.
    counts = tuple(-(-prod(shape) // LEAF_VALUES) * LEAF_VALUES for shape in shapes.values())
    sources = [
        _Encoded(tuple((name, each.tensors[name]) for name in names), fraction_bits)
        for each in checkpoints
    ]
    layers = LayerFolder(output, "model")
    root = write_mean(Layout(counts), sources, weights, layers)
    # 4. The same as a folder that other programs open.
    _write_checkpoint(first, names, layers, fraction_bits, output)
    # 5. layers.json, last: a folder that has it is complete.
    result = {
        "root": root.hex(),
        "bytes": size,
        "fraction_bits": fraction_bits,
        "leaf_values": LEAF_VALUES,
        "weights": list(weights),
        "layers": [{"name": name, "shape": list(shape)} for name, shape in shapes.items()],
        "carried": sorted(first.tensors.keys() - shapes.keys()),
    }
    write_json(output / _RESULT, result)
    return result


def _clear(output: Path) -> None:
    """Make `output` an empty folder; Misconfigured for one that has more than an earlier mean."""
    found = {path.name for path in output.iterdir()} if output.is_dir() else set()
    layers = {name for name in found if name.endswith(".layer")}
    made = layers | {_RESULT, WHOLE, ADAPTER, *_COMPANIONS}
    # A mean that was not finished has layers and no result; a model of the user's has neither.
    if found - made or (found and not layers and _RESULT not in found):
        raise Misconfigured(f"{output} is not empty: choose another folder for the mean")
    for name in found:
        (output / name).unlink()
    output.mkdir(parents=True, exist_ok=True)


def _write_checkpoint(
    first: Checkpoint, names: list[str], layers: LayerFolder, fraction_bits: int, output: Path
) -> None:
    """Write the mean in `layers` as safetensors, and beside it what `first` has beside its own."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in first.tensors.items():
        size = 4 * tensor.count if name in names else len(tensor.raw())
        entries[name] = {
            "dtype": "F32" if name in names else tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [end, end + size],
        }
        end += size
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # safetensors aligns what follows
    with (output / (ADAPTER if first.is_adapter else WHOLE)).open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name, tensor in first.tensors.items():
            if name in names:
                _write_decoded(
                    layers.layer_path(names.index(name)), tensor.count, fraction_bits, file
                )
            else:
                file.write(tensor.raw())
    for companion in _companions(first):
        shutil.copyfile(companion, output / companion.name)


def _companions(checkpoint: Checkpoint) -> list[Path]:
    folder = checkpoint.folder
    found = [] if folder is None else [folder / name for name in _COMPANIONS]
    return [path for path in found if path.is_file()]


def _write_decoded(layer: Path, count: int, fraction_bits: int, file: BinaryIO) -> None:
    for start in range(0, count, _PIECE):
        size = min(_PIECE, count - start)
        stored = np.fromfile(layer, MODEL_VALUE, count=size, offset=start * MODEL_VALUE.itemsize)
        # By way of float64, where the product is exact: rounded to float32 once.
        file.write((stored * 2.0**-fraction_bits).astype("<f4").tobytes())


@dataclass(frozen=True)
class _Encoded:
    """A checkpoint as a source of stored integers: encoded while it is read."""

    tensors: tuple[tuple[str, Tensor], ...]
    fraction_bits: int

    @property
    def value_bytes(self) -> int:
        """The bytes of an encoded value."""
        return MODEL_VALUE.itemsize

    def open(self, index: int, count: int, window: int) -> AbstractContextManager["_EncodedTensor"]:
        """Open one tensor."""
        return nullcontext(_EncodedTensor(*self.tensors[index], self.fraction_bits))


@dataclass(frozen=True)
class _EncodedTensor:
    name: str
    tensor: Tensor
    fraction_bits: int

    def values(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return a slab's integers; those past the tensor's end are padding."""
        real = max(min(stop, self.tensor.count) - start, 0)
        padded = np.zeros(stop - start, np.int32)
        values = self.tensor.values(start, real)
        try:
            padded[:real] = encode_values(values, self.fraction_bits)
        except Rejected as error:
            # The encoder counts within a slab, so the message names the slab's first value.
            told = f"{self.name}, from value {start} on: {error.reason}{_advice(values)}"
            raise Rejected(error.check, told) from None
        return padded

    def forget(self, start: int, stop: int) -> None:
        """Nothing is kept."""


def _advice(values: NDArray[np.floating[Any]]) -> str:
    """Return how values that are too large can be averaged all the same, if they can."""
    largest = float(np.abs(values.astype(np.float64)).max())
    # |v| < 2^e by frexp: so that |v| * 2^bits is below 2^31.
    bits = 31 - frexp(largest)[1] if isfinite(largest) else -1
    return f"; with --fraction-bits {bits} it fits, and is less exact" if bits >= 0 else ""
