"""The weighted mean of updates on disk, layer by layer, in blocks (docs/protocol.md §7).

    layerwise      memory is a few blocks, however large the model and however many the participants
    all_at_once    everything in memory, as most aggregators do: here to compare, same root

The new layer is written and hashed as it appears. The bits depend on neither mode nor threads.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from protocol.average import mean_into, weighted_mean
from protocol.encoding import STORED
from protocol.errors import Misconfigured
from protocol.quantities import Digest
from protocol.spec import Spec
from protocol.tree import Subtree, TreeBuilder, full_subtrees
from storage.layers import LayerFolder
from storage.recorder import current

Mode = Literal["layerwise", "all_at_once"]

SLAB_BYTES: Final = 1 << 20  # a task of one thread: hashed and written whole
PIECE_BYTES: Final = 1 << 17  # read from every update at a time, so that it is still in the cache


def memory_needed(spec: Spec, updates: int, mode: Mode, threads: int = 2) -> int:
    """Return about how many bytes `average_layers` holds at most, the interpreter's own aside."""
    if mode == "all_at_once":
        return spec.total_bytes * (updates + 1)
    return threads * (2 * SLAB_BYTES + PIECE_BYTES * (updates + 2))


def average_layers(
    spec: Spec,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    target: LayerFolder,
    threads: int = 2,
    mode: Mode = "layerwise",
) -> Digest:
    """Write the weighted mean of `updates` to `target` and return its tree root.

    `weights` has one positive integer an update, with a sum below 2^31. Padding averages to zero.
    Raises Misconfigured when a layer file is shorter than the spec says.
    """
    target.path.mkdir(parents=True, exist_ok=True)
    if mode == "all_at_once":
        return _average_all_at_once(spec, updates, weights, target)
    builder = TreeBuilder(spec.encoding.leaf_bytes)
    with ThreadPoolExecutor(threads) as pool:
        for index in range(len(spec.layers)):
            paths = [update.layer_path(index) for update in updates]
            size, of_layer = spec.layer_bytes(index), current().layer(index)
            opened = _Layer(spec, index, paths, weights, target, builder.leaf_count)
            with of_layer as meter, opened as layer:
                meter.add(read=size * len(paths), written=size)
                for subtrees in layer.average(pool, ahead=2 * threads):
                    for subtree in subtrees:
                        builder.append(subtree)
    return builder.root()


class _Layer:
    """One layer's files, open; its mean is made slab by slab, in any order."""

    def __init__(
        self,
        spec: Spec,
        index: int,
        paths: Sequence[Path],
        weights: Sequence[int],
        target: LayerFolder,
        first_leaf: int,
    ) -> None:
        self._paths, self._weights = paths, weights
        self._size = spec.layer_bytes(index)
        self._leaf_bytes = spec.encoding.leaf_bytes
        self._first_leaf = first_leaf
        self._target_path = target.layer_path(index)
        self._files = ExitStack()

    def __enter__(self) -> "_Layer":
        self._sources = [self._open(path, os.O_RDONLY) for path in self._paths]
        self._target = self._open(self._target_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def _open(self, path: Path, flags: int) -> int:
        handle = os.open(path, flags, 0o644)
        self._files.callback(os.close, handle)
        return handle

    def average(self, pool: ThreadPoolExecutor, ahead: int) -> Iterator[list[Subtree]]:
        """Yield each slab's subtrees, in order, once it is written; `ahead` are in the making."""
        # Whole leaves, so that each slab can be hashed by itself.
        step = max(SLAB_BYTES // self._leaf_bytes, 1) * self._leaf_bytes
        pending: deque[Future[list[Subtree]]] = deque()
        for start in range(0, self._size, step):
            length = min(step, self._size - start)
            pending.append(pool.submit(self._slab, start, length))
            if len(pending) == ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _slab(self, start: int, length: int) -> list[Subtree]:
        mean = np.empty(length // STORED.itemsize, STORED)
        pieces = np.empty((len(self._sources), PIECE_BYTES // STORED.itemsize), STORED)
        for offset in range(0, length, PIECE_BYTES):
            count = min(PIECE_BYTES, length - offset) // STORED.itemsize
            rows = [row[:count] for row in pieces]
            for path, source, row in zip(self._paths, self._sources, rows, strict=True):
                if os.preadv(source, [row.view(np.uint8).data], start + offset) != row.nbytes:
                    raise _too_short(path, self._size)
            first = offset // STORED.itemsize
            mean_into(mean[first : first + count], rows, self._weights)
        data = mean.view(np.uint8).data
        self._write(data, start)
        return full_subtrees(data, self._leaf_bytes, self._first_leaf + start // self._leaf_bytes)

    def _write(self, data: memoryview, at: int) -> None:
        while data:
            written = os.pwrite(self._target, data, at)
            data, at = data[written:], at + written


def _average_all_at_once(
    spec: Spec, updates: Sequence[LayerFolder], weights: Sequence[int], target: LayerFolder
) -> Digest:
    layers = range(len(spec.layers))
    current().add(read=spec.total_bytes * len(updates), written=spec.total_bytes)
    held = [[_read_whole(spec, update, index) for update in updates] for index in layers]
    means = [weighted_mean(values, weights).astype(STORED) for values in held]
    builder = TreeBuilder(spec.encoding.leaf_bytes)
    for index, mean in zip(layers, means, strict=True):
        mean.tofile(target.layer_path(index))
        builder.update(mean.view(np.uint8).data)
    return builder.root()


def _read_whole(spec: Spec, update: LayerFolder, index: int) -> NDArray[np.int32]:
    path, size = update.layer_path(index), spec.layer_bytes(index)
    values = np.fromfile(path, STORED, count=size // STORED.itemsize)
    if values.nbytes != size:
        raise _too_short(path, size)
    return values


def _too_short(path: Path, size: int) -> Misconfigured:
    return Misconfigured(f"{path} is shorter than the {size:,} bytes the spec asks for")
