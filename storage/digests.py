"""SHA-256 of layer files, and the trees over them, in one pass over their bytes.

Updates and models are many layer files. Sixteen files are hashed side by side, one in each lane of
a vector, and their leaves with them while they are in the registers, where that is faster than
hashlib (`protocol.speed`).
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol import speed
from protocol.spec import Spec
from protocol.tree import ZERO, Subtree, TreeBuilder, full_subtrees, subtrees_over
from protocol.types import Digest
from storage.mapped import MappedFile

WINDOW_BYTES: Final = 1 << 19  # of one file, at a time

_BLOCK_BYTES: Final = 64  # what SHA-256 takes at a time
_LANES: Final = 16
_LANES_FOR_LEAVES: Final = (
    11  # with fewer files than that, leaves fill the lanes better by themselves
)


@dataclass(frozen=True)
class Examined:
    """What the bytes of a folder of layer files hash to."""

    root: Digest
    digests: tuple[Digest, ...]
    """SHA-256 of each layer file, in the order of the spec."""


def examine(spec: Spec, updates: Sequence[Sequence[Path]], threads: int = 2) -> list[Examined]:
    """Return the tree root and file digests of each update's layer files, reading them once.

    Raises Misconfigured when a layer file is shorter than the spec says.
    """
    layers = [_layers(spec, paths) for paths in updates]
    leaf_bytes = spec.encoding.leaf_bytes
    _hash([layer for each in layers for layer in each], leaf_bytes, threads, with_leaves=True)
    return [
        Examined(_root(each, leaf_bytes), tuple(layer.digest for layer in each)) for each in layers
    ]


def file_digests(paths: Sequence[Path], threads: int = 2) -> list[Digest]:
    """Return the SHA-256 of each file; Misconfigured when one is empty."""
    layers = [_Layer(path, path.stat().st_size, first_leaf=0) for path in paths]
    _hash(layers, _BLOCK_BYTES, threads, with_leaves=False)
    return [layer.digest for layer in layers]


@dataclass
class _Layer:
    """A layer file, the number of its first leaf in the tree, and what was found so far."""

    path: Path
    size: int
    first_leaf: int
    subtrees: list[Subtree] = field(default_factory=list)
    digest: Digest = ZERO


def _layers(spec: Spec, paths: Sequence[Path]) -> list[_Layer]:
    sizes = [spec.layer_bytes(index) for index in range(len(spec.layers))]
    first_leaves = np.cumsum([0, *sizes]) // spec.encoding.leaf_bytes
    return [
        _Layer(path, size, int(leaf))
        for path, size, leaf in zip(paths, sizes, first_leaves, strict=False)
    ]


def _root(layers: Sequence[_Layer], leaf_bytes: int) -> Digest:
    builder = TreeBuilder(leaf_bytes)
    for layer in layers:
        for subtree in layer.subtrees:
            builder.append(subtree)
    return builder.root()


def _hash(layers: Sequence[_Layer], leaf_bytes: int, threads: int, *, with_leaves: bool) -> None:
    def work(group: list[_Layer]) -> None:
        sizes = [leaf_bytes, *(layer.size for layer in group)]
        compiled = speed.hashing(sum(sizes), len(group))
        with ExitStack() as files:
            streams = [
                files.enter_context(_Stream(layer, leaf_bytes, with_leaves)) for layer in group
            ]
            if compiled is None or any(n % _BLOCK_BYTES for n in sizes):
                _one_after_the_other(streams)
            else:
                _Lanes(compiled, streams).run()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, _groups(layers, threads)))


def _groups(layers: Sequence[_Layer], threads: int) -> list[list[_Layer]]:
    """At most sixteen files each, of about one size, the largest first, as many for each thread."""
    order = sorted(layers, key=lambda layer: -layer.size)
    turns = max(-(-len(order) // (_LANES * threads)), 1)
    size = max(-(-len(order) // (turns * threads)), 1)
    return [order[i : i + size] for i in range(0, len(order), size)]


class _Stream(MappedFile):
    """A layer file on its way through a hash, window by window."""

    def __init__(self, layer: _Layer, leaf_bytes: int, with_leaves: bool) -> None:
        self.window = max(WINDOW_BYTES // leaf_bytes, 1) * leaf_bytes
        super().__init__(layer.path, layer.size, self.window)
        self.layer, self.with_leaves, self.leaf_bytes = layer, with_leaves, leaf_bytes

    def leaf(self, place: int) -> int:
        """The number in the tree of the leaf that begins at `place`."""
        return self.layer.first_leaf + place // self.leaf_bytes

    def hash_leaves(self, start: int, stop: int) -> None:
        if self.with_leaves:
            data = self.data[start:stop].data
            self.layer.subtrees += full_subtrees(data, self.leaf_bytes, self.leaf(start))


def _one_after_the_other(streams: Sequence[_Stream]) -> None:
    for stream in streams:
        hasher = hashlib.sha256()
        size = stream.layer.size
        for start in range(0, size, stream.window):
            stop = min(start + stream.window, size)
            hasher.update(stream.data[start:stop].data)
            stream.hash_leaves(start, stop)
            stream.forget(start, stop)
        stream.layer.digest = Digest(hasher.digest())


class _Lanes:
    """Hashes at most sixteen streams, the largest first, in step: lane i belongs to stream i."""

    def __init__(self, kernels: ModuleType, streams: Sequence[_Stream]) -> None:
        self._kernels = kernels
        self._chains: NDArray[np.uint32] = kernels.START.copy()
        self._active = list(streams)

    def run(self) -> None:
        place = 0
        while self._active:
            stop = min(place + self._active[0].window, self._active[-1].layer.size)
            self._advance(place, stop)
            for stream in self._active:
                stream.forget(place, stop)
            while self._active and self._active[-1].layer.size == stop:
                self._finish(self._active.pop(), len(self._active))
            place = stop

    def _advance(self, place: int, stop: int) -> None:
        active, kernels = self._active, self._kernels
        starts = [stream.data.ctypes.data + place for stream in active]
        starts += [starts[0]] * (_LANES - len(active))  # lanes without a stream of their own
        places = np.array(starts, np.int64)
        if not active[0].with_leaves or len(active) < _LANES_FOR_LEAVES:
            kernels.advance(self._chains, places, (stop - place) // _BLOCK_BYTES)
            for stream in active:
                stream.hash_leaves(place, stop)
            return
        leaf_bytes = active[0].leaf_bytes
        leaves = np.empty((_LANES, (stop - place) // leaf_bytes, 8), np.uint32)
        kernels.advance_leaves(self._chains, places, leaf_bytes, leaves)
        for stream, row in zip(active, leaves, strict=False):
            stream.layer.subtrees += subtrees_over(kernels, row, stream.leaf(place))

    def _finish(self, stream: _Stream, lane: int) -> None:
        chains = self._chains.copy()
        self._kernels.finish(chains, stream.layer.size)
        stream.layer.digest = Digest(chains[:, lane].astype(">u4").tobytes())
