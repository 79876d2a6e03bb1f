"""The new model of a round from files on disk, layer by layer, in slabs (docs/protocol.md §7).

    stream_moved     yield the new model slab by slab; a round writes it, an audit compares with it
    average_layers   write the new model to a folder and return its tree root
    write_sum        write the sum of masked updates (§13), which then stands for all of them
    write_mean       write the mean of whole checkpoints, which have no model before

Takes memory for a few slabs, whatever the size of the model and the number of participants. The
result does not depend on mode or threads.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from profiling.recorder import current
from protocol.average import (
    mean_into,
    move_by_sum_into,
    move_into,
    move_model,
    move_without_into,
    sum_into,
)
from protocol.encoding import LEAF_VALUES, leaf_bytes, value_type
from protocol.errors import Misconfigured
from protocol.masking import Mask, add_masked, remove_masks, signed_sum
from protocol.projection import project
from protocol.spec import Spec
from protocol.tree import Subtree, TreeBuilder, full_subtrees
from protocol.types import Digest, RoundId
from storage.layers import LayerFolder
from storage.mapped import HUGE_PAGE_BYTES, MappedFile

Mode = Literal["layerwise", "all_at_once"]
"""`all_at_once` holds everything in memory, as most aggregators do; for comparison, same root."""

T = TypeVar("T")

INPUT_BYTES: Final = 16 << 20
"""Bytes of all sources together that one thread reads before it releases them."""

MODEL_VALUE: Final = value_type("model")
_MODEL_BYTES: Final = MODEL_VALUE.itemsize

# In values. With so many updates that slabs would be smaller, the cost per slab would exceed that
# of averaging; with larger ones, a slab of the model would not fit a huge page.
_LEAST_SLAB: Final = 1 << 15
_LARGEST_SLAB: Final = HUGE_PAGE_BYTES // _MODEL_BYTES


@dataclass(frozen=True)
class Layout:
    """The number of values of every layer file, in order: padded to whole leaves."""

    layer_values: tuple[int, ...]

    @classmethod
    def of(cls, spec: Spec) -> Self:
        """Return the layout of a spec's updates and models."""
        layers = range(len(spec.layers))
        return cls(tuple(spec.layer_leaves(index) * LEAF_VALUES for index in layers))

    def blocks(self, size: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield layer, first value, number of values and first leaf of each block.

        A block has `size` values, whole leaves, or what is left of its layer.
        """
        first_leaf = 0
        for layer, count in enumerate(self.layer_values):
            for start in range(0, count, size):
                leaf = first_leaf + start // LEAF_VALUES
                yield layer, start, min(size, count - start), leaf
            first_leaf += count // LEAF_VALUES


@dataclass(frozen=True)
class Slab:
    """Values `start` to `stop` of one layer file: whole leaves.

    `first_leaf` is numbered over all layers; `is_last` marks the last slab of its layer.
    """

    layer: int
    start: int
    stop: int
    first_leaf: int
    is_last: bool


class Values(Protocol):
    """One layer of one source."""

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Return the values from `start` to `stop`; called by any thread."""

    def forget(self, start: int, stop: int) -> None:
        """Release these values, which are not asked for again."""


class Source(Protocol):
    """A model, update or checkpoint, opened one layer at a time; a value takes `value_bytes`."""

    @property
    def value_bytes(self) -> int:
        """The bytes of a value."""

    def open(self, index: int, count: int, window: int) -> AbstractContextManager[Values]:
        """Open layer `index` of `count` values, to be read in slabs of `window` values."""


@dataclass(frozen=True)
class _MappedValues:
    file: MappedFile
    stored: np.dtype[Any]

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Return a view of the mapped bytes; nothing is copied."""
        size = self.stored.itemsize
        return self.file.data[start * size : stop * size].view(self.stored)

    def forget(self, start: int, stop: int) -> None:
        """Release the memory of these values."""
        self.file.forget(start * self.stored.itemsize, stop * self.stored.itemsize)


@dataclass(frozen=True)
class Stored:
    """The layer files of a model, an update or a sum, as a source."""

    folder: LayerFolder

    @property
    def value_bytes(self) -> int:
        """The bytes of a value: 1 of a clear update, 4 of anything else."""
        return value_type(self.folder.kind).itemsize

    @contextmanager
    def open(self, index: int, count: int, window: int) -> Iterator[Values]:
        """Map a layer file; Misconfigured when it is shorter than `count` values."""
        stored = value_type(self.folder.kind)
        size, seen = count * stored.itemsize, window * stored.itemsize
        with MappedFile(self.folder.layer_path(index), size, seen) as file:
            yield _MappedValues(file, stored)


Combine = Callable[[Slab, NDArray[np.int32], Sequence[NDArray[Any]]], None]
"""Writes to its second argument, big-endian int32, what the sources' values of a slab give."""


def stream_moved(
    spec: Spec,
    before: LayerFolder,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    round_id: RoundId,
    work: Callable[[Slab, NDArray[np.int32]], T],
    threads: int = 2,
) -> Iterator[tuple[Slab, T]]:
    """Yield each slab of the model after a round, with the result of `work` on it.

    The model `before` is moved by the weighted mean of the updates, whose steps are those of the
    round's grid. One folder of kind `sum` stands for all updates, with the sum of their weights.
    `work` gets the values as stored, see `_stream`.
    """
    grid = spec.encoding.grid_in(round_id)
    is_sum = [each.kind for each in updates] == ["sum"]

    def move(slab: Slab, target: NDArray[np.int32], values: Sequence[NDArray[Any]]) -> None:
        if is_sum:
            move_by_sum_into(target, values[0], values[1], weights[0], grid)
        else:
            move_into(target, values[0], values[1:], weights, grid)

    sources = [Stored(before), *(Stored(update) for update in updates)]
    return _stream(Layout.of(spec), sources, move, work, threads)


def _stream(
    layout: Layout,
    sources: Sequence[Source],
    combine: Combine,
    work: Callable[[Slab, NDArray[np.int32]], T],
    threads: int,
) -> Iterator[tuple[Slab, T]]:
    """Yield each slab in order, with the result of `work` on it; `work` runs in the threads.

    `work` gets int32 as stored in a model (docs/protocol.md §2), in memory that is reused once it
    returns. `threads` slabs are combined at a time, also of different layers.
    """
    value_bytes = sum(source.value_bytes for source in sources)
    step = _slab_values(value_bytes)
    span = current()  # the span belongs to this thread, not to those that average
    memory = _Memory(step)

    def average(opened: Sequence[Values], slab: Slab) -> T:
        """Combine one slab into this thread's memory and return what `work` makes of it."""
        with span.layer(slab.layer) as meter:
            meter.add(read=(slab.stop - slab.start) * value_bytes)
            result = memory.values[: slab.stop - slab.start]
            combine(slab, result, [each.values(slab.start, slab.stop) for each in opened])
            # Before `work`: the result alone is needed from here on.
            for each in opened:
                each.forget(slab.start, slab.stop)
            return work(slab, result)

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
        for index, count in enumerate(layout.layer_values):
            files = all_files.enter_context(ExitStack())
            opened = [files.enter_context(source.open(index, count, step)) for source in sources]
            for start in range(0, count, step):
                stop = min(start + step, count)
                leaf = first_leaf + start // LEAF_VALUES
                slab = Slab(index, start, stop, leaf, is_last=stop == count)
                pending.append((slab, files, pool.submit(average, opened, slab)))
                # Twice as many as threads, so that none is idle while the caller uses the oldest.
                if len(pending) == 2 * threads:
                    yield oldest()
            first_leaf += count // LEAF_VALUES
        while pending:
            yield oldest()


class _Memory(threading.local):
    """Each thread's own memory for a slab of the result, allocated once."""

    def __init__(self, count: int) -> None:
        self.values = np.empty(count, MODEL_VALUE)


def memory_needed(spec: Spec, updates: int, mode: Mode, threads: int = 2) -> int:
    """Return about how many bytes `average_layers` takes at most, beside the interpreter's own."""
    # The model before, the updates, and the new model.
    read = _MODEL_BYTES + updates * value_type(spec.update_kind).itemsize
    values = spec.leaf_count * LEAF_VALUES
    if mode == "layerwise":
        values = threads * min(_slab_values(read), values)
    return values * (read + _MODEL_BYTES)


def _slab_values(value_bytes: int) -> int:
    """Return the values of a layer that one thread combines at a time: whole leaves.

    `value_bytes` are those of all sources together.
    """
    count = min(max(INPUT_BYTES // value_bytes, _LEAST_SLAB), _LARGEST_SLAB)
    return max(count // LEAF_VALUES, 1) * LEAF_VALUES


def average_layers(
    spec: Spec,
    before: LayerFolder,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    target: LayerFolder,
    round_id: RoundId,
    threads: int = 2,
    mode: Mode = "layerwise",
    on_layer: Callable[[int], object] = lambda index: None,
) -> Digest:
    """Write the model `before`, moved by the mean of `updates`, to `target`; return its tree root.

    `weights` has one positive integer per update, with a sum below 2^24; the differences are steps
    of the round's grid. Padding stays zero. `on_layer` is called with each layer's number once its
    file is complete. Raises Misconfigured when a layer file is shorter than the spec says.
    """
    if mode == "all_at_once" and all(update.kind == "update" for update in updates):
        return _average_all_at_once(spec, before, updates, weights, target, round_id, on_layer)
    layout, write = Layout.of(spec), _writer(Layout.of(spec), target)
    slabs = stream_moved(spec, before, updates, weights, round_id, write, threads)
    return _finish(layout, slabs, on_layer)


def write_sums(
    spec: Spec,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    target: LayerFolder,
    threads: int = 2,
) -> None:
    """Write S = Σ w·d of every value to `target`, as int32 like a model's: it is none."""

    def add(slab: Slab, result: NDArray[np.int32], values: Sequence[NDArray[Any]]) -> None:
        sum_into(result, values, weights)

    layout = Layout.of(spec)
    sources = [Stored(update) for update in updates]
    for _ in _stream(layout, sources, add, _writer(layout, target), threads):
        pass


def write_sum(
    spec: Spec,
    updates: Sequence[LayerFolder],
    masks: Sequence[Mask],
    target: LayerFolder,
    threads: int = 2,
) -> None:
    """Write S of masked updates to `target`, of kind `sum`: their sum less `masks` (§13).

    Neither memory nor disk grows with the number of updates.
    """

    def unmask(slab: Slab, result: NDArray[np.int32], values: Sequence[NDArray[Any]]) -> None:
        sums = np.zeros(result.size, np.uint32)
        for each in values:
            add_masked(sums, each)
        remove_masks(sums, masks, slab.first_leaf)
        result[:] = signed_sum(sums)

    layout = Layout.of(spec)
    sources = [Stored(update) for update in updates]
    for _ in _stream(layout, sources, unmask, _writer(layout, target), threads):
        pass


@dataclass(frozen=True)
class Repeated:
    """What an update repeats, as older updates and the model's last movement times `coefficients`.

    These are in that order; `movement` is the models before and after it.
    """

    updates: Sequence[LayerFolder] = ()
    movement: tuple[LayerFolder, LayerFolder] | None = None
    coefficients: Sequence[float] = ()


_NOTHING: Final = Repeated()


def average_without(
    spec: Spec,
    before: LayerFolder,
    sums: LayerFolder,
    update: LayerFolder,
    weights: tuple[int, int],
    target: LayerFolder,
    round_id: RoundId,
    repeated: Repeated = _NOTHING,
    threads: int = 2,
) -> Digest:
    """Write the average of a round with one update's place taken; return its tree root.

    `sums` is what `write_sums` made of all updates, `weights` are that of `update` and W, which
    stays. In its place is the part of it that is `repeated`, by default zeros. However many
    updates the round has, this reads one of them.
    """
    grid = spec.encoding.grid_in(round_id)

    def move(slab: Slab, result: NDArray[np.int32], values: Sequence[NDArray[Any]]) -> None:
        old, every, own, *rest = values
        vectors: list[NDArray[Any]] = list(rest[: len(repeated.updates)])
        if repeated.movement is not None:
            vectors.append(rest[-1].astype(np.int64) - rest[-2])
        taken = own.astype(np.int16) - project(vectors, repeated.coefficients, own.size)
        move_without_into(result, old, every, taken, weights, grid)

    layout = Layout.of(spec)
    folders = [before, sums, update, *repeated.updates, *(repeated.movement or ())]
    sources = [Stored(folder) for folder in folders]
    written = _stream(layout, sources, move, _writer(layout, target), threads)
    return _finish(layout, written, lambda index: None)


def write_mean(
    layout: Layout,
    sources: Sequence[Source],
    weights: Sequence[int],
    target: LayerFolder,
    threads: int = 2,
) -> Digest:
    """Write the weighted mean of int32 sources to layer files in `target`; return its tree root."""

    def mean(slab: Slab, result: NDArray[np.int32], values: Sequence[NDArray[Any]]) -> None:
        mean_into(result, values, weights)

    slabs = _stream(layout, sources, mean, _writer(layout, target), threads)
    return _finish(layout, slabs, lambda index: None)


def _writer(
    layout: Layout, target: LayerFolder
) -> Callable[[Slab, NDArray[np.int32]], list[Subtree]]:
    """Return the work of writing a slab to its file; it returns the slab's subtrees."""
    target.path.mkdir(parents=True, exist_ok=True)

    def write(slab: Slab, values: NDArray[np.int32]) -> list[Subtree]:
        # In the thread that averaged the slab, while it is in that core's cache.
        data = values.view(np.uint8).data
        _write_slab(layout, target, slab, data)
        return full_subtrees(data, leaf_bytes("model"), slab.first_leaf)

    return write


def _finish(
    layout: Layout,
    slabs: Iterator[tuple[Slab, list[Subtree]]],
    on_layer: Callable[[int], object],
) -> Digest:
    """Take the slabs as they are written and return the root over all of them."""
    span, builder = current(), TreeBuilder(leaf_bytes("model"))
    for slab, subtrees in slabs:
        with span.layer(slab.layer) as meter:
            meter.add(written=(slab.stop - slab.start) * _MODEL_BYTES)
        for subtree in subtrees:
            builder.append(subtree)
        if slab.is_last:
            on_layer(slab.layer)
    return builder.root()


def _write_slab(layout: Layout, target: LayerFolder, slab: Slab, data: memoryview) -> None:
    """Write a slab's bytes to their place in a layer file, which may exist already."""
    # Not truncated first: overwriting existing pages is faster than allocating new ones.
    file = os.open(target.layer_path(slab.layer), os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.ftruncate(file, layout.layer_values[slab.layer] * _MODEL_BYTES)
        at = slab.start * _MODEL_BYTES
        while data:  # a write may be partial
            written = os.pwrite(file, data, at)
            data, at = data[written:], at + written
    finally:
        os.close(file)


def _average_all_at_once(
    spec: Spec,
    before: LayerFolder,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    target: LayerFolder,
    round_id: RoundId,
    on_layer: Callable[[int], object],
) -> Digest:
    counts = Layout.of(spec).layer_values

    def read(folder: LayerFolder) -> list[NDArray[Any]]:
        """Return every layer of a folder as stored, padding included."""
        held = []
        for index, count in enumerate(counts):
            path, stored = folder.layer_path(index), value_type(folder.kind)
            values = np.fromfile(path, stored, count=count)
            if values.size != count:
                size = count * stored.itemsize
                raise Misconfigured(f"{path} is shorter than the {size:,} bytes the spec asks for")
            held.append(values)
        return held

    target.path.mkdir(parents=True, exist_ok=True)
    model_bytes, update_bytes = spec.total_bytes("model"), spec.total_bytes("update")
    current().add(read=model_bytes + update_bytes * len(updates), written=model_bytes)
    grid = spec.encoding.grid_in(round_id)
    old, steps = read(before), [read(update) for update in updates]
    moved = [
        move_model(old[index], [each[index] for each in steps], weights, grid).astype(MODEL_VALUE)
        for index in range(len(counts))
    ]
    builder = TreeBuilder(leaf_bytes("model"))
    for index, values in enumerate(moved):
        values.tofile(target.layer_path(index))
        builder.update(values.view(np.uint8).data)
        on_layer(index)
    return builder.root()
