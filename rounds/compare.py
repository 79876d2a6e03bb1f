"""Compares a model with what a round makes of the one before, and finds what is wrong (§7).

`first_wrong_value` is the first value that the accepted updates do not give, `first_too_far` the
first one that no updates whatever could give.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol.average import most_moved
from protocol.encoding import LEAF_VALUES, leaf_bytes
from protocol.spec import Spec
from protocol.tree import leaf_digests
from protocol.types import Digest, RoundId
from rounds.average import MODEL_VALUE, Layout, Slab, stream_moved
from storage.layers import LayerFolder

_BLOCK: Final = 1 << 18  # values compared at once: an int64 block of them takes 2 MiB


@dataclass(frozen=True)
class WrongValue:
    """The first value of a model that is not what §7 makes of the updates, with all that it takes.

    `place` counts the layer's values, including padding. `before`, `found` and `expected` are
    stored integers; `differences` and `weights` are in the order of the updates, in steps of
    2^-`grid` (docs/protocol.md §2).
    """

    leaf: int
    layer: str
    place: int
    before: int
    differences: tuple[int, ...]
    weights: tuple[int, ...]
    grid: int
    found: int
    expected: int

    def __str__(self) -> str:
        return (
            f"leaf {self.leaf} differs: value {self.place} of layer {self.layer} is {self.found},"
            f" the updates move it from {self.before} to {self.expected}"
        )


@dataclass(frozen=True)
class TooFar:
    """The first value of a model that moved by more than `limit`; all are stored integers."""

    leaf: int
    layer: str
    place: int
    before: int
    found: int
    limit: int

    def __str__(self) -> str:
        return (
            f"leaf {self.leaf} moved too far: value {self.place} of layer {self.layer} from"
            f" {self.before} to {self.found}, by more than {self.limit}"
        )


def first_wrong_value(
    spec: Spec,
    before: LayerFolder,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    model: LayerFolder,
    round_id: RoundId,
    threads: int | None = None,
) -> WrongValue | None:
    """Return the first value of `model` that is not `before` moved by `updates`, or None.

    Every layer file must have the size that the spec gives it. `threads` defaults to the number of
    usable cores.
    """

    def compare(slab: Slab, expected: NDArray[np.int32]) -> WrongValue | None:
        """Return the first wrong value of one slab."""
        found = model.values(slab.layer, slab.start, expected.size)
        wrong = np.flatnonzero(expected != found)
        if not wrong.size:
            return None
        at = int(wrong[0])
        place = slab.start + at
        # Read again for this value alone: the slab's inputs are released by now.
        old, *steps = (each.values(slab.layer, place, 1)[0] for each in (before, *updates))
        return WrongValue(
            leaf=slab.first_leaf + at // LEAF_VALUES,
            layer=spec.layers[slab.layer].name,
            place=place,
            before=int(old),
            differences=tuple(int(each) for each in steps),
            weights=tuple(weights),
            grid=spec.encoding.grid_in(round_id),
            found=int(found[at]),
            expected=int(expected[at]),
        )

    cores = threads or usable_cores()
    compared = stream_moved(spec, before, updates, weights, round_id, compare, cores)
    # Slabs come in order, so this is the first wrong value whichever thread was faster.
    return next((wrong for _, wrong in compared if wrong is not None), None)


def first_too_far(
    spec: Spec, before: LayerFolder, model: LayerFolder, round_id: RoundId
) -> TooFar | None:
    """Return the first value that moved by more than 127 steps of the round's grid, or None.

    It takes no update to see: whatever was averaged, no value can move further.
    """
    limit = most_moved(spec.encoding.grid_in(round_id))
    for layer, start, count, first_leaf in Layout.of(spec).blocks(_BLOCK):
        old = before.values(layer, start, count)
        new = model.values(layer, start, count)
        far = np.flatnonzero(np.abs(new.astype(np.int64) - old) > limit)
        if far.size:
            at = int(far[0])
            leaf, name = first_leaf + at // LEAF_VALUES, spec.layers[layer].name
            return TooFar(leaf, name, start + at, int(old[at]), int(new[at]), limit)
    return None


def is_too_far(before: bytes, model: bytes, grid: int) -> bool:
    """Whether any value of a leaf of the model moved by more than 127 steps of the grid."""
    old, new = (np.frombuffer(leaf, MODEL_VALUE).astype(np.int64) for leaf in (before, model))
    return bool((np.abs(new - old) > most_moved(grid)).any())


def moved_leaf_digests(
    spec: Spec,
    before: LayerFolder,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    round_id: RoundId,
) -> list[Digest]:
    """Return the digest of every leaf of `before` moved by `updates` (docs/protocol.md §4)."""

    def digests(slab: Slab, values: NDArray[np.int32]) -> list[Digest]:
        # No file is written: the search for a wrong leaf needs the digests alone.
        return leaf_digests([values.tobytes()], leaf_bytes("model"))

    streamed = stream_moved(spec, before, updates, weights, round_id, digests, usable_cores())
    return list(chain.from_iterable(found for _, found in streamed))


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    # Not the machine's: a container or taskset may allow fewer.
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
