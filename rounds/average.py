"""The weighted mean of updates on disk, layer by layer, in slabs (docs/protocol.md §7).

    stream_mean      yield the mean slab by slab; a round writes it, an audit compares with it
    average_layers   write the mean to a folder and return its tree root

Takes memory for a few slabs, whatever the size of the model and the number of participants. The
result does not depend on mode or threads.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self, TypeVar

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
"""`all_at_once` holds everything in memory, as most aggregators do; for comparison, same root."""

T = TypeVar("T")

INPUT_BYTES: Final = 16 << 20
"""Bytes of all updates together that one thread reads before it releases them."""

# With so many updates that slabs would be smaller, the cost per slab would exceed that of
# averaging.
_LEAST_SLAB_BYTES: Final = 1 << 17


@dataclass(frozen=True)
class Layout:
    """The sizes of all layer files in bytes, in order, and of a leaf."""

    layer_bytes: tuple[int, ...]
    leaf_bytes: int

    @classmethod
    def of(cls, spec: Spec) -> Self:
        """Return the layout of a spec's updates and models."""
        sizes = tuple(spec.layer_bytes(index) for index in range(len(spec.layers)))
        return cls(sizes, spec.encoding.leaf_bytes)


@dataclass(frozen=True)
class Slab:
    """Bytes `start` to `stop` of one layer file: whole leaves.

    `first_leaf` is numbered over all layers; `is_last` marks the last slab of its layer.
    """

    layer: int
    start: int
    stop: int
    first_leaf: int
    is_last: bool


class Values(Protocol):
    """One layer of one source."""

    def values(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return the int32 values of the bytes from `start` to `stop`; called by any thread."""

    def forget(self, start: int, stop: int) -> None:
        """Release these bytes, which are not asked for again."""


class Source(Protocol):
    """An update or checkpoint, opened one layer at a time."""

    def open(self, index: int, size: int, window: int) -> AbstractContextManager[Values]:
        """Open layer `index`, which has `size` bytes, to be read in slabs of `window` bytes."""


class _MappedValues(MappedFile):
    def values(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return a view of the mapped bytes; nothing is copied."""
        return self.data[start:stop].view(STORED)


@dataclass(frozen=True)
class Stored:
    """The layer files of an update, as a source."""

    folder: LayerFolder

    def open(self, index: int, size: int, window: int) -> AbstractContextManager[Values]:
        """Map a layer file; Misconfigured when it is shorter than `size`."""
        return _MappedValues(self.folder.layer_path(index), size, window)


def stream_mean(
    layout: Layout,
    sources: Sequence[Source],
    weights: Sequence[int],
    work: Callable[[Slab, NDArray[np.int32]], T],
    threads: int = 2,
) -> Iterator[tuple[Slab, T]]:
    """Yield each slab in order, with the result of `work` on its mean; `work` runs in the threads.

    `weights` has one positive integer per source, with a sum below 2^31. `work` gets the mean as
    stored (docs/protocol.md §2), in memory that is reused once it returns. `threads` slabs are
    averaged at a time, also of different layers.
    """
    step = _slab_bytes(layout.leaf_bytes, len(sources))
    span = current()  # the span belongs to this thread, not to those that average
    memory = _Memory(step)

    def average(opened: Sequence[Values], slab: Slab) -> T:
        """Average one slab into this thread's memory and return what `work` makes of it."""
        with span.layer(slab.layer) as meter:
            meter.add(read=(slab.stop - slab.start) * len(opened))
            mean = memory.mean[: (slab.stop - slab.start) // STORED.itemsize]
            mean_into(mean, [each.values(slab.start, slab.stop) for each in opened], weights)
            # Before `work`: the mean alone is needed from here on.
            for each in opened:
                each.forget(slab.start, slab.stop)
            return work(slab, mean)

    pending: deque[tuple[Slab, ExitStack, Future[T]]] = deque()

    def oldest() -> tuple[Slab, T]:
        """Wait for the oldest slab, close its layer's files after the last one, and return it."""
        slab, files, future = pending.popleft()
        result = future.result()
        # Slabs end in order here, so nothing reads this layer any more.
        if slab.is_last:
            files.close()
        return slab, result

    # The pool is entered last and so ends first: after a failure, no thread reads a closed file.
    with ExitStack() as all_files, ThreadPoolExecutor(threads) as pool:
        first_leaf = 0
        for index, size in enumerate(layout.layer_bytes):
            files = all_files.enter_context(ExitStack())
            opened = [files.enter_context(source.open(index, size, step)) for source in sources]
            for start in range(0, size, step):
                stop = min(start + step, size)
                leaf = first_leaf + start // layout.leaf_bytes
                slab = Slab(index, start, stop, leaf, is_last=stop == size)
                pending.append((slab, files, pool.submit(average, opened, slab)))
                # Twice as many as threads, so that none is idle while the caller uses the oldest.
                if len(pending) == 2 * threads:
                    yield oldest()
            first_leaf += size // layout.leaf_bytes
        while pending:
            yield oldest()


class _Memory(threading.local):
    """Each thread's own memory for a slab of the mean, allocated once."""

    def __init__(self, size: int) -> None:
        self.mean = np.empty(size // STORED.itemsize, STORED)


def memory_needed(spec: Spec, updates: int, mode: Mode, threads: int = 2) -> int:
    """Return about how many bytes `average_layers` takes at most, beside the interpreter's own."""
    if mode == "all_at_once":
        return spec.total_bytes * (updates + 1)
    slab = min(_slab_bytes(spec.encoding.leaf_bytes, updates), spec.total_bytes)
    return threads * slab * (updates + 1)


def _slab_bytes(leaf_bytes: int, updates: int) -> int:
    """Return the bytes of a layer that one thread averages at a time: whole leaves."""
    size = min(max(INPUT_BYTES // max(updates, 1), _LEAST_SLAB_BYTES), HUGE_PAGE_BYTES)
    return max(size // leaf_bytes, 1) * leaf_bytes


def average_layers(
    spec: Spec,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    target: LayerFolder,
    threads: int = 2,
    mode: Mode = "layerwise",
    on_layer: Callable[[int], object] = lambda index: None,
) -> Digest:
    """Write the weighted mean of `updates` to `target` and return its tree root.

    Padding averages to zero. `on_layer` is called with each layer's number once its file is
    complete. Raises Misconfigured when a layer file is shorter than the spec says.
    """
    if mode == "all_at_once":
        return _average_all_at_once(spec, updates, weights, target, on_layer)
    sources = [Stored(update) for update in updates]
    return write_mean(Layout.of(spec), sources, weights, target, threads, on_layer)


def write_mean(
    layout: Layout,
    sources: Sequence[Source],
    weights: Sequence[int],
    target: LayerFolder,
    threads: int = 2,
    on_layer: Callable[[int], object] = lambda index: None,
) -> Digest:
    """Write the weighted mean to layer files in `target` and return its tree root."""
    target.path.mkdir(parents=True, exist_ok=True)

    def write(slab: Slab, mean: NDArray[np.int32]) -> list[Subtree]:
        """Write a slab's mean to its file and return its subtrees."""
        # In the thread that averaged the slab, while it is in that core's cache.
        data = mean.view(np.uint8).data
        write_slab(layout, target, slab, data)
        return full_subtrees(data, layout.leaf_bytes, slab.first_leaf)

    span, builder = current(), TreeBuilder(layout.leaf_bytes)
    for slab, subtrees in stream_mean(layout, sources, weights, write, threads):
        with span.layer(slab.layer) as meter:
            meter.add(written=slab.stop - slab.start)
        for subtree in subtrees:
            builder.append(subtree)
        if slab.is_last:
            on_layer(slab.layer)
    return builder.root()


def write_slab(layout: Layout, target: LayerFolder, slab: Slab, data: memoryview) -> None:
    """Write a slab's bytes to their place in a layer file, which may exist already."""
    # Not truncated first: overwriting existing pages is faster than allocating new ones.
    file = os.open(target.layer_path(slab.layer), os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.ftruncate(file, layout.layer_bytes[slab.layer])
        at = slab.start
        while data:  # a write may be partial
            written = os.pwrite(file, data, at)
            data, at = data[written:], at + written
    finally:
        os.close(file)


def _average_all_at_once(
    spec: Spec,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    target: LayerFolder,
    on_layer: Callable[[int], object],
) -> Digest:
    def read(update: LayerFolder, index: int) -> NDArray[np.int32]:
        path, size = update.layer_path(index), spec.layer_bytes(index)
        values = np.fromfile(path, STORED, count=size // STORED.itemsize)
        if values.nbytes != size:
            raise Misconfigured(f"{path} is shorter than the {size:,} bytes the spec asks for")
        return values

    target.path.mkdir(parents=True, exist_ok=True)
    layers = range(len(spec.layers))
    current().add(read=spec.total_bytes * len(updates), written=spec.total_bytes)
    held = [[read(update, index) for update in updates] for index in layers]
    means = [weighted_mean(values, weights).astype(STORED) for values in held]
    builder = TreeBuilder(spec.encoding.leaf_bytes)
    for index, mean in zip(layers, means, strict=True):
        mean.tofile(target.layer_path(index))
        builder.update(mean.view(np.uint8).data)
        on_layer(index)
    return builder.root()
