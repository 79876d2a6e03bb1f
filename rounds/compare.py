"""Compares a model with the weighted mean of updates and finds the first wrong value (§7)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from protocol.encoding import STORED
from protocol.spec import Spec
from protocol.tree import leaf_digests
from protocol.types import Digest
from rounds.average import Layout, Slab, Stored, stream_mean
from storage.layers import LayerFolder


@dataclass(frozen=True)
class WrongValue:
    """The first value of a model that is not the weighted mean, with the inputs of that mean.

    `place` counts the layer's values, including padding. `values` and `weights` are in the order of
    the updates; all values are stored integers (docs/protocol.md §2).
    """

    leaf: int
    layer: str
    place: int
    found: int
    expected: int
    values: tuple[int, ...]
    weights: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"leaf {self.leaf} differs: value {self.place} of layer {self.layer} is {self.found},"
            f" the mean is {self.expected}"
        )


def first_wrong_value(
    spec: Spec,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    model: LayerFolder,
    threads: int | None = None,
) -> WrongValue | None:
    """Return the first value of `model` that is not the mean of `updates`, or None.

    Every layer file must have the size that the spec gives it. `threads` defaults to the number of
    usable cores.
    """

    def compare(slab: Slab, mean: NDArray[np.int32]) -> WrongValue | None:
        """Return the first wrong value of one slab."""
        found = _read(model, slab.layer, slab.start, mean.size)
        wrong = np.flatnonzero(mean != found)
        if not wrong.size:
            return None
        at = int(wrong[0])
        place = slab.start // STORED.itemsize + at
        # Read again for this value alone: the slab's inputs are released by now.
        each = [_read(update, slab.layer, place * STORED.itemsize, 1) for update in updates]
        return WrongValue(
            slab.first_leaf + at // spec.encoding.leaf_values,
            spec.layers[slab.layer].name,
            place,
            int(found[at]),
            int(mean[at]),
            tuple(int(value[0]) for value in each),
            tuple(weights),
        )

    sources = [Stored(update) for update in updates]
    compared = stream_mean(Layout.of(spec), sources, weights, compare, threads or usable_cores())
    # Slabs come in order, so this is the first wrong value whichever thread was faster.
    return next((wrong for _, wrong in compared if wrong is not None), None)


def mean_leaf_digests(
    spec: Spec, updates: Sequence[LayerFolder], weights: Sequence[int]
) -> list[Digest]:
    """Return the digest of every leaf of the mean of `updates` (docs/protocol.md §4)."""

    def digests(slab: Slab, mean: NDArray[np.int32]) -> list[Digest]:
        # No file is written: the search for a wrong leaf needs the digests alone.
        return leaf_digests([mean.tobytes()], spec.encoding.leaf_bytes)

    sources = [Stored(update) for update in updates]
    streamed = stream_mean(Layout.of(spec), sources, weights, digests, usable_cores())
    return list(chain.from_iterable(found for _, found in streamed))


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    # Not the machine's: a container or taskset may allow fewer.
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _read(folder: LayerFolder, layer: int, start: int, count: int) -> NDArray[np.int32]:
    return np.fromfile(folder.layer_path(layer), STORED, count=count, offset=start)
