"""SHA-256 of layer files and the trees over them, in one pass over their bytes.

Updates and models consist of many layer files. Where that is faster than hashlib
(`protocol.speed`), sixteen files are hashed side by side, one in each lane of a vector, and their
leaves along with them while the words are in registers.
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
# With fewer files than this, leaves fill the lanes better by themselves.
_LANES_FOR_LEAVES: Final = 11


@dataclass(frozen=True)
class Examined:
    """The digests of a folder of layer files."""

    root: Digest
    digests: tuple[Digest, ...]
    """SHA-256 of each layer file, in the order of the spec."""


def examine(spec: Spec, updates: Sequence[Sequence[Path]], threads: int = 2) -> list[Examined]:
    """Return the tree root and file digests of each update's layer files, reading them once.

    Raises Misconfigured when a layer file is shorter than the spec says.
    """
    # 1. Number the leaves of each update through its layers.
    leaf_bytes = spec.encoding.leaf_bytes
    sizes = [spec.layer_bytes(index) for index in range(len(spec.layers))]
    first_leaves = [int(leaf) for leaf in np.cumsum([0, *sizes]) // leaf_bytes]
    layers = [
        [_Layer(*of_layer) for of_layer in zip(paths, sizes, first_leaves, strict=False)]
        for paths in updates
    ]
    # 2. Hash all files together: the more files, the fuller the lanes.
    _hash([layer for each in layers for layer in each], leaf_bytes, threads, with_leaves=True)
    # 3. Join each update's subtrees, in the order of its layers.
    examined = []
    for each in layers:
        builder = TreeBuilder(leaf_bytes)
        for layer in each:
            for subtree in layer.subtrees:
                builder.append(subtree)
        examined.append(Examined(builder.root(), tuple(layer.digest for layer in each)))
    return examined


def file_digests(paths: Sequence[Path], threads: int = 2) -> list[Digest]:
    """Return the SHA-256 of each file; Misconfigured when one is empty."""
    layers = [_Layer(path, path.stat().st_size, first_leaf=0) for path in paths]
    _hash(layers, _BLOCK_BYTES, threads, with_leaves=False)
    return [layer.digest for layer in layers]


@dataclass
class _Layer:
    """A layer file, the number of its first leaf in the tree, and the results so far."""

    path: Path
    size: int
    first_leaf: int
    subtrees: list[Subtree] = field(default_factory=list)
    digest: Digest = ZERO


def _hash(layers: Sequence[_Layer], leaf_bytes: int, threads: int, *, with_leaves: bool) -> None:
    def work(group: list[_Layer]) -> None:
        sizes = [leaf_bytes, *(layer.size for layer in group)]
        compiled = speed.hashing(sum(sizes), len(group))
        with ExitStack() as files:
            streams = [
                files.enter_context(_Stream(layer, leaf_bytes, with_leaves)) for layer in group
            ]
            # The loops take whole blocks: padding within a message is left to hashlib.
            if compiled is not None and not any(n % _BLOCK_BYTES for n in sizes):
                _Lanes(compiled, streams).run()
                return
            for stream in streams:
                stream.hash_alone()

    # Groups of at most sixteen files of about one size, as many groups for each thread: a lane is
    # idle once its file has ended, and a thread once its groups are done.
    order = sorted(layers, key=lambda layer: -layer.size)
    turns = max(-(-len(order) // (_LANES * threads)), 1)
    size = max(-(-len(order) // (turns * threads)), 1)
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, groups))  # as a list, so that what a thread raises is raised here


class _Stream(MappedFile):
    """A layer file that is hashed window by window."""

    def __init__(self, layer: _Layer, leaf_bytes: int, with_leaves: bool) -> None:
        self.window = max(WINDOW_BYTES // leaf_bytes, 1) * leaf_bytes
        super().__init__(layer.path, layer.size, self.window)
        self.layer, self.with_leaves, self.leaf_bytes = layer, with_leaves, leaf_bytes

    def leaf(self, place: int) -> int:
        """The number in the tree of the leaf that begins at byte `place` of the file."""
        return self.layer.first_leaf + place // self.leaf_bytes

    def hash_alone(self) -> None:
        """Hash the whole file by hashlib, and its leaves."""
        hasher = hashlib.sha256()
        for start in range(0, self.layer.size, self.window):
            stop = min(start + self.window, self.layer.size)
            hasher.update(self.data[start:stop].data)
            self.hash_leaves(start, stop)
            self.forget(start, stop)
        self.layer.digest = Digest(hasher.digest())

    def hash_leaves(self, start: int, stop: int) -> None:
        """Add the subtrees over the leaves from byte `start` to `stop`, if they are asked for."""
        if self.with_leaves:
            data = self.data[start:stop].data
            self.layer.subtrees += full_subtrees(data, self.leaf_bytes, self.leaf(start))


class _Lanes:
    """Hashes at most sixteen streams in step, the largest first: lane i belongs to stream i."""

    def __init__(self, kernels: ModuleType, streams: Sequence[_Stream]) -> None:
        self._kernels = kernels
        self._chains: NDArray[np.uint32] = kernels.START.copy()
        self._active = list(streams)

    def run(self) -> None:
        """Hash all streams to their ends."""
        place = 0
        while self._active:
            # Up to the end of the shortest at most: a lane's message ends with a whole step.
            stop = min(place + self._active[0].window, self._active[-1].layer.size)
            self._advance(place, stop)
            for stream in self._active:
                stream.forget(place, stop)
            while self._active and self._active[-1].layer.size == stop:
                stream = self._active.pop()
                chains = self._chains.copy()  # `finish` ends the messages of all lanes
                self._kernels.finish(chains, stream.layer.size)
                digest = chains[:, len(self._active)].astype(">u4").tobytes()
                stream.layer.digest = Digest(digest)
            place = stop

    def _advance(self, place: int, stop: int) -> None:
        active, kernels = self._active, self._kernels
        starts = [stream.data.ctypes.data + place for stream in active]
        starts += [starts[0]] * (_LANES - len(active))  # idle ones repeat the first
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
