"""Whether a model is the weighted mean of updates, and the first value that is not (§7)."""

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
    """The first value of a model that is not the weighted mean, with all that it is made of.

    `place` counts the values of the layer, padding included. `values` and `weights` stand in the
    order of the updates; all values are the stored integers (docs/protocol.md §2).
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
    """Return the first value of `model` that is not the mean of `updates`, None when all are.

    Every layer file must have the size that the spec gives it. Slabs are compared by `threads`,
    as many as there are cores when None; which of them finds what first makes no difference.
    """

    def compare(slab: Slab, mean: NDArray[np.int32]) -> WrongValue | None:
        found = _read(model, slab.layer, slab.start, mean.size)
        wrong = np.flatnonzero(mean != found)
        if not wrong.size:
            return None
        at = int(wrong[0])
        place = slab.start // STORED.itemsize + at
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
    return next((wrong for _, wrong in compared if wrong is not None), None)


def mean_leaf_digests(
    spec: Spec, updates: Sequence[LayerFolder], weights: Sequence[int]
) -> list[Digest]:
    """Return the digest of every leaf that the mean of `updates` has (docs/protocol.md §4)."""

    def digests(slab: Slab, mean: NDArray[np.int32]) -> list[Digest]:
        return leaf_digests([mean.tobytes()], spec.encoding.leaf_bytes)

    sources = [Stored(update) for update in updates]
    streamed = stream_mean(Layout.of(spec), sources, weights, digests, usable_cores())
    return list(chain.from_iterable(found for _, found in streamed))


def usable_cores() -> int:
    """Return on how many cores this process may run."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _read(folder: LayerFolder, layer: int, start: int, count: int) -> NDArray[np.int32]:
    return np.fromfile(folder.layer_path(layer), STORED, count=count, offset=start)
