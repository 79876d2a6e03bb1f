"""Average whole checkpoints without a federation: `commonweight model average`.

A checkpoint is a .safetensors file, a folder with model.safetensors.index.json and its shards, or a
folder with one .safetensors file. Tensors are read through the file's own header, block by block:
no model is loaded, and memory is a few blocks whatever the size. The format is that of safetensors'
README; its package is not needed.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocol.encoding import FRACTION_BITS, LEAF_VALUES, encode_values, padded_bytes
from protocol.errors import Misconfigured, Rejected
from rounds.average import MODEL_VALUE, Layout, write_mean
from storage.capacity import check_disk
from storage.files import write_json
from storage.layers import LayerFolder

_MAX_HEADER_BYTES: Final = 100 << 20  # safetensors' own limit
# Bytes of a value, and the type that NumPy reads it as: NumPy has no bfloat16.
_SIZES: Final = {"F16": 2, "BF16": 2, "F32": 4}
_READ_AS: Final = {"F16": "<f2", "BF16": "<u2", "F32": "<f4"}


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's bytes lie: little-endian, row-major."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def values(self, start: int, count: int) -> NDArray[np.floating[Any]]:
        """Return `count` values from `start` on, as float16 or float32."""
        size = _SIZES[self.dtype]
        place = self.offset + start * size
        raw: NDArray[Any] = np.fromfile(self.path, _READ_AS[self.dtype], count=count, offset=place)
        if self.dtype != "BF16":
            return raw
        # A bfloat16 is the upper half of the float32 of the same value.
        return (raw.astype(np.uint32) << 16).view(np.float32)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return every tensor of the checkpoint at `path` by name, reading headers only.

    Raises Misconfigured, with one line, for what is no checkpoint of float tensors.
    """
    tensors: dict[str, Tensor] = {}
    for file in _find_files(path):
        for name, tensor in _read_header(file):
            # Nothing says which of the two counts.
            if name in tensors:
                raise Misconfigured(f"checkpoint {path}: {name} is in two files")
            tensors[name] = tensor
    if not tensors:
        raise Misconfigured(f"checkpoint {path}: it has no tensors")
    return tensors


def average_checkpoints(
    paths: Sequence[Path],
    weights: Sequence[int],
    output: Path,
) -> dict[str, Any]:
    """Write the weighted mean as layer files and layers.json to `output`, and describe it.

    Layers are the tensors, sorted by name, in the encoding of a model (docs/protocol.md §2 and §3);
    the mean is exact, rounded to the nearest quantum, and `root` the tree root of §4. Raises
    Misconfigured when the checkpoints differ in names or shapes or the disk is too small, and
    Rejected for a value that cannot be encoded.
    """
    # 1. The headers of all checkpoints, before anything is written.
    if len(weights) != len(paths):
        raise Misconfigured(f"{len(paths)} checkpoints and {len(weights)} weights were given")
    checkpoints = [read_checkpoint(path) for path in paths]
    first = checkpoints[0]
    for path, other in zip(paths, checkpoints, strict=True):
        if odd := sorted(first.keys() ^ other.keys()):
            raise Misconfigured(f"{odd[0]} is not in both {paths[0]} and {path}")
        for name, tensor in other.items():
            if tensor.shape != first[name].shape:
                raise Misconfigured(
                    f"{name} has shape {tensor.shape} in {path}, {first[name].shape} in {paths[0]}"
                )
    # Sorted: the order in a file is its writer's choice, and the root depends on the order.
    shapes = {name: first[name].shape for name in sorted(first)}
    # 2. Room on the disk: a mean is as large as a checkpoint in float32.
    size = sum(padded_bytes(shape, "model") for shape in shapes.values())
    check_disk(output, size, f"the mean of {len(paths)} checkpoints")
    output.mkdir(parents=True, exist_ok=True)
    # 3. The mean, by the same stream as a round's: in slabs, hashed as they are written.
    counts = tuple(-(-prod(shape) // LEAF_VALUES) * LEAF_VALUES for shape in shapes.values())
    sources = [
        _Encoded(tuple((name, checkpoint[name]) for name in shapes)) for checkpoint in checkpoints
    ]
    root = write_mean(Layout(counts), sources, weights, LayerFolder(output, "model"))
    # 4. layers.json, last: a folder that has it is complete.
    result = {
        "root": root.hex(),
        "bytes": size,
        "fraction_bits": FRACTION_BITS,
        "leaf_values": LEAF_VALUES,
        "weights": list(weights),
        "layers": [{"name": name, "shape": list(shape)} for name, shape in shapes.items()],
    }
    write_json(output / "layers.json", result)
    return result


@dataclass(frozen=True)
class _Encoded:
    """A checkpoint as a source of stored integers: encoded while it is read."""

    tensors: tuple[tuple[str, Tensor], ...]

    @property
    def value_bytes(self) -> int:
        """The bytes of an encoded value."""
        return MODEL_VALUE.itemsize

    def open(self, index: int, count: int, window: int) -> AbstractContextManager["_EncodedTensor"]:
        """Open one tensor."""
        return nullcontext(_EncodedTensor(*self.tensors[index]))


@dataclass(frozen=True)
class _EncodedTensor:
    name: str
    tensor: Tensor

    def values(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return a slab's integers; those past the tensor's end are padding."""
        real = max(min(stop, prod(self.tensor.shape)) - start, 0)
        padded = np.zeros(stop - start, np.int32)
        try:
            padded[:real] = encode_values(self.tensor.values(start, real))
        except Rejected as error:
            # The encoder counts within a slab, so the message names the slab's first value.
            raise Rejected(
                error.check, f"{self.name}, from value {start} on: {error.reason}"
            ) from None
        return padded

    def forget(self, start: int, stop: int) -> None:
        """Nothing is kept."""


def _find_files(path: Path) -> list[Path]:
    """Return the .safetensors files of a checkpoint: itself, the shards of its index, or the one.

    A shard outside the folder is refused: an index is a stranger's file.
    """
    if path.is_file():
        return [path]
    index = path / "model.safetensors.index.json"
    if not index.exists():
        found = sorted(path.glob("*.safetensors"))
        # Without an index several files may be shards or other models: nothing says which.
        if len(found) != 1:
            raise Misconfigured(f"checkpoint {path}: {len(found)} .safetensors files and no index")
        return found
    try:
        shards = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(f"checkpoint index {index} cannot be read: {error}") from error
    for shard in shards:
        # A name with a folder in it could lead to any file of this machine.
        if not isinstance(shard, str) or Path(shard).name != shard or not (path / shard).is_file():
            raise Misconfigured(f"checkpoint index {index}: no file {shard!r} beside it")
    return [path / shard for shard in sorted(shards)]


def _read_header(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of one file; the header is 8 bytes of length and that many of JSON.

    Every offset is checked against the file: it comes from whoever wrote the checkpoint.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            # Before reading: the length of a file that is no checkpoint may be any number.
            if length > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length:,} bytes")
            header = json.loads(file.read(length))
            available = os.fstat(file.fileno()).st_size - 8 - length
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            dtype, shape = str(entry["dtype"]), tuple(int(size) for size in entry["shape"])
            start, stop = (int(offset) for offset in entry["data_offsets"])
            if dtype not in _SIZES:
                raise ValueError(f"a tensor is {dtype}, F16, BF16 or F32 was expected")
            if min(shape, default=1) < 1 or start < 0 or stop > available:
                raise ValueError(f"shape {shape} at {start} to {stop} is not in the file")
            if prod(shape) * _SIZES[dtype] != stop - start:
                raise ValueError(f"shape {shape} does not take {stop - start} bytes")
            yield name, Tensor(path, dtype, shape, 8 + length + start)
    except OSError as error:
        raise Misconfigured(f"checkpoint {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(f"{path} is not a safetensors file: {error}") from error
