"""Whether a model is the weighted mean of updates, and the first value that is not (§7)."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from protocol.average import weighted_mean
from protocol.encoding import STORED
from protocol.spec import Spec
from storage.layers import LayerFolder

SLAB_BYTES: Final = 1 << 20
"""What one thread compares at a time."""

S = TypeVar("S")
T = TypeVar("T")


class Slab(NamedTuple):
    """A part of a layer file: layer index, offset and length in bytes."""

    layer: int
    start: int
    length: int


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


def first_wrong_leaf(
    spec: Spec, updates: Sequence[LayerFolder], weights: Sequence[int], model: LayerFolder
) -> int | None:
    """Return the first leaf of `model` that is not the weighted mean of `updates`, None if all are.

    Every layer file must have the size that the spec gives it.
    """
    wrong = first_wrong_value(spec, updates, weights, model)
    return None if wrong is None else wrong.leaf


def first_wrong_value(
    spec: Spec,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    model: LayerFolder,
    threads: int | None = None,
) -> WrongValue | None:
    """Return the first value that is wrong, None when all are the mean.

    Every layer file must have the size that the spec gives it. Slabs are compared by `threads`,
    as many as there are cores when None; which of them finds what first makes no difference.
    """
    count = threads or usable_cores()

    def compare(slab: Slab) -> WrongValue | None:
        blocks = [_read(update, slab) for update in updates]
        expected, found = weighted_mean(blocks, weights), _read(model, slab)
        wrong = np.flatnonzero(expected != found)
        if not wrong.size:
            return None
        at = int(wrong[0])
        place = slab.start // STORED.itemsize + at
        return WrongValue(
            _first_leaf(spec, slab.layer) + place // spec.encoding.leaf_values,
            spec.layers[slab.layer].name,
            place,
            int(found[at]),
            int(expected[at]),
            tuple(int(block[at]) for block in blocks),
            tuple(weights),
        )

    with ThreadPoolExecutor(count) as pool:
        results = in_order(pool, compare, _slabs(spec), ahead=2 * count)
        return next((wrong for wrong in results if wrong is not None), None)


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[S], T], items: Iterable[S], ahead: int
) -> Iterator[T]:
    """Yield work(item) in the order of `items`, with at most `ahead` of them under way."""
    pending: deque[Future[T]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) == ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def usable_cores() -> int:
    """Return on how many cores this process may run."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _slabs(spec: Spec) -> Iterator[Slab]:
    for index in range(len(spec.layers)):
        size = spec.layer_bytes(index)
        for start in range(0, size, SLAB_BYTES):
            yield Slab(index, start, min(SLAB_BYTES, size - start))


def _read(folder: LayerFolder, slab: Slab) -> NDArray[np.int32]:
    count = slab.length // STORED.itemsize
    return np.fromfile(folder.layer_path(slab.layer), STORED, count=count, offset=slab.start)


def _first_leaf(spec: Spec, layer: int) -> int:
    return sum(spec.layer_leaves(index) for index in range(layer))
