"""Averaging whole checkpoints without a federation: `commonweight aggregate`.

A checkpoint is a .safetensors file, a folder with model.safetensors.index.json and its shards, or a
folder with one .safetensors file. Tensors are read through the file's own header, block by block:
no model is loaded, and memory is a few blocks whatever the size. Format: safetensors' README.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocol.average import weighted_mean
from protocol.encoding import LEAF_VALUES, STORED, encode_values, padded_bytes
from protocol.errors import Misconfigured, Rejected
from protocol.tree import TreeBuilder
from storage.capacity import check_disk
from storage.files import write_json

_BLOCK_VALUES: Final = 1 << 15
_MAX_HEADER_BYTES: Final = 100 << 20  # safetensors' own limit
_SIZES: Final = {"F16": 2, "BF16": 2, "F32": 4}


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
        kind = {"F16": "<f2", "BF16": "<u2", "F32": "<f4"}[self.dtype]
        raw: NDArray[Any] = np.fromfile(
            self.path, kind, count=count, offset=self.offset + start * size
        )
        if self.dtype != "BF16":
            return raw
        # A bfloat16 is the upper half of the float32 of the same value.
        return (raw.astype(np.uint32) << 16).view(np.float32)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return every tensor of the checkpoint at `path` by name, reading headers only.

    Raises Misconfigured, with one line, for what is no checkpoint of float tensors.
    """
    tensors: dict[str, Tensor] = {}
    for file in _files(path):
        for name, tensor in _read_header(file):
            if name in tensors:
                raise Misconfigured(f"checkpoint {path}: {name} is in two files")
            tensors[name] = tensor
    if not tensors:
        raise Misconfigured(f"checkpoint {path}: it has no tensors")
    return tensors


def aggregate(
    paths: Sequence[Path],
    weights: Sequence[int],
    output: Path,
    fraction_bits: int = 24,
    leaf_values: int = LEAF_VALUES,
) -> dict[str, Any]:
    """Write the weighted mean as layer files and layers.json to `output`; return what was done.

    Layers are the tensors, sorted by name, in the encoding of docs/protocol.md §2 and §3; the mean
    is that of §7, and `root` the tree root of §4. Raises Misconfigured when the checkpoints differ
    in names or shapes, or the disk is too small, and Rejected for a value that cannot be encoded.
    """
    if len(weights) != len(paths):
        raise Misconfigured(f"{len(paths)} checkpoints and {len(weights)} weights were given")
    checkpoints = [read_checkpoint(path) for path in paths]
    names = _common_names(paths, checkpoints)
    shapes = [checkpoints[0][name].shape for name in names]
    size = sum(padded_bytes(shape, leaf_values) for shape in shapes)
    check_disk(output, size, f"the mean of {len(paths)} checkpoints")
    output.mkdir(parents=True, exist_ok=True)
    builder = TreeBuilder(leaf_values * STORED.itemsize)
    for index, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        sources = [checkpoint[name] for checkpoint in checkpoints]
        padding = padded_bytes(shape, leaf_values) - prod(shape) * STORED.itemsize
        with (output / f"{index:05d}.layer").open("wb") as file:
            for block in _mean_blocks(name, sources, weights, fraction_bits):
                file.write(block)
                builder.update(block)
            file.write(bytes(padding))
            builder.update(bytes(padding))
    layers = [{"name": n, "shape": list(s)} for n, s in zip(names, shapes, strict=True)]
    result = {
        "root": builder.root().hex(),
        "bytes": size,
        "fraction_bits": fraction_bits,
        "leaf_values": leaf_values,
        "weights": list(weights),
        "layers": layers,
    }
    write_json(output / "layers.json", result)
    return result


def _mean_blocks(
    name: str, sources: Sequence[Tensor], weights: Sequence[int], fraction_bits: int
) -> Iterator[bytes]:
    count = prod(sources[0].shape)
    for start in range(0, count, _BLOCK_VALUES):
        here = min(_BLOCK_VALUES, count - start)
        try:
            blocks = [encode_values(s.values(start, here), fraction_bits) for s in sources]
        except Rejected as error:
            raise Rejected(error.check, f"{name}, from value {start} on: {error.reason}") from None
        yield weighted_mean(blocks, weights).astype(STORED).tobytes()


def _common_names(paths: Sequence[Path], checkpoints: Sequence[dict[str, Tensor]]) -> list[str]:
    first = checkpoints[0]
    for path, other in zip(paths, checkpoints, strict=True):
        if odd := sorted(first.keys() ^ other.keys()):
            raise Misconfigured(f"{odd[0]} is not in both {paths[0]} and {path}")
        for name, tensor in other.items():
            if tensor.shape != first[name].shape:
                raise Misconfigured(
                    f"{name} has shape {tensor.shape} in {path}, {first[name].shape} in {paths[0]}"
                )
    return sorted(first)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    index = path / "model.safetensors.index.json"
    if not index.exists():
        found = sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise Misconfigured(f"checkpoint {path}: {len(found)} .safetensors files and no index")
        return found
    try:
        shards = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(f"checkpoint index {index} cannot be read: {error}") from error
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard or not (path / shard).is_file():
            raise Misconfigured(f"checkpoint index {index}: no file {shard!r} beside it")
    return [path / shard for shard in sorted(shards)]


def _read_header(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of one file; the header is 8 bytes of length and that many of JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length:,} bytes")
            header = json.loads(file.read(length))
            end = os.fstat(file.fileno()).st_size
        for name, entry in header.items():
            if name != "__metadata__":
                yield name, _tensor(path, entry, 8 + length, end)
    except OSError as error:
        raise Misconfigured(f"checkpoint {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(f"{path} is not a safetensors file: {error}") from error


def _tensor(path: Path, entry: dict[str, Any], data: int, end: int) -> Tensor:
    dtype, shape = str(entry["dtype"]), tuple(int(size) for size in entry["shape"])
    start, stop = (int(offset) for offset in entry["data_offsets"])
    if dtype not in _SIZES:
        raise ValueError(f"a tensor is {dtype}, F16, BF16 or F32 was expected")
    if min(shape, default=1) < 1 or start < 0 or data + stop > end:
        raise ValueError(f"shape {shape} at {start} to {stop} is not in the file")
    if prod(shape) * _SIZES[dtype] != stop - start:
        raise ValueError(f"shape {shape} does not take {stop - start} bytes")
    return Tensor(path, dtype, shape, data + start)
