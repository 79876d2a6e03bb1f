"""Checkpoints on disk, read without loading a model: files of safetensors, and folders of them.

A checkpoint is a .safetensors file, or a folder as transformers and peft write it: with
model.safetensors, with shards and model.safetensors.index.json, with adapter_model.safetensors, or
with one .safetensors file of another name. The format is that of safetensors' README, and what its
package refuses is refused here; the package itself is not needed.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocol.errors import Misconfigured
from protocol.text import parse_json

WHOLE: Final = "model.safetensors"
ADAPTER: Final = "adapter_model.safetensors"
INDEX: Final = "model.safetensors.index.json"
ADAPTER_CONFIG: Final = "adapter_config.json"

_MAX_HEADER_BYTES: Final = 100 << 20  # safetensors' own limit
# The types of numbers that are averaged, as NumPy reads them: it has no bfloat16.
_READ_AS: Final = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
# The bytes of a value of every type that is carried along.
_SIZES: Final = {
    "F16": 2, "BF16": 2, "F32": 4, "F64": 8,
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "I32": 4, "U32": 4, "I64": 8, "U64": 8,
}  # fmt: skip
_LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
# What must be the same for the mean of two adapters' tensors to mean anything.
_ADAPTER_KEYS: Final = (
    "peft_type",
    "base_model_name_or_path",
    "revision",
    "r",
    "rank_pattern",
    "lora_alpha",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "target_modules",
    "modules_to_save",
    "layer_replication",
    "fan_in_fan_out",
    "bias",
)


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's bytes lie: little-endian, row-major."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def is_averaged(self) -> bool:
        """Whether the tensor has numbers with a mean: counters and masks have none."""
        return self.dtype in _READ_AS and self.count > 0

    @property
    def count(self) -> int:
        """The number of values."""
        return prod(self.shape)

    def values(self, start: int, count: int) -> NDArray[np.floating[Any]]:
        """Return `count` values from `start` on, as float16, float32 or float64."""
        place = self.offset + start * _SIZES[self.dtype]
        raw: NDArray[Any] = np.fromfile(self.path, _READ_AS[self.dtype], count=count, offset=place)
        if self.dtype != "BF16":
            return raw
        # A bfloat16 is the upper half of the float32 of the same value.
        return (raw.astype(np.uint32) << 16).view(np.float32)

    def raw(self) -> bytes:
        """Return the bytes of all values."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.count * _SIZES[self.dtype])


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint by name, and the folder whose other files belong to it, if any.

    `adapter` is the content of adapter_config.json; empty for a whole model.
    """

    path: Path
    folder: Path | None
    tensors: Mapping[str, Tensor]
    adapter: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_adapter(self) -> bool:
        """Whether the tensors are those of an adapter, whatever its settings are."""
        return bool(self.adapter) or all(".lora_" in name for name in self.tensors)


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint at `path`, reading headers only.

    Raises Misconfigured, with one line, for what is none.
    """
    if path.is_dir():
        folder, tensors = path, _folder_tensors(path)
    else:
        folder, tensors = path.parent, dict(_read_header(path))
    if not tensors:
        raise Misconfigured(f"checkpoint {path}: it has no tensors")
    config = folder / ADAPTER_CONFIG
    is_adapter = any(tensor.path.name == ADAPTER for tensor in tensors.values())
    adapter = _read_object(config) if is_adapter and config.is_file() else {}
    # Beside a file of another name may lie anything.
    has_folder = path.is_dir() or path.name in (WHOLE, ADAPTER)
    return Checkpoint(path, folder if has_folder else None, tensors, adapter)


def check_alike(checkpoints: Sequence[Checkpoint]) -> None:
    """Raise Misconfigured, naming the difference, unless a mean of the checkpoints makes sense.

    They must have the same tensors of the same shapes, what is not averaged must be equal, and
    adapters must have been made for the same base model in the same way.
    """
    first = checkpoints[0]
    for other in checkpoints[1:]:
        # The settings first: a difference in them explains one in the shapes.
        _check_adapters(first, other)
        if odd := sorted(first.tensors.keys() ^ other.tensors.keys()):
            raise Misconfigured(f"{odd[0]} is not in both {first.path} and {other.path}")
        for name, tensor in other.tensors.items():
            _check_tensors(name, first, other, tensor)


def _check_adapters(first: Checkpoint, other: Checkpoint) -> None:
    if bool(first.adapter) != bool(other.adapter):
        without = other if first.adapter else first
        raise Misconfigured(
            f"{without.path} has no {ADAPTER_CONFIG}: whether its adapter is of the same kind "
            "cannot be told"
        )
    for key in _ADAPTER_KEYS:
        mine, theirs = _comparable(first.adapter.get(key)), _comparable(other.adapter.get(key))
        if mine != theirs:
            raise Misconfigured(
                f"{key} is {theirs} in {other.path}, {mine} in {first.path}: a mean of the two "
                "means nothing"
            )


def _comparable(setting: Any) -> Any:
    # peft writes target modules in the order of a set; what is unset is null, false or absent.
    return sorted(map(str, setting)) if isinstance(setting, list) else setting or None


def _check_tensors(name: str, first: Checkpoint, other: Checkpoint, tensor: Tensor) -> None:
    mine = first.tensors[name]
    if tensor.shape != mine.shape:
        raise Misconfigured(
            f"{name} has shape {tensor.shape} in {other.path}, {mine.shape} in {first.path}"
        )
    if tensor.is_averaged and mine.is_averaged:
        return
    if tensor.dtype != mine.dtype or tensor.raw() != mine.raw():
        raise Misconfigured(
            f"{name} is {tensor.dtype} in {other.path}, {mine.dtype} in {first.path}, and differs: "
            "only floating-point tensors are averaged, others must be equal"
        )


def _folder_tensors(path: Path) -> dict[str, Tensor]:
    if (path / ADAPTER).exists() and ((path / WHOLE).exists() or (path / INDEX).exists()):
        raise Misconfigured(
            f"checkpoint {path}: it has an adapter and a whole model; name the file to average"
        )
    if (path / INDEX).exists():
        return _indexed_tensors(path)
    for name in (WHOLE, ADAPTER):
        if (path / name).exists():  # others beside it are copies in other layouts
            return dict(_read_header(path / name))
    found = sorted(path.glob("*.safetensors"))
    # Without an index several files may be shards or other models: nothing says which.
    if len(found) != 1:
        raise Misconfigured(f"checkpoint {path}: {len(found)} .safetensors files and no index")
    return dict(_read_header(found[0]))


def _indexed_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors that an index names, each from its shard, as transformers does.

    A shard outside the folder is refused: an index is a stranger's file.
    """
    where = _read_object(path / INDEX).get("weight_map")
    if not isinstance(where, dict):
        raise Misconfigured(f"checkpoint index {path / INDEX}: it has no weight_map")
    shards: dict[str, dict[str, Tensor]] = {}
    for shard in where.values():
        # A name with a folder in it could lead to any file of this machine.
        if not isinstance(shard, str) or Path(shard).name != shard or not (path / shard).is_file():
            raise Misconfigured(f"checkpoint index {path / INDEX}: no file {shard!r} beside it")
        if shard not in shards:
            shards[shard] = dict(_read_header(path / shard))
    for name, shard in where.items():
        if name not in shards[shard]:
            raise Misconfigured(f"checkpoint {path}: {name} is not in {shard}, as the index says")
    return {name: shards[shard][name] for name, shard in where.items()}


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_bytes())
    except OSError as error:
        raise Misconfigured(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise Misconfigured(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise Misconfigured(f"{path}: expected a JSON object")
    return content


def _read_header(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of one file; the header is 8 bytes of length and that many of JSON.

    Every offset is checked against the file: it comes from whoever wrote the checkpoint.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if start == _LFS_POINTER[:8]:
                raise ValueError("a Git LFS pointer in its place: run `git lfs pull`")
            length = int.from_bytes(start, "little")
            # Before reading: the length of a file that is no checkpoint may be any number.
            if length > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length:,} bytes")
            header = parse_json(file.read(length), _unique)
            available = os.fstat(file.fileno()).st_size - 8 - length
        if not isinstance(header, dict):
            raise ValueError("no JSON object at its beginning")
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = 0
        # In the order of their bytes: tensors must fill the file, without gap or overlap.
        for name in sorted(entries, key=lambda name: _offsets(entries[name])):
            tensor = _tensor(path, name, entries[name], 8 + length, end)
            end += tensor.count * _SIZES[tensor.dtype]
            yield name, tensor
        if end != available:
            where = "behind its last tensor" if end < available else "missing"
            raise ValueError(f"{abs(available - end):,} bytes {where}")
    except OSError as error:
        raise Misconfigured(f"checkpoint {path}: {error.strerror}") from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise Misconfigured(f"{path} is not a safetensors file: {error}") from error


def _tensor(path: Path, name: str, entry: Mapping[str, Any], data: int, expected: int) -> Tensor:
    """Return the tensor of an entry, whose bytes must begin at `expected` behind `data`."""
    dtype, shape = str(entry["dtype"]), tuple(int(size) for size in entry["shape"])
    start, stop = _offsets(entry)
    if dtype not in _SIZES:
        raise ValueError(f"{name} is {dtype}, expected {', '.join(_SIZES)}")
    if min(shape, default=0) < 0 or prod(shape) * _SIZES[dtype] != stop - start:
        raise ValueError(f"{name} of shape {shape} does not take {stop - start} bytes")
    if start != expected:
        fault = "overlaps the tensor before it" if start < expected else "leaves a gap before it"
        raise ValueError(f"{name} {fault}")
    return Tensor(path, dtype, shape, data + start)


def _offsets(entry: Mapping[str, Any]) -> tuple[int, int]:
    start, stop = (int(offset) for offset in entry["data_offsets"])
    return start, stop


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        ((doubled, count),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{doubled} is named {'twice' if count == 2 else f'{count} times'}")
    return found
