"""The weighted mean of updates on disk, layer by layer, in blocks (docs/protocol.md §7).

    layerwise      memory is a few blocks, however large the model and however many the participants
    all_at_once    everything in memory, as most aggregators do: here to compare, same root

The new layer is written and hashed as it appears, while the next one is read ahead and averaged.
The bits depend on neither mode nor threads.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from profiling.recorder import current
from protocol.average import mean_into, weighted_mean
from protocol.encoding import STORED
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.tree import Subtree, TreeBuilder, full_subtrees
from protocol.types import Digest
from storage.layers import LayerFolder
from storage.mapped import HUGE_PAGE_BYTES, MappedFile

Mode = Literal["layerwise", "all_at_once"]

INPUT_BYTES: Final = 16 << 20
"""What one thread reads of all updates together before it forgets it."""

_LEAST_SLAB_BYTES: Final = 1 << 17  # smaller ones would be all overhead

HashSlab = Callable[[memoryview, int, int], list[Subtree]]
"""As `protocol.tree.full_subtrees`."""

OnLayer = Callable[[int], object]
"""Told the number of each layer once its file is complete."""


def memory_needed(spec: Spec, updates: int, mode: Mode, threads: int = 2) -> int:
    """Return about how many bytes `average_layers` holds at most, the interpreter's own aside."""
    if mode == "all_at_once":
        return spec.total_bytes * (updates + 1)
    slab = min(_slab_bytes(spec, updates), spec.total_bytes)
    return threads * slab * (updates + 1)


def _slab_bytes(spec: Spec, updates: int) -> int:
    """How much of a layer one thread averages at a time: whole leaves, about `INPUT_BYTES`."""
    leaf_bytes = spec.encoding.leaf_bytes
    size = min(max(INPUT_BYTES // max(updates, 1), _LEAST_SLAB_BYTES), HUGE_PAGE_BYTES)
    return max(size // leaf_bytes, 1) * leaf_bytes


def average_layers(
    spec: Spec,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    target: LayerFolder,
    threads: int = 2,
    mode: Mode = "layerwise",
    on_layer: OnLayer = lambda index: None,
) -> Digest:
    """Write the weighted mean of `updates` to `target` and return its tree root.

    `weights` has one positive integer an update, with a sum below 2^31. Padding averages to zero.
    Raises Misconfigured when a layer file is shorter than the spec says.
    """
    target.path.mkdir(parents=True, exist_ok=True)
    if mode == "all_at_once":
        return _average_all_at_once(spec, updates, weights, target, on_layer)
    builder = TreeBuilder(spec.encoding.leaf_bytes)
    for subtrees in average_slabs(spec, updates, weights, target, threads, on_layer=on_layer):
        for subtree in subtrees:
            builder.append(subtree)
    return builder.root()


def average_slabs(
    spec: Spec,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    target: LayerFolder,
    threads: int,
    hash_slab: HashSlab = full_subtrees,
    on_layer: OnLayer = lambda index: None,
) -> Iterator[list[Subtree]]:
    """Write the mean to `target` slab by slab; yield what `hash_slab` finds in each, in order.

    `threads` slabs are in the making at a time, also of different layers.
    """
    step, leaf_bytes = _slab_bytes(spec, len(updates)), spec.encoding.leaf_bytes
    memory = _Memory(step)
    pending: deque[tuple[_Layer, int, Future[list[Subtree]]]] = deque()

    def oldest() -> list[Subtree]:
        layer, stop, future = pending.popleft()
        subtrees = future.result()
        if stop >= layer.size:
            layer.close()
            on_layer(layer.index)
        return subtrees

    with ExitStack() as layers, ThreadPoolExecutor(threads) as pool:
        first_leaf = 0
        for index in range(len(spec.layers)):
            layer = _Layer(spec, index, updates, weights, target, step)
            layers.callback(layer.close)
            for start in range(0, layer.size, step):
                leaf = first_leaf + start // leaf_bytes
                future = pool.submit(layer.average, memory, hash_slab, start, leaf_bytes, leaf)
                pending.append((layer, start + step, future))
                if len(pending) == 2 * threads:
                    yield oldest()
            first_leaf += layer.size // leaf_bytes
        while pending:
            yield oldest()


class _Memory(threading.local):
    """Each thread's own room for a slab of the mean, used again and again."""

    def __init__(self, size: int) -> None:
        self.mean = np.empty(size // STORED.itemsize, STORED)


class _Layer:
    """One layer's files, open until `close`; slabs are made in any order, by any thread."""

    def __init__(
        self,
        spec: Spec,
        index: int,
        updates: Sequence[LayerFolder],
        weights: Sequence[int],
        target: LayerFolder,
        step: int,
    ) -> None:
        self.index, self.size = index, spec.layer_bytes(index)
        self._weights, self._step = weights, step
        self._span = current()  # of this thread, not of those that average
        self._files = ExitStack()
        self._sources = [
            self._files.enter_context(MappedFile(update.layer_path(index), self.size, step))
            for update in updates
        ]
        # Not emptied first: overwriting pages that are there is faster than making new ones.
        self._target = os.open(target.layer_path(index), os.O_RDWR | os.O_CREAT, 0o644)
        self._files.callback(os.close, self._target)
        os.ftruncate(self._target, self.size)

    def close(self) -> None:
        self._files.close()

    def average(
        self, memory: _Memory, hash_slab: HashSlab, start: int, leaf_bytes: int, first_leaf: int
    ) -> list[Subtree]:
        """Average and write the slab at `start`, of which the first leaf is `first_leaf`."""
        stop = min(start + self._step, self.size)
        with self._span.layer(self.index) as meter:
            meter.add(read=(stop - start) * len(self._sources), written=stop - start)
            data = self._mean(memory, start, stop)
            self._write(data, start)
            return hash_slab(data, leaf_bytes, first_leaf)

    def _mean(self, memory: _Memory, start: int, stop: int) -> memoryview:
        mean = memory.mean[: (stop - start) // STORED.itemsize]
        mean_into(mean, [s.data[start:stop].view(STORED) for s in self._sources], self._weights)
        for source in self._sources:
            source.forget(start, stop)
        return mean.view(np.uint8).data

    def _write(self, data: memoryview, at: int) -> None:
        while data:
            written = os.pwrite(self._target, data, at)
            data, at = data[written:], at + written


def _average_all_at_once(
    spec: Spec,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    target: LayerFolder,
    on_layer: OnLayer,
) -> Digest:
    layers = range(len(spec.layers))
    current().add(read=spec.total_bytes * len(updates), written=spec.total_bytes)
    held = [[_read_whole(spec, update, index) for update in updates] for index in layers]
    means = [weighted_mean(values, weights).astype(STORED) for values in held]
    builder = TreeBuilder(spec.encoding.leaf_bytes)
    for index, mean in zip(layers, means, strict=True):
        mean.tofile(target.layer_path(index))
        builder.update(mean.view(np.uint8).data)
        on_layer(index)
    return builder.root()


def _read_whole(spec: Spec, update: LayerFolder, index: int) -> NDArray[np.int32]:
    path, size = update.layer_path(index), spec.layer_bytes(index)
    values = np.fromfile(path, STORED, count=size // STORED.itemsize)
    if values.nbytes != size:
        raise _too_short(path, size)
    return values


def _too_short(path: Path, size: int) -> Misconfigured:
    return Misconfigured(f"{path} is shorter than the {size:,} bytes the spec asks for")
